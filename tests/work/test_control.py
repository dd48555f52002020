"""Negative control: where transposed access is free and nothing is moved, backpropagation costs what fa costs."""

from collections import Counter
from dataclasses import replace
from math import fsum, log2, sqrt

import pytest

from fahw.chip.cost import simulate
from fahw.hardware.load import load_chip
from fahw.hardware.process import UnitEnergy
from fahw.network.load import load_model
from fahw.study.costs.verdict import saving, transposed_overhead
from fahw.technology.constant import Constant
from fahw.technology.sram import sram

OVERHEADS = ("read_overhead", "write_overhead", "area_overhead", "leak_overhead")
FREE = {f"transposed_access.{name}": "0" for name in OVERHEADS}
MODELS = ("mlp_digits", "mlp_mnist", "lenet5")
BATCH = 32


def with_equal_words(chip):
    """The chip with one bank's energies in every memory of weights, whose wires differ with their sizes."""
    bank = sram(65536, 64, 45, "lop", cells="lstp")
    energies = [
        UnitEnergy(component=memory.name, action=action, pj=pj)
        for memory in chip.memories
        if memory.name in ("weight_sram", "feedback_sram")
        for action, pj in (("read", bank.read_pj), ("write", bank.write_pj))
    ]
    return chip.model_copy(update={"energies": (*chip.energies, *energies)})


def rows_of(cost, memories):
    """Dynamic rows as a multiset, the names of the given components aside."""
    return Counter(
        ("" if row.component.split(".")[0] in memories else row.component, row.action, row.tensor, row.phase, row.layer,
         row.count, row.unit_pj)
        for row in cost.ledger
        if not row.static
    )  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_free_transposed_access_makes_bp_on_the_derived_chip_cost_what_fa_costs(model):
    """`bp` `shared` has the dynamic rows of `fa` on the same chip, and saves the feedback memory's leakage and area."""
    chip = with_equal_words(load_chip("edge_dual", FREE))
    derived = chip.without_feedback_memory()
    bp, fa = simulate(derived, model, "bp", BATCH, "transposable"), simulate(chip, model, "fa", BATCH)
    memories = {"weight_sram", "feedback_sram"}
    assert rows_of(bp, memories) == rows_of(fa, memories)
    assert bp.energy_pj - bp.static_pj == pytest.approx(fa.energy_pj - fa.static_pj, rel=1e-12)
    assert bp.static_pj < fa.static_pj
    assert bp.area_mm2 < fa.area_mm2
    assert bp.area_used_mm2 < fa.area_used_mm2
    assert bp.transported_bits == 0
    assert bp.feedback_bits == 0
    shared = simulate(chip, model, "bp", BATCH, "shared")
    assert shared.transport == "shared"
    assert shared.energy_pj <= bp.energy_pj  # `accumulate` may be better still, where its dataflow suits the layers


@pytest.mark.parametrize("model", MODELS)
def test_free_transposed_access_on_the_shared_chip(model):
    """`bp` `transposable` on edge_shared has the dynamic rows of `fa`, there and on edge_dual, array names aside."""
    shared = with_equal_words(load_chip("edge_shared", FREE))
    bp, fa = simulate(shared, model, "bp", BATCH, "transposable"), simulate(shared, model, "fa", BATCH)
    memories = {"weight_sram", "feedback_sram", "array", "forward_array", "error_array"}
    assert rows_of(bp, set()) == rows_of(fa, set())
    dual = simulate(with_equal_words(load_chip("edge_dual")), model, "fa", BATCH)
    assert rows_of(bp, memories) == rows_of(dual, memories)
    assert bp.static_pj == pytest.approx(fa.static_pj, rel=0.05)
    assert bp.area_mm2 == fa.area_mm2 < dual.area_mm2
    assert bp.area_used_mm2 <= fa.area_used_mm2


@pytest.mark.parametrize("form", ["transposable", "accumulate"])
def test_overheads_count_only_for_transposable_memories(form):
    """`accumulate` pays no overhead of special cells, `transposable` does."""
    free, shipped = (simulate(load_chip("edge_shared", o), "mlp_digits", "bp", BATCH, form) for o in (FREE, {}))
    assert (shipped.energy_pj > free.energy_pj) == (form == "transposable")
    assert (shipped.area_mm2 > free.area_mm2) == (form == "transposable")
    assert shipped.cycles == free.cycles


def test_accumulate_pays_partial_sums_instead():
    """Reading rows as they are stored takes partial sums through memory, which `transposable` does not have."""
    costs = {form: simulate("edge_shared", "mlp_mnist", "bp", BATCH, form) for form in ("transposable", "accumulate")}
    sums = {form: fsum(r.energy_pj for r in c.ledger if r.tensor == "psum") for form, c in costs.items()}
    assert sums["transposable"] == 0 < sums["accumulate"]


def test_shared_takes_the_better_form():
    """The fair baseline is the cheaper of the two forms on one memory."""
    chip = load_chip("edge_dual")
    derived = chip.without_feedback_memory()
    best = simulate(chip, "mlp_digits", "bp", BATCH, "shared")
    each = [simulate(derived, "mlp_digits", "bp", BATCH, form).energy_pj for form in ("transposable", "accumulate")]
    assert best.energy_pj == min(each)


