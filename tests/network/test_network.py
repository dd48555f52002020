"""Shapes, parameters and multiply-accumulates of networks, against torch."""

import csv
import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fahw.errors import ConfigError
from fahw.layers.catalogue import KINDS, make_layer
from fahw.layers.convolution import Conv2dSpec
from fahw.layers.reshaping import ShortcutSpec
from fahw.layers.weighted import LinearSpec
from fahw.network.error_path import feedback_shape
from fahw.network.graph import Network
from fahw.network.load import load_model
from tests.support.models import layer as made
from tests.support.strategies import MODEL, REFERENCE, SHIPPED_MODELS, marked, network_of, swap

PLAIN = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "hardtanh": nn.Hardtanh, "flatten": nn.Flatten,
    "dropout": nn.Dropout,
}  # fmt: skip
POOLS = {"maxpool2d": nn.MaxPool2d, "avgpool2d": nn.AvgPool2d}
NORMS = {"batchnorm1d": nn.BatchNorm1d, "batchnorm2d": nn.BatchNorm2d}


class Add(nn.Module):
    """The sum of its inputs."""

    def forward(self, *x):
        return sum(x[1:], x[0])


class Shortcut(nn.Module):
    """Every s-th pixel, channels of zeros on both sides."""

    def __init__(self, layer):
        super().__init__()
        self.stride, self.out = layer.stride, layer.out_shape[0]

    def forward(self, x):
        added = self.out - x.shape[1]
        return nn.functional.pad(
            x[:, :, :: self.stride[0], :: self.stride[1]], (0, 0, 0, 0, added // 2, added - added // 2)
        )


def module_of(layer):
    """The layer as a torch module, built from its numbers."""
    if layer.kind == "linear":
        return nn.Linear(layer.in_shape[0], layer.out_shape[0], layer.bias)
    if layer.kind == "conv2d":
        channels = layer.in_shape[0], layer.out_shape[0]
        return nn.Conv2d(
            *channels, layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups, layer.bias,
            layer.padding_mode,
        )  # fmt: skip
    if layer.kind in POOLS:
        return POOLS[layer.kind](layer.kernel, layer.stride, layer.padding)
    if layer.kind in NORMS:
        return NORMS[layer.kind](layer.in_shape[0])
    return {"add": Add, "shortcut": lambda: Shortcut(layer), **PLAIN}[layer.kind]()


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_shapes_and_parameters_of_shipped_models_are_torchs(name):
    """Layer by layer, the output shape and the number of parameters are those of the same torch module."""
    network = load_model(name)
    with torch.device("meta"):
        values = {"input": torch.zeros(2, *network.input_shape)}
        for layer in network.layers:
            module = module_of(layer)
            x = [values[source] for source in layer.sources]
            assert layer.in_shape == tuple(x[0].shape[1:])
            y = values[layer.name] = module(*x)
            assert layer.out_shape == tuple(y.shape[1:])
            assert layer.outputs == y[0].numel()
            parameters = dict(module.named_parameters())
            if layer.weighted:
                assert layer.weight_shape == tuple(parameters["weight"].shape)
            assert layer.weights + layer.biases + layer.params == sum(p.numel() for p in parameters.values())
    assert network.classes == y[0].numel()


PUBLISHED = {
    "lenet5": (61_706, 416_520),
    "mlp_mnist": (669_706, 668_672),
    "resnet20": (269_722, 40_551_040),
    "resnet56": (853_018, 125_485_696),
    "resnet18_imagenet": (11_689_512, 1_814_073_344),
    "alexnet": (60_965_224, 665_784_864 + 9216 * 4096 + 4096 * 4096 + 4096 * 1000),
}
"""Parameters, and multiply-accumulates of a forward pass, as the literature gives them."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    """Parameters and multiply-accumulates are the published ones."""
    network = load_model(name)
    assert (network.parameters, sum(layer.macs for layer in network.layers)) == PUBLISHED[name]


def reference_rows(name):
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(f"{path.name} is not at hand")
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_vgg8_is_the_reference_table():
    """Weights and multiply-accumulates per layer are NeuroSim's."""
    rows = reference_rows("neurosim_vgg8_layers.csv")
    found = [(layer.weights, layer.macs, layer.biases) for layer in load_model("vgg8").weighted]
    assert found == [(int(row["weights"]), int(row["macs_per_image"]), 0) for row in rows]


def test_alexnet_is_the_reference_table():
    """Groups, image sizes and multiply-accumulates of the convolutions are the published ones."""
    rows = reference_rows("alexnet_conv_layers.csv")
    layers = [layer for layer in load_model("alexnet").weighted if layer.kind == "conv2d"]
    found = [(x.groups, x.in_shape[1], x.out_shape[1], x.stride[0], x.padding[0], x.macs) for x in layers]
    columns = ("groups", "h_in", "h_out", "stride", "pad", "macs_per_image")
    assert found == [tuple(int(row[name]) for name in columns) for row in rows]


def test_mdnet_is_the_reference_table():
    """Weights, image sizes and multiply-accumulates per layer are the published ones."""
    rows = reference_rows("mdnet_layers.csv")
    found = [(x.weights, x.macs, x.in_shape[0]) for x in load_model("mdnet").weighted]
    assert found == [(int(row["weights"]), int(row["macs_per_sample"]), int(row["c_in"])) for row in rows]


sizes = st.integers(1, 9)
pairs = st.tuples(sizes, sizes)
paddings = st.tuples(st.integers(0, 3), st.integers(0, 3))


modes = st.sampled_from(("zeros", "reflect", "replicate", "circular"))


@given(st.integers(1, 3), st.integers(1, 2), pairs, st.integers(1, 3), pairs, pairs, paddings, st.booleans(),
       st.tuples(st.integers(1, 3), st.integers(1, 3)), modes)  # fmt: skip
def test_convolution_geometry_is_torchs(groups, channels, size, out, kernel, stride, padding, bias, dilation, mode):
    """Any kernel, stride, padding, dilation and grouping gives torch's output shape; what torch refuses we refuse."""
    channels, out = channels * groups, out * groups
    spec = Conv2dSpec(
        kind="conv2d", out=out, kernel=kernel, stride=stride, padding=padding, bias=bias, groups=groups,
        dilation=dilation, padding_mode=mode,
    )  # fmt: skip
    module = nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias, mode)
    try:
        shape = tuple(module(torch.zeros(1, channels, *size)).shape[1:])
    except (RuntimeError, AssertionError):
        with pytest.raises(ConfigError, match=r"does not fit|too large"):
            make_layer(spec, "c", (channels, *size))
        return
    layer = make_layer(spec, "c", (channels, *size))
    assert layer.out_shape == shape
    assert layer.weight_shape == tuple(module.weight.shape)
    assert layer.weights + layer.biases == sum(p.numel() for p in module.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, channels, *size))
    assert layer.macs == counter.get_total_flops() // 2
    assert layer.window * out == layer.weights


