"""The lines of a comparison before anything is trained: rule, form of transport and split of the batch of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fahw.chip.cost import SHARED, Cost, simulate
from fahw.chip.transport_forms import forms_of
from fahw.errors import ConfigError
from fahw.hardware.chip import Chip
from fahw.network.graph import Network
from fahw.rules.catalogue import BACKPROPAGATION
from fahw.study.splits import all_at_work
from fahw.work.training_step import NONE


@dataclass(frozen=True)
class PlannedLine:
    """A line to be trained and priced. `chip`: with the line's own micro-batch, where it asks for the best one;
    `at_baseline`: that micro-batch, if it is not the rule's best but backpropagation's."""

    rule: str
    transport: str
    chip: Chip
    at_baseline: int | None = None

    @property
    def form(self) -> str | None:
        """The form of transport to be priced; None for a rule that moves nothing."""
        return None if self.transport == NONE else self.transport

    @property
    def trained_chip(self) -> Chip:
        """The chip in whose arithmetic the line trains: the fair baseline has one weight memory, and no stale copy."""
        return self.chip.without_feedback_memory() if self.transport == SHARED else self.chip


@dataclass(frozen=True)
class Plan:
    """All lines of a comparison, and the micro-batch that is best for backpropagation; None where none is searched.
    `is_hosted`: whether it is known by now that the chip can host one of them."""

    lines: tuple[PlannedLine, ...]
    baseline_split: int | None = None
    is_hosted: bool = False


def planned(chip: Chip, network: Network, rules: Sequence[str], batch_size: int) -> Plan:
    """A line for every rule and form of transport. On a chip that asks for the best micro-batch each has its own, and
    rules other than backpropagation another line where that is not backpropagation's at its best form.

    A line that the chip cannot host is planned with backpropagation's.
    """
    pairs = [(rule, form) for rule in rules for form in forms_of(chip, rule)]
    if chip.micro_batch != "best":
        return Plan(tuple(PlannedLine(*pair, chip) for pair in pairs))
    costs = {pair: _cost(PlannedLine(*pair, chip), network, batch_size) for pair in pairs}
    baselines = [cost for (rule, _), cost in costs.items() if cost is not None and rule == BACKPROPAGATION.name]
    best = min(baselines, key=lambda cost: cost.energy_pj, default=None)
    split = batch_size if best is None else best.micro_batch
    lines = (line for pair, cost in costs.items() for line in _split_lines(*pair, chip, cost, split))
    return Plan(tuple(lines), split, any(costs.values()))


def _cost(line: PlannedLine, network: Network, batch_size: int) -> Cost | None:
    """What a line costs before its training; None where the chip cannot host it."""
    chip = line.chip
    activity = all_at_work(network) if chip.uses_activity and chip.activity is None else None
    try:
        return simulate(chip, network, line.rule, batch_size, line.form, activity)
    except ConfigError:
        return None


def _split_lines(rule: str, form: str, chip: Chip, cost: Cost | None, baseline_split: int) -> Iterator[PlannedLine]:
    """The lines of a rule under one form: at its own best split, and at that of backpropagation if it is another."""
    own = baseline_split if cost is None else cost.micro_batch
    yield PlannedLine(rule, form, chip.model_copy(update={"micro_batch": own}))
    if own != baseline_split and rule != BACKPROPAGATION.name:
        yield PlannedLine(rule, form, chip.model_copy(update={"micro_batch": baseline_split}), baseline_split)
