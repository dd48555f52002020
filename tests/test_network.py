"""Shapes, parameters and multiply-accumulates of networks, against torch."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fahw.config.model import Conv2dSpec, LinearSpec, PlainSpec, PoolSpec
from fahw.errors import ConfigError
from fahw.network import feedback_shape, load_model, make_layer
from tests.strategies import MODEL, SHIPPED_MODELS, marked, network_of, swap

PLAIN = {"relu": nn.ReLU, "tanh": nn.Tanh, "flatten": lambda: nn.Flatten(0)}
POOLS = {"maxpool2d": nn.MaxPool2d, "avgpool2d": nn.AvgPool2d}


def modules_of(network):
    """The network as torch modules, built from each layer's numbers."""
    for layer in network.layers:
        if layer.kind == "linear":
            yield nn.Linear(layer.in_shape[0], layer.out_shape[0], layer.bias)
        elif layer.kind == "conv2d":
            channels = layer.in_shape[0], layer.out_shape[0]
            yield nn.Conv2d(*channels, layer.kernel, layer.stride, layer.padding, bias=layer.bias)
        elif layer.kind in POOLS:
            yield POOLS[layer.kind](layer.kernel, layer.stride)
        else:
            yield PLAIN[layer.kind]()


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_shapes_and_parameters_of_shipped_models_are_torchs(name):
    """Layer by layer, the output shape and the number of weights and biases are those of the same torch module."""
    network = load_model(name)
    x = torch.zeros(network.input_shape)
    for layer, module in zip(network.layers, modules_of(network), strict=True):
        assert layer.in_shape == tuple(x.shape)
        x = module(x)
        assert layer.out_shape == tuple(x.shape)
        assert layer.outputs == x.numel()
        parameters = dict(module.named_parameters())
        assert layer.weight_shape == tuple(parameters["weight"].shape if "weight" in parameters else ())
        assert layer.weights + layer.biases == sum(p.numel() for p in parameters.values())
    assert network.classes == x.numel()


def test_published_parameter_counts():
    """Parameter counts that the literature gives: LeNet-5 61,706; the MLP 784-512-512-10 669,706."""
    assert load_model("lenet5").parameters == 61_706
    assert load_model("mlp_mnist").parameters == 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10


sizes = st.integers(1, 9)
pairs = st.tuples(sizes, sizes)
paddings = st.tuples(st.integers(0, 3), st.integers(0, 3))


@given(st.integers(1, 3), pairs, st.integers(1, 4), pairs, pairs, paddings, st.booleans())
def test_convolution_geometry_is_torchs(channels, size, out, kernel, stride, padding, bias):
    """Any kernel, stride and padding gives torch's output shape; what torch refuses is a ConfigError."""
    spec = Conv2dSpec(kind="conv2d", out=out, kernel=kernel, stride=stride, padding=padding, bias=bias)
    with torch.device("meta"):
        module = nn.Conv2d(channels, out, kernel, stride, padding, bias=bias)
        x = torch.zeros(1, channels, *size)
    try:
        shape = tuple(module(x).shape[1:])
    except RuntimeError:
        with pytest.raises(ConfigError, match="does not fit"):
            make_layer(spec, "c", (channels, *size))
        return
    layer = make_layer(spec, "c", (channels, *size))
    assert layer.out_shape == shape
    assert layer.weights + layer.biases == sum(p.numel() for p in module.parameters())
    assert layer.macs == layer.weights * shape[1] * shape[2]
    assert layer.window * out == layer.weights


@given(st.sampled_from(sorted(POOLS)), pairs, pairs, st.none() | pairs)
def test_pooling_geometry_is_torchs(kind, size, kernel, stride):
    """Pooling windows fall as torch's do, the stride being the kernel where not given; partial ones are dropped."""
    spec = PoolSpec(kind=kind, kernel=kernel, stride=stride)
    x = torch.zeros(1, 2, *size)
    if kernel[0] > size[0] or kernel[1] > size[1]:
        with pytest.raises(ConfigError, match="does not fit"):
            make_layer(spec, "p", (2, *size))
        return
    layer = make_layer(spec, "p", (2, *size))
    assert layer.out_shape == tuple(POOLS[kind](kernel, stride)(x).shape[1:])
    assert layer.weights == layer.biases == layer.macs == 0
    assert not layer.weighted


@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_linear_counts_are_torchs(inputs, out, bias):
    """A linear layer has torch's parameters and one multiply-accumulate per weight."""
    layer = make_layer(LinearSpec(kind="linear", out=out, bias=bias), "l", (inputs,))
    assert layer.weights + layer.biases == sum(p.numel() for p in nn.Linear(inputs, out, bias).parameters())
    assert layer.macs == inputs * out


