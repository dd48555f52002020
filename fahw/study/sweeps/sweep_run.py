"""Points on their way: priced, trained, priced again with what the trainings showed where a chip depends on that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fahw.activity import Activity, mean_activity
from fahw.config.sweep import Sweep
from fahw.errors import ConfigError
from fahw.study.costs.cost_pool import OnProgress, price_requests
from fahw.study.splits import all_at_work
from fahw.study.storage.store import Store
from fahw.study.sweeps.baseline import added_baselines
from fahw.study.sweeps.point import Point, TrainingDigest
from fahw.study.sweeps.setups import Setup
from fahw.study.sweeps.tables import write_folder

if TYPE_CHECKING:
    from fahw.study.training import Job

_SAVE_INTERVAL_S = 30.0
"""Seconds between two writings of the tables while trainings run, so that `fahw report` shows how far a sweep is."""
_MOST_SAVING_SHARE = 0.02
"""Share of the time that writing them may take; where it would take more, they are written less often."""


@dataclass
class SweepRun:
    """A sweep in progress: what it was asked for, where its results go, and its points so far."""

    spec: Sweep
    store: Store
    folder: Path
    workers: int
    """Processes that price."""
    trainers: int
    """Processes that train."""
    executor: Executor | None
    on_progress: OnProgress
    on_priced: OnProgress
    started_pool: Executor | None = None
    """Processes of this machine that run already, to train in."""
    points: tuple[Point, ...] = ()
    faults: dict[str, str] = field(default_factory=dict)
    """Why trainings failed, by their key."""
    baseline_costs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """Costs of backpropagation under other forms of transport, by the number of the point."""
    next_save: float = 0.0

    def save(self) -> None:
        """Write the tables as they stand, and the report."""
        start = time.monotonic()
        write_folder(self.folder, self.spec, self.points, self.baseline_costs, self.store)
        end = time.monotonic()
        self.next_save = end + max(_SAVE_INTERVAL_S, (end - start) / _MOST_SAVING_SHARE)

    def _save_unless_wrong(self) -> None:
        """Write what there is so far. What is wrong with it is said at the end: it must not cost the trainings."""
        with suppress(ConfigError):
            self.save()

    def run(self, setups: Sequence[Setup]) -> tuple[Point, ...]:
        """Add points, price and train them. Returns the new points."""
        numbered = dict(enumerate(setups, len(self.points)))
        new_points = tuple(map(_new_point, setups))
        self.points += new_points
        self._price({number: _with_assumed_activity(self.spec, setup) for number, setup in numbered.items()})
        try:
            if self.spec.train:
                self._train(new_points)
        finally:
            self._update_results(new_points)
        self._price(
            {
                number: measured
                for number, setup in numbered.items()
                if (measured := _with_measured_activity(setup, self.points[number]))
            }
        )
        return new_points

    def _price(self, setups: dict[int, Setup]) -> None:
        """Fill in the cost of every point, by its number, and the costs of the backpropagation beside it."""
        if not setups:
            return
        baselines = list(added_baselines(setups, everywhere=self.spec.search is not None))
        requests = {setup.cost_key: setup.request for setup in setups.values()}
        requests |= {baseline.key: baseline.request for baseline in baselines}
        costs = price_requests(requests, self.store, self.workers, self.executor, self.on_priced)
        for number, setup in setups.items():
            point, cost = self.points[number], costs[setup.cost_key]
            point.cost_key, point.reason = setup.cost_key, cost.get("reason", "")
            point.cost = None if point.reason else cost
            self.baseline_costs.pop(number, None)
        for baseline in baselines:
            if "reason" not in costs[baseline.key]:
                self.baseline_costs.setdefault(baseline.point_number, []).append(costs[baseline.key])

    def _train(self, points: Sequence[Point]) -> None:
        """Train what the points that have a cost need and the store does not have."""
        from fahw.study.training import run_missing

        def save_when_due(_: Job) -> None:
            if time.monotonic() > self.next_save:
                self._update_results(points)
                self._save_unless_wrong()

        if time.monotonic() > self.next_save:
            self._save_unless_wrong()
        jobs = [job for point in points if not point.reason for job in point.jobs]
        failed = run_missing(
            jobs, self.store, self.trainers, self.on_progress, self.executor, save_when_due, self.started_pool
        )
        self.faults |= {key: outcome.reason for key, outcome in failed.items()}

    def _update_results(self, points: Sequence[Point]) -> None:
        """Give points the results that their trainings have by now."""
        for point in points:
            if point.finished or point.reason:
                continue
            if not self.spec.train:
                point.finished = True
                continue
            self._collect_results(point)

    def _collect_results(self, point: Point) -> None:
        """Give a point the digests of its finished trainings, or the reason why one failed."""
        from fahw.study.training import stored_result

        runs = []
        for job in point.jobs:
            if job.key in self.faults:
                point.reason = f"training with seed {job.setup.seed} failed: {self.faults[job.key]}"
            elif self.store.run_path(job.key).exists():
                runs.append(TrainingDigest.from_result(stored_result(self.store, job)))
        point.runs = tuple(runs)
        point.finished = len(runs) == len(point.jobs)


def _new_point(setup: Setup) -> Point:
    """A point without cost or results yet."""
    request = setup.request
    return Point(setup.values, request.rule, request.transport, setup.cost_key, setup.jobs)


def _with_assumed_activity(spec: Sweep, setup: Setup) -> Setup:
    """The setup as it is priced before its training. A cost that depends on what the training will show is computed as
    if nothing were zero and all changed: whether the chip can host the point is seen before it is trained."""
    if not spec.train or not setup.request.chip.uses_activity:
        return setup
    return _with_activity(setup, all_at_work(setup.request.network))


def _with_measured_activity(setup: Setup, point: Point) -> Setup | None:
    """The setup with what its trainings showed; None where its cost does not depend on it, or nothing was trained."""
    if point.reason or not setup.request.chip.uses_activity:
        return None
    activity = mean_activity([run.activity for run in point.runs if run.activity])
    return _with_activity(setup, activity) if activity else None


def _with_activity(setup: Setup, activity: Activity) -> Setup:
    """The setup with this activity in its request, and the key of that cost."""
    request = replace(setup.request, activity=activity)
    return replace(setup, request=request, cost_key=request.key(setup.network_key))
