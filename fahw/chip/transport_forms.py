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
class Offer:
    """A form of transport with its cost, or with the reason why the chip cannot host it."""

    transport: str
    cost: Cost | None
    reason: str = ""


def forms_of(chip: Chip, rule: str) -> list[str]:
    """Each form that `chip` lists, the default first; for backpropagation also the chip with one weight memory."""
    value = get_rule(rule)
    forms: list[str] = list(chip.transport) if value.reads_weight else [NONE]
    return [*forms, SHARED] if value == BACKPROPAGATION else forms


def _offer(chip: Chip, network: Network, rule: str, batch_size: int, form: str) -> Offer:
    try:
        return Offer(form, simulate(chip, network, rule, batch_size, None if form == NONE else form))
    except ConfigError as error:
        return Offer(form, None, error.problems[0].message)


def least(found: Sequence[Offer]) -> Cost | None:
    """The cost of the form with the least energy per step; None where the chip hosts none."""
    return min((offer.cost for offer in found if offer.cost), key=lambda cost: cost.energy_pj, default=None)


def simulate_forms(
    chip: Chip, network: Network, rule: str, batch_size: int, transport: str | None = None
) -> tuple[Cost, tuple[Offer, ...]]:
    """The cost under `transport`, and beside it, where none is asked for, every other form that the chip allows.

    None: the chip's first form. Where one memory serves both directions anyway, `shared` is no other form. Raises
    ConfigError where the chip cannot host what is asked for.
    """
    cost = simulate(chip, network, rule, batch_size, transport)
    if transport is not None:
        return cost, (Offer(cost.transport, cost),)
    _, *others = forms_of(chip, rule)
    same = {SHARED} if chip.error_reaches_weights else set()
    found = (_offer(chip, network, rule, batch_size, form) for form in others if form not in same)
    return cost, (Offer(cost.transport, cost), *found)
