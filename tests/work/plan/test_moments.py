"""Moments at which tensors may take room, against runs of the engine in which tasks take any time."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.work.plan import moments as moments_module
from fahw.work.plan.moments import open_moments
from fahw.work.plan.order import precedence
from fahw.work.plan.order.short_lives import with_short_lives
from fahw.work.plan.tensors.kept_tensors import kept_tensors
from tests.support.contexts import context
from tests.support.lives import intervals, most_at_once, run, without_rare
from tests.support.models import chain, everything, mlp
from tests.support.random_setups import random_setup

CHIPS = {
    "dual": ("edge_dual", {}), "alone": ("edge_dual", {"steps_in_flight": 1}),
    "four": ("edge_dual", {"steps_in_flight": 4}), "shared": ("edge_shared", {}),
    "late": ("edge_dual", {"steps_in_flight": 3, "update_delay": 2}),
    "micro": ("edge_dual", {"micro_batch": 1, "steps_in_flight": 1}),
    "micro_late": ("edge_dual", {"micro_batch": 2, "steps_in_flight": 2, "update_delay": 1}),
    "micro_few": ("edge_dual", {"micro_batch": 4, "steps_in_flight": 3}),
    "rare": ("edge_dual", {"transport_options.period": 3}), "mesh": ("neurocore_mesh", {"micro_batch": 1}),
    "gathered": ("dfa_prng", {"micro_batch": 2}), "fused": ("df_lnpu", {"steps_in_flight": 3}),
}  # fmt: skip
NETWORKS = {
    "everything": everything(), "passed": replace(everything("projection"), dfa_residual="biotorch"),
    "mlp": mlp(6, 5, 4, 5, 3),
}  # fmt: skip
RULES = ("bp", "dfa", "drtp", "kp", "wm", "last", "usf")


def shortened(chip, network, rule, batch=6):
    """A step, its tensors, and its tasks with what keeps lives short."""
    step, tasks = context(chip, network, rule, batch)
    tensors = kept_tensors(step)
    return step, tensors, with_short_lives(tasks, step, tensors)


def assert_open(moments, ran, step, tensors, reads=lambda tensor: None):
    """In no cycle of a run is there a copy of a tensor more than the moments of the tasks that run then say."""
    passing = [tensor for tensor in tensors if not tensor.persistent and (tensor.writes or tensor.reads)]
    binding = [(moments.of_task[task.name], task) for task in ran if task.name in moments.of_task]
    for tensor in passing:
        number = reads(tensor)
        room, spans = moments.room(tensor, number), intervals(ran, tensor, step, number)
        for moment, task in binding:
            there = most_at_once(spans, task.start, task.end)
            assert there <= room.get(moment, 0), (tensor.name, task)


def assert_gaps_are_covered(moments, ran, step, tensors):
    """What is there while no task of a moment runs was there when the last of them ended."""
    binding = sorted((task.end, task.start, moments.of_task[task.name]) for task in ran if task.name in moments.of_task)
    cycles = sorted({task.start for task in ran} | {task.end for task in ran})
    rooms = {tensor.name: moments.room(tensor) for tensor in tensors if not tensor.persistent}
    spans = {(t.name, t.core): intervals(ran, t, step) for t in tensors if not t.persistent}
    for cycle in cycles:
        if any(start <= cycle < end for end, start, _ in binding):
            continue
        last = max((end, moment) for end, _, moment in binding if end <= cycle)[1] if cycle >= binding[0][0] else None
        for (name, _), found in spans.items():
            there = sum(first <= cycle < end for first, end in found)
            assert there <= rooms[name].get(last, 0), (name, cycle)


def assert_concurrent(moments, ran):
    """Tasks that run in the same cycle on different parts are said to be able to."""
    binding = [(moments.of_task[task.name], task) for task in ran if task.name in moments.of_task]
    together = [moments.concurrent(moment) for moment in range(len(moments.tasks))]
    for moment, task in binding:
        for other_moment, other in binding:
            if other.part != task.part and other.start < task.end and task.start < other.end:
                assert other_moment in together[moment], (task.name, other.name)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("chip", CHIPS)
def test_no_tensor_is_there_at_another_moment(chip, rule):
    """Whatever the tasks' times: with steps and micro-batches in flight, late updates, rare transports, on meshes."""
    name, overrides = CHIPS[chip]
    random = Random(f"{chip} {rule}")
    for network in NETWORKS.values():
        try:
            step, tensors, tasks = shortened(load_chip(name, overrides), network, rule)
        except ConfigError:
            continue
        moments = open_moments(tasks, step)
        for run_tasks in (tasks, without_rare(tasks)) if chip == "rare" else (tasks,):
            ran = run(run_tasks, step, random)
            assert_open(moments, ran, step, tensors)
            assert_open(moments, ran, step, tensors, lambda tensor: len(tensor.reads) // 2)
            assert_gaps_are_covered(moments, ran, step, tensors)
            assert_concurrent(moments, ran)


@pytest.mark.parametrize("chip", ["dual", "four", "late", "micro_late", "mesh"])
def test_nor_without_what_keeps_lives_short(chip):
    """Then more is open, and still enough."""
    name, overrides = CHIPS[chip]
    for rule in ("bp", "dfa"):
        step, tasks = context(load_chip(name, overrides), everything(), rule, 6)
        tensors, moments, random = kept_tensors(step), open_moments(tasks, step), Random(chip)
        ran = run(tasks, step, random)
        assert_open(moments, ran, step, tensors)
        assert_concurrent(moments, ran)


@pytest.mark.parametrize("chip", ["dual", "four", "micro", "micro_late", "mesh"])
def test_nor_where_many_tasks_are_one_moment(chip, monkeypatch):
    """And where the order of one step alone is looked at, as in huge networks."""
    name, overrides = CHIPS[chip]
    monkeypatch.setattr(moments_module, "MOST_MOMENTS", 7)
    for nodes in (precedence.MOST_NODES, 1):
        monkeypatch.setattr(precedence, "MOST_NODES", nodes)
        step, tensors, tasks = shortened(load_chip(name, overrides), everything(), "bp")
        moments = open_moments(tasks, step)
        assert len(moments.tasks) <= 7
        ran = run(tasks, step, Random(chip))
        assert_open(moments, ran, step, tensors)
        assert_concurrent(moments, ran)


@pytest.mark.slow
def test_no_tensor_is_there_at_another_moment_of_random_setups():
    for seed in range(60):
        setup = random_setup(seed)
        step, tensors, tasks = shortened(setup.made_chip, setup.network, setup.rule, setup.batch)
        moments, ran = open_moments(tasks, step), run(tasks, step, Random(seed), steps=4)
        assert_open(moments, ran, step, tensors)
        assert_gaps_are_covered(moments, ran, step, tensors)
        assert_concurrent(moments, ran)


def room_by_name(chip, network, rule, batch=4):
    """The moments of tensors, as text with copies where there are more than one."""
    step, tensors, tasks = shortened(chip, network, rule, batch)
    moments = open_moments(tasks, step)
    names = [" ".join(map(str, group[0])) for group in moments.tasks]
    return names, {
        tensor.name: [
            f"{names[moment]}{f' x{copies}' if copies > 1 else ''}"
            for moment, copies in sorted(moments.room(tensor).items())
        ]
        for tensor in tensors
    }


ALONE = {"steps_in_flight": 1}


def test_moments_of_a_chain_by_hand():
    """Two linear layers on one array for all, one step in flight: the error of the first layer, which needs the second
    one's, and the second gradient know no order; updates follow both."""
    names, room = room_by_name(load_chip("edge_shared", ALONE), mlp(6, 5, 3), "bp")
    assert names == [
        "forward input", "forward linear0", "forward linear2", "error loss", "error linear2", "gradient linear2",
        "gradient linear0",
    ]  # fmt: skip
    assert room["activation input"] == names
    assert room["activation relu1"] == names[1:]  # the second gradient may come after the first
    assert room["activation linear2"] == ["forward linear2", "error loss"]
    assert room["mask linear0 for linear2"] == names[1:6]
    assert room["error linear2"] == names[3:]
    assert room["error linear0"] == ["error linear2", "gradient linear2", "gradient linear0"]
    assert room["gradient linear0"] == ["gradient linear2", "gradient linear0"]
    assert room["weight linear0"] == names


def test_two_steps_in_flight_share_all_but_the_samples():
    """Under bp the next step's forward waits for the updates: its samples alone come in before, while the last gradient
    is computed."""
    _, room = room_by_name(load_chip("edge_shared"), mlp(6, 5, 3), "bp")
    doubled = {name: [moment for moment in found if moment.endswith("x2")] for name, found in room.items()}
    assert [name for name, found in doubled.items() if found] == ["activation input"]
    assert doubled["activation input"] == [
        "forward input x2", "gradient linear2 x2", "gradient linear0 x2",
    ]  # fmt: skip


def test_with_late_updates_every_step_in_flight_has_its_own():
    _, room = room_by_name(load_chip("edge_dual", {"steps_in_flight": 3, "update_delay": 2}), mlp(6, 5, 3), "bp")
    assert "gradient linear0 x3" in room["activation relu1"]


def test_micro_batches_have_as_many_copies_as_steps_in_flight():
    """However many there are; layers on several cores have one for each core, and one more."""
    for steps, copies in ((1, 1), (2, 2)):
        chip = load_chip("edge_dual", {"micro_batch": 1, "steps_in_flight": steps})
        step, tensors, tasks = shortened(chip, mlp(6, 5, 3), "bp", 8)
        moments = open_moments(tasks, step)
        assert max(max(moments.room(tensor).values()) for tensor in tensors) == copies
    step, tensors, tasks = shortened(load_chip("neurocore_mesh", {"micro_batch": 1}), mlp(6, 5, 4, 4, 3), "bp", 16)
    moments = open_moments(tasks, step)
    assert max(max(moments.room(tensor).values()) for tensor in tensors) == 5


def test_fewer_reads_take_no_more_room():
    step, tensors, tasks = shortened("edge_dual", "resnet20", "bp")
    moments = open_moments(tasks, step)
    for tensor in tensors:
        rooms = [moments.room(tensor, reads) for reads in range(1, len(tensor.reads) + 1)]
        for fewer, more in pairwise(rooms):
            assert all(copies <= more.get(moment, 0) for moment, copies in fewer.items())


def test_on_one_array_no_product_runs_beside_another():
    """On two, gradient and error of a layer do."""
    for name, beside in (("edge_shared", False), ("edge_dual", True)):
        step, _, tasks = shortened(load_chip(name, ALONE), mlp(6, 5, 4, 3), "bp")
        moments = open_moments(tasks, step)
        gradient, error = (moments.of_task[phase, "linear2"] for phase in ("gradient", "error"))
        assert (error in moments.concurrent(gradient)) == beside
        assert moments.of_task["forward", "linear0"] not in moments.concurrent(gradient)


@pytest.mark.slow
def test_a_network_of_3000_layers_has_an_answer():
    """Several tasks are one moment, and of one step alone the order is known; errors still do not pile up."""
    specs = [("linear", {"out": 4}), ("relu", {})] * 3000
    step, tensors, tasks = shortened(load_chip("edge_shared", ALONE), chain((4,), *specs[:-1]), "bp", 1)
    moments = open_moments(tasks, step)
    assert len(moments.tasks) <= moments_module.MOST_MOMENTS
    errors = [tensor for tensor in tensors if tensor.tensor == "error"]
    assert len(errors) == 3000
    there = [0] * len(moments.tasks)
    for tensor in errors:
        for moment, copies in moments.room(tensor).items():
            there[moment] += copies
    assert max(there) < 100


def test_resnet18_is_quick():
    """Its tensors, dependencies and moments are there; `tests/bench` measures the time."""
    step, tensors, tasks = shortened("edge_dual", load_model("resnet18_imagenet"), "bp", 2)
    moments = open_moments(tasks, step)
    assert len(moments.tasks) == sum(task.phase not in ("update", "transport") for task in tasks)
    assert all(moments.room(tensor) for tensor in tensors)
