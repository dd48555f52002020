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
    """Values of some axes, and where each stands in the sweep."""

    values: dict[str, Any]
    where: dict[str, Key]

    def __or__(self, other: Choice) -> Choice:
        return Choice(self.values | other.values, self.where | other.where)


@dataclass(frozen=True)
class Points:
    """The points that are left, and how many `when` skipped."""

    points: tuple[Choice, ...]
    skipped: int


def own_place(spec: Sweep) -> Place:
    """Places in a sweep that is in no file: `rule=dfb`, `grid.rulez`."""

    def place(key: Key) -> str:
        if isinstance(key[-1] if key else None, int) and len(key) > 2:
            for name, at, axis in spec.axis_keys():
                if at == key[:-1]:
                    return f"{name}={values_of(axis)[int(key[-1])]}"
        return dotted(key) or f"sweep {spec.name}"

    return place


def dimensions(spec: Sweep) -> list[list[Choice]]:
    """What is combined: a list of choices per axis of the grid, per zipped group, and of the random draws."""
    found = [
        [_choice(name, value, ("grid", name), None if isinstance(axis, Range) else index)
         for index, value in enumerate(values_of(axis))]
        for name, axis in spec.grid.items()
    ]  # fmt: skip
    for number, group in enumerate(spec.zip):
        steps = range(max(map(len, group.values()), default=0))
        found.append([_together(group, ("zip", number), index) for index in steps])
    if spec.random is not None:
        found.append([_draw(spec, values) for values in spec.random.draws()])
    if spec.search is not None:
        found += [[searched(spec, {name: value}) for value in _ends(axis)] for name, axis in spec.search.axes.items()]
    return found


def searched(spec: Sweep, values: dict[str, Any]) -> Choice:
    """Values that a search proposes, and where they stand."""
    assert spec.search is not None
    return Choice(values, _where(values, spec.search.axes, "search"))


def _ends(axis: Axis) -> tuple[Any, ...]:
    if not isinstance(axis, Range):
        return axis
    return (round(axis.from_), round(axis.to)) if axis.whole else (axis.from_, axis.to)


def _choice(name: str, value: Any, key: Key, index: int | None) -> Choice:
    return Choice({name: value}, {name: key if index is None else (*key, index)})


def _together(group: dict[str, tuple[Any, ...]], key: Key, index: int) -> Choice:
    values = {name: axis[index] for name, axis in group.items()}
    return Choice(values, {name: (*key, name, index) for name in group})


def _draw(spec: Sweep, values: dict[str, Any]) -> Choice:
    assert spec.random is not None
    return Choice(values, _where(values, spec.random.axes, "random"))


def _where(values: dict[str, Any], axes: dict[str, Axis], section: str) -> dict[str, Key]:
    where: dict[str, Key] = {}
    for name, value in values.items():
        axis, key = axes[name], (section, "axes", name)
        where[name] = key if isinstance(axis, Range) else (*key, axis.index(value))
    return where


def alone(spec: Sweep) -> Iterator[Choice]:
    """Every choice of each dimension, the others at their first: what a wrong value shows in without all points.

    The base alone where there are no axes.
    """
    found = dimensions(spec)
    first = Choice({}, {})
    for choices in found:
        first |= choices[0]
    if not found:
        yield first
    for choices in found:
        yield from (replace(first) | choice for choice in choices)


def points_of(spec: Sweep, place: Place) -> Points:
    """Every point that `when` leaves. Raises ConfigError where a condition has no answer, nothing is left, or more
    than can be run."""
    conditions, base = _conditions(spec)
    kept: list[Choice] = []
    never = [True] * len(conditions)
    total = 0
    for parts in product(*dimensions(spec)):
        total += 1
        point = Choice({}, {})
        for part in parts:
            point |= part
        answers = _answers(conditions, (base | point).values, place)
        never = [before and not answer for before, answer in zip(never, answers, strict=True)]
        if all(answers):
            kept.append(point)
        if len(kept) > MOST_POINTS:
            raise ConfigError(Problem(place(("when",)), f"leaves more than {MOST_POINTS:,} points: shorten an axis"))
    if not kept:
        raise ConfigError(_nothing_left(conditions, never, total, place))
    return Points(tuple(kept), total - len(kept))


def _conditions(spec: Sweep) -> tuple[list[tuple[Key, Condition]], Choice]:
    conditions = [(key, parse_condition(text, spec.names())) for key, text in spec.conditions]
    return conditions, Choice({"chip": spec.chip, "model": spec.model} | spec.set, {})


def conditions_of(spec: Sweep, place: Place) -> Callable[[Choice], bool]:
    """Whether a point meets all conditions; raises ConfigError where one has no answer for it."""
    conditions, base = _conditions(spec)
    return lambda point: all(_answers(conditions, (base | point).values, place))


def _answers(conditions: list[tuple[Key, Condition]], values: dict[str, Any], place: Place) -> list[bool]:
    found = []
    for key, condition in conditions:
        try:
            found.append(condition.holds(values))
        except ConditionError as error:
            raise ConfigError(Problem(place(key), str(error), dotted(key))) from None
    return found


def _nothing_left(
    conditions: list[tuple[Key, Condition]], never: list[bool], total: int, place: Place
) -> list[Problem]:
    """The conditions that no point meets; where each is met by some, all of them together."""
    guilty = [pair for pair, alone_false in zip(conditions, never, strict=True) if alone_false]
    if guilty:
        message = "is false at every one of the {:,} points: nothing is left to run"
        return [Problem(place(key), message.format(total), dotted(key)) for key, _ in guilty]
    message = f"no point of {total:,} meets all conditions together: nothing is left to run"
    return [Problem(place(("when",)), message, "when")]
