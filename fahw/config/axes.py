"""Axes of a sweep: lists of values, ranges on a linear or logarithmic scale, and draws from either."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log
from random import Random
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from fahw.config.schema import Frozen

Value = int | float | str | bool
_DIGITS = 6
"""Significant digits of a range's values: enough to tell them apart, and the same on every machine."""


class Range(Frozen):
    """Values from one number to another, both included."""

    model_config = ConfigDict(populate_by_name=True)

    from_: float = Field(alias="from")
    to: float
    points: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """How many values; absent where they are drawn at random."""
    scale: Literal["linear", "log"] = "linear"
    """`log`: each value is the same factor above the one before."""
    whole: bool = False
    """Rounded to whole numbers, each once."""

    def problem(self, section: str = "") -> str:
        """A description of what is wrong with the range; empty where it is right.

        `section`: the section that draws values from the range at random (`random`, `search`); empty for a grid's.
        """
        if self.to < self.from_:
            return f"goes down (from {self.from_:g} to {self.to:g})"
        if self.scale == "log" and self.from_ <= 0:
            return f"a log scale starts above 0 (got from: {self.from_:g})"
        if section and self.points is not None:
            return f"'points' stands once under '{section}', not in its axes"
        if not section and self.points is None:
            return "missing key 'points': how many values"
        if self.points == 1 and self.from_ != self.to:
            return "one point cannot be both ends; give 2 or more"
        return ""

    @property
    def values(self) -> tuple[int | float, ...]:
        """All values of the range, evenly spaced on its scale."""
        last = (self.points or 1) - 1
        numbers = [self.from_, *(self._at(i / last) for i in range(1, last)), *([self.to] if last else [])]
        return tuple(dict.fromkeys(round(number) for number in numbers)) if self.whole else tuple(numbers)

    def draw(self, generator: Random) -> int | float:
        """A random value, evenly distributed on the scale."""
        value = self._at(generator.random())
        return round(value) if self.whole else value

    def _at(self, share: float) -> float:
        """The value that lies `share` (0 to 1) of the way along the scale."""
        if self.scale == "log":
            value = exp(log(self.from_) + share * (log(self.to) - log(self.from_)))
        else:
            value = self.from_ + share * (self.to - self.from_)
        return self.shortened(value)

    def shortened(self, value: float) -> float:
        """The value rounded to the significant digits that a range keeps, and limited to the range."""
        return min(max(float(f"{value:.{_DIGITS}g}"), self.from_), self.to)


Axis = tuple[Value, ...] | Range


class RandomAxes(Frozen):
    """Points drawn at random, the same ones for the same seed; lists evenly, ranges evenly on their scale."""

    points: Annotated[int, Field(ge=1, le=1_000_000_000)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    axes: dict[str, Axis] = Field(min_length=1)

    def draws(self) -> Iterator[dict[str, Any]]:
        """The points, each a mapping of axis names to values."""
        generator = Random(self.seed)
        for _ in range(self.points):
            yield {name: draw_from(axis, generator) for name, axis in self.axes.items()}


Goal = Literal["accuracy", "energy", "time", "area"]


class SearchAxes(Frozen):
    """Points proposed by an optimizer (Optuna, an extra) that has seen those before: for the best trade-offs between
    goals, in rounds, so that the same seed proposes the same points on any number of workers."""

    points: Annotated[int, Field(ge=1, le=100_000)]
    """How many, at most."""
    goals: Annotated[tuple[Goal, ...], Field(min_length=1)] = ("accuracy", "energy")
    """`accuracy` on the test set as large, `energy` per sample, `time` per sample and `area` as small as possible."""
    together: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Points of a round: what can run at the same time. The next round knows its results."""
    sampler: Literal["tpe", "nsga2"] = "tpe"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    axes: dict[str, Axis] = Field(min_length=1)


def draw_from(axis: Axis, generator: Random) -> Value:
    """A random value of an axis: any of a list's with equal chance, a range's evenly on its scale."""
    return axis.draw(generator) if isinstance(axis, Range) else axis[int(generator.random() * len(axis))]


def count_of(axis: Axis) -> int:
    """The number of values, which are not made for it; an upper limit for a range of whole numbers."""
    return (axis.points or 0) if isinstance(axis, Range) else len(axis)


def values_of(axis: Axis) -> tuple[Value, ...]:
    """All values of an axis of a grid, in order."""
    return axis.values if isinstance(axis, Range) else axis
