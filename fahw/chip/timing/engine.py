"""The event simulation of training steps: tasks on the chip's parts, their bursts through the ports.

A task holds its part (an array, vector lanes, a link) while its bursts are computed; bursts are loaded and drained
through ports, two buffers on either side. A port serves requests in the order of their time; of requests in the same
cycle, and of tasks that wait for a part, the oldest step goes first, then error, gradient, update, transport, forward.
`fahw.chip.timing.bursts` has the closed forms that the simulation equals where nothing contends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush

from fahw.chip.timing.bursts import BUFFERS, Burst, Transfer, latency_of
from fahw.chip.timing.dependencies import Progress
from fahw.chip.timing.event_calendar import Calendar
from fahw.chip.timing.recording import Recording, Span
from fahw.work.counts.record import Task, TaskId

_PHASE_ORDER = {"error": 0, "recompute": 1, "gradient": 2, "update": 3, "transport": 4, "forward": 5}
_LAST = 1 << 60
"""Priority of a decision about who gets a part: after everything else that happens in its cycle."""


class Part:
    """Something that runs one task at a time. Who is next is decided at the end of a cycle, among all who then wait."""

    def __init__(self, name: str) -> None:
        self.name, self.free, self.deciding = name, True, False
        self.queue: list[tuple[int, Job]] = []


class Job:
    """One task of one step, from when it may run; `start`: when it got its part.

    Of the latest burst: `first_loaded` and `loaded`, when its first fold and when all of it is there, and `computed`;
    `load_port` and `drain_port` took longest. Of all bursts, as far as it is known: `computed_at` and `drained_at`.
    `shared`: its part is a port of other tasks, too (vector lanes drain products), and serves burst by burst.
    """

    __slots__ = ("bursts", "computed", "computed_at", "drain_port", "drained_at", "first_loaded", "index", "load_port",
                 "loaded", "priority", "shared", "start", "step", "task")  # fmt: skip

    def __init__(
        self, task: Task, step: int, index: int, priority: int, bursts: tuple[Burst, ...], shared: bool
    ) -> None:
        self.task, self.step, self.index, self.priority = task, step, index, priority
        self.bursts, self.shared = bursts, shared
        self.start = self.first_loaded = self.loaded = self.computed = 0
        self.load_port = self.drain_port = ""
        self.computed_at: list[int] = []
        self.drained_at: list[int] = []


class Simulation:
    """Consecutive steps of the same tasks, `in_flight` of them at a time.

    What is still to come follows from `calendar`, `progress`, `parts` and `port_free`: from when on a port is free.
    """

    def __init__(
        self, tasks: Sequence[Task], bursts: Mapping[TaskId, tuple[Burst, ...]], in_flight: int, detailed: bool = False
    ) -> None:
        self.in_flight, self._tasks, self._bursts = in_flight, tasks, bursts
        self.calendar, self.progress, self.recording = Calendar(), Progress(tasks), Recording(detailed)
        self.parts = {task.part: Part(task.part) for task in tasks}
        self._ports = {flow.part for task in tasks for flow in (*task.loads, *task.drains)}
        self.port_free: dict[str, int] = defaultdict(int)
        self._steps, self._over = 0, False
        self._is_steady: Callable[[Simulation], bool] | None = None

    def run(self, steps: int, is_steady: Callable[[Simulation], bool] | None = None) -> None:
        """Simulate `steps` steps, fewer where `is_steady` says so at the end of one.

        Raises RuntimeError where tasks wait for each other.
        """
        self._steps, self._is_steady = steps, is_steady
        self._begin_steps()
        self.calendar.run()
        if not self._over:
            raise RuntimeError("the tasks of a step wait for each other")

    def _begin_steps(self) -> None:
        """Begin as many steps as may be in flight."""
        progress = self.progress
        while len(progress.unfinished) < min(self._steps, len(progress.ends) + self.in_flight):
            self._make_ready(progress.begin_step())

    def _make_ready(self, tasks: Iterable[tuple[int, int]]) -> None:
        """Let tasks, each known by step and index, wait for their parts."""
        for step, index in tasks:
            task = self._tasks[index]
            part = self.parts[task.part]
            priority = (step * len(_PHASE_ORDER) + _PHASE_ORDER[task.phase]) * len(self._tasks) + index
            job = Job(task, step, index, priority, self._bursts[task.id], task.part in self._ports)
            heappush(part.queue, (priority, job))
            self._decide_later(part)

    def _decide_later(self, part: Part) -> None:
        if part.free and not part.deciding:
            part.deciding = True
            self.calendar.add(self.calendar.now, _LAST, self._decide, part)

    def _decide(self, part: Part, _: int) -> None:
        """Give a part to the first of those who wait for it."""
        part.deciding = False
        if part.free and part.queue:
            part.free = False
            _, job = heappop(part.queue)
            job.start = job.first_loaded = job.loaded = job.computed = self.calendar.now
            latency = latency_of(job.task)
            if latency:
                self.calendar.add(job.start + latency, job.priority, self._load, job)
            else:
                self._load(job, 0)

    def _transfer(self, job: Job, kind: str, transfers: Iterable[Transfer], now: int) -> tuple[int, int, str]:
        """Send a burst through its ports from the cycle `now` on; returns when its first fold and all of it has passed,
        and the last port. `kind`: load or drain."""
        first, last, slowest = now, now, ""
        free, detailed = self.port_free, self.recording.detailed
        for port, cycles, lead in transfers:
            start = free[port]
            if start < now:
                start = now
            free[port] = end = start + cycles
            if detailed:
                self.recording.use(port, kind, job.task, job.step, start, end)
            if start + lead > first:
                first, slowest = start + lead, port
            if end > last:
                last, slowest = end, port
        return first, last, slowest

    def _load(self, job: Job, i: int) -> None:
        """Load burst `i`, to be computed when its first fold is there."""
        burst = job.bursts[i]
        job.first_loaded, job.loaded, job.load_port = self._transfer(job, "load", burst.loads, self.calendar.now)
        if not job.shared and len(job.drained_at) > i - BUFFERS:
            self._compute(job, i)
            return
        # what must be drained before is known then
        cycle = job.first_loaded if job.first_loaded > job.computed else job.computed
        if job.shared:
            # whoever comes to the lanes first is served first, and does not hold them while it waits for data
            cycle = max(cycle, job.loaded + burst.first - burst.compute)
        self.calendar.add(cycle, job.priority, self._compute, job, i)

    def _compute(self, job: Job, i: int) -> None:
        """Compute burst `i`, which is drained and followed by the next one; after the last the part is free."""
        burst, previous = job.bursts[i], job.computed
        emptied = job.drained_at[i - BUFFERS] if i >= BUFFERS else 0
        if job.shared and emptied > self.calendar.now:
            self.calendar.add(emptied, job.priority, self._compute, job, i)
            return
        possible = emptied if emptied > previous else previous
        start = job.first_loaded if job.first_loaded > possible else possible
        if job.shared:
            start = max(start, self.port_free[job.task.part])
        end = start + burst.compute
        if job.loaded + burst.first > end:
            end = job.loaded + burst.first
        if job.shared:
            self.port_free[job.task.part] = end
        if end > previous + burst.compute or self.recording.detailed:
            self._record(job, burst, possible, start, end)
        job.computed = end
        job.computed_at.append(end)
        # lanes take a burst in time for its last fold: its first may have started before
        self.calendar.add(start + burst.first, job.priority, self._drain, job, i)
        if i + 1 < len(job.bursts):
            self.calendar.add(job.loaded if job.loaded > previous else previous, job.priority, self._load, job, i + 1)
        else:
            self.calendar.add(end, job.priority, self._release, job)

    def _record(self, job: Job, burst: Burst, possible: int, start: int, end: int) -> None:
        """Note a burst and what its part waited for, from the end of the burst before: its drains, its loads or other
        users of the lanes. `possible`: when a buffer is empty."""
        wait, task, step = self.recording.wait, job.task, job.step
        if possible > job.computed:
            wait(task, step, f"drain {job.drain_port}".rstrip(), job.computed, possible)
        if job.first_loaded > possible:
            wait(task, step, f"load {job.load_port}".rstrip(), possible, job.first_loaded)
        if start > max(possible, job.first_loaded):
            wait(task, step, "shared", max(possible, job.first_loaded), start)
        if end - start > burst.compute:
            wait(task, step, f"load {job.load_port}".rstrip(), start, end - burst.compute)
        self.recording.use(task.part, "compute", task, step, end - burst.compute, end)

    def _drain(self, job: Job, i: int) -> None:
        """Drain burst `i`; with the last one the task ends."""
        burst, now = job.bursts[i], self.calendar.now
        _, last, job.drain_port = self._transfer(job, "drain", burst.drains, now)
        if burst.links:  # a message holds all its links at once
            free = max([now, *(self.port_free[link] for link, _, _ in burst.links)])
            _, arrived, link = self._transfer(job, "drain", burst.links, free)
            if arrived > last:
                last, job.drain_port = arrived, link
        job.drained_at.append(max(last, job.computed_at[i] + burst.drain_lead))
        if i + 1 == len(job.bursts):
            self.calendar.add(job.drained_at[-1] + job.task.settle_cycles, job.priority, self._finish, job)

    def _release(self, job: Job, _: int) -> None:
        part = self.parts[job.task.part]
        part.free = True
        if part.queue:
            self._decide_later(part)

    def _finish(self, job: Job, _: int) -> None:
        """End a task: others may run now, a step may end and the next one begin, and with the last all is over."""
        now, task, progress = self.calendar.now, job.task, self.progress
        span = (task.part, task.phase, task.layer, job.start, now, task.micro, job.computed, job.step)
        self.recording.spans.append(Span(*span))
        ended = len(progress.ends)
        self._make_ready(progress.finish(job.step, job.index, now))
        if len(progress.ends) > ended:
            self._begin_steps()
            self._over = len(progress.ends) >= self._steps or (self._is_steady is not None and self._is_steady(self))
            if self._over:
                self.calendar.clear()
