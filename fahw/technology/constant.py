"""A number about a part, with where it comes from and how far it may be off."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("sram", "logic", "clock", "wire", "dram", "generator", "gating", "leakage")
"""The kinds of constants, each uncertain by a factor that holds for all of its kind."""
AREA_FACTOR = 1.5
"""Assumed: published areas of the same part differ by about this factor."""


@dataclass(frozen=True)
class Constant:
    """A physical constant: the true value lies between `value` divided and multiplied by `factor`.

    `kind` groups the constants that move together, one of `KINDS` or a kind of memory's own; `given` tells a number
    that the user gave from an estimate.
    """

    value: float
    source: str
    kind: str
    factor: float = 1.0
    given: bool = False


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
