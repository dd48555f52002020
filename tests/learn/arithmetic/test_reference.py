"""The fast integer step equals the slow one, bit for bit, whatever the formats, the rule and the shapes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.formats.fixed_point import Format
from fahw.formats.precision import Precision, RoundingModes
from fahw.learn.arithmetic import batch_norm as norms
from fahw.learn.kernels import matmul
from fahw.learn.state.scales import network_scales
from fahw.learn.step import forward, step
from fahw.learn.update import integer_optimizer
from fahw.network.recipe import LayerRanges, Ranges, Tuning
from fahw.rules.catalogue import RULES
from tests.reference.compare import assert_same_training
from tests.reference.step import Reference
from tests.support.models import batch_of, chain, convolutional, everything, integer_model, mlp, modes, precisions

INTEGER = sorted(name for name, rule in RULES.items() if not rule.learned)
"""Rules that train in integers."""
rules = st.sampled_from(INTEGER)


@pytest.mark.parametrize("name", INTEGER)
def test_default_formats_train_alike_for_several_steps(name):
    assert_same_training(mlp(20, 12, 9, 5), RULES[name], batch=6, steps=5)
    assert_same_training(convolutional(), RULES[name], batch=2, steps=3)


@settings(max_examples=120)
@given(
    rule=rules, precision=precisions(), rounding=modes, batch=st.integers(1, 4), act=st.sampled_from(("relu", "tanh"))
)
def test_any_widths_and_roundings_train_alike(rule, precision, rounding, batch, act):
    network = mlp(7, 6, 5, 3, act=act)
    assert_same_training(network, RULES[rule], precision=precision, rounding=rounding, batch=batch)


@settings(max_examples=60)
@given(
    rule=rules,
    precision=precisions(),
    rounding=modes,
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    pool=st.sampled_from(("maxpool2d", "avgpool2d")),
    pool_stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bias=st.booleans(),
    batch=st.integers(1, 2),
)
def test_any_convolution_and_pooling_trains_alike(
    rule, precision, rounding, stride, padding, pool, pool_stride, bias, batch
):
    network = convolutional(bias, pool, stride, padding, pool_stride)
    assert_same_training(network, RULES[rule], precision=precision, rounding=rounding, batch=batch)


@settings(max_examples=40)
@given(
    rate=st.floats(1e-6, 1e4),
    momentum=st.floats(0, 0.999),
    gain=st.floats(0.05, 20),
    ranges=st.builds(
        Ranges,
        weight_headroom=st.floats(0.1, 50),
        activation=st.floats(0.05, 100),
        error=st.floats(0.01, 10),
        velocity_headroom=st.floats(0.1, 100),
    ),
    rule=rules,
    rounding=modes,
)
def test_any_rates_and_ranges_train_alike(rate, momentum, gain, ranges, rule, rounding):
    tuning = Tuning(momentum=momentum, feedback_gain=gain, ranges=ranges)
    assert_same_training(mlp(7, 6, 5, 3), RULES[rule], tuning=tuning, rounding=rounding, rate=rate)


@settings(max_examples=40)
@given(
    rule=rules,
    numbers=st.lists(st.tuples(*[st.floats(0.1, 60)] * 2), min_size=30, max_size=30),
    way=st.sampled_from(("shortcut", "projection")),
)
def test_layers_with_ranges_of_their_own_train_alike(rule, numbers, way):
    """What meets in an add comes in other formats then."""
    network = everything(way)
    keys = ("weight_headroom", "activation")
    own = {
        layer.name: LayerRanges(**dict(zip(keys, values, strict=True)))
        for layer, values in zip(network.weighted, numbers, strict=False)
    }
    assert_same_training(network, RULES[rule], tuning=Tuning(layer_ranges=own), batch=2)


def test_a_layer_s_own_ranges_take_the_place_of_the_network_s():
    network = mlp(7, 6, 5, 3)
    first, second, _ = network.weighted
    tuning = Tuning(ranges=Ranges(activation=8), layer_ranges={second.name: LayerRanges(activation=32)})

    scales = network_scales(network, Precision(), tuning, RULES["bp"], 4)

    assert scales[first.name].output == Format(8, 4)
    assert scales[second.name].output == Format(8, 2)
    assert (
        scales[second.name].weight == network_scales(network, Precision(), Tuning(), RULES["bp"], 4)[second.name].weight
    )


@pytest.mark.parametrize("way", ["shortcut", "projection"])
@pytest.mark.parametrize("name", INTEGER)
def test_graphs_train_alike_for_several_steps(name, way):
    """Batch norms, both shortcuts, groups, dilation, pools, sigmoid, hardtanh, dropout: every stored bit."""
    assert_same_training(everything(way), RULES[name], batch=3, steps=3)


@settings(max_examples=40)
@given(
    rule=rules,
    precision=precisions(),
    rounding=modes,
    way=st.sampled_from(("shortcut", "projection")),
    mode=st.sampled_from(("zeros", "circular", "reflect", "replicate")),
    feedback=st.sampled_from(("dense", "tiled")),
    residual=st.sampled_from(("blocked", "biotorch")),
    batch=st.integers(1, 2),
)
def test_any_graph_trains_alike(rule, precision, rounding, way, mode, feedback, residual, batch):
    network = everything(way, mode, dfa_feedback=feedback, dfa_residual=residual)
    assert_same_training(network, RULES[rule], precision=precision, rounding=rounding, batch=batch)


def test_evaluation_of_graphs_is_the_reference_s():
    """Running statistics, nothing dropped."""
    network, rounding = everything(), RoundingModes()
    model, scales = integer_model(network, RULES["bp"], batch=4)
    slow = Reference(network, RULES["bp"], Precision(), rounding, scales, Tuning().momentum, 4, 0)
    pixels, labels = batch_of(network, 4)
    x = model.arithmetic.encode(pixels, 255)
    step(model, x, labels, 0.3, 0)
    slow.step(x.numpy().astype(np.int64), labels.numpy(), 0.3, 0)
    fast = forward(network, model.arithmetic.evaluator(5), model.parameters, x).logits
    assert np.array_equal(fast.numpy(), slow.forward(x.numpy().astype(np.int64), training=False)[1])


ONE = dict.fromkeys(("weight", "feedback", "activation", "error", "gradient", "master", "optimizer"), 1)


@pytest.mark.parametrize("name", INTEGER)
@pytest.mark.parametrize("wide", [{}, {"master": 16}, {"master": 16, "gradient": 16, "optimizer": 16}, {"error": 8}])
def test_one_bit_formats_train_alike(name, wide):
    rounding = RoundingModes(activation="stochastic", gradient="stochastic")

    assert_same_training(mlp(7, 6, 5, 3), RULES[name], precision=Precision(**(ONE | wide)), rounding=rounding, rate=30)
    assert_same_training(convolutional(), RULES[name], precision=Precision(**(ONE | wide)), rounding=rounding, rate=30)
    assert_same_training(everything(), RULES[name], precision=Precision(**(ONE | wide)), rounding=rounding, rate=30)


@pytest.mark.parametrize("block", [1, 7, 50])
def test_more_weights_than_an_update_block_train_alike(monkeypatch, block):
    """Blocks that end within a tensor, and that hold several."""
    monkeypatch.setattr(integer_optimizer, "_BLOCK", block)
    rounding = RoundingModes(gradient="stochastic")

    assert_same_training(mlp(7, 6, 4), RULES["bp"], rounding=rounding, batch=2, steps=3)
    assert_same_training(convolutional(False), RULES["bp"], rounding=rounding, batch=2)


def test_stochastic_outputs_are_drawn_in_the_order_of_the_stored_tensor():
    """Channel by channel, pixel by pixel, samples last."""
    network = chain((1, 3, 3), ("conv2d", {"out": 2, "kernel": (2, 2)}), ("flatten", {}), ("linear", {"out": 2}))
    rounding = RoundingModes(activation="stochastic")
    model, scales = integer_model(network, RULES["bp"], rounding=rounding, batch=2)
    slow = Reference(network, RULES["bp"], Precision(), rounding, scales, 0.9, 2, 0)
    pixels, _ = batch_of(network, 2)
    x = model.arithmetic.encode(pixels, 255)

    fast = forward(network, model.arithmetic, model.parameters, x).logits

    assert np.array_equal(fast.numpy(), slow.forward(x.numpy().astype(np.int64))[1])


def test_maximum_pooling_sends_the_error_to_the_first_of_equal_maxima():
    pooling = ("maxpool2d", {"kernel": (2, 2), "stride": (2, 2)})
    network = chain((1, 2, 2), pooling, ("flatten", {}), ("linear", {"out": 2}))
    model, _ = integer_model(network, RULES["bp"])
    x = torch.full((1, 2, 2, 1), 5, dtype=torch.int8)

    _, saved = network.layers[0].forward(model.arithmetic, None, [x])
    error = torch.full((1, 1, 1, 1), 3, dtype=torch.int8)
    (below,), _ = network.layers[0].backward(model.arithmetic, None, saved, error)

    assert below.flatten().tolist() == [3, 0, 0, 0]


@settings(max_examples=30)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    padded=st.booleans(),
    bits=st.sampled_from((1, 2, 8, 16)),
    kind=st.sampled_from(("maxpool2d", "avgpool2d")),
    rule=rules,
)
def test_any_pooling_trains_alike(kernel, stride, padded, bits, kind, rule):
    """Windows that overlap, leave gaps or reach into the padding; words of few values, so that maxima are equal."""
    padding = tuple(size // 2 for size in kernel) if padded else (0, 0)
    network = chain(
        (2, 6, 7),
        ("conv2d", {"out": 3, "kernel": (2, 2)}),
        (kind, {"kernel": kernel, "stride": stride, "padding": padding}),
        ("relu", {}),
        ("flatten", {}),
        ("linear", {"out": 4}),
        ("relu", {}),
        ("linear", {"out": 3}),
    )
    assert_same_training(network, RULES[rule], precision=Precision(activation=bits, error=min(bits, 8)), batch=2)


@pytest.mark.parametrize("is_fast", [True, False])
def test_training_has_the_same_bits_whichever_products_are_fast(monkeypatch, is_fast):
    for module in (matmul, norms):
        monkeypatch.setattr(module, "int8_is_fast", lambda device: is_fast)

    assert_same_training(everything(), RULES["bp"], batch=2)
