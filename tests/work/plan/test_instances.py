"""What is known of the order of tasks, on random graphs of tasks: it holds in every run of the engine."""

from random import Random
from types import SimpleNamespace

import pytest

from fahw.work.counts.record import Task, task_id
from fahw.work.plan.moments import Moments
from fahw.work.plan.order.instances import instances_of
from fahw.work.plan.order.precedence import of_steps, sorted_tasks
from fahw.work.plan.tensors.lives import KeptTensor, Use
from tests.support.lives import intervals, most_at_once, run, without_rare


def task(name, after=(), before=(), every=1, part=None):
    """A task without flows."""
    phase, layer, *micro = name
    return Task(
        phase, layer, part or f"part of {layer}", 1, 1, (), (), (), tuple(after), tuple(before), macs=1, every=every,
        micro=micro[0] if micro else 0,
    )  # fmt: skip


def random_tasks(random, number, window):
    """Tasks of `number` micro-batches and of the step, which wait for each other here and there: in all micro-batches
    or some, for one `window` before or another, for tasks of the step and across steps; some run in few steps only."""
    classes = [("forward", f"c{i}") for i in range(random.randint(2, 5))]
    once = [("update", f"u{i}") for i in range(random.randint(0, 3))]
    regular = {c: [b for b in classes[:i] if random.random() < 0.5] for i, c in enumerate(classes)}
    repeated = {c: [b for b in classes if random.random() < 0.5] for c in classes}
    seen = {c: [u for u in once if random.random() < 0.4] for c in classes}
    found = []
    for micro in range(number):
        for i, c in enumerate(classes):
            after = [task_id(*b, micro) for b in regular[c]]
            after += [task_id(*b, micro) for b in classes[:i] if random.random() < 0.1]
            before = [u for u in seen[c] if random.random() < 0.8] if random.random() < 0.3 else list(seen[c])
            for b in repeated[c] if number > 1 or random.random() < 0.5 else ():
                if micro >= window:
                    after.append(task_id(*b, micro - window))
                elif number > 1 or window == 1 or random.random() < 0.5:
                    before.append(task_id(*b, (micro - window) % number))
            if micro and random.random() < 0.2:
                after.append(task_id(*random.choice(classes), random.randrange(micro)))
            found.append(task(task_id(*c, micro), dict.fromkeys(after), dict.fromkeys(before), part=f"p{i % 3}"))
    for i, u in enumerate(once):
        members = [task_id(*c, micro) for c in classes if random.random() < 0.6 for micro in range(number)]
        after = [name for name in members if random.random() < 0.9] if random.random() < 0.4 else members
        after += [other for other in once[:i] if random.random() < 0.5]
        found.append(task(u, after, every=random.choice([1, 1, 3])))
    return sorted_tasks(found), classes, once


def random_tensor(random, names):
    """A tensor of one instance that some tasks write and others read."""
    writes = random.sample(names, random.randint(1, min(2, len(names))))
    reads = random.sample(names, random.randint(0, min(3, len(names))))
    return KeptTensor("any", "activation", 0, 1, tuple(writes), tuple(Use(name, False) for name in reads))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_no_tensor_is_there_where_the_order_forbids_it(number):
    """On random graphs of tasks with random times, with and without the tasks that run in few steps."""
    for seed in range(120):
        random = Random(seed * 10 + number)
        steps = random.randint(1, 3)
        window = random.randint(1, number) if number > 1 else random.randint(1, steps)
        tasks, classes, once = random_tasks(random, number, window)
        step = SimpleNamespace(micro_batch_sizes=(1,) * number, chip=SimpleNamespace(steps_in_flight=steps))
        instances = instances_of(tasks, number, window if number > 1 else steps, steps)
        by_name = {task.id: task for task in tasks}
        moments = Moments(instances, [by_name[name] for name in instances.names])
        tensors = [random_tensor(random, classes if number > 1 else [*classes, *once]) for _ in range(5)]
        for run_tasks in (tasks, without_rare(tasks)):
            ran = run(run_tasks, step, random)
            for tensor in tensors:
                if {*tensor.writes, *(use.task for use in tensor.reads)} <= {task.name for task in ran}:
                    assert_open(moments, ran, step, tensor, seed)
            assert_together(moments, ran, seed)


def assert_open(moments, ran, step, tensor, seed):
    room, spans = moments.room(tensor), intervals(ran, tensor, step)
    for each in ran:
        there = most_at_once(spans, each.start, each.end)
        assert there <= room.get(moments.of_task[each.name], 0), (seed, tensor, each)


def assert_together(moments, ran, seed):
    together = [moments.concurrent(moment) for moment in range(len(moments.tasks))]
    for one in ran:
        for other in ran:
            if one.part != other.part and one.start < other.end and other.start < one.end:
                assert moments.of_task[other.name] in together[moments.of_task[one.name]], (seed, one, other)


def test_nothing_counts_on_a_task_that_runs_in_few_steps():
    """a, then the rare b, then c: b follows a and precedes c where it runs; a and c know no order."""
    tasks = [
        task(("forward", "a")), task(("transport", "b"), [("forward", "a")], every=3),
        task(("error", "c"), [("transport", "b")], [("transport", "b")]),
    ]  # fmt: skip
    order = of_steps(tasks, 2)
    assert order.before == ([0b000, 0b001, 0b010], [0b000, 0b000, 0b010])
    assert order.after == ([0b010, 0b100, 0b000], [0b000, 0b100, 0b000])


def test_order_follows_paths_over_steps():
    """a of the next step waits for c, which follows b: two steps on, all have ended."""
    tasks = [task(("forward", "a"), (), [("error", "c")]), task(("error", "b")), task(("error", "c"), [("error", "b")])]
    order = of_steps(tasks, 3)
    assert order.before[0] == [0b000, 0b000, 0b010]
    assert order.before[1] == [0b110, 0b000, 0b000]
    assert order.before[2] == [0b000, 0b000, 0b000]


def test_tasks_are_put_behind_those_they_wait_for_and_else_left():
    tasks = [task(("error", "x"), [("error", "z")]), task(("error", "y")), task(("error", "z"))]
    assert [each.layer for each in sorted_tasks(tasks)] == ["y", "z", "x"]


def test_tasks_that_wait_for_each_other_are_refused():
    tasks = [task(("error", "x"), [("error", "y")]), task(("error", "y"), [("error", "x")])]
    with pytest.raises(ValueError, match="wait for each other"):
        sorted_tasks(tasks)