@given(pairs, st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_same_keeps_the_image_size(size, kernel, dilation):
    """`padding: same` keeps the size where torch pads evenly, and is refused where it would not."""
    spec = Conv2dSpec(kind="conv2d", out=1, kernel=kernel, dilation=dilation, padding="same")
    sides = nn.Conv2d(1, 1, kernel, dilation=dilation, padding="same")._reversed_padding_repeated_twice
    if sides[0] != sides[1] or sides[2] != sides[3]:
        with pytest.raises(ConfigError, match="pads unevenly"):
            make_layer(spec, "c", (1, *size))
        return
    layer = make_layer(spec, "c", (1, *size))
    assert layer.out_shape == layer.in_shape
    assert layer.padding == (sides[2], sides[0])


@given(st.sampled_from(sorted(POOLS)), pairs, pairs, st.none() | pairs, paddings)
def test_pooling_geometry_is_torchs(kind, size, kernel, stride, padding):
    """Pooling windows fall as torch's do, the stride being the kernel where not given; partial ones are dropped."""
    spec = KINDS[kind].spec(kind=kind, kernel=kernel, stride=stride, padding=padding)
    x = torch.zeros(1, 2, *size)
    try:
        shape = tuple(POOLS[kind](kernel, stride, padding)(x).shape[1:])
    except RuntimeError:
        with pytest.raises(ConfigError, match=r"does not fit|more than half"):
            make_layer(spec, "p", (2, *size))
        return
    layer = make_layer(spec, "p", (2, *size))
    assert layer.out_shape == shape
    assert layer.weights == layer.biases == layer.params == layer.macs == 0
    assert not layer.weighted


@given(pairs, st.integers(1, 3), st.integers(0, 4), pairs)
def test_whole_image_windows_and_shortcuts(size, channels, more, stride):
    """`kernel: all` leaves a value per channel; a shortcut has every s-th pixel of each axis and added channels."""
    pooled = make_layer(KINDS["avgpool2d"].spec(kind="avgpool2d", kernel="all"), "p", (channels, *size))
    assert pooled.out_shape == tuple(nn.AdaptiveAvgPool2d(1)(torch.zeros(1, channels, *size)).shape[1:])
    assert pooled.kernel == size
    short = make_layer(ShortcutSpec(kind="shortcut", out=channels + more, stride=stride), "s", (channels, *size))
    assert short.out_shape == tuple(Shortcut(short)(torch.zeros(1, channels, *size)).shape[1:])


@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_linear_counts_are_torchs(inputs, out, bias):
    """A linear layer has torch's parameters and one multiply-accumulate per weight."""
    layer = make_layer(LinearSpec(kind="linear", out=out, bias=bias), "l", (inputs,))
    assert layer.weights + layer.biases == sum(p.numel() for p in nn.Linear(inputs, out, bias).parameters())
    assert layer.macs == inputs * out


@given(
    st.sampled_from(("linear", "conv2d")), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)
)
def test_initial_draw_is_xaviers(kind, inputs, out, kernel, groups):
    """The bound of the initial weights is torch's Xavier uniform bound for the same tensor."""
    if kind == "linear":
        layer = make_layer(LinearSpec(kind="linear", out=out), "l", (inputs,))
    else:
        spec = Conv2dSpec(kind="conv2d", out=out * groups, kernel=kernel, groups=groups)
        layer = make_layer(spec, "l", (inputs * groups, 4, 4))
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
    assert feedback_shape(conv, 4, direct=True, tiled=True) == (4, 2, 3, 3)
    assert feedback_shape(network_of(tmp_path).layers[-1], 4, direct=True, tiled=True) == (4, 5)


