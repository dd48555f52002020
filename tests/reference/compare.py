"""The fast integer step held against the slow one."""

import numpy as np

from fahw.formats.precision import Precision, RoundingModes
from fahw.learn.step import step
from fahw.network.recipe import Tuning
from tests.reference.step import Reference
from tests.support.models import batch_of, integer_model


def assert_same_training(
    network, rule, *, tuning=None, precision=None, rounding=None, batch=3, steps=2, rate=0.3, seed=0, micro_batch=None
):
    tuning, precision, rounding = tuning or Tuning(), precision or Precision(), rounding or RoundingModes()
    model, scales = integer_model(
        network, rule, tuning=tuning, precision=precision, rounding=rounding, batch=batch, seed=seed,
        norm_samples=micro_batch,
    )  # fmt: skip
    slow = Reference(network, rule, precision, rounding, scales, tuning.momentum, batch, seed, tuning, micro_batch)
    for number in range(steps):
        pixels, labels = batch_of(network, batch, seed + number)
        x = model.arithmetic.encode(pixels, 255)
        step(model, x, labels, rate, number)
        slow.step(x.numpy().astype(np.int64), labels.numpy(), rate, number)
    for name, norm in slow.norms.items():
        p = model.parameters[name]
        stored = (norm.scale, norm.shift, norm.scale_velocity, norm.shift_velocity)
        for fast, reference in zip((p.weight, p.bias, *p.states[:1], *p.bias_states[:1]), stored, strict=False):
            assert np.array_equal(fast.numpy(), reference), name
        assert np.array_equal(p.statistics.numpy(), np.stack((norm.mean, norm.variance))), name
    for name, state in slow.states.items():
        p = model.parameters[name]
        for fast, reference in zip(p.states, (state.velocity, state.square), strict=False):
            assert np.array_equal(fast.numpy(), reference), name
        assert np.array_equal(p.master.numpy(), state.master), name
        assert np.array_equal(p.weight.numpy(), slow.words(network.layers[_index(network, name)])), name
        for fast, reference in zip(p.bias_states, (state.bias_velocity, state.bias_square), strict=False):
            assert np.array_equal(fast.numpy(), reference), name
        if p.bias is not None:
            assert np.array_equal(p.bias.numpy(), state.bias), name


def _index(network, name):
    return [layer.name for layer in network.layers].index(name)
