"""Networks and models that the tests of the arithmetic share, built without YAML."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import strategies as st

from fahw.formats.precision import Precision, RoundingModes
from fahw.layers.catalogue import KINDS, make_layer
from fahw.learn.arithmetic.floating import Floating
from fahw.learn.arithmetic.integer import Integer
from fahw.learn.error_path.feedback import Feedback
from fahw.learn.error_path.feedback_words import FloatWords, IntegerWords
from fahw.learn.model import Model
from fahw.learn.state.scales import network_scales
from fahw.learn.training.build import build
from fahw.learn.training.setup import TrainingSetup
from fahw.network.graph import Network
from fahw.network.load import network_of_model
from fahw.network.model_file import Model as ModelFile
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr, derive
from fahw.rules.catalogue import RULES


def layer(kind, name, *shapes, **options):
    """The layer of a kind on inputs of these shapes; `options` as in a model file."""
    return make_layer(KINDS[kind].spec(kind=kind, **options), name, *shapes)


def chain(input_shape, *specs):
    """A network from `(kind, {out, kernel, stride, padding, bias})`, shapes derived."""
    layers, shape = [], tuple(input_shape)
    for number, (kind, given) in enumerate(specs):
        layers.append(layer(kind, f"{kind}{number}", shape, **given))
        shape = layers[-1].out_shape
    return Network("case", tuple(input_shape), tuple(layers))


def mlp(*sizes, act="relu"):
    """Linear layers with an activation between them."""
    specs = []
    for size in sizes[1:]:
        specs += [("linear", {"out": size}), (act, {})]
    return chain((sizes[0],), *specs[:-1])


def convolutional(bias=True, pool="maxpool2d", stride=(2, 1), padding=(1, 0), pool_stride=(1, 2)):
    """conv - relu - pool - conv - tanh - flatten - linear - relu - linear on 2 x 8 x 7."""
    conv = {"out": 3, "kernel": (3, 2), "stride": stride, "padding": padding, "bias": bias}
    return chain(
        (2, 8, 7),
        ("conv2d", conv),
        ("relu", {}),
        (pool, {"kernel": (2, 2), "stride": pool_stride, "padding": (0, 1)}),
        ("conv2d", {"out": 4, "kernel": (2, 2), "bias": bias}),
        ("tanh", {}),
        ("flatten", {}),
        ("linear", {"out": 6, "bias": bias}),
        ("relu", {}),
        ("linear", {"out": 5, "bias": bias}),
    )


def graph(input_shape, *layers, **settings):
    """A network from YAML-like dictionaries of layers."""
    model = ModelFile.model_validate({"name": "case", "input": input_shape, "layers": layers})
    network = network_of_model(model)
    assert len(network.layers) == len(layers), "a layer does not fit"
    return replace(network, **settings)


def everything(way="shortcut", mode="circular", **settings):
    """Both kinds of shortcut, groups, dilation, padding of every kind, all activations, batch norms, pools, dropout."""
    down = [{"kind": "shortcut", "name": "down", "from": "r1", "out": 6, "stride": 2}]
    if way == "projection":
        down = [{"kind": "conv2d", "name": "conv3", "from": "r1", "out": 6, "kernel": 1, "stride": 2, "bias": False}]
        down += [{"kind": "batchnorm2d", "name": "down"}]
    return graph(
        (2, 7, 6),
        {"kind": "conv2d", "name": "conv0", "out": 4, "kernel": 3, "padding": (2, 1), "padding_mode": mode},
        {"kind": "batchnorm2d", "name": "bn0"},
        {"kind": "hardtanh", "name": "r0"},
        {"kind": "conv2d", "name": "conv1", "out": 4, "kernel": (3, 2), "padding": 1, "dilation": (1, 2), "groups": 2},
        {"kind": "add", "name": "a1", "from": ("conv1", "r0")},
        {"kind": "relu", "name": "r1"},
        {"kind": "conv2d", "name": "conv2", "out": 6, "kernel": 3, "stride": 2, "padding": 1, "padding_mode": mode},
        {"kind": "batchnorm2d", "name": "bn2"},
        *down,
        {"kind": "add", "name": "a2", "from": ("bn2", "down") if way == "projection" else ("down", "bn2", "down")},
        {"kind": "sigmoid", "name": "r2"},
        {"kind": "maxpool2d", "name": "p1", "kernel": 2, "stride": 1, "padding": 1},
        {"kind": "avgpool2d", "name": "p2", "kernel": "all"},
        {"kind": "flatten", "name": "f"},
        {"kind": "linear", "name": "l1", "out": 5, "bias": False},
        {"kind": "batchnorm1d", "name": "bn3"},
        {"kind": "tanh", "name": "r3"},
        {"kind": "dropout", "name": "d", "p": 0.3},
        {"kind": "linear", "name": "l2", "out": 4},
        **settings,
    )  # fmt: skip


CROSSING = (
    {"kind": "linear", "name": "a", "out": 4},
    {"kind": "linear", "name": "b", "out": 4},
    {"kind": "linear", "name": "c", "out": 4},
    {"kind": "linear", "name": "d", "out": 4},
    {"kind": "add", "name": "outer", "from": ("a", "d")},
    {"kind": "linear", "name": "e", "from": "outer", "out": 4},
    {"kind": "add", "name": "left", "from": ("a", "c")},
    {"kind": "add", "name": "right", "from": ("b", "d")},
    {"kind": "add", "name": "inner", "from": ("b", "c", "left", "right")},
    {"kind": "linear", "name": "f", "from": "inner", "out": 4},
    {"kind": "add", "name": "all", "from": ("e", "f")},
    {"kind": "linear", "name": "g", "from": "all", "out": 4},
)  # fmt: skip
"""Layers that read each other's sums crosswise: e reads a and d, f reads b and c, and both meet in other sums."""


