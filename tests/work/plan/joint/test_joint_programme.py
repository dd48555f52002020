"""The programme of mappings and lifetimes at once: its bounds, its whole choices, and which steps are searched so."""

import numpy as np
import pytest
from scipy.optimize import linprog

from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.mapping.shares.simplex import Vertex, solved
from fahw.work.plan import measured, search
from fahw.work.plan.joint import menu
from fahw.work.plan.joint import search as joint
from fahw.work.plan.joint.branches import Branches
from fahw.work.plan.joint.menu import CORNERS, menus_of
from fahw.work.plan.joint.programme import JointProgramme
from fahw.work.plan.measured import Measured
from tests.support.models import chain, mlp
from tests.support.plans import searched

PRICES = {"read_pj": 1, "write_pj": 1.5, "leak_mw": 0.05, "area_mm2": 0.01}
LINEAR = mlp(12, 10, 8, 6), 8
CONV = chain((1, 6, 6), ("conv2d", {"out": 4, "kernel": 3}), ("relu", {}), ("conv2d", {"out": 2, "kernel": 3}),
             ("relu", {}), ("flatten", {}), ("linear", {"out": 5})), 4  # fmt: skip


def small_chip(name="edge_shared", buffer=0.3):
    """Arrays of 2 x 2 and memories of a fraction of a KiB."""
    chip = load_chip(name)
    keys = {"bank_kib": None, "size_kib": buffer, "width_bits": 8, "energy": PRICES}
    memories = {f"memories.{n}.{key}": value for n in range(len(chip.memories)) for key, value in keys.items()}
    arrays = {f"arrays.{n}.{key}": 2 for n in range(len(chip.arrays)) for key in ("rows", "cols")}
    return load_chip(name, {"mapping": "best", "steps_in_flight": 1, **memories, **arrays})


def programme_of(one):
    menus = menus_of(one.keeping, one.found.products)
    return JointProgramme(one.keeping, menus, Measured())


@pytest.mark.parametrize("chip", ["edge_shared", "edge_dual"])
@pytest.mark.parametrize(("network", "batch"), [LINEAR, CONV])
def test_mixed_mappings_bound_a_plan_and_whole_ones_are_one(chip, network, batch):
    one = searched(small_chip(chip), network, "bp", batch)
    programme = programme_of(one)
    assert programme.mixed({}, {}).energy <= one.found.cost[0]
    chosen = Branches(programme, 2 * one.found.cost[0]).search()
    assert one.found.cost[0] <= chosen.energy * (1 + 1e-6)  # the plan had these choices
    whole = programme.mixed(chosen.choices, {})
    assert whole.is_possible
    assert whole.energy == pytest.approx(chosen.energy)


def test_a_choice_that_does_not_fit_is_not_possible():
    """All operands of all products at once."""
    programme = programme_of(searched(small_chip(buffer=0.2), *LINEAR[:1], "bp", LINEAR[1]))
    everything = {n: max(each.corners) for n, each in enumerate(programme.products)}
    chosen = {n: programme.products[n].columns(None, frozenset()).choices[-1] for n in everything}
    assert all(choice.there == CORNERS[3] for choice in chosen.values())
    assert not programme.mixed(chosen, {}).is_possible


def test_a_vertex_in_which_every_tensor_has_one_of_its_choices_is_the_best():
    """Against HiGHS, on random programmes."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        tensors, rows, choices = (int(number) for number in rng.integers([2, 2, 2], [7, 6, 5]))
        tensor = np.repeat(np.arange(tensors), choices)
        gain, room = rng.normal(size=len(tensor)), rng.random((rows, len(tensor)))
        room[:, ::choices] /= tensors  # the first of each fit together
        start = np.arange(tensors) * choices
        shares = solved(Vertex(gain, tensor, room, start)).found()
        one_each = np.equal.outer(np.arange(tensors), tensor).astype(float)
        best = linprog(-gain, A_ub=room, b_ub=np.ones(rows), A_eq=one_each, b_eq=np.ones(tensors))
        assert gain @ shares == pytest.approx(-best.fun, abs=1e-6)
        assert one_each @ shares == pytest.approx(np.ones(tensors))
        assert (room @ shares <= 1 + 1e-9).all()


def test_what_deep_or_large_steps_cost_is_found_in_turns_alone(monkeypatch):
    """More tasks than twelve, or more mappings than there are menus of."""
    built = []
    monkeypatch.setattr(joint, "JointProgramme", lambda *args: built.append(args))
    search.known_plans.cache_clear()
    simulate(small_chip(), mlp(8, 8, 8, 8, 8, 8), "bp", 8)
    monkeypatch.setattr(menu, "MOST_MAPPINGS", 1000)
    simulate(small_chip(), *CONV[:1], "bp", CONV[1])
    assert not built


def test_an_error_of_which_one_form_does_not_fit_takes_the_other(monkeypatch):
    one = searched(small_chip(), CONV[0], "bp", CONV[1])
    task = next(task for task in one.keeping.tasks if len(task.forms) == 2)
    in_form = measured._in_form

    def gathered(step, plan, task, form):
        if form == "scatter":
            raise ConfigError([])
        return in_form(step, plan, task, form)

    monkeypatch.setattr(measured, "_in_form", gathered)
    plan = one.keeping.nothing_kept(1 << 20)
    assert measured.measured(one.step, plan, [task]).forms == {task.part.name: "gather"}
    monkeypatch.setattr(measured, "_in_form", lambda *_: gathered(*_[:3], "scatter"))
    with pytest.raises(ConfigError):
        measured.measured(one.step, plan, [task])
