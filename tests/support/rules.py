"""Every rule that can be made of a few values of each choice, and small networks with all that an error can meet."""

from collections import OrderedDict
from itertools import product

import numpy as np
import torch
from torch import nn

from fahw.hardware.load import load_chip
from fahw.layers.layer import Layer
from fahw.rules.rule import Rule
from tests.support.models import graph, mlp

CHOICES = {
    "path": ("layerwise", "direct"),
    "sign": ("weight", "own"),
    "magnitude": ("weight", "own", "constant", "redrawn"),
    "signal": ("error", "ternary", "targets"),
    "learned": (None, "gradient", "mirror"),
    "pruned": (0.0, 0.6),
    "trains": ("all", "dense", "last"),
    "density": (1.0, 0.4),
    "rank": (None, 2),
}


def all_choices():
    """Every combination of the values, as dictionaries."""
    return [dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values())]


def made(choices):
    """The rule of the choices, or the reason why there is none."""
    try:
        return Rule("x", "X", source="a test", **choices)
    except ValueError as error:
        return str(error)


RULE_VALUES = [rule for rule in map(made, all_choices()) if isinstance(rule, Rule)]
"""The rules among them."""


def described(rule):
    """The choices of a rule that are not those of feedback alignment, for the names of tests."""
    usual = {"path": "layerwise", "sign": "own", "magnitude": "own", "signal": "error", "trains": "all", "density": 1.0}
    values = {name: getattr(rule, name) for name in CHOICES}
    return "-".join(str(v) for name, v in values.items() if v and v != usual.get(name)) or "fa"


CONVOLUTIONS = graph(
    (2, 6, 5),
    {"kind": "conv2d", "name": "c0", "out": 4, "kernel": 3},
    {"kind": "tanh", "name": "t0"},
    {"kind": "conv2d", "name": "c1", "out": 6, "kernel": (2, 3), "padding": 1, "groups": 2},
    {"kind": "relu", "name": "t1"},
    {"kind": "conv2d", "name": "c2", "out": 5, "kernel": 2, "stride": 2},
    {"kind": "relu", "name": "t2"},
    {"kind": "flatten", "name": "f"},
    {"kind": "linear", "name": "l3", "out": 6},
    {"kind": "tanh", "name": "t3"},
    {"kind": "linear", "name": "l4", "out": 5},
)  # fmt: skip
NETWORKS = {"mlp": mlp(9, 8, 7, 5), "conv": CONVOLUTIONS}

CHIP = load_chip("edge_dual")


def chip_of_width(feedback):
    """edge_dual with `feedback` bits in a feedback weight; every word of 2 to 4 bits is odd, so that none is zero."""
    return CHIP.model_copy(update={"precision": CHIP.precision.model_copy(update={"feedback": feedback})})


def module_of(network, weights):
    """The network as a torch module with the given weights and biases by layer."""
    layers = OrderedDict((layer.name, _module(layer)) for layer in network.layers)
    module = nn.Sequential(layers).double()
    with torch.no_grad():
        for name, (weight, bias) in weights.items():
            layers[name].weight.copy_(weight)
            layers[name].bias.copy_(bias)
    return module


def _module(layer: Layer):
    if layer.kind == "linear":
        return nn.Linear(*layer.in_shape, *layer.out_shape)
    if layer.kind == "conv2d":
        settings = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        return nn.Conv2d(layer.in_shape[0], layer.out_shape[0], layer.kernel, **settings)
    return {"tanh": nn.Tanh, "relu": nn.ReLU, "flatten": nn.Flatten}[layer.kind]()


def entries(matrix):
    """Number of entries that are not zero, and the most of them in a column."""
    filled = np.asarray(matrix.double()) != 0
    return int(filled.sum()), int(filled.reshape(len(filled), -1).sum(0).max())