def integer_model(
    network, rule, *, tuning=None, precision=None, rounding=None, batch=4, seed=0, own=None, way=None, norm_samples=None
):
    """An integer model and its scales."""
    tuning, precision, rounding = tuning or Tuning(), precision or Precision(), rounding or RoundingModes()
    scales = network_scales(network, precision, tuning, rule, batch)
    random = Lfsr(derive(seed, "rounding"))
    arithmetic = Integer(network, rule, precision, rounding, scales, tuning.momentum, batch, random, way, tuning,
                         norm_samples=norm_samples)  # fmt: skip
    parameters = arithmetic.initial(network, seed)
    feedback = Feedback(rule, IntegerWords(network, rule, precision, scales, seed), own)
    return Model(network, arithmetic, parameters, feedback), scales


def float_model(
    network, rule, *, gain=1.0, batch=4, seed=0, own=None, dtype=torch.float64, tuning=None, norm_samples=None
):
    """A floating model."""
    arithmetic = Floating(0.9, batch, dtype, tuning=tuning, norm_samples=norm_samples)
    parameters = arithmetic.initial(network, seed)
    return Model(network, arithmetic, parameters, Feedback(rule, FloatWords(network, rule, gain, seed, dtype), own))


def batch_of(network, count, seed=0):
    """Random pixels `(count, *input_shape)` and labels."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, *network.input_shape), dtype=np.uint8)
    return pixels, torch.from_numpy(generator.integers(0, network.classes, count))


def states(model):
    """Every stored tensor by layer and name, copied."""
    found = {}
    for layer, p in model.parameters.items():
        named = {"weight": p.weight, "master": p.master, "bias": p.bias, "statistics": p.statistics}
        named |= {f"state {number}": state for number, state in enumerate(p.states)}
        named |= {f"bias state {number}": state for number, state in enumerate(p.bias_states)}
        found |= {(layer, name): tensor.clone() for name, tensor in named.items() if tensor is not None}
    return found


def is_flat(model):
    """Whether the tensors of an integer model that learn lie in its flat arrays, in their order."""
    arrays = model.parameters.arrays
    for each in arrays.slices:
        p = model.parameters[each.layer]
        pairs = [(arrays.master, p.bias if each.is_bias else p.master)]
        pairs += zip(arrays.states, p.bias_states if each.is_bias else p.states, strict=True)
        pairs += [] if each.is_bias else [(arrays.words, p.weight)]
        if any(array[each.part].data_ptr() != tensor.data_ptr() for array, tensor in pairs):
            return False
    return True


def same_states(a, b):
    """Whether two models store equal numbers."""
    left, right = states(a), states(b)
    return left.keys() == right.keys() and all(torch.equal(left[k].double(), right[k].double()) for k in left)


widths = st.integers(1, 16)
roundings = st.sampled_from(("nearest", "floor", "stochastic"))
modes = st.builds(RoundingModes, activation=roundings, error=roundings, gradient=roundings, update=roundings)


@st.composite
def precisions(draw):
    """Any legal fixed-point widths, narrow accumulators included."""
    weight = draw(widths)
    return Precision(
        weight=weight,
        feedback=draw(widths),
        activation=draw(widths),
        error=draw(widths),
        gradient=draw(widths),
        master=draw(st.integers(weight, 16)),
        optimizer=draw(widths),
        accumulator=draw(st.sampled_from((8, 12, 16, 20, 24, 32, 40, 48))),
    )


def setup_of(network, rule, precision=None, rounding=None, *, tuning=None, recipe=None, batch=None, **others):
    """What a training is made from; rules by name. `tuning` replaces the recipe's settings, `batch` its batch size."""
    recipe = recipe or network.recipe
    changes = {} if tuning is None else {name: getattr(tuning, name) for name in Tuning.model_fields} | {"rules": {}}
    changes |= {} if batch is None else {"batch_size": batch}
    recipe = recipe.model_copy(update=changes)
    return TrainingSetup(
        network, recipe, RULES[rule], precision or Precision(), rounding or RoundingModes(), **others
    )  # fmt: skip


def built(network, rule, *formats, **others):
    """A model before its first step, as a training builds it; arguments as for `setup_of`."""
    return build(setup_of(network, rule, *formats, **others))[0]
