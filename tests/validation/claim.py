"""A published figure beside what fahw says, and the runs that claims share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import fsum

from fahw.chip.cost import Cost, simulate
from fahw.hardware.load import load_chip

Range = tuple[float, float]
Override = tuple[str, str]


@dataclass(frozen=True)
class Claim:
    """One figure. `theirs` and `ours` are ranges (both ends alike for a point), in `unit`; `point`: our value at the
    setting that was fixed before anything was compared, where `ours` is a range.

    `ids`: its rows in chip_claims.csv. `goal`: how close it shall come, in words; `met`: whether it does. `simulated`
    says what was run, `why` where the gap comes from.
    """

    ids: tuple[str, ...]
    chip: str
    what: str
    unit: str
    theirs: Range
    ours: Range
    goal: str
    met: bool
    simulated: str
    why: str
    point: float | None = None

    @property
    def value(self) -> float:
        """Our single value: the point, else the middle of the range."""
        return self.point if self.point is not None else sum(self.ours) / 2


def at(value: float) -> Range:
    """A single figure as a range."""
    return value, value


def within(ours: float, theirs: float, factor: float) -> bool:
    """Whether `ours` lies between `theirs` divided and multiplied by `factor`."""
    return theirs / factor <= ours <= theirs * factor


@cache
def cost(
    chip: str,
    model: str,
    rule: str,
    batch_size: int,
    transport: str | None = None,
    overrides: tuple[Override, ...] = (),
) -> Cost:
    """A shipped chip, with overrides, simulated once."""
    return simulate(load_chip(chip, dict(overrides)), model, rule, batch_size, transport)


def picojoules(found: Cost, **wanted: str | tuple[str, ...]) -> float:
    """Energy of the ledger's rows whose columns have the wanted values."""
    allowed = {name: (value,) if isinstance(value, str) else value for name, value in wanted.items()}
    return fsum(
        row.energy_pj for row in found.ledger if all(getattr(row, name) in values for name, values in allowed.items())
    )


def counted(found: Cost, **wanted: str | tuple[str, ...]) -> float:
    """Counts of the ledger's rows whose columns have the wanted values."""
    allowed = {name: (value,) if isinstance(value, str) else value for name, value in wanted.items()}
    return fsum(
        row.count for row in found.ledger if all(getattr(row, name) in values for name, values in allowed.items())
    )
