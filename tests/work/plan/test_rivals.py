"""Rivals on chips with other sizes of memories: what of their search is left out, and that nothing comes of it."""

from dataclasses import astuple
from random import Random

import pytest

from fahw.chip import cost
from fahw.chip.cost import SHARED, simulate
from fahw.hardware.load import load_chip
from fahw.rules.catalogue import RULES
from fahw.work import training_step
from fahw.work.plan.rivals import differ_in_sizes
from fahw.work.plan.search import known_plans


def forget():
    known_plans.cache_clear()
    training_step._known_inference.cache_clear()


def whole(found):
    """All that a cost says, its plan and inference with it."""
    figures = found.ledger, found.placements, found.timing, found.area_mm2, found.isolated_static_pj, found.spilled_bits
    return (*map(repr, figures), astuple(found.work.plan), found.work.inference, found.work.chip, found.work.tasks)


def drawn(random):
    """A chip, a rule, a batch and a transport: small and large buffers, narrow and wide values."""
    name = random.choice(("edge_dual", "edge_dual", "edge_shared", "dfa_prng"))
    keys = {
        "precision.weight": random.choice("248"),
        "memories.buffer_sram.size_kib": random.choice(("96", "384", "768")),
    }
    rule = random.choice(("bp", "bp", *RULES))
    transport = SHARED if rule == "bp" and random.random() < 0.5 else None
    chip = load_chip(name, {"mapping": "best"} | (keys if name.startswith("edge") else {}))
    return chip, "lenet5", rule, random.choice((4, 32, 64, 100)), transport


@pytest.mark.parametrize("seed", range(8))
def test_a_rival_costs_what_it_does_alone(seed, monkeypatch):
    """Nothing left out because of the chip before, nor taken from it."""
    setup = drawn(Random(seed))
    forget()
    found = whole(simulate(*setup))
    forget()
    monkeypatch.setattr(cost, "_may_be_better", lambda *_: True)
    monkeypatch.setattr(training_step, "_counted_before", lambda *_: None)
    monkeypatch.setattr(training_step, "_still_so", lambda *_: {})
    assert whole(simulate(*setup)) == found


@pytest.mark.parametrize(("batch", "searches"), [(8, 1), (128, 2)])
def test_a_rival_is_searched_where_something_does_not_fit(batch, searches, monkeypatch):
    forget()
    seen, planned = [], training_step.planned
    monkeypatch.setattr(training_step, "planned", lambda step, *rest: seen.append(step.chip) or planned(step, *rest))
    simulate(load_chip("edge_dual", {"mapping": "best"}), "lenet5", "dfa", batch)
    assert len(seen) == searches


def test_inference_is_the_same_under_every_rule():
    """Counted anew for each."""
    chip, energies = load_chip("edge_dual", {"mapping": "best"}), set()
    for rule in RULES:
        forget()
        energies.add(simulate(chip, "lenet5", rule, 8).inference_pj_per_sample)
    assert len(energies) == 1


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("memories.buffer_sram.size_kib", "1024", True),
        ("memories.buffer_sram.bank_kib", "32", False),
        ("memories.buffer_sram.width_bits", "128", False),
        ("clock_mhz", "250", False),
    ],
)
def test_what_differs_in_sizes_alone(key, value, same):
    assert differ_in_sizes(load_chip("edge_dual"), load_chip("edge_dual", {key: value})) == same


def test_layouts_of_row_stationary_arrays_depend_on_the_buffer():
    name = load_chip("eyeriss").home("activation").name
    assert not differ_in_sizes(load_chip("eyeriss"), load_chip("eyeriss", {f"memories.{name}.size_kib": "216"}))
