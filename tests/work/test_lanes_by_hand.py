"""Products, biases, sums, roundings and the loss of a small network of convolutions, counted by hand.

1 x 5 x 5 -> conv `a`: 2 kernels of 3 x 3 -> 2 x 3 x 3 -> conv `b`: 3 kernels of 2 x 2 -> 3 x 2 x 2 -> linear `c`: 2
"""

from collections import Counter

import pytest

from fahw.hardware.memories.prng import Prng
from fahw.layers.catalogue import KINDS
from tests.support.hand_counts import chip_of_bits
from tests.support.models import graph
from tests.support.steps import counts, step

NETWORK = graph(
    (1, 5, 5),
    {"kind": "conv2d", "name": "a", "out": 2, "kernel": 3},
    {"kind": "conv2d", "name": "b", "out": 3, "kernel": 2},
    {"kind": "flatten"},
    {"kind": "linear", "name": "c", "out": 2},
)
BATCH = 3
WEIGHTS = {"a": 2 * 9, "b": 3 * 2 * 4, "c": 2 * 12}
BIASES = {"a": 2, "b": 3, "c": 2}
INPUTS = {"a": 25, "b": 18, "c": 12}
OUTPUTS = {"a": 18, "b": 12, "c": 2}
PLACES = {"a": 9, "b": 4, "c": 1}
WINDOWS = {"a": 9, "b": 8, "c": 12}
VALUE, ERROR, ACCUMULATOR = 6, 7, 32
"""Bits of an activation, of an error, of a sum."""


def lanes(work, **where):
    """Operations of the lanes by (action, widths)."""
    found = Counter()
    for task in work.tasks:
        for count in task.counts:
            if count.component.endswith(".vector") and not count.action.startswith("clock_"):
                place = {"phase": task.phase, "layer": task.layer, "tensor": count.tensor}
                if where.items() <= place.items():
                    found[count.action, count.widths] += count.count
    return found


def test_every_kind_with_weights_is_counted_by_hand():
    """A new one needs its place in the network above, and its numbers."""
    assert {layer.kind for layer in NETWORK.weighted} == {name for name, kind in KINDS.items() if kind.weighted}


@pytest.mark.parametrize("layer", NETWORK.weighted, ids=lambda layer: layer.name)
def test_sizes_of_layers_with_weights(layer):
    name = layer.name
    sizes = (layer.weights, layer.biases, layer.inputs, layer.outputs, layer.positions, layer.window)
    assert sizes == tuple(each[name] for each in (WEIGHTS, BIASES, INPUTS, OUTPUTS, PLACES, WINDOWS))
    assert layer.macs == WEIGHTS[name] * PLACES[name]
    assert counts(step(chip_of_bits(), NETWORK, "bp", BATCH), phase="forward", layer=name, action="mac") == (
        BATCH * WEIGHTS[name] * PLACES[name]
    )


@pytest.mark.parametrize("name", WEIGHTS)
def test_forward_adds_a_bias_to_every_output_and_rounds_it(name):
    work = step(chip_of_bits(), NETWORK, "bp", BATCH)
    wide = (ACCUMULATOR,)
    assert lanes(work, phase="forward", layer=name, tensor="param") == {("add", wide): BATCH * OUTPUTS[name]}
    assert lanes(work, phase="forward", layer=name, tensor="activation") == {("shift", wide): BATCH * OUTPUTS[name]}


def test_the_loss_takes_five_operations_per_class():
    """Compare with the largest, exponential, sum, division, difference to the label; 3 samples of 2 classes."""
    work = step(chip_of_bits(), NETWORK, "bp", BATCH)
    names = {("compare", (VALUE,)), ("table", (16,)), ("add", (32,)), ("divide", (16,)), ("subtract", (ERROR,))}
    assert lanes(work, phase="error", layer="loss") == dict.fromkeys(names, BATCH * 2)


