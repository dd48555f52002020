"""Search: an optimizer (Optuna) proposes points in rounds, from what the points of the rounds before came to.

Results come from the same store as those of any sweep, so a search that was stopped proposes the same points again,
finds them done, and goes on. All points of a round are told in the order in which they were proposed: the same seed
gives the same points on any number of workers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fahw.config.axes import Axis, RandomAxes, Range, draw_from
from fahw.config.sweep import Sweep
from fahw.config.validate import Place
from fahw.errors import ConfigError, Problem
from fahw.study.sweeps.points import Choice, conditions_of, searched

if TYPE_CHECKING:
    from fahw.study.sweeps.point import Point

_TRIES = 20
"""Proposals per wanted point, at most: what `when` excludes and what was proposed before is asked for again."""
_DRAWN = 8
_DIRECTIONS: dict[str, Any] = {"accuracy": "maximize", "energy": "minimize", "time": "minimize", "area": "minimize"}


class Search:
    """The rounds of a search: `ask` for points, `tell` what they came to, until there are no more.

    Raises ConfigError where Optuna is not installed.
    """

    def __init__(self, spec: Sweep, place: Place) -> None:
        assert spec.search is not None
        self._spec, self._plan = spec, spec.search
        self._study = _study(spec, place)
        self._holds = conditions_of(spec, place)
        self._spaces = {name: _distribution(axis) for name, axis in self._plan.axes.items()}
        self._random, self._missed = Random(self._plan.seed), False
        self._seen: set[tuple[Any, ...]] = set()
        self._waiting: list[Any] = []
        self._tries = 0
        self.skipped = 0

    def ask(self) -> list[Choice]:
        """The points of the next round, all different from those before; none when the search is over."""
        found: list[Choice] = []
        wanted = min(self._plan.together, self._plan.points - len(self._seen))
        with _quiet():
            while len(found) < wanted and self._tries < _TRIES * self._plan.points:
                self._tries += 1
                choice = self._proposed()
                found += [choice] if choice else []
        return found

    def tell(self, points: Sequence[Point]) -> None:
        """What the points of the last round came to, in their order."""
        with _quiet():
            for trial, point in zip(self._waiting, points, strict=True):
                self._close(trial, self._goals(point))
        self._waiting = []

    def _proposed(self) -> Choice | None:
        """The optimizer's next point; None where it may not be run, or has been. It does not learn from such a miss and
        would repeat it, so the proposal after one is drawn at random."""
        if self._missed:
            self._study.enqueue_trial({name: draw_from(axis, self._random) for name, axis in self._plan.axes.items()})
        self._missed = True
        trial = self._study.ask(self._spaces)
        values = {name: _value(axis, trial.params[name]) for name, axis in self._plan.axes.items()}
        key = tuple(values.values())
        if key in self._seen:
            self._close(trial, None)
            return None
        choice = searched(self._spec, values)
        if not self._holds(choice):
            self.skipped += 1
            self._close(trial, None)
            return None
        self._missed = False
        self._seen.add(key)
        self._waiting.append(trial)
        return choice

    def _close(self, trial: Any, values: list[float] | None) -> None:
        from optuna.trial import TrialState

        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, values)

    def _goals(self, point: Point) -> list[float] | None:
        """The point's value for every goal; None where it has none."""
        if point.reason or point.cost is None or not point.finished:
            return None
        cost = point.cost
        samples = cost["energy_pj"] / cost["energy_pj_per_sample"]
        found = {"energy": cost["energy_pj_per_sample"], "time": cost["seconds"] / samples, "area": cost["area_mm2"]}
        if point.runs:
            found["accuracy"] = fmean(run.test_pct for run in point.runs)
        return [found[goal] for goal in self._plan.goals]


def drawn(spec: Sweep) -> Sweep:
    """The sweep with points drawn at random in place of a search's, some more than it may have: what can be said before
    it has begun."""
    if spec.search is None:
        return spec
    plan = spec.search
    return spec.model_copy(
        update={"search": None, "random": RandomAxes(points=_DRAWN * plan.points, seed=plan.seed, axes=plan.axes)}
    )


def _study(spec: Sweep, place: Place) -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(Problem(place(("search",)), "needs Optuna: pip install 'fahw[search]'", "search")) from None
    plan = spec.search
    assert plan is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _quiet():
        if plan.sampler == "nsga2":
            sampler: Any = optuna.samplers.NSGAIISampler(seed=plan.seed, population_size=max(2, plan.together))
        else:
            sampler = optuna.samplers.TPESampler(seed=plan.seed, n_startup_trials=plan.together, constant_liar=True)
        return optuna.create_study(directions=[_DIRECTIONS[goal] for goal in plan.goals], sampler=sampler)


def _distribution(axis: Axis) -> Any:
    from optuna import distributions

    if not isinstance(axis, Range):
        return distributions.CategoricalDistribution(list(dict.fromkeys(axis)))
    log = axis.scale == "log"
    if axis.whole:
        return distributions.IntDistribution(round(axis.from_), round(axis.to), log=log)
    return distributions.FloatDistribution(axis.from_, axis.to, log=log)


def _value(axis: Axis, value: Any) -> Any:
    return axis.shortened(value) if isinstance(axis, Range) and not axis.whole else value


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings that some of its options are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
