"""Which constants decide who wins: savings over the range of each constant alone, and where their sign changes.

A step's energy is linear in every constant: where one is s times its nominal value, a step of energy E of which P goes
with it takes E + (s - 1) P. All else stays: counts, time and every other constant. Backpropagation and the other rule
each take the form of transport that is cheapest at s, so that both are lower ends of bundles of lines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fahw.chip.cost import Cost, rule_names, simulate
from fahw.chip.transport_forms import forms_of
from fahw.chip.unit_prices import prices_of
from fahw.errors import ConfigError, Problem, check_integer
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.rules.catalogue import BACKPROPAGATION, RULES
from fahw.technology.constant import Constant, Part
from fahw.work.training_step import NONE

GROUPS = {
    "sram": "SRAM reads and writes", "dram": "all of DRAM", "logic": "all logic", "clock": "all logic",
    "gating": "all logic",
}  # fmt: skip
"""Constants of kinds that also move together, as in the ranges of a comparison; clock and gating go with the logic."""
_EQUAL = 1e-12
"""Relative difference below which two energies are the same."""


@dataclass(frozen=True)
class Sensitivity:
    """The saving of a rule against the best form of backpropagation over the range of one constant.

    `low`, `high`: the ends of the range, relative to the nominal value. Savings are shares of backpropagation's energy.
    `break_even`: where between the ends the saving changes its sign, relative to the nominal value.
    """

    rule: str
    constant: str
    low: float
    high: float
    saving: float
    saving_at_low: float
    saving_at_high: float
    break_even: tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """Energy of a step in pJ, that part of it that goes with each constant, and the ends of their ranges."""

    energy_pj: float
    parts_pj: dict[str, float]
    ranges: dict[str, tuple[float, float]]

    def at(self, constant: str, scale: float) -> float:
        """The energy where a constant is `scale` times its nominal value."""
        return self.energy_pj + (scale - 1) * self.parts_pj.get(constant, 0.0)


def sensitivity(
    chip: Chip | str | Path, network: Network | str | Path, rules: Iterable[str] = tuple(RULES), batch_size: int = 64
) -> tuple[Sensitivity, ...]:
    """The sensitivity of every rule's saving to every constant with a range, rule by rule.

    Rules that the chip cannot host are left out. Raises ConfigError where it cannot host backpropagation, and for
    unknown rules.
    """
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    network = network if isinstance(network, Network) else load_model(network)
    names = rule_names(rules)
    check_integer("batch_size", batch_size, 1, 10_000_000)
    baseline, problems = _hosted_steps(chip, network, BACKPROPAGATION.name, batch_size)
    if not baseline:
        raise ConfigError(problems)
    found: list[Sensitivity] = []
    for rule in names:
        if rule != BACKPROPAGATION.name and (steps := _hosted_steps(chip, network, rule, batch_size)[0]):
            found += sensitivities_of(rule, steps, baseline)
    return tuple(found)


def _hosted_steps(chip: Chip, network: Network, rule: str, batch_size: int) -> tuple[list[Step], list[Problem]]:
    """A step under every form of transport that the chip can do, and why it cannot do the others."""
    steps: list[Step] = []
    problems: list[Problem] = []
    for form in forms_of(chip, rule):
        try:
            steps.append(step_of(simulate(chip, network, rule, batch_size, None if form == NONE else form)))
        except ConfigError as error:
            problems += error.problems
    return steps, list(dict.fromkeys(problems))


def step_of(cost: Cost) -> Step:
    """What of a step's energy goes with which constant."""
    parts_pj: dict[str, float] = defaultdict(float)
    ranges: dict[str, tuple[float, float]] = {}
    for price, energy_pj in _priced(cost):
        for part in _parts(price) if energy_pj else ():
            parts_pj[part.name] += part.share * energy_pj
            low, high = ranges.get(part.name, (1.0, 1.0))
            ranges[part.name] = min(low, part.low), max(high, part.high)
    return Step(cost.energy_pj, dict(parts_pj), ranges)


def _priced(cost: Cost) -> Iterator[tuple[Constant, float]]:
    """Every constant of a step's ledger with its energy in pJ. Actions count one by one: a row of the ledger may hold
    several widths."""
    unit_price = prices_of(cost.work.chip).unit_price
    energies: dict[int, list[float]] = defaultdict(list)
    prices: dict[int, Constant] = {}
    for task in cost.work.tasks:
        for count in task.counts:
            price = unit_price(count)
            prices[id(price)] = price
            energies[id(price)].append(count.count * price.value / task.every)
    yield from ((price, sum(energies[key])) for key, price in prices.items())
    yield from ((row.price, row.energy_pj) for row in cost.ledger if row.static)


def _parts(price: Constant) -> Iterator[Part]:
    """What a constant is made of, and the group that it moves with."""
    own = Part(f"{price.kind} (given)" if price.given else price.kind, 1.0, 1 / price.factor, price.factor)
    yield from price.parts or (own,)
    if price.kind in GROUPS and (price.kind == "dram" or not price.given):
        factor = 1.0 if price.kind in ("clock", "gating") else price.factor
        yield Part(GROUPS[price.kind], 1.0, 1 / factor, factor)


def sensitivities_of(rule: str, steps: Sequence[Step], baseline: Sequence[Step]) -> Iterator[Sensitivity]:
    """The sensitivity of a rule's saving to each constant; `steps`, `baseline`: its own and those of backpropagation,
    one for every form of transport."""
    both = (*steps, *baseline)
    for constant in dict.fromkeys(name for step in both for name in step.ranges):
        ranges = [step.ranges[constant] for step in both if constant in step.ranges]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        if low < high:
            saving, at_low, at_high = (_saving(steps, baseline, constant, scale) for scale in (1.0, low, high))
            points = _break_even(steps, baseline, constant, (low, high))
            yield Sensitivity(rule, constant, low, high, saving, at_low, at_high, points)


def _saving(steps: Sequence[Step], baseline: Sequence[Step], constant: str, scale: float) -> float:
    mine, theirs = (min(step.at(constant, scale) for step in side) for side in (steps, baseline))
    share = 1 - mine / theirs
    return share if abs(share) > _EQUAL else 0.0


def _break_even(
    steps: Sequence[Step], baseline: Sequence[Step], constant: str, ends: tuple[float, float]
) -> tuple[float, ...]:
    """Where the saving changes its sign: at crossings of a line of each side, between which it keeps its sign."""
    crossings = {scale for mine in steps for theirs in baseline for scale in _crossing(mine, theirs, constant)}
    inside = sorted(scale for scale in crossings if ends[0] < scale < ends[1])
    edges = (ends[0], *inside, ends[1])
    middles = [(left + right) / 2 for left, right in pairwise(edges)]
    shares = [_saving(steps, baseline, constant, middle) for middle in middles]
    signs = [(start, share > 0) for start, share in zip(edges, shares, strict=False) if share]
    return tuple(start for (_, before), (start, after) in pairwise(signs) if before != after)


def _crossing(mine: Step, theirs: Step, constant: str) -> Iterator[float]:
    slope = mine.parts_pj.get(constant, 0.0) - theirs.parts_pj.get(constant, 0.0)
    if slope:
        yield 1 - (mine.energy_pj - theirs.energy_pj) / slope