RESIDUAL = """\
name: residual
input: [2, 6, 6]
layers:
  - {kind: conv2d, name: a, out: 4, kernel: 3, padding: same}
  - {kind: relu, name: r}
  - {kind: conv2d, name: b, out: 4, kernel: 3, padding: same}
  - {kind: batchnorm2d, name: n}
  - {kind: shortcut, name: s, from: input, out: 4}
  - {kind: add, name: j, from: [n, r, s]}
  - {kind: avgpool2d, name: p, kernel: all}
  - {kind: flatten, name: f}
  - {kind: linear, name: l, out: 4}
"""


def test_a_graph_of_layers(tmp_path):
    """Sources and users of layers that branch and meet, what lies between weighted ones, parameters."""
    network = network_of(tmp_path, RESIDUAL)
    by_name = {layer.name: layer for layer in network.layers}
    assert {name: layer.sources for name, layer in by_name.items()} == {
        "a": ("input",), "r": ("a",), "b": ("r",), "n": ("b",), "s": ("input",), "j": ("n", "r", "s"), "p": ("j",),
        "f": ("p",), "l": ("f",),
    }  # fmt: skip

    def names(layers):
        return [layer.name for layer in layers]

    assert names(network.sources_of(by_name["j"])) == ["n", "r", "s"]
    assert names(network.sources_of(by_name["s"])) == []
    assert names(network.users_of(by_name["r"])) == ["b", "j"]
    assert names(network.users_of(None)) == ["a", "s"]
    assert names(network.users_of(by_name["l"])) == []
    assert names(network.between(by_name["l"])) == ["r", "n", "s", "j", "p", "f"]
    assert names(network.between(by_name["b"])) == ["r"]
    assert names(network.weighted_below(by_name["l"])) == ["a", "b"]
    assert names(network.weighted_below(by_name["a"])) == []
    assert network.layer("n").params == 8
    assert network.parameters == (4 * 2 * 9 + 4) + (4 * 4 * 9 + 4) + 8 + (4 * 4 + 4)


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_every_layer_is_read_by_its_users(name):
    """`users_of` is the inverse of `sources_of`, and only the last layer is read by none."""
    network = load_model(name)
    for layer in network.layers:
        assert all(layer in network.sources_of(user) for user in network.users_of(layer))
        assert all(layer in network.users_of(source) for source in network.sources_of(layer))
        assert bool(network.users_of(layer)) == (layer is not network.layers[-1])


