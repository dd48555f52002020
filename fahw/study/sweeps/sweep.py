"""Sweeps: thousands of points, each result kept by the content that it depends on, none done twice and none lost.

Points that differ only in what accuracy does not depend on share a training, and points that cost the same share a
cost. A sweep that was stopped, however, goes on where it stopped, with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from fahw.config.sweep import Sweep
from fahw.config.validate import Place
from fahw.errors import ConfigError, Problem, check_integer, check_kind
from fahw.study.costs.cost_pool import OnProgress
from fahw.study.settings import check_folder, trainers
from fahw.study.storage.executors import started_processes
from fahw.study.storage.store import Store
from fahw.study.sweeps.baseline import rivals
from fahw.study.sweeps.load import load_placed_sweep
from fahw.study.sweeps.point import Point
from fahw.study.sweeps.points import Choice, Points, dimensions, own_place, points_of
from fahw.study.sweeps.rounds import SweepRun
from fahw.study.sweeps.search import Search, drawn
from fahw.study.sweeps.setups import Maker, Setup, checked

_MANY = 4
"""So many trainings for each process are worth starting processes early."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep ended with; `folder` holds the same as files."""

    folder: Path
    points: tuple[Point, ...]
    skipped: int = 0

    @property
    def failed(self) -> tuple[Point, ...]:
        """The points that could not be priced or trained."""
        return tuple(point for point in self.points if point.reason)


def sweep(
    spec: Sweep | str | Path,
    *,
    out: Path | str,
    store: Path | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    data_dir: Path | None = None,
    device: str = "cpu",
    on_progress: OnProgress = lambda done, total, what: None,
    on_priced: OnProgress = lambda done, total, what: None,
) -> SweepResult:
    """Run a sweep and write its folder: summary.csv, manifest.json, plots, report.html.

    `store`: where results are kept, `out` where None; sweeps may share one. `executor`: any executor of
    `concurrent.futures` whose workers have fahw; `workers` processes of this machine where None. A point that the chip
    cannot host, or that fails, is recorded with its reason. `on_priced` hears of points priced, `on_progress` of
    trainings, which run on `device`: cpu, cuda or cuda:N (one at a time on CUDA where `workers` is None). Raises
    ConfigError for a wrong sweep, OSError where nothing more can be stored.
    """
    check_kind("sweep", spec, (Sweep, str, Path), "a Sweep or the path of a sweep file")
    _check(out, store, data_dir, executor)
    processes, training = trainers("cpu", workers), trainers(device, workers)
    check_integer("workers", processes, 1, 10_000)
    value, place = (spec, own_place(spec)) if isinstance(spec, Sweep) else load_placed_sweep(spec)
    folder, kept = Path(out), Path(out if store is None else store)
    with ExitStack() as stack:
        ahead = None
        if executor is None and training > 1 and _trains_much(value, kept, training):
            ahead = stack.enter_context(started_processes(training, _prepare))
        _check_device(value, device, executor)
        maker = checked(value, place, data_dir, device=device)
        source = Search(value, place) if value.search else Given(points_of(value, place))
        made = maker.all_of(source.ask())
        work = SweepRun(value, Store(kept), folder, processes, training, executor, on_progress, on_priced, ahead)
        folder.mkdir(parents=True, exist_ok=True)
        _work(work, made, source, maker)
        return SweepResult(folder, work.points, source.skipped)


def _work(work: SweepRun, made: list[Setup], source: Search | Given, maker: Maker) -> None:
    """Do all that the source asks for; the tables are written however it ends."""
    try:
        while made:
            source.tell(work.run(made))
            made = maker.all_of(source.ask())
    finally:
        work.save()
        work.store.close()


def _trains_much(spec: Sweep, store: Path, workers: int) -> bool:
    """Whether it pays to start processes before it is known what they will do: there are many points, and the store
    has no training yet."""
    points = prod(len(choices) for choices in dimensions(spec)) * len(spec.seed_list)
    many = spec.search is not None or points >= _MANY * workers
    return spec.train and many and not any((store / "runs").glob("*"))


def _prepare() -> None:
    """In a worker, before there is something to train: load what trainings need."""
    from fahw.learn.kernels.compiled import loops
    from fahw.study import training

    loops()
    assert training


def _check_device(spec: Sweep, device: str, executor: Executor | None) -> None:
    """Raise ConfigError where trainings of this machine cannot run on `device`; an executor's workers see for
    themselves."""
    if spec.train and executor is None:
        from fahw.learn.kernels.device import device_of  # loads torch, which a sweep of costs does without

        device_of(device)


class Given:
    """The points of a grid as a source of rounds: all in one."""

    def __init__(self, points: Points) -> None:
        self._left, self.skipped = list(points.points), points.skipped

    def ask(self) -> list[Choice]:
        """All points, and then none."""
        left, self._left = self._left, []
        return left

    def tell(self, points: Sequence[Point]) -> None:
        """What they came to changes nothing."""


def _check(out: Path | str, store: Path | None, data_dir: Path | None, executor: Executor | None) -> None:
    check_kind("out", out, (str, Path), "the path of a folder")
    check_folder("store", store)
    check_folder("data_dir", data_dir)
    check_kind("executor", executor, (Executor, type(None)), "an Executor of concurrent.futures, or None")
    if Path(out) == Path():
        raise ConfigError(Problem("--out", "name a folder of its own for the results"))


def describe(spec: Sweep, place: Place | None = None) -> str:
    """What a sweep will do, in a few lines: points, trainings, time. Raises ConfigError where it is wrong, placed by
    `place` if given."""
    from fahw.study.sweeps.estimate import time_words

    at = place or own_place(spec)
    maker = checked(spec, at, None, with_data=False)
    if spec.search:
        Search(spec, at)  # is there what it needs?
    points = points_of(drawn(spec), at)
    made = maker.all_of(points.points[: spec.search.points] if spec.search else points.points)
    trainings = _trainings(made) if spec.train else {}
    count = sum(map(len, trainings.values()))
    work = f"at most {count:,} trainings" if spec.train else "cost only"
    skipped = f" ({points.skipped:,} more skipped by 'when')" if points.skipped and not spec.search else ""
    requests = {setup.cost_key: setup.request for setup in made}
    shared = f"; {len(requests):,} different costs" if len(requests) < len(made) else ""
    added = rivals(dict(enumerate(made)), everywhere=spec.search is not None)
    requests |= {rival.key: rival.request for rival in added}
    kind = f"search of at most {spec.search.points:,}" if spec.search else f"sweep of {len(made):,}"
    return f"a {kind} points{skipped}, {work}{shared}\n{time_words(list(requests.values()), trainings)}"


def _trainings(setups: Sequence[Setup]) -> dict[tuple[Any, ...], list[Setup]]:
    """The points by what their training steps are, one per training that differs by content."""
    seen: set[tuple[Any, ...]] = set()
    found: dict[tuple[Any, ...], list[Setup]] = {}
    for setup in setups:
        kind = (id(setup.request.network), setup.recipe.model_dump_json(), setup.request.rule, setup.formats)
        for seed in setup.seeds:
            if (*kind, seed) not in seen:
                seen.add((*kind, seed))
                found.setdefault(kind, []).append(setup)
    return found
