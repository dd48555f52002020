"""Points on their way: priced, trained, priced again with what the trainings showed where a chip depends on that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fahw.activity import Activity, LayerActivity, mean_activity
from fahw.config.sweep import Sweep
from fahw.errors import ConfigError
from fahw.study.costs.cost_pool import OnProgress, price_requests
from fahw.study.storage.store import Store
from fahw.study.sweeps.baseline import rivals
from fahw.study.sweeps.point import Point, Run
from fahw.study.sweeps.setups import Setup
from fahw.study.sweeps.tables import write_folder

if TYPE_CHECKING:
    from fahw.study.training import Job

_SNAPSHOT_S = 30.0
_SNAPSHOT_SHARE = 0.02
"""While trainings run, tables are written so many seconds apart, so that `fahw report` shows how far a sweep is; less
often where that would take more than this share of the time."""


@dataclass
class SweepRun:
    """A sweep under way."""

    spec: Sweep
    store: Store
    folder: Path
    workers: int
    trainers: int
    """Processes that price, and those that train."""
    executor: Executor | None
    on_progress: OnProgress
    on_priced: OnProgress
    ahead: Executor | None = None
    """Processes of this machine that run already, to train in."""
    points: tuple[Point, ...] = ()
    faults: dict[str, str] = field(default_factory=dict)
    """Why trainings failed, by their key."""
    rivals: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """Costs of backpropagation under other forms of transport, by the number of the point."""
    next_save: float = 0.0

    def save(self) -> None:
        """Write the tables as they stand, and the report."""
        start = time.monotonic()
        write_folder(self.folder, self.spec, self.points, self.rivals, self.store)
        end = time.monotonic()
        self.next_save = end + max(_SNAPSHOT_S, (end - start) / _SNAPSHOT_SHARE)

    def _snapshot(self) -> None:
        """Write what there is so far. What is wrong with it is said at the end: it must not cost the trainings."""
        with suppress(ConfigError):
            self.save()

    def run(self, setups: Sequence[Setup]) -> tuple[Point, ...]:
        """Add points and do what they need. Returns them."""
        numbered = dict(enumerate(setups, len(self.points)))
        fresh = tuple(map(_point, setups))
        self.points += fresh
        self._price({number: _before_training(self.spec, setup) for number, setup in numbered.items()})
        try:
            if self.spec.train:
                self._train(fresh)
        finally:
            self._finish(fresh)
        self._price(
            {number: seen for number, setup in numbered.items() if (seen := _measured(setup, self.points[number]))}
        )
        return fresh

    def _price(self, setups: dict[int, Setup]) -> None:
        """Fill in the cost of every point and of its rivals."""
        if not setups:
            return
        added = list(rivals(setups, everywhere=self.spec.search is not None))
        requests = {setup.cost_key: setup.request for setup in setups.values()}
        requests |= {rival.key: rival.request for rival in added}
        costs = price_requests(requests, self.store, self.workers, self.executor, self.on_priced)
        for number, setup in setups.items():
            point, found = self.points[number], costs[setup.cost_key]
            point.cost_key, point.reason = setup.cost_key, found.get("reason", "")
            point.cost = None if point.reason else found
            self.rivals.pop(number, None)
        for rival in added:
            if "reason" not in costs[rival.key]:
                self.rivals.setdefault(rival.point, []).append(costs[rival.key])

    def _train(self, points: Sequence[Point]) -> None:
        """Train what the points that have a cost need and the store does not have."""
        from fahw.study.training import run_all

        def stored(_: Job) -> None:
            if time.monotonic() > self.next_save:
                self._finish(points)
                self._snapshot()

        if time.monotonic() > self.next_save:
            self._snapshot()
        jobs = [job for point in points if not point.reason for job in point.jobs]
        failed = run_all(jobs, self.store, self.trainers, self.on_progress, self.executor, stored, self.ahead)
        self.faults |= {key: outcome.reason for key, outcome in failed.items()}

    def _finish(self, points: Sequence[Point]) -> None:
        """Give points the results that their trainings have by now."""
        for point in points:
            if point.finished or point.reason:
                continue
            if not self.spec.train:
                point.finished = True
                continue
            self._take(point)

    def _take(self, point: Point) -> None:
        from fahw.study.training import stored

        runs = []
        for job in point.jobs:
            if job.key in self.faults:
                point.reason = f"training with seed {job.setup.seed} failed: {self.faults[job.key]}"
            elif self.store.run_path(job.key).exists():
                runs.append(Run.of(stored(self.store, job)))
        point.runs = tuple(runs)
        point.finished = len(runs) == len(point.jobs)


def _point(setup: Setup) -> Point:
    request = setup.request
    return Point(setup.values, request.rule, request.transport, setup.cost_key, setup.jobs)


def _before_training(spec: Sweep, setup: Setup) -> Setup:
    """A point whose cost needs what its training will show is priced as if nothing were zero and all changed: whether
    the chip can host it is seen before it is trained."""
    if not spec.train or not setup.request.chip.uses_activity:
        return setup
    layers = {layer.name: LayerActivity(0.0, 0.0, 1.0, 1.0) for layer in setup.request.network.weighted}
    return _with(setup, Activity(layers, 1))


def _measured(setup: Setup, point: Point) -> Setup | None:
    """The point with what its trainings showed; None where its cost does not depend on it, or nothing was trained."""
    if point.reason or not setup.request.chip.uses_activity:
        return None
    seen = mean_activity([run.activity for run in point.runs if run.activity])
    return _with(setup, seen) if seen else None


def _with(setup: Setup, activity: Activity) -> Setup:
    request = replace(setup.request, activity=activity)
    return replace(setup, request=request, cost_key=request.key(setup.network_key))
