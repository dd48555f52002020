"""Tasks cut into bursts: how much of a task's folds moves and computes at once, and what a task takes on its own.

Fold after fold would be exact and slow. A burst of n folds is loaded, computed and drained as one, but computing starts
with the first fold's share of the load and ends no earlier than one fold after the last; so where nothing else uses its
ports, one burst takes exactly as long as n folds. Bursts matter where two tasks meet at a port: there a task is cut
finely enough that no burst holds a port for more than a small share of the step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

from fahw.work.counts.record import Flow, Task, TaskId
from fahw.work.mesh import is_link

Transfer = tuple[str, int, int]
"""A port, cycles that a burst holds it, and the first fold's share of these."""

BUFFERS = 4
"""Bursts that may wait to be drained; before the computation there are two buffers."""
BURSTS_PER_STEP = 200
"""A burst of a contended task holds a port for at most this share of the step's busiest part (as far as folds go)."""


class Burst(NamedTuple):
    """`folds` identical folds: transfers on either side, cycles of their computation and of the first fold's.
    `links`: those of a message, which holds all its links at once. `drain_lead`: cycles that draining one fold
    takes."""

    folds: int
    loads: tuple[Transfer, ...]
    compute: int
    first: int
    drains: tuple[Transfer, ...]
    links: tuple[Transfer, ...]
    drain_lead: int


