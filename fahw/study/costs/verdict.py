"""Who wins, and how sure that is: savings with the range that uncertain constants leave, differences against noise.

A kind of constant (SRAM energy, logic, wires, ...) is uncertain by a factor; one factor holds for every row of its
kind and for both sides of a comparison. Kinds that are a share of logic's energy move with it, and by their own factor
besides. A saving is a ratio of sums that are linear in each factor, so its extremes lie at corners, where every factor
is at one of its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import fsum, sqrt
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from fahw.chip.cost import simulate
from fahw.chip.ledger import Row
from fahw.hardware.chip import Chip
from fahw.hardware.memories.catalogue import CONSTANT_KINDS
from fahw.network.graph import Network
from fahw.rules.catalogue import BACKPROPAGATION
from fahw.technology.constant import SHARES_OF_LOGIC


@dataclass(frozen=True)
class Saving:
    """1 - energy / baseline energy, with its extremes over the uncertainty of the constants; shares, not percent."""

    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the saving has the same sign over its whole range."""
        return self.low > 0 or self.high < 0

    @property
    def winner(self) -> str:
        """The side that needs less energy over the whole range: `rule`, `baseline`, or `undecided`."""
        if not self.decided:
            return "undecided"
        return "rule" if self.low > 0 else "baseline"


def saving(rows: Sequence[Row], baseline: Sequence[Row], scale: float = 1.0, baseline_scale: float = 1.0) -> Saving:
    """The saving of `rows` against `baseline`; the scales turn energies per step into energies to a target."""
    mine, theirs = _energies_at_corners(rows) * scale, _energies_at_corners(baseline) * baseline_scale
    shares = 1 - mine / theirs
    nominal = fsum(row.energy_pj for row in rows) * scale / (fsum(row.energy_pj for row in baseline) * baseline_scale)
    return Saving(1 - nominal, float(shares.min()), float(shares.max()))


def _energies_at_corners(rows: Sequence[Row]) -> np.ndarray:
    """Energy in pJ at every corner, where each kind of constant is divided or multiplied by its factor. Raises
    ValueError for a constant of a kind that `CONSTANT_KINDS` lacks: it would drop out of the range."""
    if unknown := {row.price.kind for row in rows} - set(CONSTANT_KINDS):
        raise ValueError(f"constants of a kind that no range has: {', '.join(sorted(unknown))}")
    bounds = np.array(
        [
            [fsum(row.energy_pj * row.price.factor**sign for row in rows if row.price.kind == kind) for sign in (-1, 1)]
            for kind in CONSTANT_KINDS
        ]
    )
    logic = float(max((row.price.factor for row in rows if row.price.kind == "logic"), default=1.0))
    return np.asarray(energies_at_corners(bounds[np.newaxis], np.array([logic]))[0])


CORNERS = np.array(list(product((0, 1), repeat=len(CONSTANT_KINDS))))
"""Ends of the kinds of constants at each corner: 0 divided, 1 multiplied by its factor."""
LOGIC = CONSTANT_KINDS.index("logic")
SHARES = [CONSTANT_KINDS.index(kind) for kind in SHARES_OF_LOGIC]


def energies_at_corners(bounds: NDArray[np.float64], logic: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energies in pJ, (step, corner). `bounds`: of each step and kind of constant, divided and multiplied by the kind's
    own factor; `logic`: logic's factor of each step, by which its shares move too."""
    energies = bounds[:, np.arange(len(CONSTANT_KINDS)), CORNERS]
    energies[..., SHARES] *= (logic[:, np.newaxis] ** (2 * CORNERS[:, LOGIC] - 1))[..., np.newaxis]
    return summed_over_kinds(energies)


def summed_over_kinds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the last axis, one kind of constant after the other: a kind of which there is nothing changes no
    bit."""
    return np.asarray(reduce(np.add, np.moveaxis(values, -1, 0)))


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
    """The two ends of that line, simulated on the chip without its feedback memory; at the split of the batch that is
    best with the chip file's overheads, where the chip asks for the best."""
    baseline, rule, form = chip.without_feedback_memory(), BACKPROPAGATION.name, "transposable"
    at_1 = simulate(baseline, network, rule, batch_size, form)
    split = baseline.model_copy(update={"micro_batch": at_1.micro_batch}) if at_1.splits else baseline
    return Overhead(simulate(_without_overheads(split), network, rule, batch_size, form).energy_pj, at_1.energy_pj)


def _without_overheads(chip: Chip) -> Chip:
    """The chip where transposed access takes nothing."""
    names = ("read_overhead", "write_overhead", "area_overhead", "leak_overhead")
    access = chip.transposed_access.model_copy(update=dict.fromkeys(names, 0.0))
    return chip.model_copy(update={"transposed_access": access})


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (0 for a single value) of the values of some seeds."""

    mean: float
    std: float
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    """The mean, sample standard deviation and number of the values; None for no values."""
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else 0.0, len(values))


_T_95 = (
    12.71,
    4.30,
    3.18,
    2.78,
    2.57,
    2.45,
    2.36,
    2.31,
    2.26,
    2.23,
    2.20,
    2.18,
    2.16,
    2.14,
    2.13,
    2.12,
    2.11,
    2.10,
    2.09,
)
"""Two-sided 95 % points of Student's t at 1, 2, ... degrees of freedom (any table of it)."""


def beyond_noise(first: Spread, second: Spread) -> bool | None:
    """Whether two means differ by more than Welch's test lets so few seeds differ by chance in 5 % of cases; None for
    single seeds."""
    if min(first.count, second.count) < 2:
        return None
    mean_variances = [(spread.std**2 / spread.count, spread.count - 1) for spread in (first, second)]
    standard_error = sqrt(fsum(square for square, _ in mean_variances))
    if not standard_error:
        return first.mean != second.mean
    freedom = standard_error**4 / fsum(square**2 / degrees for square, degrees in mean_variances)
    inverse_degrees = [1 / degrees for degrees in range(len(_T_95), 0, -1)]
    return abs(first.mean - second.mean) > standard_error * float(np.interp(1 / freedom, inverse_degrees, _T_95[::-1]))
