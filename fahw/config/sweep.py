"""The schema of a sweep file: a base, axes over it, and conditions that skip points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from fahw.config.axes import Axis, RandomAxes, Range, SearchAxes, Value, count_of, values_of
from fahw.config.condition import ConditionError, parse_condition
from fahw.config.partial import until_unknown
from fahw.config.schema import MOST_NAME_CHARACTERS, Frozen
from fahw.config.yamltext import Key, dotted
from fahw.errors import Problem, suggestion

PLAIN_AXES = ("rule", "chip", "model", "batch_size", "transport", "data", "epochs", "seed")
MOST_POINTS = 100_000
"""The most points of a sweep without conditions."""
MOST_COMBINATIONS = 1_000_000
"""The most points of a sweep with `when`, whose conditions are evaluated for each."""
MOST_AXES = 100
"""The most axes of a sweep, and the most conditions under `when`."""
MOST_EVALUATED = 200_000_000
"""The most characters of conditions that are evaluated: those under `when` times the combinations."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Sweep(Frozen):
    """Points over any keys of the chip, the model and its recipe, over rules, batch sizes, chips, data and seeds."""

    model_config = ConfigDict(title="Sweep")

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=MOST_NAME_CHARACTERS)]
    description: str = ""
    chip: str = "edge_dual"
    model: str = "mlp_digits"
    data: str | None = None
    """Data set; the model's recipe decides where absent."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    seeds: Annotated[int, Field(ge=1, le=1000)] | Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000)] = 1
    """Trainings per point: so many, or these."""
    train: bool = True
    """False: cost only, nothing is trained."""
    target_accuracy_pct: Annotated[float, Field(gt=0, le=100)] | None = None
    """Validation accuracy that counts as reached; where absent, one point below the best bp of the sweep."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values that hold for the whole sweep, as `chip.precision.error: 8`."""
    grid: dict[str, Axis] = Field(default_factory=dict)
    """Every combination of these axes: `rule`, `chip`, `model`, `batch_size`, `transport`, `data`, `epochs`, `seed`, or
    a dotted key such as `chip.precision.weight` or `model.recipe.learning_rate`."""
    zip: tuple[dict[str, tuple[Value, ...]], ...] = ()
    """Axes that advance together; each entry is one group, combined with everything else."""
    random: RandomAxes | None = None
    """Points drawn at random, combined with everything else."""
    search: SearchAxes | None = None
    """Points that an optimizer proposes; stands in place of `grid`, `zip` and `random`."""
    when: str | tuple[str, ...] = ()
    """Conditions over the axes; points for which one is false are skipped."""

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds of every point that has no axis `seed`."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(dict.fromkeys(self.seeds))

    @property
    def conditions(self) -> tuple[tuple[Key, str], ...]:
        """Every condition as (its key in the file, its text)."""
        if isinstance(self.when, str):
            return ((("when",), self.when),)
        return tuple((("when", index), text) for index, text in enumerate(self.when))

    def axis_keys(self) -> Iterator[tuple[str, Key, Axis]]:
        """Yield every axis as (its name, its key in the file, its values)."""
        yield from ((name, ("grid", name), axis) for name, axis in self.grid.items())
        for index, group in enumerate(self.zip):
            yield from ((name, ("zip", index, name), axis) for name, axis in group.items())
        if self.random is not None:
            yield from ((name, ("random", "axes", name), axis) for name, axis in self.random.axes.items())
        if self.search is not None:
            yield from ((name, ("search", "axes", name), axis) for name, axis in self.search.axes.items())

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of all axes, in the order of the columns."""
        return tuple(name for name, _, _ in self.axis_keys())

    def names(self) -> dict[str, tuple[Any, ...] | None]:
        """The names that a condition can use (axes, settings, the base), each with its values; None for a range."""
        base: dict[str, tuple[Any, ...] | None] = {"chip": (self.chip,), "model": (self.model,)}
        base |= {name: (value,) for name, value in self.set.items() if isinstance(value, Value)}
        return base | {name: None if isinstance(axis, Range) else values_of(axis) for name, _, axis in self.axis_keys()}


def sweep_problems(sweep: Sweep, place: Callable[[Key], str]) -> Iterator[Problem]:
    """The mistakes that the schema cannot see: axes that do not exist, are empty or stand twice, wrong conditions, and
    more points than can be run."""
    for check in (_axes, _settings, _groups, _search, _seeds, _conditions, _points):
        for key, message in until_unknown(check(sweep)):
            yield Problem(place(key), message, dotted(key))


def expandable(sweep: Sweep) -> Sweep:
    """The sweep without what cannot be expanded into points: misnamed axes and settings, those without values, groups
    of different lengths; without any axes where they make too many points."""
    groups = (group for group in sweep.zip if len({len(axis) for axis in group.values()}) == 1)
    update: dict[str, Any] = {
        "set": {name: value for name, value in sweep.set.items() if not any(_name(name, ()))},
        "grid": _expandable_axes(sweep.grid),
        "zip": tuple(axes for group in groups if (axes := _expandable_axes(group))),
    }
    for section in ("random", "search"):
        proposed = getattr(sweep, section)
        section_axes = _expandable_axes(proposed.axes, section) if proposed else {}
        update[section] = proposed.model_copy(update={"axes": section_axes}) if section_axes else None
    result = sweep.model_copy(update=update)
    no_axes: dict[str, Any] = {"grid": {}, "zip": (), "random": None, "search": None}
    return result.model_copy(update=no_axes) if any(_points(result)) else result


def _expandable_axes(axes: Mapping[str, Axis], section: str = "") -> dict[str, Axis]:
    """The axes whose name and values are right; `section` as in `Range.problem`."""
    return {
        name: axis
        for name, axis in axes.items()
        if not any(_name(name, ())) and not (axis.problem(section) if isinstance(axis, Range) else not axis)
    }


def _axes(sweep: Sweep) -> Iterator[tuple[Key, str]]:
    """Yield (key, message) for every wrong axis."""
    keys: dict[str, Key] = {}
    for name, key, axis in sweep.axis_keys():
        yield from _name(name, key)
        if name in keys:
            yield key, f"this axis stands also at {dotted(keys[name])}"
        keys[name] = key
        if isinstance(axis, Range):
            message = axis.problem(section=str(key[0]) if key[0] in ("random", "search") else "")
            if message:
                yield key, message
        elif not axis:
            yield key, "the axis is empty"
    if not keys:
        yield (), "a sweep needs axes: 'grid', 'zip', 'random' or 'search'"


def _settings(sweep: Sweep) -> Iterator[tuple[Key, str]]:
    for name in sweep.set:
        yield from _name(name, ("set", name))


def _name(name: str, key: Key) -> Iterator[tuple[Key, str]]:
    prefix, dot, rest = name.partition(".")
    if name not in PLAIN_AXES and not (dot and rest and prefix in ("chip", "model")):
        listed = f"{', '.join(PLAIN_AXES)}, chip.KEY, model.KEY"
        yield key, f"no such axis{suggestion(name, PLAIN_AXES)}; axes: {listed}"


def _groups(sweep: Sweep) -> Iterator[tuple[Key, str]]:
    """Yield (key, message) for every `zip` group that is empty or whose axes differ in length."""
    for index, group in enumerate(sweep.zip):
        sizes = {name: len(values) for name, values in group.items()}
        if not group:
            yield ("zip", index), "the group is empty"
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            yield ("zip", index), f"axes that advance together need as many values each ({listed})"


def _search(sweep: Sweep) -> Iterator[tuple[Key, str]]:
    """Yield (key, message) for what does not go with a search."""
    if sweep.search is None:
        return
    if sweep.grid or sweep.zip or sweep.random:
        yield ("search",), "stands alone: move the axes of 'grid', 'zip' and 'random' here"
    if "accuracy" in sweep.search.goals and not sweep.train:
        yield ("search", "goals"), "accuracy is a goal, but 'train: false' leaves it unknown"


def _seeds(sweep: Sweep) -> Iterator[tuple[Key, str]]:
    if "seed" in sweep.axes and sweep.seeds != 1:
        yield ("seeds",), "leave it out where 'seed' is an axis"


def _conditions(sweep: Sweep) -> Iterator[tuple[Key, str]]:
    if len(sweep.conditions) > MOST_AXES:
        yield ("when",), f"{len(sweep.conditions):,} conditions; at most {MOST_AXES}: join some with 'and'"
        return
    names = sweep.names()
    for key, text in sweep.conditions:
        try:
            parse_condition(text, names, PLAIN_AXES)
        except ConditionError as error:
            yield key, str(error)


def _points(sweep: Sweep) -> Iterator[tuple[Key, str]]:
    """Yield (key, message) where the sweep has too many points, or axes, or too much to evaluate for each."""
    sizes = [count_of(axis) for axis in sweep.grid.values()]
    sizes += [max(map(len, group.values()), default=1) for group in sweep.zip]
    sizes += [sweep.random.points] if sweep.random else []
    limit = MOST_COMBINATIONS if sweep.when else MOST_POINTS
    section = "grid" if sweep.grid else "zip" if sweep.zip else "random" if sweep.random else "search"
    characters = sum(len(text) for _, text in sweep.conditions)
    if max(len(sizes), len(sweep.axes)) > MOST_AXES:
        yield (section,), f"{max(len(sizes), len(sweep.axes)):,} axes or groups; at most {MOST_AXES}"
    elif prod(sizes) > limit:
        product = " x ".join(map(str, sizes))
        yield (section,), f"{prod(sizes):,} points ({product}); at most {limit:,}: shorten an axis"
    elif prod(sizes) * characters > MOST_EVALUATED:
        work = f"{prod(sizes):,} points with conditions of {characters:,} characters"
        yield ("when",), f"{work}; at most {MOST_EVALUATED:,} characters are evaluated: shorten an axis or a condition"
