"""Who wins, and how sure that is: savings with the range that uncertain constants leave, differences against noise.

A kind of constant (SRAM energy, logic, wires, ...) is uncertain by a factor; one factor holds for every row of its
kind and for both sides of a comparison. A saving is a ratio of sums that are linear in each factor, so its extremes
lie at corners, where every factor is at one of its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import fsum, sqrt
from statistics import fmean, stdev

import numpy as np

from fahw.chip.cost import simulate
from fahw.chip.ledger import Row
from fahw.config.chip import Chip
from fahw.network import Network
from fahw.rules import BACKPROPAGATION

KINDS = ("sram", "logic", "clock", "wire", "dram", "generator", "leakage")


@dataclass(frozen=True)
class Saving:
    """1 - energy / baseline energy, with its extremes over the uncertainty of the constants; shares, not percent."""

    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the sign is the same over the whole range."""
        return self.low > 0 or self.high < 0

    @property
    def winner(self) -> str:
        """`rule`, `baseline`, or `undecided`."""
        if not self.decided:
            return "undecided"
        return "rule" if self.low > 0 else "baseline"


def saving(rows: Sequence[Row], baseline: Sequence[Row], scale: float = 1.0, baseline_scale: float = 1.0) -> Saving:
    """Saving of `rows` against `baseline`; the scales turn energies per step into energies to a target."""
    mine, theirs = _at_corners(rows) * scale, _at_corners(baseline) * baseline_scale
    shares = 1 - mine / theirs
    nominal = fsum(row.energy_pj for row in rows) * scale / (fsum(row.energy_pj for row in baseline) * baseline_scale)
    return Saving(1 - nominal, float(shares.min()), float(shares.max()))


def _at_corners(rows: Sequence[Row]) -> np.ndarray:
    """Energy at every corner: each kind divided or multiplied by its factor."""
    ends = np.array(
        [
            [fsum(row.energy_pj * row.price.factor**sign for row in rows if row.price.kind == kind) for sign in (-1, 1)]
            for kind in KINDS
        ]
    )
    corners = np.array(list(product((0, 1), repeat=len(KINDS))))
    return np.asarray(ends[np.arange(len(KINDS)), corners].sum(axis=1))


@dataclass(frozen=True)
class Overhead:
    """Energy of a step of backpropagation on one transposable memory, linear in the scale of that memory's overheads.

    Scale 0 is a memory that reads both ways for free, 1 the chip file's.
    """

    at_0_pj: float
    at_1_pj: float

    def break_even(self, rule_pj: float) -> float | None:
        """Scale at which backpropagation costs `rule_pj`; below it it is cheaper. None where the overheads are 0."""
        slope = self.at_1_pj - self.at_0_pj
        return (rule_pj - self.at_0_pj) / slope if slope > 0 else None


def transposed_overhead(chip: Chip, network: Network, batch_size: int) -> Overhead:
    """The two ends of the line, simulated on the chip without its feedback memory."""
    derived = chip.without_feedback_memory()
    return Overhead(
        *(
            simulate(_scaled(derived, scale), network, BACKPROPAGATION.name, batch_size, "transposable").energy_pj
            for scale in (0.0, 1.0)
        )
    )


def break_even_overhead(chip: Chip, network: Network, batch_size: int, rule_pj: float) -> float | None:
    """Scale of the overheads of transposed access at which backpropagation costs `rule_pj` per step."""
    return transposed_overhead(chip, network, batch_size).break_even(rule_pj)


def _scaled(chip: Chip, scale: float) -> Chip:
    access = chip.transposed_access
    names = ("read_overhead", "write_overhead", "area_overhead", "leak_overhead")
    update = {name: getattr(access, name) * scale for name in names}
    return chip.model_copy(update={"transposed_access": access.model_copy(update=update)})


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (0 for a single value) of some seeds."""

    mean: float
    std: float
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    """Mean, sample standard deviation and number; None for no values."""
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else 0.0, len(values))


def beyond_noise(a: Spread, b: Spread) -> bool | None:
    """Whether two means differ by more than twice the standard error of their difference; None for single seeds."""
    if min(a.count, b.count) < 2:
        return None
    error = sqrt(a.std**2 / a.count + b.std**2 / b.count)
    return abs(a.mean - b.mean) > 2 * error
