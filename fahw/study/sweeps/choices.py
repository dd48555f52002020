"""The points of a sweep as values of its axes: combinations of grid, zipped groups and random draws, less what `when`
skips. Nothing is loaded here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from fahw.config.axes import Axis, Range, values_of
from fahw.config.condition import Condition, ConditionError, parse_condition
from fahw.config.sweep import MOST_POINTS, Sweep
from fahw.config.validate import Place
from fahw.config.yamltext import Key, dotted
from fahw.errors import ConfigError, Problem


@dataclass(frozen=True)
class Choice:
    """Values of some axes by name, and the key at which each stands in the sweep's file."""

    values: dict[str, Any]
    keys: dict[str, Key]

    def __or__(self, other: Choice) -> Choice:
        return Choice(self.values | other.values, self.keys | other.keys)


@dataclass(frozen=True)
class Selection:
    """The points of a sweep that `when` leaves, as choices, and how many it skipped."""

    choices: tuple[Choice, ...]
    skipped: int


def place_without_file(spec: Sweep) -> Place:
    """A function that names a key of a sweep that is in no file: `rule=dfb`, `grid.rulez`."""

    def place(key: Key) -> str:
        if isinstance(key[-1] if key else None, int) and len(key) > 2:
            for name, at, axis in spec.axis_keys():
                if at == key[:-1]:
                    return f"{name}={values_of(axis)[int(key[-1])]}"
        return dotted(key) or f"sweep {spec.name}"

    return place


def choices_per_axis(spec: Sweep) -> list[list[Choice]]:
    """What is combined: a list of choices for each axis of the grid, each zipped group, the random draws and each axis
    of a search."""
    per_axis = [
        [_single_choice(name, value, ("grid", name), None if isinstance(axis, Range) else index)
         for index, value in enumerate(values_of(axis))]
        for name, axis in spec.grid.items()
    ]  # fmt: skip
    for number, group in enumerate(spec.zip):
        steps = range(max(map(len, group.values()), default=0))
        per_axis.append([_zipped_choice(group, ("zip", number), index) for index in steps])
    if spec.random is not None:
        per_axis.append([_drawn_choice(spec, values) for values in spec.random.draws()])
    if spec.search is not None:
        per_axis += [
            [choice_of_search(spec, {name: value}) for value in _axis_bounds(axis)]
            for name, axis in spec.search.axes.items()
        ]
    return per_axis


def choice_of_search(spec: Sweep, values: dict[str, Any]) -> Choice:
    """The choice of the values that a search proposes."""
    assert spec.search is not None
    return Choice(values, _keys_of_values(values, spec.search.axes, "search"))


def _axis_bounds(axis: Axis) -> tuple[Any, ...]:
    """All values of a list, or the two ends of a range."""
    if not isinstance(axis, Range):
        return axis
    return (round(axis.from_), round(axis.to)) if axis.whole else (axis.from_, axis.to)


def _single_choice(name: str, value: Any, key: Key, index: int | None) -> Choice:
    """The choice of one value of an axis at `key`; `index` is its place in a list of values."""
    return Choice({name: value}, {name: key if index is None else (*key, index)})


def _zipped_choice(group: dict[str, tuple[Any, ...]], key: Key, index: int) -> Choice:
    """The choice of value number `index` of every axis of a zipped group."""
    values = {name: axis[index] for name, axis in group.items()}
    return Choice(values, {name: (*key, name, index) for name in group})


def _drawn_choice(spec: Sweep, values: dict[str, Any]) -> Choice:
    """The choice of the values of one random draw."""
    assert spec.random is not None
    return Choice(values, _keys_of_values(values, spec.random.axes, "random"))


def _keys_of_values(values: dict[str, Any], axes: dict[str, Axis], section: str) -> dict[str, Key]:
    """The key of each value in the section `random` or `search` of the sweep's file."""
    keys: dict[str, Key] = {}
    for name, value in values.items():
        axis, key = axes[name], (section, "axes", name)
        keys[name] = key if isinstance(axis, Range) else (*key, axis.index(value))
    return keys


def one_at_a_time(spec: Sweep) -> Iterator[Choice]:
    """Every value of each axis with the other axes at their first: a wrong value shows without all points being made. A
    sweep without axes has its base alone."""
    per_axis = choices_per_axis(spec)
    first = Choice({}, {})
    for choices in per_axis:
        first |= choices[0]
    if not per_axis:
        yield first
    for choices in per_axis:
        yield from (replace(first) | choice for choice in choices)


def selected_choices(spec: Sweep, place: Place) -> Selection:
    """Every point that `when` leaves. Raises ConfigError where a condition has no answer, nothing is left, or more is
    left than can be run."""
    conditions, base = _parsed_conditions(spec)
    selected: list[Choice] = []
    never = [True] * len(conditions)
    total = 0
    for parts in product(*choices_per_axis(spec)):
        total += 1
        choice = Choice({}, {})
        for part in parts:
            choice |= part
        results = _condition_results(conditions, (base | choice).values, place)
        never = [before and not answer for before, answer in zip(never, results, strict=True)]
        if all(results):
            selected.append(choice)
        if len(selected) > MOST_POINTS:
            raise ConfigError(Problem(place(("when",)), f"leaves more than {MOST_POINTS:,} points: shorten an axis"))
    if not selected:
        raise ConfigError(_no_point_problems(conditions, never, total, place))
    return Selection(tuple(selected), total - len(selected))


def _parsed_conditions(spec: Sweep) -> tuple[list[tuple[Key, Condition]], Choice]:
    """The conditions under `when` with their keys, and the values that hold for all points."""
    conditions = [(key, parse_condition(text, spec.names())) for key, text in spec.conditions]
    return conditions, Choice({"chip": spec.chip, "model": spec.model} | spec.set, {})


def meets_conditions(spec: Sweep, place: Place) -> Callable[[Choice], bool]:
    """A function that says whether a point meets all conditions; it raises ConfigError where one has no answer for
    it."""
    conditions, base = _parsed_conditions(spec)
    return lambda point: all(_condition_results(conditions, (base | point).values, place))


def _condition_results(conditions: list[tuple[Key, Condition]], values: dict[str, Any], place: Place) -> list[bool]:
    """Whether each condition holds for `values`. Raises ConfigError where one has no answer."""
    results = []
    for key, condition in conditions:
        try:
            results.append(condition.holds(values))
        except ConditionError as error:
            raise ConfigError(Problem(place(key), str(error), dotted(key))) from None
    return results


def _no_point_problems(
    conditions: list[tuple[Key, Condition]], never: list[bool], total: int, place: Place
) -> list[Problem]:
    """The conditions that no point meets; where each is met by some point, one problem that names all of them
    together."""
    never_met = [pair for pair, always_false in zip(conditions, never, strict=True) if always_false]
    if never_met:
        message = "is false at every one of the {:,} points: nothing is left to run"
        return [Problem(place(key), message.format(total), dotted(key)) for key, _ in never_met]
    message = f"no point of {total:,} meets all conditions together: nothing is left to run"
    return [Problem(place(("when",)), message, "when")]