def test_errors_of_overlapping_windows_are_added_up():
    """`b`: at 4 places each of 8 values is added to what lies there, read and written at accumulator width; `c` has no
    windows."""
    work = step(chip_of_bits(), NETWORK, "bp", BATCH)
    added = BATCH * 4 * 8
    assert lanes(work, phase="error", layer="b") == {
        ("add", (ACCUMULATOR,)): added,
        ("shift", (ACCUMULATOR,)): BATCH * INPUTS["b"],
    }
    assert lanes(work, phase="error", layer="c") == {("shift", (ACCUMULATOR,)): BATCH * INPUTS["c"]}
    for action in ("read", "write"):
        assert counts(work, phase="error", tensor="psum", action=action) == added * ACCUMULATOR


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("micro_batch", [None, 1])
def test_gradients_are_summed_and_rounded_once(name, micro_batch):
    """A bias takes an addition per error; every micro-batch but the first adds to the sums of the others."""
    work = step(chip_of_bits(micro_batch), NETWORK, "bp", BATCH)
    wide, further = (ACCUMULATOR,), 2 if micro_batch else 0
    of_weights, of_biases = (
        lanes(work, phase="gradient", layer=name, tensor=tensor) for tensor in ("gradient", "param")
    )
    assert of_weights == +Counter({("shift", wide): WEIGHTS[name], ("add", wide): further * WEIGHTS[name]})
    assert of_biases == {
        ("shift", wide): BIASES[name],
        ("add", wide): BATCH * PLACES[name] * BIASES[name] + further * BIASES[name],
    }


@pytest.mark.parametrize(
    ("tensor", "phase", "values", "bits"),
    [("activation", "forward", OUTPUTS, ACCUMULATOR), ("error", "error", INPUTS, ACCUMULATOR),
     ("gradient", "gradient", WEIGHTS, ACCUMULATOR), ("weight", "update", WEIGHTS, 16)],
)  # fmt: skip
def test_a_dynamic_scale_compares_every_value(tensor, phase, values, bits):
    """One comparison per value at the width before rounding; samples count where there are any."""
    precision = {"activation": VALUE, "error": ERROR, "accumulator": ACCUMULATOR, "scale": {tensor: "per_tensor"}}
    fixed, moving = (
        step(chip_of_bits(precision=p), NETWORK, "bp", BATCH) for p in (precision | {"scale": {}}, precision)
    )
    samples = BATCH if tensor in ("activation", "error") else 1
    for name in ("b", "c"):
        more = lanes(moving, phase=phase, layer=name, tensor=tensor)
        more.subtract(lanes(fixed, phase=phase, layer=name, tensor=tensor))
        assert +more == {("compare", (bits,)): samples * values[name]}


def test_a_copy_with_its_own_dynamic_scale_is_searched_and_shifted():
    """The copy of the weights that the error reads: a comparison and a shift per weight at their width."""
    precision = {"activation": VALUE, "error": ERROR, "weight": 8}
    fixed, moving = (
        step(chip_of_bits(precision=precision | {"scale": scale}), NETWORK, "bp", BATCH)
        for scale in ({}, {"feedback": "per_tensor"})
    )
    more = lanes(moving, phase="update", layer="b")
    more.subtract(lanes(fixed, phase="update", layer="b"))
    assert +more == {("compare", (8,)): WEIGHTS["b"], ("shift", (8,)): WEIGHTS["b"]}


def test_a_generator_yields_every_feedback_weight_that_the_error_fetches():
    """A fold each for `b` and `c`: their weights once, 8 bits each."""
    chip = chip_of_bits()
    copies = chip.memory("copies").model_dump(include={"name", "holds", "read_bits_per_cycle"})
    generator = Prng(kind="prng", pj_per_bit=1.0, area_mm2=0.1, width_bits=8, **copies)
    memories = tuple(generator if each.name == "copies" else each for each in chip.memories)
    work = step(chip.model_copy(update={"memories": memories}), NETWORK, "fa", BATCH)
    for name in ("b", "c"):
        assert counts(work, phase="error", layer=name, component="copies", action="generate") == 8 * WEIGHTS[name]
