"""What a plan keeps and its tiles never take more of a memory than it has, in any cycle that the engine runs."""

from collections import defaultdict
from contextlib import ExitStack
from itertools import accumulate
from random import Random
from unittest.mock import patch

import pytest

from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.mapping.tiled import TiledMapping
from fahw.work import training_step
from fahw.work.plan import search
from fahw.work.plan.measured import product_tasks
from fahw.work.plan.tensors.kept_tensors import kept_tensors
from tests.support.lives import intervals, run_timed
from tests.support.random_setups import large_setup, tight

ROUNDED = 2.0
"""Bits by which sums of shares may be off."""


def step_and_tasks(setup):
    """A step with its plan, of which no tasks share tiles, and its tasks as they are timed."""
    steps, plan = [], training_step.planned

    def note(*inputs):
        steps.append(plan(*inputs))
        return steps[-1]

    with ExitStack() as patches:
        patches.enter_context(patch.object(training_step, "planned", note))
        patches.enter_context(patch.object(search, "worth_sharing", lambda *_: ()))
        cost = simulate(setup.with_chip({"mapping": "best"}).made_chip, setup.network, setup.rule, setup.batch)
    return steps[0], cost.work.tasks


def tensor_spans(step, ran):
    """From when to when how many bits lie in a memory of a core, by what the plan says of the reads of each tensor."""
    known = {(tensor.core, tensor.name): tensor for tensor in kept_tensors(step)}
    end = max(task.end for task in ran)
    for record in step.plan.tensors:
        tensor, place = known[record.core, record.name], (record.core, record.memory)
        for reads, (share, later) in enumerate(zip(record.shares, (*record.shares[1:], 0.0), strict=True), start=1):
            bits = record.bits * (share - later)
            spans = [(0, end)] if tensor.persistent else intervals(ran, tensor, step, reads)
            yield from ((place, start, stop, bits) for start, stop in spans if bits > 0)


def tile_spans(step, ran):
    """The same of tiles: all that a task's products take, while it holds its array. Of several products the most of
    each."""
    room = defaultdict(float)
    for work in product_tasks(step):
        for gemm in work.products(step.during(work.task), work.part, step.micro_batch_sizes[0]):
            for memory, bits in gemm.mapping.mapped.room if isinstance(gemm.mapping, TiledMapping) else ():
                room[work.task, work.core, memory] = max(room[work.task, work.core, memory], bits)
    for task in ran:
        for (name, core, memory), bits in room.items():
            if name == task.name and bits:
                yield (core, memory), task.start, task.released, bits


def most_taken(spans):
    """The most bits that lie in each memory of a core in any cycle."""
    changes = defaultdict(lambda: defaultdict(float))
    for place, start, end, bits in spans:
        if end > start:
            changes[place][start] += bits
            changes[place][end] -= bits
    return {place: max(accumulate(bits for _, bits in sorted(own.items()))) for place, own in changes.items()}


def check(seeds):
    """Returns the share of the fullest memory of each setup."""
    fullest = []
    for seed in seeds:
        try:
            setup = tight(large_setup(seed), Random(seed).choice([0.1, 0.2, 0.4, 0.7]))
            step, tasks = step_and_tasks(setup)
        except ConfigError:
            continue  # no tile fits
        ran = run_timed(tasks, step, 3)
        sizes = {memory.name: memory.kib * 8192 for memory in step.chip.memories}
        taken = most_taken([*tensor_spans(step, ran), *tile_spans(step, ran)])
        for (core, memory), bits in taken.items():
            assert bits <= sizes[memory] + ROUNDED, (seed, core, memory, bits, sizes[memory])
        fullest.append(max(bits / sizes[memory] for (_, memory), bits in taken.items()))
    return fullest


def test_no_memory_holds_more_than_it_has():
    """Several of them are full at some time, so that a bit more would be found."""
    fullest = check(range(4))
    assert sum(share > 0.95 for share in fullest) >= 2


@pytest.mark.long
def test_no_memory_of_hundreds_of_setups_holds_more_than_it_has():
    check(range(4, 300))