def test_layers_made_by_hand_read_the_one_before():
    """A chain made without sources is wired as a chain."""
    layers = (made("relu", "a", (3,)), made("linear", "b", (3,), out=2))
    network = Network("hand", (3,), layers)
    assert [layer.sources for layer in network.layers] == [("input",), ("a",)]


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
    "unknown source": ("{kind: flatten}", "{kind: flatten, from: @@maxpol2d1}", r"no layer 'maxpol2d1'.*'maxpool2d1'"),
    "forward reference": ("{kind: flatten}", "{kind: flatten, from: @@linear1}", "'linear1' comes after this layer"),
    "itself": ("{kind: flatten}", "{kind: flatten, from: @@flatten1}", "cannot read itself"),
    "one of two": (
        "{kind: relu}\n  - {kind: max",
        "{kind: add, from: [input, @@relu7]}\n  - {kind: max",
        "no layer 'relu7'",
    ),
    "add of shapes": (
        "{kind: relu}\n  - {kind: max",
        "@@{kind: add, from: [conv2d1, input]}\n  - {kind: max",
        r"one shape, gets \[3, 4, 4\] and \[2, 6, 6\]",
    ),
    "add of one": ("{kind: relu}\n  - {kind: max", "@@{kind: add}\n  - {kind: max", "needs two layers or more"),
    "two sources": ("{kind: flatten}", "@@{kind: flatten, from: [relu1, maxpool2d1]}", "reads one layer, not 2"),
    "nothing reads it": (
        "- {kind: relu}\n  - {kind: max",
        "- @@{kind: relu}\n  - {from: conv2d1, kind: max",
        "no layer reads 'relu1'",
    ),
    "groups": ("out: 3, kernel: 3}", "out: 3, kernel: 3, groups: 2}", "groups of 2 do not divide its 3 output"),
    "same with stride": ("kernel: 3}", "kernel: 3, padding: same, stride: 2}", "goes with stride 1 only"),
    "much padding": ("maxpool2d, kernel: 2}", "maxpool2d, kernel: 2, padding: 2}", "more than half the kernel"),
    "less channels": ("{kind: relu}\n  - {kind: max", "@@{kind: shortcut, out: 2}\n  - {kind: max", "cannot turn 3"),
    "all with stride": ("kernel: 2}", "kernel: all, stride: 1}", "neither stride nor padding"),
    "norm of an image": ("{kind: relu}\n  - {kind: max", "@@{kind: batchnorm1d}\n  - {kind: max", "use batchnorm2d"),
    "name twice": ("{kind: linear, out: 4}", "@@{kind: linear, out: 4, name: linear1}", "'linear1' is taken"),
}


@pytest.mark.parametrize("misfit", MISFITS, ids=lambda name: name.replace(" ", "-"))
def test_layers_that_do_not_fit(misfit, tmp_path):
    """A layer that does not fit its input is a ConfigError at that layer's place in the file."""
    old, new, message = MISFITS[misfit]
    text, places = marked(swap(MODEL, old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        network_of(tmp_path, text)
    place = places[0] if places else {"much padding": "6:5", "all with stride": "6:5"}.get(misfit, "4:5")
    (matching,) = (problem for problem in caught.value.problems if re.search(message, problem.message))
    assert matching.place == f"{tmp_path / 'model.yaml'}:{place}"


def test_every_misfit_is_told_at_once(tmp_path):
    """Layers after a misfit are checked as far as their inputs are known."""
    text = swap(MODEL, "out: 3, kernel: 3}", "out: 3, kernel: 9}")
    text = swap(
        text, "  - {kind: linear, out: 4}", "  - {kind: maxpool2d, from: input, kernel: 8}\n  - {kind: linear, out: 4}"
    )
    with pytest.raises(ConfigError) as caught:
        network_of(tmp_path, text)
    assert [problem.place.rsplit("model.yaml:")[1] for problem in caught.value.problems] == ["4:5", "9:5", "10:5"]


@given(
    st.lists(st.sampled_from(("relu", "tanh", "sigmoid", "hardtanh", "flatten")), max_size=4),
    st.integers(1, 3),
    st.integers(1, 5),
)
def test_plain_layers_keep_the_values(kinds, channels, size):
    """Activations and flatten neither add nor drop a value."""
    shape = (channels, size, size)
    for number, kind in enumerate(kinds):
        layer = make_layer(KINDS[kind].spec(kind=kind), f"p{number}", shape)
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


def test_frozen_layers_of_a_model_file(tmp_path):
    """`frozen` is of layers with parameters; a norm goes with its layer, and something must be left to train."""
    lines = ["name: m", "input: [1, 4, 4]", "layers:"]
    layers = ["  - {kind: conv2d, out: 2, kernel: 3, frozen: true}", "  - {kind: batchnorm2d, frozen: true}",
              "  - {kind: flatten}", "  - {kind: linear, out: 3}"]  # fmt: skip
    path = tmp_path / "m.yaml"
    path.write_text("\n".join(lines + layers))
    network = load_model(path)
    assert [layer.frozen for layer in network.layers] == [True, True, False, False]
    assert "frozen" in network.layers[0].description()
    assert "frozen" not in network.layers[3].description()  # as it was: results that are stored keep their keys
    for index, old, new, message in (
        (1, ", frozen: true", "", r"m.yaml:5:.*'conv2d1', which it normalises, is frozen.*set frozen: true here too"),
        (3, "out: 3", "out: 3, frozen: true", "m.yaml:7:.*nothing is trained: every layer with weights is frozen"),
        (2, "flatten", "flatten, frozen: true", "frozen"),
    ):
        changed = [*layers]
        changed[index] = changed[index].replace(old, new)
        path.write_text("\n".join(lines + changed))
        with pytest.raises(ConfigError, match=message):
            load_model(path)