@given(st.sampled_from(("linear", "conv2d")), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_initial_draw_is_xaviers(kind, inputs, out, kernel):
    """The bound of the initial weights is torch's Xavier uniform bound for the same tensor."""
    if kind == "linear":
        layer = make_layer(LinearSpec(kind="linear", out=out), "l", (inputs,))
    else:
        layer = make_layer(Conv2dSpec(kind="conv2d", out=out, kernel=kernel), "l", (inputs, 4, 4))
    fans = nn.init._calculate_fan_in_and_fan_out(torch.empty(layer.weight_shape))
    assert layer.fans == fans
    assert layer.xavier_bound == pytest.approx((6 / sum(fans)) ** 0.5)
    assert layer.xavier_std == pytest.approx(layer.xavier_bound / 3**0.5)


def test_single_number_means_square(tmp_path):
    """`kernel: 3` is 3 x 3; stride 1 and padding 0 are the defaults of a convolution."""
    layer = network_of(tmp_path).layers[0]
    assert (layer.kernel, layer.stride, layer.padding) == ((3, 3), (1, 1), (0, 0))


def test_layers_are_named_by_kind_and_number(tmp_path):
    """Layers without a name are called by their kind and their number among their kind."""
    names = [layer.name for layer in network_of(tmp_path).layers]
    assert names == ["conv2d1", "relu1", "maxpool2d1", "flatten1", "linear1", "relu2", "linear2"]


def test_layers_between_weighted_ones(tmp_path):
    """`between` gives the layers without weights directly below a layer, first to last."""
    network = network_of(tmp_path)
    assert [[layer.kind for layer in network.between(weighted)] for weighted in network.weighted] == [
        [], ["relu", "maxpool2d", "flatten"], ["relu"],
    ]  # fmt: skip


def test_feedback_shapes(tmp_path):
    """B is shaped as W layer by layer; straight from the output it is outputs x the values of the layer's input."""
    conv = network_of(tmp_path).layers[0]
    assert feedback_shape(conv, 4, direct=False) == (3, 2, 3, 3)
    assert feedback_shape(conv, 4, direct=True) == (4, 2 * 6 * 6)


MISFITS = {
    "linear on an image": (
        "  - {kind: flatten}\n  - {kind: linear, out: 5}",
        "  - @@{kind: linear, out: 5}",
        "put a flatten",
    ),
    "convolution on a vector": (
        "  - {kind: linear, out: 5}",
        "  - @@{kind: conv2d, out: 5, kernel: 1}",
        "channels, height",
    ),
    "pooling on a vector": ("  - {kind: linear, out: 5}", "  - @@{kind: maxpool2d, kernel: 1}", "channels, height"),
    "kernel too large": ("out: 3, kernel: 3}", "out: 3, kernel: 7}", "does not fit its input"),
    "no linear at the end": ("  - {kind: linear, out: 4}\n", "  - @@{kind: tanh}\n", "last layer must be linear"),
    "name twice": ("{kind: linear, out: 4}", "@@{kind: linear, out: 4, name: linear1}", "'linear1' is taken"),
}


@pytest.mark.parametrize("misfit", MISFITS, ids=lambda name: name.replace(" ", "-"))
def test_layers_that_do_not_fit(misfit, tmp_path):
    """A layer that does not fit its input is a ConfigError at that layer's place in the file."""
    old, new, message = MISFITS[misfit]
    text, places = marked(swap(MODEL, old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        network_of(tmp_path, text)
    place = places[0] if places else "4:5"
    assert caught.value.problems[0].place == f"{tmp_path / 'model.yaml'}:{place}"


@given(st.lists(st.sampled_from(("relu", "tanh", "flatten")), max_size=4), st.integers(1, 3), st.integers(1, 5))
def test_plain_layers_keep_the_values(kinds, channels, size):
    """ReLU, tanh and flatten neither add nor drop a value."""
    shape = (channels, size, size)
    for number, kind in enumerate(kinds):
        layer = make_layer(PlainSpec(kind=kind), f"p{number}", shape)
        assert layer.outputs == layer.inputs == channels * size * size
        shape = layer.out_shape


def test_overrides_reach_layers(tmp_path):
    """`--set model.layers.4.out=9` changes the shapes of all layers above."""
    network = network_of(tmp_path, overrides={"layers.4.out": "9"})
    assert [layer.weight_shape for layer in network.weighted] == [(3, 2, 3, 3), (9, 12), (4, 9)]


def test_json_is_a_model_file(tmp_path):
    """JSON is YAML: a model written by a program loads as well."""
    value = {"name": "j", "input": [3], "layers": [{"kind": "linear", "out": 2, "bias": False}]}
    assert network_of(tmp_path, json.dumps(value)).parameters == 6
