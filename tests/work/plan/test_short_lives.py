"""Dependencies that keep lives short: they hold, make no circle, and take little time."""

from dataclasses import replace
from random import Random

import pytest

from fahw.chip.timing.clock import simulate_step
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.work.plan.order.short_lives import window, with_short_lives
from fahw.work.plan.tensors.kept_tensors import kept_tensors
from tests.support.contexts import context
from tests.support.lives import intervals, run
from tests.support.models import CROSSING, everything, graph, mlp
from tests.support.strategies import SHIPPED_CHIPS, SHIPPED_MODELS

DEEP = mlp(6, *[5] * 9, 3)


def both(chip, network, rule, batch=8):
    """A step, its tensors, and its tasks without and with what keeps lives short."""
    step, tasks = context(chip, network, rule, batch)
    tensors = kept_tensors(step)
    return step, tensors, tasks, with_short_lives(tasks, step, tensors)


def assert_tasks_end(step, tasks):
    """The tasks, each behind those that it waits for, all run in three steps."""
    done = set()
    for task in tasks:
        assert done.issuperset(task.after), task.id
        assert len(set(task.after)) == len(task.after)
        done.add(task.id)
    assert all(done.issuperset(task.after_previous) for task in tasks)
    run(tasks, step, Random(0), steps=3)


@pytest.mark.parametrize("rule", ["bp", "dfa", "tdfa", "drtp", "kp", "wm", "last"])
@pytest.mark.parametrize(
    ("chip", "overrides"),
    [("edge_dual", {}), ("edge_dual", {"micro_batch": 1}), ("edge_dual", {"micro_batch": 3, "update_delay": 1}),
     ("dfa_prng", {"micro_batch": 2}), ("neurocore_mesh", {"micro_batch": 2, "mesh.error_cores": "separate"})],
)  # fmt: skip
def test_all_tasks_run(chip, overrides, rule):
    """On networks whose errors meet crosswise, too, with direct rules that pass them on through shortcuts."""
    crossing = graph((4,), *CROSSING)
    for network in (everything(), everything("projection"), crossing, DEEP):
        for passed in (network, replace(network, dfa_residual="biotorch")):
            try:
                step, _, _, tasks = both(load_chip(chip, overrides), passed, rule)
            except ConfigError:
                continue
            assert_tasks_end(step, tasks)


@pytest.mark.long
@pytest.mark.parametrize("chip", SHIPPED_CHIPS)
def test_all_tasks_of_the_shipped_run(chip):
    """On all chips, models and rules, in micro-batches of a quarter too."""
    for name in SHIPPED_MODELS:
        for rule in RULES:
            for overrides in ({}, {"micro_batch": 4}):
                try:
                    step, _, _, tasks = both(load_chip(chip, overrides), name, rule, 16)
                except ConfigError:
                    continue
                assert_tasks_end(step, tasks)


def most_of(ran, tensors, step, kind):
    """The most copies of tensors of a kind that are there in one cycle."""
    spans = [span for tensor in tensors if tensor.tensor == kind for span in intervals(ran, tensor, step)]
    return max(sum(first <= cycle < last for first, last in spans) for cycle, _ in spans)


@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_errors_do_not_pile_up(rule):
    """Of ten layers the errors of four are there at most, and under a direct rule the output's; else of all."""
    step, tensors, before, tasks = both(load_chip("edge_dual", {"steps_in_flight": 1}), DEEP, rule)
    most = {}
    for name, chosen in (("before", before), ("short", tasks)):
        most[name] = max(most_of(run(chosen, step, Random(seed)), tensors, step, "error") for seed in range(20))
    assert most["short"] <= 4 + (rule == "dfa") < 8 <= most["before"]


@pytest.mark.parametrize(("steps", "copies"), [(1, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("delay", [0, 2])
def test_micro_batches_do_not_pile_up(steps, copies, delay):
    """However many there are, each tensor has as many copies as steps may be in flight, over ends of steps too."""
    chip = load_chip("edge_dual", {"micro_batch": 1, "steps_in_flight": steps, "update_delay": delay})
    step, tensors, before, tasks = both(chip, mlp(6, 5, 4, 3), "dfa", 8)
    most = []
    for chosen in (before, tasks):
        runs = [run(chosen, step, Random(seed)) for seed in range(5)]
        passing = [tensor for tensor in tensors if not tensor.persistent]
        most.append(max(most_of(ran, [tensor], step, tensor.tensor) for ran in runs for tensor in passing))
    assert most[1] <= copies < 4 <= most[0]


def test_on_a_mesh_every_core_has_a_micro_batch():
    """And one comes in; where there are fewer, all are under way together."""
    found = {}
    for batch in (2, 4, 16):
        step, _ = context(load_chip("neurocore_mesh", {"micro_batch": 1}), DEEP, "bp", batch)
        found[batch] = window(step)
    assert found == {2: 2, 4: 4, 16: 11}


def test_the_next_samples_come_in_while_the_last_gradient_is_computed():
    """Not before its error is known, and not later."""
    _, _, _, tasks = both("edge_dual", mlp(6, 5, 4, 3), "bp")
    by_name = {task.id: task for task in tasks}
    gradient = ("gradient", "linear0")
    assert by_name["forward", "input"].after_previous == by_name[gradient].after
    assert (
        gradient in by_name["forward", "linear0"].after_previous
        or ("update", "linear0") in by_name["forward", "linear0"].after_previous
    )


COSTS = [
    ("edge_dual", "lenet5", "dfa"), ("edge_shared", "vgg8", "bp"), ("tpu_like", "resnet20", "bp"),
    ("tpu_like", "spoon_cnn", "dfa"), ("dfa_prng", "vgg8", "dfa"), ("neurocore_mesh", "lenet5", "bp"),
]  # fmt: skip


@pytest.mark.parametrize(("chip", "model", "rule"), COSTS)
def test_short_lives_take_little_time(chip, model, rule):
    """At most 2 % more cycles between steps."""
    assert slowed(chip, load_model(model), rule) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("chip", SHIPPED_CHIPS)
def test_short_lives_of_the_shipped_take_little_time(chip):
    """On no chip and network more than 2 % more cycles between steps."""
    for model in SHIPPED_MODELS:
        for rule in ("bp", "dfa"):
            try:
                assert slowed(chip, load_model(model), rule) < 0.02, (model, rule)
            except ConfigError:
                continue


def slowed(chip, network, rule):
    """The share of cycles between steps that short lives take more."""
    step, _, before, tasks = both(chip, network, rule, 32)
    tiles, steps = step.chip.tiles_per_task, step.chip.steps_in_flight
    cycles = [simulate_step(chosen, tiles, steps).interval_cycles for chosen in (before, tasks)]
    return cycles[1] / cycles[0] - 1
