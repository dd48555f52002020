"""Operands without their zeros: size, writing and reading, held against sparse matrices that are drawn."""

from math import ceil

import numpy as np
import pytest

from fahw.activity import Activity, LayerActivity
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.rules.catalogue import RULES
from fahw.work.counts.packing import Packing, packed_bursts
from tests.support.models import chain, mlp
from tests.support.steps import counts, step

FORMS = ("coordinates", "run_length", "bitmap")


def encoded_bits(values, form, index_bits, bits):
    """Bits of one run of values (true: not zero), entry by entry."""
    if form == "bitmap":
        return len(values) + bits * int(values.sum())
    if form == "coordinates":
        return (bits + index_bits) * int(values.sum())
    entries = zeros = 0
    for value in values:
        if value or zeros + 1 == 1 << index_bits:
            entries, zeros = entries + 1, 0
        else:
            zeros += 1
    return (bits + index_bits) * entries


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize(("values", "bits", "index_bits", "width"), [
    (77, 8, 4, 32), (300, 8, 8, 8), (5, 6, 3, 64), (40, 8, 2, 64), (1000, 4, 5, 128),
])  # fmt: skip
def test_bits_and_words_of_drawn_runs(form, zeros, values, bits, index_bits, width):
    """2,000 runs: mean sizes within four standard errors, mean numbers of words within 2 % more (run lengths: 10)."""
    drawn = np.random.default_rng(3).random((2000, values)) >= zeros
    sizes = np.array([encoded_bits(run, form, index_bits, bits) for run in drawn])
    packing = Packing(form, index_bits, zeros)
    error = 4 * sizes.std() / len(sizes) ** 0.5
    assert packing.stored_bits(values, bits) == pytest.approx(sizes.mean(), abs=error + 1e-9)
    words = np.ceil(sizes / width)
    mean, error = packing.words((1, values), bits, width), 4 * words.std() / len(words) ** 0.5
    inexact = 0.1 if form == "run_length" else 0.02  # entries of zeros do not come by chance
    assert mean == pytest.approx(words.mean(), abs=error + inexact * words.mean() + 1e-9)


def test_runs_of_zeros_alone_end_in_entries():
    assert Packing("run_length", 2, 1.0).stored_bits(11, 8) == 2 * 10
    assert Packing("coordinates", 2, 1.0).stored_bits(11, 8) == 0
    assert Packing("bitmap", 2, 1.0).stored_bits(11, 8) == 11


def test_values_and_their_indices_are_read_where_they_are_not_zero():
    """357 values of 8 bits with 8 bits of index, in words of 8: 714 words at no zeros, 357 at half, 71 at .9."""
    for zeros, wanted in ((0.0, 714), (0.5, 357), (0.9, 71)):
        bursts = packed_bursts(Packing("coordinates", 8, zeros), [(3, 7 * 17)], 8, 8)
        assert sum(times * words for times, words in bursts) == wanted


def sparse_chip(form="coordinates", **overrides):
    zeros = {f"arrays.{array}.zero_skipping.form": form for array in (0, 1)}
    return load_chip("neurocore_mesh", zeros | overrides)


def work_of(chip, network, zeros, rule="bp", batch=8):
    found = LayerActivity(zeros, zeros, 1, 1)
    activity = Activity({layer.name: found for layer in network.weighted}, 1)
    return step(chip, network, RULES[rule], batch, activity=activity)


@pytest.mark.parametrize("form", FORMS)
def test_results_are_written_and_sent_without_their_zeros(form):
    """The ReLU's outputs of linear0, 8 samples of 64 values, go to linear2's core as they are packed: bits per hop, and
    words where they are written; so do errors on the way back."""
    network, zeros = mlp(64, 64, 10), 0.9
    drawn = np.random.default_rng(5).random((400, 8 * 64)) >= zeros
    index_bits = 4
    mean = np.mean([encoded_bits(run, form, index_bits, 8) for run in drawn])
    chip = sparse_chip(form, micro_batch="8")
    work = work_of(chip, network, zeros)
    hops = {task.layer: count.count for task in work.tasks if task.phase == "forward"
            for count in task.counts if (count.component, count.tensor) == ("noc", "activation")}  # fmt: skip
    plain = work_of(load_chip("neurocore_mesh", {
        "micro_batch": "8", **{f"arrays.{array}.zero_skipping": "{activation: none, error: none}" for array in (0, 1)},
    }), network, zeros)  # fmt: skip
    plain_hops = {task.layer: count.count for task in plain.tasks if task.phase == "forward"
                  for count in task.counts if (count.component, count.tensor) == ("noc", "activation")}  # fmt: skip
    links = plain_hops["linear0"] / (8 * 64 * 8)
    assert hops["linear0"] / links == pytest.approx(mean, rel=0.03)
    at = {"phase": "forward", "layer": "linear0", "action": "write", "tensor": "activation"}
    assert counts(work, **at) < counts(plain, **at) / 2
    back = {"phase": "error", "layer": "linear2", "action": "write", "tensor": "error"}
    assert counts(work, **back) < counts(plain, **back) / 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_room_is_that_of_the_packed_form(form, zeros):
    """Of 6 inputs, 50 ReLU outputs and 3 logits per sample only the logits lie as they are."""
    network = chain((6,), ("linear", {"out": 50}), ("relu", {}), ("linear", {"out": 3}))
    chip = sparse_chip(form, **{"mesh": "null"})
    steps = chip.steps_in_flight
    held = {placed.tensor: placed.bits for placed in work_of(chip, network, zeros).placements}
    packing = Packing(form, 4, zeros)
    values = sum(ceil(packing.stored_bits(number, 8)) for number in (6, 50)) + 3 * 8
    assert held["activation"] == 8 * steps * values
    errors = sum(ceil(packing.stored_bits(8 * number, 8)) for number in (50, 3))
    assert held["error"] == errors


def test_a_tensor_lies_in_one_form():
    with pytest.raises(ConfigError, match="skips zeros of errors in another form"):
        load_chip("neurocore_mesh", {"arrays.1.zero_skipping.form": "bitmap"})
