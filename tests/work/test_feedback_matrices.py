"""Sparse and low-rank feedback on a chip: what is read, stored, multiplied and rounded, by hand."""

from collections import Counter
from dataclasses import replace

import pytest

from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from tests.support.steps import counts, step
from tests.support.strategies import ROOT

CHIP = load_chip(ROOT / "docs" / "worked_chip.yaml")
HALF = replace(RULES["dfa"], name="half", density=0.5)
ONE = replace(RULES["fa"], name="one", rank=1)


def worked(rule, chip=CHIP):
    """The worked example's network 4-3-2 at batch 2 on its chip of 8-bit memory words and 2 x 2 elements."""
    return step(chip, load_model(ROOT / "docs" / "worked_model.yaml"), rule, 2)


def error_task(work):
    (found,) = (task for task in work.tasks if task.id == ("error", "linear2"))
    return found


def test_half_of_b_is_one_entry_for_each_of_three_hidden_values():
    """Its place is one of two rows: 9 bits each, 4 words of 8 bits in all; folds of two columns and of one read 3 and 2
    of them. All 4 errors of both samples are read in either fold; one of each two is multiplied."""
    work, whole = worked(HALF), worked("dfa")
    found = error_task(work)
    assert (work.feedback_bits, whole.feedback_bits) == (27, 48)
    assert [count.count for count in work.one_time] == [4]
    assert (found.macs, error_task(whole).macs) == (6, 12)
    traffic = [(c.component, c.action, c.count, c.widths) for c in found.counts if c.action in ("read", "mac")]
    assert traffic[:3] == [("buffer", "read", 8, ()), ("feedback", "read", 5, ()), ("bwd", "mac", 6, (8, 8, 32))]
    (moved,) = (c for c in found.counts if c.action == "shift_operand")
    assert (moved.count, moved.widths) == (6, (2 * 8 + 8,)), "two errors pass an element, of which it takes one"
    assert found.cycles == error_task(whole).cycles - 2, "each of two folds sums over one row, not two"


def test_the_rest_of_a_sparse_rules_step_is_the_whole_ones():
    """Only the error path and its memory differ."""
    work, whole = worked(HALF), worked("dfa")
    for mine, theirs in zip(work.tasks, whole.tasks, strict=True):
        if mine.id != ("error", "linear2"):
            assert mine == theirs


def test_rank_one_is_two_products_with_a_rounding_between():
    """P is 2 x 1 and Q 1 x 3: 5 weights of 8 bits. 2 samples x 2 errors through P are 4 products and 2 sums, which are
    rounded, written and read again in both folds of Q's 6 products."""
    work, whole = worked(ONE), worked("fa")
    found = error_task(work)
    assert (work.feedback_bits, whole.feedback_bits) == (5 * 8, 6 * 8)
    assert (found.macs, error_task(whole).macs) == (4 + 6, 12)
    total = Counter()
    for c in found.counts:
        total[c.component, c.action, c.tensor] += c.count
    assert total["buffer", "read", "error"] == 4 + 2 * 2
    assert total["feedback", "read", "feedback"] == 2 + 3
    assert total["bwd.vector", "shift", "error"] == 2 + 6
    assert total["buffer", "write", "error"] == 2 + 6
    # P: one fold of 2 x 1 sums over two rows; Q: folds of 2 x 2 and 2 x 1 over one row; 2 + 2 - 2 cycles to fill
    assert found.cycles == (2 + 2 + 1 - 1) + (1 + 2 + 2 - 1 - 1) * 2
    placed, whole_placed = ({p.tensor: p.bits for p in w.placements} for w in (work, whole))
    assert placed["error"] - whole_placed["error"] == 2 * 8, "a narrow error of each sample"


def test_the_narrow_error_of_a_convolution_has_a_value_per_pixel_and_rank():
    """lenet5's second convolution, 16 x 10 x 10 outputs from 6 x 5 x 5 windows, through rank 3."""
    rule, network = replace(RULES["fa"], name="three", rank=3), load_model("lenet5")
    conv = network.weighted[1]
    assert (conv.out_shape, conv.window) == ((16, 10, 10), 150)
    work = step("edge_dual", network, rule, 4)
    (found,) = (task for task in work.tasks if task.id == ("error", conv.name))
    assert found.macs == 4 * 100 * (16 * 3 + 3 * 150)
    whole = step("edge_dual", network, "fa", 4)
    difference = counts(work, layer=conv.name, phase="error", action="shift", tensor="error")
    difference -= counts(whole, layer=conv.name, phase="error", action="shift", tensor="error")
    assert difference == 4 * 100 * 3


def test_a_generator_draws_entries_and_their_places():
    """dfa_prng draws what it does not store: of lenet5's 10 outputs one entry of 8 bits for each hidden value, and 4
    bits for its place; every fold draws them anew."""
    chip, network = load_chip("dfa_prng"), load_model("lenet5")
    sparse, whole = step(chip, network, "sdfa", 1), step(chip, network, "dfa", 1)
    drawn = [counts(w, phase="error", tensor="feedback", action="generate") for w in (sparse, whole)]
    assert drawn[0] * 80 == drawn[1] * 12
    assert sparse.feedback_bits == 0


def test_redrawn_targets_take_their_row_from_the_generator():
    """Each of 4 labels fetches a stored sign for every hidden value, and 7 bits of magnitude from the generator."""
    rule, network = replace(RULES["drtp"], name="redrawn", magnitude="redrawn"), load_model("mlp_digits")
    work = step("edge_dual", network, rule, 4)
    inputs = sum(layer.inputs for layer in network.weighted[1:])
    assert counts(work, component="feedback_generator", action="generate") == 4 * 7 * inputs
    assert work.feedback_bits == 10 * inputs


def test_a_split_layer_has_no_place_to_add_a_narrow_error():
    """The shares of a layer on several cores would have to be added before the rounding between the two matrices."""
    text = {"mesh.split_layers": "true"}
    chip, network = load_chip("neurocore_mesh", text), load_model("mlp_mnist")
    with pytest.raises(ConfigError, match=r"rounds the error .* is split over cores: give it one"):
        step(chip, network, replace(ONE, rank=2), 4)
