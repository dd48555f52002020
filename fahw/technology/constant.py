"""A number about a part, with where it comes from and how far it may be off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

KINDS = ("sram", "logic", "clock", "wire", "dram", "generator", "gating", "leakage")
"""The kinds of constants, each uncertain by a factor that holds for all of its kind."""
SHARES_OF_LOGIC = ("clock", "gating")
"""Kinds that are a share of the energy of logic: they move with it, and their own factor is that of the share."""
AREA_FACTOR = 1.5
"""Assumed: published areas of the same part differ by about this factor."""


class Part(NamedTuple):
    """A number that a constant is made of: its name, by which share the constant grows with it (1: in proportion), and
    the ends of its own range, relative to it."""

    name: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Constant:
    """A physical constant: the true value lies between `value` divided and multiplied by `factor`.

    `kind` groups the constants that move together, one of `KINDS` or a kind of memory's own; `given` tells a number
    that the user gave from an estimate. `parts`: what it is made of, where that is more than one number of its kind.
    """

    value: float
    source: str
    kind: str
    factor: float = 1.0
    given: bool = False
    parts: tuple[Part, ...] = ()

    def named(self, name: str) -> Constant:
        """The same, in proportion to the one number of this name."""
        part = Part(name, 1.0, 1 / self.factor, self.factor)
        return Constant(self.value, self.source, self.kind, self.factor, self.given, (part,))

    def times(self, number: float, part: Part | None = None) -> Constant:
        """So many times it; `part`: the number that it is then made of besides."""
        parts = self.parts if part is None else (*self.parts, part)
        return Constant(self.value * number, self.source, self.kind, self.factor, self.given, parts)


def parts_of_sum(terms: Iterable[tuple[float, Constant]]) -> tuple[Part, ...]:
    """What the sum of number x constant is made of: each part by its share of the sum."""
    terms = list(terms)
    total = sum([number * constant.value for number, constant in terms])
    found: dict[str, Part] = {}
    for number, constant in terms:
        weight = number * constant.value / total if total else 0.0
        for name, share, low, high in constant.parts if weight else ():
            if other := found.get(name):
                found[name] = Part(name, other.share + weight * share, min(low, other.low), max(high, other.high))
            else:
                found[name] = Part(name, weight * share, low, high)
    return tuple(found.values())


@dataclass(frozen=True)
class Entry:
    """One number as `fahw list technology` shows it. `node_nm` is None where it belongs to no node (DRAM, links between
    chips)."""

    part: str
    value: float
    unit: str
    node_nm: int | None
    factor: float
    source: str

    @classmethod
    def of(cls, part: str, constant: Constant, unit: str, node_nm: int | None) -> Entry:
        """The entry of a constant."""
        return cls(part, constant.value, unit, node_nm, constant.factor, constant.source)
