"""Batch norms that take their statistics over a micro-batch, as a chip does that has one after the other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.formats.precision import FP32, Precision, RoundingModes
from fahw.learn.arithmetic.batch_norm import _dots, _Groups, _sums
from fahw.learn.step import forward, gradients, step
from fahw.learn.watch.alignment import plain_copy
from fahw.rules.catalogue import RULES
from tests.reference.compare import assert_same_training
from tests.support.emulation import emulated_model
from tests.support.models import batch_of, built, everything, float_model, graph, integer_model, states

STOCHASTIC = RoundingModes(activation="stochastic", error="stochastic", gradient="stochastic", update="stochastic")
NORMS = graph(
    (2, 4, 4),
    {"kind": "conv2d", "name": "conv", "out": 3, "kernel": 3, "padding": 1},
    {"kind": "batchnorm2d", "name": "norm"},
    {"kind": "relu", "name": "relu"},
    {"kind": "flatten", "name": "flat"},
    {"kind": "linear", "name": "hidden", "out": 6},
    {"kind": "batchnorm1d", "name": "features"},
    {"kind": "tanh", "name": "tanh"},
    {"kind": "linear", "name": "out", "out": 4},
)


class InTorch(torch.nn.Module):
    """The same network, with the parameters of a float model."""

    def __init__(self, model):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.BatchNorm2d(3)
        self.hidden, self.features, self.out = torch.nn.Linear(48, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 4)
        self.double()
        with torch.no_grad():
            for name, p in model.parameters.items():
                module = getattr(self, name)
                module.weight.copy_(p.weight)
                module.bias.copy_(p.bias)

    def forward(self, x):
        h = torch.relu(self.norm(self.conv(x))).flatten(1)
        return self.out(torch.tanh(self.features(self.hidden(h))))


@pytest.mark.parametrize(("batch", "together"), [(8, 4), (7, 3), (6, 2), (5, 5)])
def test_in_float_a_step_is_torchs_over_the_micro_batches_one_by_one(batch, together):
    """Gradients added up, running statistics moved by each; the last micro-batch smaller where it must be."""
    if batch % together == 1:  # torch refuses a norm of one value
        batch += 1
    model = float_model(NORMS, RULES["bp"], batch=batch, norm_samples=together)
    other = InTorch(model)
    pixels, labels = batch_of(NORMS, batch)
    x = model.arithmetic.encode(pixels, 255)
    for start in range(0, batch, together):
        logits = other(x[start : start + together])
        torch.nn.functional.cross_entropy(logits, labels[start : start + together], reduction="sum").backward()
    found = gradients(model, x, labels)
    for name, gradient in found.items():
        module = getattr(other, name)
        assert torch.allclose(gradient.weight, module.weight.grad, rtol=1e-9, atol=1e-12), name
        assert torch.allclose(gradient.bias, module.bias.grad, rtol=1e-9, atol=1e-12), name
    for name in ("norm", "features"):
        module, statistics = getattr(other, name), model.parameters[name].statistics
        assert torch.allclose(statistics, torch.stack((module.running_mean, module.running_var)), rtol=1e-9)


@pytest.mark.parametrize("rule", ["bp", "dfa", "usf"])
@pytest.mark.parametrize(("batch", "together"), [(5, 2), (4, 2), (3, 1)])
def test_in_integers_a_step_is_the_slow_references(rule, batch, together):
    """Every stored bit, with random bytes in every rounding."""
    assert_same_training(everything(), RULES[rule], rounding=STOCHASTIC, batch=batch, micro_batch=together)


@pytest.mark.parametrize("bits", [4, 12])
def test_in_other_widths_too(bits):
    """Words of bytes and of more are summed up in ways of their own."""
    precision = Precision(activation=bits, error=bits, weight=bits)
    assert_same_training(everything("projection"), RULES["bp"], precision=precision, batch=5, micro_batch=2)


def test_emulation_of_integers_splits_alike():
    """The same words as the integer step."""
    precision = Precision(accumulator=48)
    nearest = RoundingModes(activation="nearest", error="nearest", gradient="nearest", update="nearest")
    integer, _ = integer_model(NORMS, RULES["bp"], precision=precision, rounding=nearest, norm_samples=3)
    emulated, scales = emulated_model(NORMS, RULES["bp"], precision, nearest, norm_samples=3)
    pixels, labels = batch_of(NORMS, 4)
    for number in range(2):
        for model in (integer, emulated):
            step(model, model.arithmetic.encode(pixels, 255), labels, 0.3, number)
    for name, s in scales.items():
        assert torch.equal(
            integer.parameters[name].master * 2.0**-s.master.frac, emulated.parameters[name].master.float()
        )


FORMATS = {"integers": (Precision(), STOCHASTIC), "float": (FP32, RoundingModes()),
           "emulation": (Precision(weight="ternary", feedback="ternary"), STOCHASTIC)}  # fmt: skip


def trained(formats, norm_samples, batch=6):
    model = built(everything(), "bp", *FORMATS[formats], batch=batch, norm_samples=norm_samples)
    pixels, labels = batch_of(everything(), batch)
    for number in range(2):
        step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, number)
    return states(model)


@pytest.mark.parametrize("formats", FORMATS)
def test_a_micro_batch_of_all_samples_is_the_batch(formats):
    """To the bit; and one of fewer is not."""
    whole, all_of_it, half = (trained(formats, size) for size in (None, 6, 3))
    assert all(torch.equal(whole[key], all_of_it[key]) for key in whole)
    assert not all(torch.equal(whole[key], half[key]) for key in whole)


@pytest.mark.parametrize("formats", FORMATS)
@pytest.mark.parametrize("batch", [1, 3])
def test_norms_of_a_single_value_stay_numbers(formats, batch):
    """Its deviation from itself is nothing, and no variance is known of it: the running one sinks."""
    found = trained(formats, 1, batch)
    assert all(bool(value.isfinite().all()) for value in found.values() if value.is_floating_point())
    assert float(found["bn3", "statistics"][1].max()) == pytest.approx(0.9 ** (2 * batch), rel=1e-5)


def test_a_sample_is_normalised_as_in_its_micro_batch_alone():
    """Whatever else is in the batch."""
    model = float_model(NORMS, RULES["bp"], norm_samples=2)
    x = model.arithmetic.encode(batch_of(NORMS, 6)[0], 255)
    both, alone = (forward(NORMS, model.arithmetic, model.parameters, part).logits for part in (x, x[2:4]))
    assert torch.equal(both[2:4], alone)


def test_the_true_gradient_is_that_of_the_same_split():
    """The angle to it says what rule and formats do, not what the split does: in float bp's own is nought."""
    model = float_model(NORMS, RULES["bp"], norm_samples=2, dtype=torch.float32)
    pixels, labels = batch_of(NORMS, 6)
    x = model.arithmetic.encode(pixels, 255)
    own = gradients(model, x, labels)
    true = gradients(plain_copy(model, batch_statistics=True), x, labels)
    whole = gradients(
        plain_copy(replace(model, arithmetic=float_model(NORMS, RULES["bp"]).arithmetic), True), x, labels
    )
    assert torch.allclose(own["conv"].weight, true["conv"].weight, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(own["conv"].weight, whole["conv"].weight, rtol=1e-2, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.sampled_from([torch.int8, torch.float32]), st.data())
def test_sums_of_groups_are_the_sums_of_each_alone(channels, samples, size, dtype, data):
    """For any sizes, of values and of products, and a value of each group lies where its samples do."""
    seed = data.draw(st.integers(0, 99))
    x = torch.from_numpy(np.random.default_rng(seed).integers(-100, 100, (channels, 3, samples))).to(dtype)
    groups, starts = _Groups(x, size), range(0, samples, size)
    parts = [x[..., start : start + size].long() for start in starts]
    assert torch.equal(groups.by_group(_sums, x), torch.stack([part.sum((1, 2)) for part in parts], 1).double())
    squares = torch.stack([(part * part).sum((1, 2)) for part in parts], 1).double()
    assert torch.equal(groups.by_group(_dots, x, x), squares)
    assert groups.counts == [3 * part.shape[-1] for part in parts]
    numbers = torch.arange(len(parts)).expand(channels, -1)
    assert torch.equal(groups.wide(numbers, x).expand(channels, 1, samples)[0, 0], torch.arange(samples) // size)
