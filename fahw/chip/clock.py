"""Cycles of a training step: an event simulation of its tasks on the chip's parts, and a closed form beside it.

A task is a run of identical folds, split into at most `tiles_per_task` bursts. A burst of n folds is loaded through
memory ports, computed and drained: computing starts when its first fold is loaded and ends no earlier than one fold
after its last is; draining likewise behind computing. Two buffers lie on either side. Ports and parts serve the
oldest step first, then error, gradient, update, transport, forward.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from math import ceil
from typing import Any

import simpy

from fahw.work.records import Flow, Task, TaskId

_PHASE_ORDER = {"error": 0, "gradient": 1, "update": 2, "transport": 3, "forward": 4}
_BUFFERS = 2
_AFTER_ALL = 2  # SimPy's own events have priority 0 or 1
_WARM_UP, _STEPS, _LONGEST_PERIOD = 2, 7, 2
Process = Generator[simpy.Event, Any, None]
Priority = tuple[int, int, int]


@dataclass(frozen=True)
class Burst:
    """`folds` identical folds: cycles of all their transfers by port on either side, load latency, cycles of a fold."""

    folds: int
    loads: tuple[tuple[str, int], ...]
    latency: int
    fold_cycles: int
    drains: tuple[tuple[str, int], ...]

    @property
    def compute(self) -> int:
        """Cycles of the computation."""
        return self.folds * self.fold_cycles

    def first(self, cycles: int) -> int:
        """The first fold's share of transfer `cycles`."""
        return -(-cycles // self.folds)


@dataclass(frozen=True)
class Span:
    """When a task ran on its part, in cycles from the start of the step."""

    part: str
    phase: str
    layer: str
    start: int
    end: int


@dataclass(frozen=True)
class Timing:
    """`cycles`: first start to last end of one isolated step. `interval_cycles`: steady state between steps.

    `busy`: cycles per step that a part works; `stalls`: cycles per step that it holds a task but waits, by cause.
    """

    cycles: int
    interval_cycles: float
    busy: dict[str, int]
    stalls: dict[tuple[str, str], int]
    spans: tuple[Span, ...]


def bursts_of(task: Task, tiles: int) -> list[Burst]:
    """The bursts of a task; amounts are shared out in proportion to the folds, whole units, nothing lost."""
    count = min(task.folds, tiles)
    edges = [task.folds * i // count for i in range(count + 1)]
    latency = max((flow.latency_cycles for flow in task.loads), default=0)
    bursts = []
    for ends in pairwise(edges):
        loads = tuple(_cycles(flow, ends, task.folds) for flow in task.loads)
        drains = tuple(_cycles(flow, ends, task.folds) for flow in task.drains)
        bursts.append(Burst(ends[1] - ends[0], loads, latency, task.fold_cycles, drains))
    return bursts


def _cycles(flow: Flow, ends: tuple[int, int], folds: int) -> tuple[str, int]:
    amount = flow.amount * ends[1] // folds - flow.amount * ends[0] // folds
    return flow.part, ceil(amount / flow.per_cycle)


def isolated_cycles(task: Task, tiles: int) -> int:
    """Cycles of one task alone on the chip, by recurrence: the oracle of the event simulation without contention."""
    loaded, computed, drained = [0], [0, 0], [0, 0]
    for burst in bursts_of(task, tiles):
        load = max((cycles for _, cycles in burst.loads), default=0)
        drain = max((cycles for _, cycles in burst.drains), default=0)
        load_start = max(loaded[-1], computed[-_BUFFERS])
        loaded.append(load_start + load)
        start = max(computed[-1], load_start + burst.first(load) + burst.latency, drained[-_BUFFERS])
        computed.append(max(start + burst.compute, loaded[-1] + burst.latency + burst.fold_cycles))
        drain_start = max(drained[-1], start + burst.fold_cycles)
        drained.append(max(drain_start + drain, computed[-1] + burst.first(drain)))
    return drained[-1]


def time_step(tasks: Sequence[Task], tiles: int, steps_in_flight: int) -> Timing:
    """Latency of an isolated step and the steady-state interval between steps, with busy times and stalls."""
    single = _Run(tasks, tiles, steps=1, in_flight=1)
    many = _Run(tasks, tiles, steps=_STEPS, in_flight=steps_in_flight)
    interval = _interval(many.ends)
    return Timing(single.ends[0], interval, dict(single.busy), dict(single.stalls), tuple(single.spans))


def _interval(ends: Sequence[int]) -> float:
    """Mean of the gaps between ends over a whole period after warm-up (over all of them where none is found)."""
    gaps = [b - a for a, b in zip(ends[_WARM_UP:], ends[_WARM_UP + 1 :], strict=False)]
    for period in range(1, min(_LONGEST_PERIOD, len(gaps) // 2) + 1):
        if gaps[-period:] == gaps[-2 * period : -period]:
            return sum(gaps[-period:]) / period
    return sum(gaps) / len(gaps)


class _Progress:
    """How far the bursts of one running task are; every entry is an event that carries the time it happened."""

    def __init__(self, env: simpy.Environment, bursts: int) -> None:
        names = ("first_loaded", "loaded", "first_computed", "computed", "drained")
        events = {name: [env.event() for _ in range(bursts)] for name in names}
        self.first_loaded, self.loaded = events["first_loaded"], events["loaded"]
        self.first_computed, self.computed = events["first_computed"], events["computed"]
        self.drained = events["drained"]


class _Late(simpy.Event):
    """An event of the present cycle that happens after everything else in it."""

    def __init__(self, env: simpy.Environment, callback: Callable[[simpy.Event], None]) -> None:
        super().__init__(env)
        self.callbacks.append(callback)
        self._ok, self._value = True, None
        env.schedule(self, priority=_AFTER_ALL)  # type: ignore[arg-type]


class _Part:
    """Something that serves one at a time. Who is served is decided at the end of a cycle, among all who then wait."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env, self._free, self._deciding = env, True, False
        self._queue: list[tuple[Priority, int, simpy.Event]] = []
        self._count = 0

    def request(self, priority: Priority) -> simpy.Event:
        """An event that happens when the part is given to the caller, who must `release` it."""
        granted = self._env.event()
        self._count += 1
        heappush(self._queue, (priority, self._count, granted))
        self._decide_later()
        return granted

    def release(self) -> None:
        """Give the part back."""
        self._free = True
        self._decide_later()

    def _decide_later(self) -> None:
        if not self._deciding:
            self._deciding = True
            _Late(self._env, self._decide)

    def _decide(self, _: simpy.Event) -> None:
        self._deciding = False
        if self._free and self._queue:
            self._free = False
            heappop(self._queue)[2].succeed()


class _Run:
    """A simulation of consecutive steps. After construction: `ends` of the steps, `busy`, `stalls`, `spans`."""

    def __init__(self, tasks: Sequence[Task], tiles: int, steps: int, in_flight: int) -> None:
        self.env = simpy.Environment()
        self.parts: dict[str, _Part] = {}
        self.busy: dict[str, int] = defaultdict(int)
        self.stalls: dict[tuple[str, str], int] = defaultdict(int)
        self.spans: list[Span] = []
        self._bursts = {task.id: bursts_of(task, tiles) for task in tasks}
        self._order = {task.id: i for i, task in enumerate(tasks)}
        ports = {flow.part for task in tasks for flow in (*task.loads, *task.drains)}
        self._shared = ports & {
            task.part for task in tasks
        }  # vector lanes: they drain products and run tasks of their own
        done: list[dict[TaskId, simpy.Event]] = [{task.id: self.env.event() for task in tasks} for _ in range(steps)]
        finished = [simpy.AllOf(self.env, events.values()) for events in done]
        self.ends = [0] * steps
        for step in range(steps):
            finished[step].callbacks.append(self._note_end(step))
            for task in tasks:
                waits = [done[step][name] for name in task.after]
                if step:
                    waits += [done[step - 1][name] for name in task.after_previous]
                if step >= in_flight:
                    waits.append(finished[step - in_flight])
                self.env.process(self._task(step, task, waits, done[step][task.id]))
        self.env.run()
        if not all(event.processed for event in finished):
            raise RuntimeError("the tasks of a step wait for each other")

    def _note_end(self, step: int) -> Callable[[simpy.Event], None]:
        def note(_: simpy.Event) -> None:
            self.ends[step] = int(self.env.now)

        return note

    def _part(self, name: str) -> _Part:
        if name not in self.parts:
            self.parts[name] = _Part(self.env)
        return self.parts[name]

    def _task(self, step: int, task: Task, waits: Iterable[simpy.Event], done: simpy.Event) -> Process:
        yield simpy.AllOf(self.env, waits)
        priority = (step, _PHASE_ORDER[task.phase], self._order[task.id])
        bursts = self._bursts[task.id]
        events = _Progress(self.env, len(bursts))
        yield self._part(task.part).request(priority)
        start = int(self.env.now)
        self.env.process(self._load(bursts, events, priority))
        self.env.process(self._drain(bursts, events, priority))
        yield from self._compute(task.part, bursts, events, priority)
        self._part(task.part).release()
        yield events.drained[-1]
        self.spans.append(Span(task.part, task.phase, task.layer, start, int(self.env.now)))
        done.succeed()

    def _load(self, bursts: list[Burst], progress: _Progress, priority: Priority) -> Process:
        for i, burst in enumerate(bursts):
            if i >= _BUFFERS:
                yield progress.computed[i - _BUFFERS]
            transfers = [self._transfer(burst, port, cycles, priority) for port, cycles in burst.loads if cycles]
            yield simpy.AllOf(self.env, [first for first, _ in transfers])
            progress.first_loaded[i].succeed(self.env.now + burst.latency)
            yield simpy.AllOf(self.env, [last for _, last in transfers])
            progress.loaded[i].succeed(self.env.now + burst.latency)

    def _compute(self, part: str, bursts: list[Burst], progress: _Progress, priority: Priority) -> Process:
        for i, burst in enumerate(bursts):
            if i and part in self._shared:
                self._part(part).release()
                yield self._part(part).request(priority)
            since = self.env.now
            yield from self._until((yield progress.first_loaded[i]))
            self.stalls[part, "load"] += int(self.env.now - since)
            since = self.env.now
            if i >= _BUFFERS:
                yield progress.drained[i - _BUFFERS]
            self.stalls[part, "drain"] += int(self.env.now - since)
            since = self.env.now
            yield self.env.timeout(burst.fold_cycles)
            progress.first_computed[i].succeed()
            yield self.env.timeout(burst.compute - burst.fold_cycles)
            yield from self._until((yield progress.loaded[i]) + burst.fold_cycles)
            self.busy[part] += burst.compute
            self.stalls[part, "load"] += int(self.env.now - since) - burst.compute
            progress.computed[i].succeed(self.env.now)

    def _drain(self, bursts: list[Burst], progress: _Progress, priority: Priority) -> Process:
        for i, burst in enumerate(bursts):
            yield progress.first_computed[i]
            transfers = [self._transfer(burst, port, cycles, priority) for port, cycles in burst.drains if cycles]
            yield simpy.AllOf(self.env, [last for _, last in transfers])
            last = max((burst.first(cycles) for _, cycles in burst.drains), default=0)
            yield from self._until((yield progress.computed[i]) + last)
            progress.drained[i].succeed()

    def _until(self, time: float) -> Process:
        if time > self.env.now:
            yield self.env.timeout(time - self.env.now)

    def _transfer(self, burst: Burst, port: str, cycles: int, priority: Priority) -> tuple[simpy.Event, simpy.Event]:
        """Send a burst through a port: events for its first fold and for all of it."""
        first = self.env.event()
        return first, self.env.process(self._hold(first, burst.first(cycles), port, cycles, priority))

    def _hold(self, first: simpy.Event, first_cycles: int, port: str, cycles: int, priority: Priority) -> Process:
        yield self._part(port).request(priority)
        yield self.env.timeout(first_cycles)
        first.succeed()
        yield self.env.timeout(cycles - first_cycles)
        self._part(port).release()
        self.busy[port] += cycles
