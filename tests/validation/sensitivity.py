"""The data of docs/sensitivity.md: which constants move the signs of verdicts on shipped chips and networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from fahw.chip.cost import Cost, simulate
from fahw.chip.transport_forms import forms_of
from fahw.errors import ConfigError
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.hardware.memory import Memory
from fahw.network.load import load_model
from fahw.rules.catalogue import BACKPROPAGATION, RULES
from fahw.study.costs.sensitivity import Sensitivity, Step, sensitivities_of, step_of
from fahw.units import fixed
from fahw.work.counts.record import local_name
from fahw.work.training_step import NONE

CHIPS = (
    "edge_dual", "edge_shared", "dram_bound", "tpu_like", "dfa_prng", "df_lnpu", "df_lnpu_2019", "efficientgrad",
    "eyeriss", "koo_transposable", "loihi_like", "neurocore_mesh", "park_spiking", "spoon", "wolters_crossbar",
)  # fmt: skip
NETWORKS = ("mlp_mnist", "lenet5", "resnet20")
BATCH = 32
OWN = (
    ("edge_dual", "mlp_mnist", 128), ("dfa_prng", "mlp_mnist", 128), ("df_lnpu", "mdnet_fc", 8),
    ("df_lnpu_2019", "mdnet_fc", 8), ("eyeriss", "alexnet", 4), ("koo_transposable", "crossbar_mlp", 1),
    ("loihi_like", "mlp_mnist", 1), ("park_spiking", "mlp_200", 1), ("spoon", "spoon_cnn", 1),
    ("wolters_crossbar", "vgg8", 200),
)  # fmt: skip
"""Chips with the network and the batch that they were described for."""
_COUNTER_PJ, _PHY_MW = 0.25, 50.0


@dataclass(frozen=True, order=True)
class Case:
    """A chip with a network and a batch."""

    chip: str
    network: str
    batch: int


CASES = tuple(Case(chip, network, BATCH) for chip in CHIPS for network in NETWORKS) + tuple(Case(*own) for own in OWN)


@dataclass(frozen=True)
class Extra:
    """Something that is never priced: its name, the most that it may be in `unit`, and that in pJ of a step."""

    name: str
    unit: str
    high: float
    source: str
    at_high_pj: Callable[[Cost], float]


@dataclass(frozen=True)
class Found:
    """The sensitivity of a verdict of a case to one constant."""

    case: Case
    of: Sensitivity

    @property
    def moves(self) -> bool:
        """Whether the constant moves the sign."""
        return bool(self.of.break_even)


@cache
def found(case: Case) -> tuple[Found, ...]:
    """Every rule and every constant of a case, what is never priced included, but for rules that cost what
    backpropagation costs."""
    baseline = _steps(case, BACKPROPAGATION.name)
    every = (
        one
        for rule in RULES
        if rule != BACKPROPAGATION.name and (steps := _steps(case, rule))
        for one in sensitivities_of(rule, steps, baseline)
    )
    return tuple(Found(case, one) for one in every if one.saving)


def _steps(case: Case, rule: str) -> list[Step]:
    """The rule's step under every form of transport."""
    chip, network = load_chip(case.chip), load_model(case.network)
    steps = []
    for form in forms_of(chip, rule):
        try:
            cost = simulate(chip, network, rule, case.batch, None if form == NONE else form)
        except ConfigError:
            continue
        steps.append(_with_extras(step_of(cost), cost))
    return steps


def _with_extras(step: Step, cost: Cost) -> Step:
    """The step with constants that are nothing at scale 1, the nominal one, and all that they may be at scale 2."""
    more = {extra.name: extra.at_high_pj(cost) for extra in EXTRAS}
    return replace(step, parts_pj=step.parts_pj | more, ranges=step.ranges | dict.fromkeys(more, (1.0, 2.0)))


# what is never priced


def _accesses(cost: Cost) -> Iterator[tuple[Memory, float]]:
    """The stored memories of a step's chip, each with the number of words read and written."""
    memories = {memory.name: memory for memory in cost.work.chip.memories if not memory.generates}
    for row in cost.ledger:
        memory = memories.get(local_name(row.component))
        if memory is not None and row.action in ("read", "write"):
            yield memory, row.count


