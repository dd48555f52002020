"""The prices that the search for the best mapping of a step goes by: those of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from fahw.chip.ledger import leakages, static_rows, total_pj
from fahw.chip.unit_prices import Prices, prices_of
from fahw.hardware.chip import Chip
from fahw.work.counts.record import Count


@dataclass(frozen=True)
class StepPricing:
    """Prices of actions, and of a cycle."""

    prices: Prices
    static_pj_per_cycle: float
    """Leakage of all that is powered, background of a DRAM at rest and clock root."""

    def energy_pj(self, counts: Iterable[Count]) -> float:
        """Energy of counted actions."""
        unit_price, energy = self.prices.unit_price, 0.0
        for count in counts:
            energy += count.count * unit_price(count).value
        return energy


@lru_cache(maxsize=64)
def step_pricing(chip: Chip, transposable: bool) -> StepPricing:
    """The prices of a chip. `transposable`: whether its weight memory is built to be read by rows and by columns."""
    static = static_rows(chip, leakages(chip, transposable), 1.0, 0.0)
    return StepPricing(prices_of(chip), total_pj(static))
