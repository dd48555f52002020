"""Rivals of equal area: what a rule leaves free of the feedback memory may be buffer."""

import pytest

from fahw.chip.area import area_mm2
from fahw.chip.cost import simulate
from fahw.chip.equal_area import with_feedback_fitted, with_free_area_as_buffer
from fahw.hardware.load import load_chip
from fahw.hardware.memory import MemoryEnergy


def sizes(chip):
    return {memory.name: memory.kib for memory in chip.memories}


@pytest.mark.parametrize("transposable", [False, True])
def test_the_baseline_with_one_weight_memory_gets_the_area_of_the_other_as_buffer(transposable):
    """Whole banks, as many as fit: one more would be too large. A transposable weight memory leaves less."""
    chip = load_chip("edge_dual")
    limit, derived = area_mm2(chip, False), chip.without_feedback_memory()
    grown = with_free_area_as_buffer(derived, limit, transposable)
    added = sizes(grown)["buffer_sram"] - sizes(derived)["buffer_sram"]
    assert added > 0
    assert added % 64 == 0
    assert area_mm2(grown, transposable) <= limit
    larger = grown.home("activation").model_copy(update={"size_kib": sizes(grown)["buffer_sram"] + 64})
    memories = tuple(larger if memory.name == "buffer_sram" else memory for memory in grown.memories)
    assert area_mm2(grown.model_copy(update={"memories": memories}), transposable) > limit


def test_banks_that_feedback_weights_leave_empty_are_buffer():
    """A rule that stores 40 KiB of 320 keeps one bank of 64; the chip is no larger."""
    chip = load_chip("edge_dual")
    fitted = with_feedback_fitted(chip, 40 * 8192, False)
    assert sizes(fitted)["feedback_sram"] == 64
    assert sizes(fitted)["buffer_sram"] > sizes(chip)["buffer_sram"]
    assert area_mm2(fitted, False) <= area_mm2(chip, False)
    assert with_feedback_fitted(chip, 300 * 8192, False) is chip


def test_memories_that_hold_other_things_too_stay_as_they_are():
    chip = load_chip("wolters_crossbar")
    assert with_feedback_fitted(chip, 1, False) is chip


def test_the_better_of_both_chips_is_priced_under_the_best_mappings_alone(monkeypatch):
    """The chip as it is, or with free area as buffer; never a larger one."""
    fixed, best = (load_chip("edge_dual", {"mapping": mapping}) for mapping in ("fixed", "best"))
    assert sizes(simulate(fixed, "lenet5", "dfa", 64).work.chip) == sizes(fixed)
    cost = simulate(best, "lenet5", "dfa", 64)
    stored = next(item.bits for item in cost.placements if item.tensor == "feedback")
    fitted = with_feedback_fitted(best, stored, False)
    assert sizes(fitted)["buffer_sram"] > sizes(best)["buffer_sram"]
    assert cost.area_mm2 <= area_mm2(best, False)
    monkeypatch.setattr("fahw.chip.cost.with_feedback_fitted", lambda chip, *_: chip)
    rivals = [simulate(chip, "lenet5", "dfa", 64).energy_pj for chip in (best, fitted)]
    assert rivals[0] != rivals[1]
    assert cost.energy_pj == min(rivals)


def test_the_baseline_of_equal_area_is_no_larger_than_the_chip():
    best = load_chip("edge_dual", {"mapping": "best"})
    assert simulate(best, "lenet5", "bp", 64, "shared").area_mm2 <= area_mm2(best, False)


def test_a_buffer_whose_area_does_not_follow_its_size_stays_as_it_is():
    """A memory that takes no area could grow without end."""
    chip = load_chip("edge_dual")
    energy = MemoryEnergy(read_pj=1, write_pj=1, leak_mw=0, area_mm2=0)
    memories = [item.model_copy(update={"energy": energy}) for item in chip.memories if item.name == "buffer_sram"]
    free = chip.model_copy(
        update={"memories": tuple(memories[0] if item.name == "buffer_sram" else item for item in chip.memories)}
    )
    assert with_free_area_as_buffer(free, 2 * area_mm2(chip, False), False) is free


@pytest.mark.parametrize(("objective", "figure"), [("latency", "interval_cycles"), ("edp", "energy_delay_js")])
def test_the_better_of_both_chips_is_so_by_the_objective(objective, figure, monkeypatch):
    """None is taken for its energy where time is asked for."""
    best = load_chip("edge_dual", {"mapping_objective": objective})
    cost = simulate(best, "lenet5", "dfa", 64)
    stored = next(item.bits for item in cost.placements if item.tensor == "feedback")
    fitted = with_feedback_fitted(best, stored, False)
    monkeypatch.setattr("fahw.chip.cost.with_feedback_fitted", lambda chip, *_: chip)
    rivals = [getattr(simulate(chip, "lenet5", "dfa", 64), figure) for chip in (best, fitted)]
    assert getattr(cost, figure) == min(rivals)