EXTRAS = (
    Extra(
        "address generation", "pJ per word", 2 * _COUNTER_PJ,
        "two steps of a 32-bit counter for every word read or written: 0.25 pJ each (Accelergy's Aladdin plug-in)",
        lambda cost: sum(2 * _COUNTER_PJ * words for _, words in _accesses(cost)),
    ),
    Extra(
        "DRAM controller and PHY", "mW", _PHY_MW,
        "static power of 10 to 50 mW where a chip has DRAM (assumed)",
        lambda cost: _PHY_MW * cost.seconds * 1e9 if cost.work.chip.dram is not None else 0.0,
    ),
)  # fmt: skip
EXTRA_NAMES = {extra.name: extra for extra in EXTRAS}


# shares of zeros, by simulating again


@dataclass(frozen=True)
class Density:
    """The saving of a rule where a chip's assumed share of values that are not zero is halved, as it is, doubled (or
    1)."""

    case: Case
    rule: str
    key: str
    nominal: float
    ends: tuple[float, float]
    savings: tuple[float, float, float]

    @property
    def moves(self) -> bool:
        """Whether an end has another sign than the nominal share."""
        return min(self.savings) < 0 < max(self.savings)


DENSITY_CASES = tuple(
    case for case in CASES
    if case.chip in ("efficientgrad", "park_spiking", "spoon", "loihi_like", "neurocore_mesh")
    and case.network != "resnet20" and not (case.chip == "loihi_like" and case.batch > 1)
)  # fmt: skip
KEYS = ("zero_activation", "zero_error")


def densities(case: Case) -> Iterator[Density]:
    """Both shares of a case's chip, one at a time."""
    chip = load_chip(case.chip)
    assert chip.activity is not None
    nominal = _energies(chip, case)
    for key in KEYS:
        share = 1 - getattr(chip.activity, key)
        ends = share / 2, min(1.0, 2 * share)
        low, high = (_energies(_with_zeros(chip, key, 1 - end), case) for end in ends)
        for rule in nominal:
            if rule != BACKPROPAGATION.name and abs(1 - nominal[rule] / nominal["bp"]) > 1e-12:
                three = (1 - side[rule] / side["bp"] for side in (low, nominal, high))
                yield Density(case, rule, key, share, ends, tuple(three))  # type: ignore[arg-type]


def _with_zeros(chip: Chip, key: str, share: float) -> Chip:
    assert chip.activity is not None
    return chip.model_copy(update={"activity": chip.activity.model_copy(update={key: share})})


def _energies(chip: Chip, case: Case, rules: Sequence[str] = tuple(RULES)) -> dict[str, float]:
    """Energy of a step of every rule that the chip hosts, under its cheapest form."""
    network, energies = load_model(case.network), {}
    for rule in rules:
        for form in forms_of(chip, rule):
            try:
                cost = simulate(chip, network, rule, case.batch, None if form == NONE else form)
            except ConfigError:
                continue
            energies[rule] = min(cost.energy_pj, energies.get(rule, cost.energy_pj))
    return energies


# texts


def percent(share: float) -> str:
    """A saving in percent, three digits."""
    return f"{100 * share:+.3g}".replace("-0 ", "0")


def times(scale: float) -> str:
    """A scale relative to the nominal value."""
    return fixed(scale, 0) if scale == round(scale) else f"{scale:.3g}"


def all_found(cases: Sequence[Case] = CASES) -> list[Found]:
    """All cases."""
    return [one for case in cases for one in found(case)]


def break_even(density: Density) -> float:
    """The share of values that are not zero at which the saving changes its sign, by bisection to a thousandth."""
    chip, case, rule = load_chip(density.case.chip), density.case, density.rule
    first, middle, _ = density.savings
    ends = (density.ends[0], density.nominal) if first * middle < 0 else (density.nominal, density.ends[1])
    low, high = ends
    sign_low = first if first * middle < 0 else middle
    while high - low > 1e-3 * low:
        share = (low + high) / 2
        energies = _energies(_with_zeros(chip, density.key, 1 - share), case, (BACKPROPAGATION.name, rule))
        if (1 - energies[rule] / energies[BACKPROPAGATION.name]) * sign_low > 0:
            low = share
        else:
            high = share
    return low
