"""Layers that join several others: products and what stands one behind the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fahw.errors import ConfigError
from fahw.learn.step import gradients
from fahw.learn.torch_modules.from_torch import from_torch
from fahw.rules.catalogue import COMPARED, RULES
from tests.reference.compare import assert_same_training
from tests.support.emulation import assert_emulation_is_integers
from tests.support.models import batch_of, float_model, graph, layer, modes, precisions


def gated(gate="sigmoid", **settings):
    """A convolution whose channels a gate multiplies, made of their means (squeeze and excitation); then the product of
    two maps of one shape."""
    return graph(
        (2, 4, 4),
        {"kind": "conv2d", "name": "body", "out": 3, "kernel": 3, "padding": 1},
        {"kind": "relu", "name": "r"},
        {"kind": "avgpool2d", "name": "means", "kernel": "all"},
        {"kind": "conv2d", "name": "excite", "out": 3, "kernel": 1},
        {"kind": gate, "name": "gate"},
        {"kind": "mul", "name": "gated", "from": ("r", "gate")},
        {"kind": "conv2d", "name": "other", "out": 3, "kernel": 1, "from": "r"},
        {"kind": "tanh", "name": "t"},
        {"kind": "mul", "name": "squared", "from": ("t", "gated")},
        {"kind": "flatten"},
        {"kind": "linear", "out": 4},
        **settings,
    )


def by_autograd(network, parameters, x, labels):
    """The gradients of `gated()` by PyTorch."""
    weights = {name: (p.weight.clone().requires_grad_(), p.bias.clone().requires_grad_()) for name, p in parameters}
    conv = functional.conv2d
    r = conv(x, *weights["body"], padding=1).relu()
    gate = conv(r.mean((2, 3), keepdim=True), *weights["excite"]).sigmoid()
    squared = conv(r, *weights["other"]).tanh() * (r * gate)
    logits = functional.linear(squared.flatten(1), *weights["linear1"])
    functional.cross_entropy(logits, labels, reduction="sum").backward()
    return {name: (weight.grad, bias.grad) for name, (weight, bias) in weights.items()}


def test_gradients_through_a_product_are_those_of_pytorch():
    network = gated()
    model = float_model(network, RULES["bp"], batch=3)
    pixels, labels = batch_of(network, 3)
    x = model.arithmetic.encode(pixels, 255)

    found = gradients(model, x, labels)

    for name, (weight, bias) in by_autograd(network, model.parameters.items(), x, labels).items():
        assert torch.allclose(found[name].weight, weight, rtol=1e-10, atol=1e-12), name
        assert torch.allclose(found[name].bias, bias, rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("rule", sorted(COMPARED))
def test_products_train_in_integers_as_the_slow_reference_does(rule):
    assert_same_training(gated(), RULES[rule], batch=3, steps=3)


@settings(max_examples=15)
@given(precision=precisions(), rounding=modes, gate=st.sampled_from(("sigmoid", "hardtanh", "relu")))
def test_products_train_as_the_slow_reference_does_in_all_widths(precision, rounding, gate):
    assert_same_training(gated(gate), RULES["bp"], precision=precision, rounding=rounding, batch=2)


def test_products_in_emulation_are_those_in_integers():
    assert_emulation_is_integers(gated())


def test_shapes_that_do_not_multiply_are_named():
    """Two inputs of one shape, or one with a pixel per channel."""
    assert layer("mul", "m", (3, 4, 4), (3, 1, 1)).out_shape == (3, 4, 4)
    assert layer("mul", "m", (3, 1, 1), (3, 4, 4)).out_shape == (3, 4, 4)
    assert layer("mul", "m", (5,), (5,)).out_shape == (5,)
    for shapes in (((3, 4, 4),), ((3, 4, 4), (2, 1, 1)), ((3, 4, 4), (3, 4, 1)), ((5,), (1,)), ((5,), (5,), (5,))):
        with pytest.raises(ConfigError, match="mul"):
            layer("mul", "m", *shapes)


def forked(**settings):
    """Two branches of other formats, their channels joined, and one of them joined again with the input's features."""
    return graph(
        (2, 4, 4),
        {"kind": "conv2d", "name": "left", "out": 3, "kernel": 3, "padding": 1},
        {"kind": "tanh", "name": "t"},
        {"kind": "conv2d", "name": "right", "out": 2, "kernel": 1, "from": "input"},
        {"kind": "relu", "name": "r"},
        {"kind": "concat", "name": "both", "from": ("t", "r", "right")},
        {"kind": "conv2d", "name": "above", "out": 2, "kernel": 2},
        {"kind": "flatten", "name": "row"},
        {"kind": "linear", "name": "hidden", "out": 5},
        {"kind": "sigmoid", "name": "s"},
        {"kind": "concat", "name": "rows", "from": ("s", "row")},
        {"kind": "linear", "name": "out", "out": 4},
        **settings,
    )


@pytest.mark.parametrize("rule", sorted(COMPARED))
def test_joined_channels_train_in_integers_as_the_slow_reference_does(rule):
    assert_same_training(forked(), RULES[rule], batch=3, steps=3)


@settings(max_examples=15)
@given(precision=precisions(), rounding=modes)
def test_joined_channels_train_as_the_slow_reference_does_in_all_widths(precision, rounding):
    assert_same_training(forked(), RULES["bp"], precision=precision, rounding=rounding, batch=2)


def test_joined_channels_are_torch_s():
    """What is joined, in order; and torch's own names, along the channels alone."""

    class Fork(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.a, self.b, self.head, self.dim = nn.Linear(4, 3), nn.Linear(4, 2), nn.Linear(5, 2), dim

        def forward(self, x):
            return self.head(torch.cat([self.a(x), self.b(x)], dim=self.dim))

    layers = from_torch(Fork(-1), (4,)).layers
    assert [(item.kind, item.in_shapes, item.out_shape) for item in layers][2] == ("concat", ((3,), (2,)), (5,))
    with pytest.raises(ConfigError, match="'cat'"):
        from_torch(Fork(0), (4,))
    joined = layer("concat", "c", (2, 3, 3), (1, 3, 3))
    values = [torch.rand(4, channels, 3, 3) for channels in (2, 1)]
    unit = float_model(forked(), RULES["bp"]).arithmetic
    output, saved = joined.forward(unit, None, values)
    assert torch.equal(output, torch.cat(values, 1))
    assert all(map(torch.equal, joined.backward(unit, None, saved, output)[0], values))


def test_shapes_that_do_not_join_are_named():
    for shapes in (((3, 4, 4),), ((3, 4, 4), (2, 4, 3)), ((3, 4, 4), (5,))):
        with pytest.raises(ConfigError, match="concat"):
            layer("concat", "c", *shapes)