@pytest.mark.parametrize("model", MODELS)
def test_break_even_overhead_by_hand(model):
    """The scale of the overheads at which bp on one memory costs what fa costs, from the rows that pay overheads.

    Those are the reads of W in `error`, its writes in `update` and the leakage of its memory: eight banks of 8 bits
    take the place of one of 64 KiB x 64, with the same wires to eleven of them.
    """
    chip, network = load_chip("edge_dual"), load_model(model)
    fa = simulate(chip, network, "fa", BATCH)
    bp = simulate(chip.without_feedback_memory(), network, "bp", BATCH, "transposable")
    whole, part = (sram(size, bits, 45, "lop", cells="lstp") for size, bits in ((65536, 64), (8192, 8)))
    wires = 0.07 * (64 + log2(704 * 1024 / 8)) * 0.75 * sqrt(11 * whole.area_mm2)
    ways = {"read_pj": wires, "write_pj": wires, "area_mm2": 0.0, "leak_mw": 0.0}
    read, write, area, leak = (
        (8 * getattr(part, name) + way) / (getattr(whole, name) + way) - 1 for name, way in ways.items()
    )
    shares = {("read", "feedback"): read, ("write", "weight"): write, ("static", ""): leak}
    extra = fsum(
        row.energy_pj * (1 - 1 / (1 + shares[row.action, row.tensor]))
        for row in bp.ledger
        if row.component == "weight_sram" and (row.action, row.tensor) in shares
    )
    without = bp.energy_pj - extra
    assert extra > 0
    expected = (fa.energy_pj - without) / extra
    assert transposed_overhead(chip, network, BATCH).break_even(fa.energy_pj) == pytest.approx(expected, rel=1e-6)
    overheads = zip(OVERHEADS, (read, write, area, leak), strict=True)
    at = {f"transposed_access.{name}": str(share * expected) for name, share in overheads}
    if expected > 0:
        there = load_chip("edge_dual", at).without_feedback_memory()
        assert simulate(there, network, "bp", BATCH, "transposable").energy_pj == pytest.approx(fa.energy_pj, rel=1e-9)


def test_no_break_even_without_overheads():
    """Where the chip file says that transposed access is free there is nothing to scale."""
    assert transposed_overhead(load_chip("edge_dual", FREE), load_model("mlp_digits"), BATCH).break_even(1e9) is None


def test_saving_of_a_ledger_against_itself_is_zero_and_sure():
    """One factor holds for both sides: equal ledgers save nothing, whatever the constants are."""
    rows = simulate("edge_dual", "mlp_digits", "fa", BATCH).ledger
    found = saving(rows, rows)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert found.winner == "undecided"


def test_range_of_a_saving_holds_single_corners():
    """Moving any one kind of constant to either end of its range stays within the range of the saving."""
    mine, theirs = (simulate("edge_dual", "mlp_digits", rule, BATCH).ledger for rule in ("dfa", "bp"))
    found = saving(mine, theirs)
    assert found.low <= found.value <= found.high
    for kind in {row.price.kind for row in (*mine, *theirs)}:
        for sign in (-1, 1):
            a, b = (
                fsum(row.energy_pj * (row.price.factor**sign if row.price.kind == kind else 1) for row in rows)
                for rows in (mine, theirs)
            )
            assert found.low - 1e-12 <= 1 - a / b <= found.high + 1e-12


def test_what_is_a_share_of_logic_moves_with_it():
    """By hand: elements of 10 pJ that leave a tenth of 30 pJ ungated (from a hundredth to all of it), against 40 pJ:
    where nothing is gated there is no saving, whatever logic takes. A clock of a third of both changes nothing."""
    row = simulate("edge_dual", "mlp_digits", "fa", BATCH).ledger[0]

    def rows_of_kinds(**parts):
        prices = {kind: Constant(pj, "by hand", kind, factor) for kind, (pj, factor) in parts.items()}
        return [replace(row, count=1, energy_pj=price.value, price=price) for price in prices.values()]

    plain = rows_of_kinds(logic=(10, 3), gating=(3, 10)), rows_of_kinds(logic=(40, 3))
    found = saving(*plain)
    assert (found.value, found.low, found.high) == pytest.approx((1 - 13 / 40, 0, 1 - 10.3 / 40))
    clocked = saving(rows_of_kinds(logic=(9, 3), clock=(3, 2)), rows_of_kinds(logic=(18, 3), clock=(6, 2)))
    assert (clocked.low, clocked.high) == pytest.approx((0.5, 0.5))


def test_scales_turn_steps_into_energy_to_target():
    """Twice the steps at the same energy per step costs twice as much: a saving of -100 %."""
    rows = simulate("edge_dual", "mlp_digits", "fa", BATCH).ledger
    found = saving(rows, rows, scale=20, baseline_scale=10)
    assert found.value == pytest.approx(-1)
    assert found.winner == "baseline"
