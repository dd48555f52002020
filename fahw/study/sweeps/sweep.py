"""Sweeps: thousands of points, each result kept by the content that it depends on, none done twice and none lost.

Points that differ only in what accuracy does not depend on share a training, and points that cost the same share a
cost. A sweep that was stopped, however, goes on where it stopped, with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from fahw.config.sweep import Sweep
from fahw.config.validate import Place
from fahw.errors import ConfigError, Problem, check_integer, check_kind, check_path
from fahw.study.costs.cost_pool import OnProgress
from fahw.study.settings import check_folder, training_processes
from fahw.study.storage.executors import started_processes
from fahw.study.storage.store import Store
from fahw.study.sweeps.baseline import added_baselines
from fahw.study.sweeps.choices import Choice, Selection, choices_per_axis, place_without_file, selected_choices
from fahw.study.sweeps.load import load_placed_sweep
from fahw.study.sweeps.point import Point
from fahw.study.sweeps.search import Search, with_random_points
from fahw.study.sweeps.setups import Setup, SetupBuilder, checked_builder
from fahw.study.sweeps.sweep_run import SweepRun

_MANY_TRAININGS = 4
"""Trainings for each process from which on it pays to start the processes early."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep ended with: its points, and how many `when` skipped. `folder` holds the same as files."""

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
    _check_arguments(out, store, data_dir, executor)
    processes, trainers = training_processes("cpu", workers), training_processes(device, workers)
    check_integer("workers", processes, 1, 10_000)
    sweep_spec, place = (spec, place_without_file(spec)) if isinstance(spec, Sweep) else load_placed_sweep(spec)
    folder, store_folder = Path(out), Path(out if store is None else store)
    with ExitStack() as stack:
        started_pool = None
        if executor is None and trainers > 1 and _has_many_trainings(sweep_spec, store_folder, trainers):
            started_pool = stack.enter_context(started_processes(trainers, _load_training_modules))
        _check_device(sweep_spec, device, executor)
        builder = checked_builder(sweep_spec, place, data_dir, device=device)
        source = Search(sweep_spec, place) if sweep_spec.search else GridSource(selected_choices(sweep_spec, place))
        setups = builder.build_all(source.ask())
        work = SweepRun(
            sweep_spec, Store(store_folder), folder, processes, trainers, executor, on_progress, on_priced, started_pool
        )
        folder.mkdir(parents=True, exist_ok=True)
        _run_rounds(work, setups, source, builder)
        return SweepResult(folder, work.points, source.skipped)


def _run_rounds(sweep_run: SweepRun, setups: list[Setup], source: Search | GridSource, builder: SetupBuilder) -> None:
    """Run all that the source asks for, round by round; the tables are written however it ends."""
    with closing(sweep_run.store):
        try:
            while setups:
                source.tell(sweep_run.run(setups))
                setups = builder.build_all(source.ask())
        finally:
            sweep_run.save()


def _has_many_trainings(spec: Sweep, store: Path, workers: int) -> bool:
    """Whether it pays to start processes before it is known what they will do: there are many points, and the store has
    no training yet."""
    points = prod(len(choices) for choices in choices_per_axis(spec)) * len(spec.seed_list)
    has_many = spec.search is not None or points >= _MANY_TRAININGS * workers
    return spec.train and has_many and not any((store / "runs").glob("*"))


def _load_training_modules() -> None:
    """Load in a worker what trainings need, before there is something to train."""
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


class GridSource:
    """The points of a grid as a source of rounds, like `Search`: there is one round with all of them."""

    def __init__(self, selection: Selection) -> None:
        self._remaining, self.skipped = list(selection.choices), selection.skipped

    def ask(self) -> list[Choice]:
        """All points at the first call, an empty list afterwards."""
        choices, self._remaining = self._remaining, []
        return choices

    def tell(self, points: Sequence[Point]) -> None:
        """Nothing is learnt from the points of a grid."""


def _check_arguments(out: Path | str, store: Path | None, data_dir: Path | None, executor: Executor | None) -> None:
    """Raise ConfigError unless the arguments of `sweep` are of their types, and `out` is a folder of its own."""
    check_path("out", out)
    check_folder("store", store)
    check_folder("data_dir", data_dir)
    check_kind("executor", executor, (Executor, type(None)), "an Executor of concurrent.futures, or None")
    if Path(out) == Path():
        raise ConfigError(Problem("--out", "name a folder of its own for the results"))


def describe(spec: Sweep, place: Place | None = None) -> str:
    """What a sweep will do, in a few lines: points, trainings, time. Raises ConfigError where it is wrong, placed by
    `place` if given."""
    from fahw.study.sweeps.estimate import time_estimate

    sweep_place = place or place_without_file(spec)
    builder = checked_builder(spec, sweep_place, None, with_data=False)
    if spec.search:
        Search(spec, sweep_place)  # raises where Optuna is missing
    selection = selected_choices(with_random_points(spec), sweep_place)
    setups = builder.build_all(selection.choices[: spec.search.points] if spec.search else selection.choices)
    trainings = _trainings_by_kind(setups) if spec.train else {}
    count = sum(map(len, trainings.values()))
    trainings_text = f"at most {count:,} trainings" if spec.train else "cost only"
    skipped = f" ({selection.skipped:,} more skipped by 'when')" if selection.skipped and not spec.search else ""
    requests = {setup.cost_key: setup.request for setup in setups}
    shared = f"; {len(requests):,} different costs" if len(requests) < len(setups) else ""
    baselines = added_baselines(dict(enumerate(setups)), everywhere=spec.search is not None)
    requests |= {baseline.key: baseline.request for baseline in baselines}
    kind = f"search of at most {spec.search.points:,}" if spec.search else f"sweep of {len(setups):,}"
    return f"a {kind} points{skipped}, {trainings_text}{shared}\n{time_estimate(list(requests.values()), trainings)}"


def _trainings_by_kind(setups: Sequence[Setup]) -> dict[tuple[Any, ...], list[Setup]]:
    """The setups by what their training steps are; within a kind one for each training of different content."""
    counted: set[tuple[Any, ...]] = set()
    by_kind: dict[tuple[Any, ...], list[Setup]] = {}
    for setup in setups:
        kind = (id(setup.request.network), setup.recipe.model_dump_json(), setup.request.rule, setup.formats)
        for seed in setup.seeds:
            if (*kind, seed) not in counted:
                counted.add((*kind, seed))
                by_kind.setdefault(kind, []).append(setup)
    return by_kind
