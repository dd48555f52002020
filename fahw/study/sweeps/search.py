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
from fahw.study.sweeps.choices import Choice, choice_of_search, meets_conditions

if TYPE_CHECKING:
    from fahw.study.sweeps.point import Point

_MOST_PROPOSALS = 20
"""Most proposals for each wanted point: what `when` excludes and what was proposed before is asked for again."""
_DRAWS_PER_POINT = 8
_DIRECTIONS: dict[str, Any] = {"accuracy": "maximize", "energy": "minimize", "time": "minimize", "area": "minimize"}


class Search:
    """The rounds of a search: `ask` returns points, `tell` takes what they came to, until `ask` returns none.

    Raises ConfigError where Optuna is not installed.
    """

    def __init__(self, spec: Sweep, place: Place) -> None:
        assert spec.search is not None
        self._spec, self._plan = spec, spec.search
        self._study = _optuna_study(spec, place)
        self._meets_conditions = meets_conditions(spec, place)
        self._distributions = {name: _distribution(axis) for name, axis in self._plan.axes.items()}
        self._random, self._last_missed = Random(self._plan.seed), False
        self._proposed_values: set[tuple[Any, ...]] = set()
        self._open_trials: list[Any] = []
        self._proposals = 0
        self.skipped = 0

    def ask(self) -> list[Choice]:
        """The points of the next round, all different from those before; none when the search is over."""
        choices: list[Choice] = []
        wanted = min(self._plan.together, self._plan.points - len(self._proposed_values))
        with _without_warnings():
            while len(choices) < wanted and self._proposals < _MOST_PROPOSALS * self._plan.points:
                self._proposals += 1
                choice = self._next_choice()
                choices += [choice] if choice else []
        return choices

    def tell(self, points: Sequence[Point]) -> None:
        """Tell the optimizer what the points of the last round came to, in their order."""
        with _without_warnings():
            for trial, point in zip(self._open_trials, points, strict=True):
                self._finish_trial(trial, self._goal_values(point))
        self._open_trials = []

    def _next_choice(self) -> Choice | None:
        """The optimizer's next point; None where it may not be run, or was proposed before. The optimizer does not
        learn from such a miss and would repeat it, so the proposal after one is drawn at random."""
        if self._last_missed:
            self._study.enqueue_trial({name: draw_from(axis, self._random) for name, axis in self._plan.axes.items()})
        self._last_missed = True
        trial = self._study.ask(self._distributions)
        values = {name: _shortened(axis, trial.params[name]) for name, axis in self._plan.axes.items()}
        key = tuple(values.values())
        if key in self._proposed_values:
            self._finish_trial(trial, None)
            return None
        choice = choice_of_search(self._spec, values)
        if not self._meets_conditions(choice):
            self.skipped += 1
            self._finish_trial(trial, None)
            return None
        self._last_missed = False
        self._proposed_values.add(key)
        self._open_trials.append(trial)
        return choice

    def _finish_trial(self, trial: Any, values: list[float] | None) -> None:
        """Tell Optuna the values of a trial's goals; None: that it failed."""
        from optuna.trial import TrialState

        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, values)

    def _goal_values(self, point: Point) -> list[float] | None:
        """The point's value for every goal, in the order of the goals; None where the point has none."""
        if point.reason or point.cost is None or not point.finished:
            return None
        cost = point.cost
        samples = cost["energy_pj"] / cost["energy_pj_per_sample"]
        figures = {"energy": cost["energy_pj_per_sample"], "time": cost["seconds"] / samples, "area": cost["area_mm2"]}
        if point.runs:
            figures["accuracy"] = fmean(run.test_pct for run in point.runs)
        return [figures[goal] for goal in self._plan.goals]


def with_random_points(spec: Sweep) -> Sweep:
    """The sweep with points drawn at random in place of a search's, some more than it may have: from these it is
    estimated before a search has begun. A sweep without a search is returned as it is."""
    if spec.search is None:
        return spec
    plan = spec.search
    return spec.model_copy(
        update={
            "search": None,
            "random": RandomAxes(points=_DRAWS_PER_POINT * plan.points, seed=plan.seed, axes=plan.axes),
        }
    )


def _optuna_study(spec: Sweep, place: Place) -> Any:
    """A new Optuna study for the goals of the search. Raises ConfigError where Optuna is not installed."""
    try:
        import optuna
    except ImportError:
        raise ConfigError(Problem(place(("search",)), "needs Optuna: pip install 'fahw[search]'", "search")) from None
    plan = spec.search
    assert plan is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _without_warnings():
        if plan.sampler == "nsga2":
            sampler: Any = optuna.samplers.NSGAIISampler(seed=plan.seed, population_size=max(2, plan.together))
        else:
            sampler = optuna.samplers.TPESampler(seed=plan.seed, n_startup_trials=plan.together, constant_liar=True)
        return optuna.create_study(directions=[_DIRECTIONS[goal] for goal in plan.goals], sampler=sampler)


def _distribution(axis: Axis) -> Any:
    """The Optuna distribution of an axis: categories for a list of values, else integers or floats of a range."""
    from optuna import distributions

    if not isinstance(axis, Range):
        return distributions.CategoricalDistribution(list(dict.fromkeys(axis)))
    log = axis.scale == "log"
    if axis.whole:
        return distributions.IntDistribution(round(axis.from_), round(axis.to), log=log)
    return distributions.FloatDistribution(axis.from_, axis.to, log=log)


def _shortened(axis: Axis, value: Any) -> Any:
    """The proposed value with the digits that the axis keeps."""
    return axis.shortened(value) if isinstance(axis, Range) and not axis.whole else value


@contextmanager
def _without_warnings() -> Iterator[None]:
    """A context in which Optuna's warnings that some of its options are experimental are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
