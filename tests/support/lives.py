"""Tensors of a step as an engine run shows them: how many copies are there in which cycle, task durations at random."""

from collections import defaultdict
from dataclasses import dataclass, replace

from fahw.chip.timing.bursts import bursts_of
from fahw.chip.timing.engine import Simulation
from fahw.work.counts.record import task_id


@dataclass(frozen=True)
class Ran:
    """A task that ran, from start to end, in cycles; it held its part until `released`. `name`: its id in the first
    micro-batch, or of the step."""

    name: tuple
    part: str
    instance: tuple
    start: int
    end: int
    released: int


def without_rare(tasks):
    """The tasks of a step in which those that run once in several do not run."""
    rare = {task.id for task in tasks if task.every > 1}
    return [
        replace(
            task,
            after=tuple(name for name in task.after if name not in rare),
            after_previous=tuple(name for name in task.after_previous if name not in rare),
        )
        for task in tasks
        if task.id not in rare
    ]


def run(tasks, step, random, steps=5, longest=30):
    """What ran in consecutive steps whose tasks take random times, some of them very long."""
    timed = [
        replace(
            task, folds=1, fold_cycles=random.choice([1, random.randint(1, longest), 10 * longest]), saved_cycles=0,
            loads=(), drains=(), settle_cycles=random.choice([0, 0, random.randint(1, longest)]),
        )
        for task in tasks
    ]  # fmt: skip
    return run_timed(timed, step, steps, 1)


def run_timed(tasks, step, steps=5, tiles_per_task=None):
    """What ran in consecutive steps, in the times that the engine gives them."""
    pieces = tiles_per_task or step.chip.tiles_per_task
    simulation = Simulation(tasks, {task.id: bursts_of(task, pieces) for task in tasks}, step.chip.steps_in_flight)
    simulation.run(steps)
    batches = len(step.micro_batch_sizes)
    found = []
    for span in simulation.recording.spans:
        micro = span.micro if span.micro < batches else 0
        name = task_id(span.phase, span.layer, span.micro - micro)
        found.append(Ran(name, span.part, (span.step, micro), span.start, span.end, span.released))
    assert len(found) == steps * len(tasks)
    return found


def intervals(ran, tensor, step, reads=None):
    """From when to when each copy of a tensor was there: from the start of its writing to the end of its reading.
    `reads`: until so many of its reads."""
    uses = {*tensor.writes, *(use.task for use in tensor.reads[:reads])}
    batches, begun, ended = len(step.micro_batch_sizes), defaultdict(list), defaultdict(list)
    of_step = any(len(name) == 3 or name[0] == "update" for name in uses) or batches == 1
    for task in ran:
        if task.name in uses:
            instance = task.instance[0] if of_step else task.instance
            ended[instance].append(task.end)
            if task.name in tensor.writes:
                begun[instance].append(task.start)
    return [(min(begun[instance]), max(ended[instance])) for instance in begun]


def most_at_once(spans, start, end):
    """The most of the spans that are there in one cycle from `start` to before `end`."""
    cycles = {start, *(first for first, _ in spans if start <= first < end)}
    return max(sum(first <= cycle < last for first, last in spans) for cycle in cycles)