def bursts_of(task: Task, count: int) -> tuple[Burst, ...]:
    """`count` bursts of a task (at most one per fold), whole cycles in proportion to the folds, nothing lost."""
    folds, cycles, first = task.folds, task.cycles, task.fold_cycles
    count = max(1, min(folds, count))
    if count == 1:
        return (_whole(task),)
    edges = [folds * i // count for i in range(count + 1)]
    loads = [_shares(flow, edges, ceil) for flow in task.loads]
    drains = [_shares(flow, edges, floor) for flow in task.drains if not is_link(flow.part)]
    links = [_shares(flow, edges, floor) for flow in task.drains if is_link(flow.part)]
    bursts, done = [], 0
    for i, (start, end) in enumerate(pairwise(edges)):
        size, until = end - start, cycles * end // folds
        loaded = tuple([(port, n[i], -(-n[i] // size)) for port, n in loads if n[i]])
        drained = tuple([(port, n[i], -(-n[i] // size)) for port, n in drains if n[i]])
        sent = tuple([(port, n[i], -(-n[i] // size)) for port, n in links if n[i]]) if links else ()
        lead = max([lead for _, _, lead in drained + sent], default=0)
        bursts.append(Burst(size, loaded, until - done, first, drained, sent, lead))
        done = until
    return tuple(bursts)


def _whole(task: Task) -> Burst:
    """A task as one burst."""
    folds, drains, links = task.folds, list[Transfer](), list[Transfer]()
    for flow in task.drains:
        cycles = ceil(flow.amount / flow.per_cycle)
        (links if is_link(flow.part) else drains).append((flow.part, cycles, -(-cycles // folds)))
    held = [(flow.part, ceil(flow.amount / flow.per_cycle)) for flow in task.loads]
    loads = [(port, cycles, -(-cycles // folds)) for port, cycles in held]
    lead = max([lead for _, _, lead in drains + links], default=0)
    return Burst(folds, tuple(loads), task.cycles, task.fold_cycles, tuple(drains), tuple(links), lead)


def _shares(flow: Flow, edges: Sequence[int], rounding: Callable[[float], int]) -> tuple[str, list[int]]:
    """Cycles of every burst; they add up to those of the whole flow. Loads come early, drains late: no burst gains
    by it."""
    folds, amount, rate = edges[-1], flow.amount, flow.per_cycle
    ends = [rounding(amount * edge / folds / rate) for edge in edges[:-1]]
    return flow.part, [b - a for a, b in pairwise([*ends, ceil(amount / rate)])]


def latency_of(task: Task) -> int:
    """Cycles from the first request to the first data; later requests are made ahead."""
    return max([flow.latency_cycles for flow in task.loads], default=0)


def isolated_cycles(task: Task, count: int = 1) -> int:
    """Cycles of one task alone on the chip, in `count` bursts, by recurrence: the closed form beside the engine."""
    load_at = latency_of(task)
    free: dict[tuple[str, str], int] = defaultdict(int)
    computed, drained = [0, 0], [0] * BUFFERS
    for burst in bursts_of(task, count):
        first, last = _pass(free, "load", burst.loads, load_at)
        start = max(computed[-1], first, drained[-BUFFERS])
        load_at = max(last, computed[-1])
        computed.append(max(start + burst.compute, last + burst.first))
        at = start + burst.first
        _, last = _pass(free, "drain", burst.drains, at)
        _, arrived = _pass(free, "drain", burst.links, max([at, *(free["drain", link] for link, _, _ in burst.links)]))
        drained.append(max(last, arrived, computed[-1] + burst.drain_lead))
    return drained[-1] + task.settle_cycles


def _pass(free: dict[tuple[str, str], int], side: str, transfers: Iterable[Transfer], at: int) -> tuple[int, int]:
    """Send a burst through its ports from `at` on: when its first fold, and all of it, has passed."""
    first = last = at
    for port, cycles, lead in transfers:
        start = max(free[side, port], at)
        free[side, port] = start + cycles
        first, last = max(first, start + lead), max(last, start + cycles)
    return first, last


def longest_path(tasks: Sequence[Task]) -> int:
    """Cycles of the longest chain of dependencies, every task taking what it takes alone. Tasks follow what they
    await."""
    ends: dict[TaskId, int] = {}
    for task in tasks:
        ends[task.id] = max((ends.get(name, 0) for name in task.after), default=0) + isolated_cycles(task)
    return max(ends.values(), default=0)


def busy_cycles(tasks: Iterable[Task]) -> dict[str, int]:
    """Cycles per step that every part and port works; no schedule can make them fewer."""
    busy: dict[str, int] = defaultdict(int)
    for task in tasks:
        busy[task.part] += task.cycles
        for flow in (*task.loads, *task.drains):
            busy[flow.part] += ceil(flow.amount / flow.per_cycle)
    return dict(busy)


def cut(
    tasks: Sequence[Task],
    tiles: int,
    in_flight: int,
    cut_before: dict[tuple[TaskId, int], tuple[Burst, ...]] | None = None,
) -> dict[TaskId, tuple[Burst, ...]]:
    """The bursts of every task: one where nothing can meet it at a port, up to `tiles` where something can.
    `cut_before`: what was cut before, by task and number; what is new is added."""
    cut_before = {} if cut_before is None else cut_before
    met_ports = _met_ports(tasks, in_flight)
    longest = max(busy_cycles(tasks).values(), default=0) or 1
    bursts = {}
    for task in tasks:
        met = met_ports[task.id]
        held = [flow.amount / flow.per_cycle for flow in (*task.loads, *task.drains) if flow.part in met]
        held += [task.cycles] if task.part in met else []
        number = min(tiles, 1 + ceil(BURSTS_PER_STEP * max(held) / longest)) if held else 1
        if (task.id, number) not in cut_before:
            cut_before[task.id, number] = bursts_of(task, number)
        bursts[task.id] = cut_before[task.id, number]
    return bursts


def _awaited(tasks: Sequence[Task], index: Mapping[TaskId, int], node: int) -> list[int]:
    """Nodes that a node waits for; a node is a task of a copy of the graph."""
    copy, i = divmod(node, len(tasks))
    waits = [copy * len(tasks) + index[name] for name in tasks[i].after]
    return waits + [(copy - 1) * len(tasks) + index[name] for name in tasks[i].after_previous if copy]


def _met_ports(tasks: Sequence[Task], in_flight: int) -> Mapping[TaskId, set[str]]:
    """The ports at which another task may be met: one that uses it and is neither before nor after this one.

    Steps in flight are copies of the graph; who comes before whom is kept as bits of whole numbers, one per task and
    copy.
    """
    copies, size = max(1, min(in_flight, 3)), len(tasks)
    index = {task.id: i for i, task in enumerate(tasks)}
    before = [1 << node for node in range(copies * size)]
    after = list(before)
    waits = [_awaited(tasks, index, node) for node in range(copies * size)]
    for node, others in enumerate(waits):
        for other in others:
            before[node] |= before[other]
    for node, others in reversed(list(enumerate(waits))):
        for other in others:
            after[other] |= after[node]
    ports = [[flow.part for flow in (*task.loads, *task.drains)] for task in tasks]
    users: dict[str, int] = defaultdict(int)
    for i, task in enumerate(tasks):
        nodes = sum([1 << (copy * size + i) for copy in range(copies)])
        for name in {*ports[i], task.part}:
            users[name] |= nodes
    shared = {name for names in ports for name in names}
    met: dict[TaskId, set[str]] = {}
    for i, task in enumerate(tasks):
        apart = [~(before[copy * size + i] | after[copy * size + i]) for copy in range(copies)]
        met[task.id] = {
            name
            for name in shared.intersection((*ports[i], task.part))
            if (*ports[i], task.part).count(name) > 1 or any(users[name] & mask for mask in apart)
        }
    return met
