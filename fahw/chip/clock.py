"""Cycles of a training step: an event simulation of its tasks on the chip's parts.

A task holds its part (an array, vector lanes, a link) while its bursts are computed; bursts are loaded and drained
through ports, two buffers on either side. A port serves requests in the order of their time; of requests in the same
cycle, and of tasks that wait for a part, the oldest step goes first, then error, gradient, update, transport, forward.
`fahw.chip.bursts` has the closed forms that the simulation equals where nothing contends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any

import simpy

from fahw.chip.bursts import BUFFERS, Burst, bursts_of, busy_cycles, cut, latency_of
from fahw.work.counts.record import Task, TaskId

_PHASE_ORDER = {"error": 0, "gradient": 1, "update": 2, "transport": 3, "forward": 4}
_DECIDE = 1 << 60
"""Priority of a decision about who gets a part: after everything else that happens in its cycle."""
_STEPS = 40


@dataclass(frozen=True)
class Span:
    """When a task ran, in cycles from the start of the first step: from `start` to `released` it held its part, at
    `end` its last results were where they belong."""

    part: str
    phase: str
    layer: str
    start: int
    end: int
    micro: int = 0
    released: int = 0
    step: int = 0


@dataclass(frozen=True)
class Event:
    """What a burst of a task did with a part or port. `kind`: load or drain (at a port), compute or wait (at its part).

    `on`: what a wait is for. A burst that computes slower than it could, because its operands come slowly, first waits
    and then computes.
    """

    part: str
    kind: str
    task: Task
    step: int
    start: int
    end: int
    on: str = ""


@dataclass(frozen=True)
class Timing:
    """`cycles`: first start to last end of one isolated step. `interval_cycles`: steady state between steps.

    `busy`: cycles per step that a part works; `stalls`: cycles per isolated step that it holds a task but waits, by the
    port that it waits for.
    """

    cycles: int
    interval_cycles: float
    busy: dict[str, int]
    stalls: dict[tuple[str, str], int]
    spans: tuple[Span, ...]


def time_step(tasks: Sequence[Task], tiles: int, steps_in_flight: int, exact: bool = False) -> Timing:
    """Latency of an isolated step and the steady-state interval between steps, with busy times and stalls.

    Tasks that run once in k steps are in the isolated step; the interval and the busy times are the means of a steady
    state with them (weight 1) and one without (k - 1). `exact` simulates fold by fold: the slow reference. Raises
    RuntimeError where tasks wait for each other.
    """
    timing = _time_step(tasks, tiles, steps_in_flight, exact)
    every = max((task.every for task in tasks), default=1)
    if every == 1:
        return timing
    rest = _time_step(_without(tasks), tiles, steps_in_flight, exact)
    interval = ((every - 1) * rest.interval_cycles + timing.interval_cycles) / every
    busy = {part: ((every - 1) * rest.busy.get(part, 0) + n) // every for part, n in timing.busy.items()}
    return replace(timing, interval_cycles=interval, busy=busy)


def _without(tasks: Sequence[Task]) -> list[Task]:
    """The tasks of a step in which those that run once in several steps do not run."""
    gone = {task.id for task in tasks if task.every > 1}
    return [
        replace(
            task, after=tuple(name for name in task.after if name not in gone),
            after_previous=tuple(name for name in task.after_previous if name not in gone),
        )
        for task in tasks
        if task.id not in gone
    ]  # fmt: skip


def _time_step(tasks: Sequence[Task], tiles: int, steps_in_flight: int, exact: bool) -> Timing:
    folds = {task.id: bursts_of(task, task.folds) for task in tasks} if exact else None
    known: dict[tuple[TaskId, int], tuple[Burst, ...]] = {}
    single = Run(tasks, folds or cut(tasks, tiles, 1, known), 1)
    single.go(1)
    many = Run(tasks, folds or cut(tasks, tiles, steps_in_flight, known), steps_in_flight)
    many.go(_STEPS)
    return Timing(single.ends[0], many.interval(), busy_cycles(tasks), dict(single.stalls), tuple(single.spans))


class _Call:
    """An event of SimPy's queue that calls `do(job, i)`; it has what `simpy.Environment.step` looks at and no more, for
    millions are made in a study. What is pending can be read from it."""

    __slots__ = ("callbacks", "do", "i", "job")
    _ok = True

    def __init__(self, do: Callable[[Any, int], None], job: _Job | _Part, i: int) -> None:
        self.callbacks, self.do, self.job, self.i = _CALLBACKS, do, job, i


def _call(event: _Call) -> None:
    event.do(event.job, event.i)


_CALLBACKS = (_call,)


class _Job:
    """One task of one step while it runs: what of it has been loaded, computed and drained."""

    __slots__ = ("bursts", "computed", "drained", "drains_to", "ends", "first", "index", "last", "priority", "start",
                 "step", "task", "waits_on")  # fmt: skip

    def __init__(self, task: Task, index: int, step: int, priority: int, bursts: tuple[Burst, ...]) -> None:
        self.task, self.index, self.step, self.priority, self.bursts = task, index, step, priority, bursts
        self.start, self.first, self.last, self.computed, self.drained = 0, 0, 0, 0, list[int]()
        self.ends = list[int]()
        """When its bursts are computed, as far as it is known."""
        self.waits_on, self.drains_to = "", ""


class _Part:
    """Something that runs one task at a time. Who is next is decided at the end of a cycle, among all who then wait."""

    def __init__(self, name: str) -> None:
        self.name, self.free, self.deciding = name, True, False
        self.queue: list[tuple[int, _Job]] = []


class Run:
    """A simulation of consecutive steps: `ends` of the steps; `stalls` and `spans` of all of them.

    With `record` also `events`: what every part and port did, burst by burst.
    """

    def __init__(
        self, tasks: Sequence[Task], bursts: dict[TaskId, tuple[Burst, ...]], in_flight: int, record: bool = False
    ) -> None:
        self.env = simpy.Environment()
        self.ends: list[int] = []
        self.stalls: dict[tuple[str, str], int] = defaultdict(int)
        self.spans: list[Span] = []
        self.events: list[Event] = []
        self._tasks, self._bursts, self._in_flight, self._record = tasks, bursts, in_flight, record
        self._parts = {task.part: _Part(task.part) for task in tasks}
        self._free: dict[str, int] = defaultdict(int)
        ports = {flow.part for task in tasks for flow in (*task.loads, *task.drains)}
        self._busiest = max(busy_cycles(tasks).values(), default=0)
        self._shared = ports & set(self._parts)  # vector lanes: they drain products and run tasks of their own
        index = {task.id: i for i, task in enumerate(tasks)}
        self._before = [[index[name] for name in task.after] for task in tasks]
        self._before_previous = [[index[name] for name in task.after_previous] for task in tasks]
        self._next: list[list[int]] = [[] for _ in tasks]
        self._next_step: list[list[int]] = [[] for _ in tasks]
        for i in range(len(tasks)):
            for j in self._before[i]:
                self._next[j].append(i)
            for j in self._before_previous[i]:
                self._next_step[j].append(i)
        self._waiting: list[list[int]] = []
        self._done: list[list[int]] = []
        self._left: list[int] = []
        self._seen: dict[Any, int] = {}
        self._period = 0

    def go(self, steps: int) -> None:
        """Simulate until the steady state is found, `steps` at most; all of them where events are recorded."""
        for _ in range(min(steps, self._in_flight)):
            self._begin_step()
        while len(self.ends) < steps and (self._record or not self._repeats()):
            self._until_a_step_ends()
            while len(self._left) < min(steps, len(self.ends) + self._in_flight):
                self._begin_step()
        self.env._queue.clear()  # its calls refer to this object: without them no garbage collector is needed

    def _until_a_step_ends(self) -> None:
        ends, ended, advance = self.ends, len(self.ends), self.env.step
        try:
            while len(ends) == ended:
                advance()
        except simpy.core.EmptySchedule:
            raise RuntimeError("the tasks of a step wait for each other") from None

    def interval(self) -> float:
        """Mean gap between the ends of steps over a whole period; over the later half of them where none is found.

        Never less than the busiest part works per step.
        """
        period = self._period or max(1, len(self.ends) // 2)
        if len(self.ends) <= period:
            return float(self.ends[0])
        return max((self.ends[-1] - self.ends[-1 - period]) / period, self._busiest)

    def _repeats(self) -> bool:
        """Whether all that decides what comes next was before as it is now that a step has ended, but for the time that
        has passed: from there on everything happens again and again, every `_period` steps."""
        ended = len(self.ends)
        if ended and len(self._left) >= ended + self._in_flight:
            self._period = ended - self._seen.setdefault(self._state(), ended)
        return self._period > 0

    def _state(self) -> Any:
        """Times from now and steps from the last that ended; since when a port is free makes no difference."""
        now, ended = self.env.now, len(self.ends)

        def of(job: _Job) -> Any:
            computing = tuple(time - now for time in job.ends[len(job.drained) :])
            drained = len(job.drained), *(time - now for time in job.drained[-BUFFERS:])
            times = job.computed - now, job.first - now, job.last - now
            return job.step - ended, job.index, *times, job.waits_on, job.drains_to, drained, computing

        queue: Any = self.env._queue
        pending = tuple(
            (time - now, event.do.__name__, event.i, event.job.name if isinstance(event.job, _Part) else of(event.job))
            for time, _, _, event in sorted(queue)
        )
        parts = tuple(
            (part.free, *((job.step - ended, job.index) for _, job in sorted(part.queue)))
            for part in self._parts.values()
        )
        ports = tuple(max(0, time - now) for time in self._free.values())
        steps = tuple(
            (*self._waiting[step], *(time < 0 for time in self._done[step])) for step in range(ended, len(self._left))
        )
        return pending, parts, ports, steps

    def _begin_step(self) -> None:
        step = len(self._left)
        waiting = [len(names) for names in self._before]
        if step:
            done = self._done[step - 1]
            for i, names in enumerate(self._before_previous):
                waiting[i] += sum(done[j] < 0 for j in names)
        self._waiting.append(waiting)
        self._done.append([-1] * len(self._tasks))
        self._left.append(len(self._tasks))
        for i, count in enumerate(waiting):
            if not count:
                self._ready(step, i)

    def _at(self, time: int, do: Callable[[Any, int], None], job: _Job, i: int = 0) -> None:
        self.env.schedule(_Call(do, job, i), job.priority, time - self.env.now)  # type: ignore[arg-type]

    def _ready(self, step: int, index: int) -> None:
        task = self._tasks[index]
        priority = 1 + (step * len(_PHASE_ORDER) + _PHASE_ORDER[task.phase]) * len(self._tasks) + index
        job = _Job(task, index, step, priority, self._bursts[task.id])
        part = self._parts[task.part]
        heappush(part.queue, (priority, job))
        self._decide_later(part)

    def _decide_later(self, part: _Part) -> None:
        if part.free and not part.deciding:
            part.deciding = True
            self.env.schedule(_Call(self._decide, part, 0), _DECIDE)  # type: ignore[arg-type]

    def _decide(self, part: _Part, _: int) -> None:
        part.deciding = False
        if part.free and part.queue:
            part.free = False
            _, job = heappop(part.queue)
            job.start = job.first = job.last = job.computed = int(self.env.now)
            latency = latency_of(job.task)
            if latency:
                self._at(job.start + latency, self._load, job)
            else:
                self._load(job, 0)

    def _pass(self, job: _Job, kind: str, transfers: tuple[tuple[str, int, int], ...]) -> tuple[int, int, str]:
        """Send a burst through its ports from now on: when its first fold and all of it has passed, and the last
        port. `kind`: load or drain."""
        now = int(self.env.now)
        first, last, slowest = now, now, ""
        free = self._free
        for port, cycles, lead in transfers:
            start = free[port]
            if start < now:
                start = now
            free[port] = end = start + cycles
            if self._record:
                self.events.append(Event(port, kind, job.task, job.step, start, end))
            if start + lead > first:
                first, slowest = start + lead, port
            if end > last:
                last, slowest = end, port
        return first, last, slowest

    def _load(self, job: _Job, i: int) -> None:
        job.first, job.last, job.waits_on = self._pass(job, "load", job.bursts[i].loads)
        shared, burst = job.task.part in self._shared, job.bursts[i]
        if not shared and len(job.drained) > i - BUFFERS:
            self._compute(job, i)
            return
        at = max(job.first, job.computed)  # what must be drained before is known then
        if shared:  # whoever comes to the lanes first is served first, and does not hold them while it waits for data
            at = max(at, job.last + burst.first - burst.compute)
        self._at(at, self._compute, job, i)

    def _compute(self, job: _Job, i: int) -> None:
        burst, part, previous = job.bursts[i], job.task.part, job.computed
        emptied, shared = job.drained[i - BUFFERS] if i >= BUFFERS else 0, part in self._shared
        if shared and emptied > self.env.now:
            self._at(emptied, self._compute, job, i)
            return
        could = emptied if emptied > previous else previous
        start = job.first if job.first > could else could
        if shared:
            start = max(start, self._free[part])
        end = start + burst.compute
        if job.last + burst.first > end:
            end = job.last + burst.first
        if shared:
            self._free[part] = end
        if end > previous + burst.compute or self._record:
            self._note_stalls(job, burst, (start, end), could)
        job.computed = end
        job.ends.append(end)
        self._at(start + burst.first, self._drain, job, i)
        if i + 1 < len(job.bursts):
            at = job.last if job.last > previous else previous
            self._at(at, self._load, job, i + 1)
        else:
            self._at(end, self._release, job)

    def _note_stalls(self, job: _Job, burst: Burst, span: tuple[int, int], could: int) -> None:
        """A part that holds a task and does not compute waits: for its loads, its drains, or other users of the
        lanes. `could`: when the burst before is computed and a buffer is empty."""
        start, end = span
        if could > job.computed:
            self._wait(job, f"drain {job.drains_to}", job.computed, could)
        if job.first > could:
            self._wait(job, f"load {job.waits_on}", could, min(job.first, start))
        if start > max(could, job.first):
            self._wait(job, "shared", max(could, job.first), start)
        if end - start > burst.compute:
            self._wait(job, f"load {job.waits_on}", start, end - burst.compute)
        if self._record:
            self.events.append(Event(job.task.part, "compute", job.task, job.step, end - burst.compute, end))

    def _wait(self, job: _Job, cause: str, start: int, end: int) -> None:
        part, on = job.task.part, cause.rstrip()
        self.stalls[part, on] += end - start
        if self._record:
            self.events.append(Event(part, "wait", job.task, job.step, start, end, on))

    def _drain(self, job: _Job, i: int) -> None:
        burst = job.bursts[i]
        _, last, job.drains_to = self._pass(job, "drain", burst.drains)
        job.drained.append(max(last, job.ends[i] + burst.drain_lead))
        if i + 1 == len(job.bursts):
            self._at(job.drained[-1] + job.task.settle_cycles, self._finish, job)

    def _release(self, job: _Job, _: int) -> None:
        part = self._parts[job.task.part]
        part.free = True
        if part.queue:
            self._decide_later(part)

    def _finish(self, job: _Job, _: int) -> None:
        now, step, task = int(self.env.now), job.step, job.task
        span = (task.part, task.phase, task.layer, job.start, now, task.micro, job.computed, step)
        self.spans.append(Span(*span))
        self._done[step][job.index] = now
        self._left[step] -= 1
        for following, names in ((step, self._next[job.index]), (step + 1, self._next_step[job.index])):
            if following < len(self._waiting):
                waiting = self._waiting[following]
                for i in names:
                    waiting[i] -= 1
                    if not waiting[i]:
                        self._ready(following, i)
        while len(self.ends) < len(self._left) and not self._left[len(self.ends)]:
            self.ends.append(max(self._done[len(self.ends)]))
