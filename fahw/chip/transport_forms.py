"""A rule under every form of weight transport that a chip allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fahw.chip.cost import SHARED, Cost, get_rule, simulate
from fahw.errors import ConfigError
from fahw.hardware.chip import Chip
from fahw.network.graph import Network
from fahw.rules.catalogue import BACKPROPAGATION
from fahw.work.training_step import NONE


@dataclass(frozen=True)
class TransportCost:
    """A form of transport with its cost, or with the reason why the chip cannot host it."""

    transport: str
    cost: Cost | None
    reason: str = ""


def forms_of(chip: Chip, rule: str) -> list[str]:
    """The forms that `chip` lists, the default first; for backpropagation also `shared`, one weight memory."""
    value = get_rule(rule)
    forms: list[str] = list(chip.transport) if value.reads_weight else [NONE]
    return [*forms, SHARED] if value == BACKPROPAGATION else forms


def _transport_cost(chip: Chip, network: Network, rule: str, batch_size: int, form: str) -> TransportCost:
    try:
        return TransportCost(form, simulate(chip, network, rule, batch_size, None if form == NONE else form))
    except ConfigError as error:
        return TransportCost(form, None, error.problems[0].message)


def cheapest(costs: Sequence[TransportCost]) -> Cost | None:
    """The cost of the form with the least energy per step; None where the chip hosts none."""
    return min((candidate.cost for candidate in costs if candidate.cost), key=lambda cost: cost.energy_pj, default=None)


def simulate_forms(
    chip: Chip, network: Network, rule: str, batch_size: int, transport: str | None = None
) -> tuple[Cost, tuple[TransportCost, ...]]:
    """The cost under `transport`, and beside it, where none is asked for, every other form that the chip allows.

    None: the chip's first form. Where one memory serves both directions anyway, `shared` is no other form. Raises
    ConfigError where the chip cannot host what is asked for.
    """
    cost = simulate(chip, network, rule, batch_size, transport)
    if transport is not None:
        return cost, (TransportCost(cost.transport, cost),)
    _, *other_forms = forms_of(chip, rule)
    equivalent = {SHARED} if chip.error_reaches_weights else set()
    other_costs = (
        _transport_cost(chip, network, rule, batch_size, form) for form in other_forms if form not in equivalent
    )
    return cost, (TransportCost(cost.transport, cost), *other_costs)
