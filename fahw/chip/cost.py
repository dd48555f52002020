"""What one training step costs on a chip: the answer of `fahw simulate`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import NoneType

from fahw.activity import Activity
from fahw.chip.area import area_mm2
from fahw.chip.equal_area import with_feedback_fitted, with_free_area_as_buffer
from fahw.chip.ledger import Row, action_rows, dynamic_rows, leakages, static_rows, total_pj
from fahw.chip.step_pricing import step_pricing
from fahw.chip.timing.clock import Timing, time_step
from fahw.chip.unit_prices import prices_of
from fahw.errors import ConfigError, Problem, check_integer, check_kind, suggestion
from fahw.garbage import without_garbage_collection
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.hardware.part import Form
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.rules.catalogue import BACKPROPAGATION, RULES
from fahw.rules.rule import Rule
from fahw.work.counts.accesses import spilled_to_dram
from fahw.work.counts.record import Placement, Work
from fahw.work.training_step import NONE, form_of, training_step

SHARED = "shared"
"""Backpropagation on the chip without its feedback memory: the fair baseline."""


@dataclass(frozen=True)
class Cost:
    """Cost of a training step in steady state. Energies in pJ per step, areas in mm2."""

    chip: str
    model: str
    rule: str
    transport: str
    """The transport that was asked for: a form, `shared`, or `none` for a rule that moves nothing."""
    form: str
    """The form that was priced: under `shared` the better form of the chip with one memory."""
    batch_size: int
    clock_mhz: float
    ledger: tuple[Row, ...]
    """Every energy with its address: component, action, tensor, phase, layer, count, unit_pj, energy_pj."""
    timing: Timing
    area_mm2: float
    """Area of the chip as built."""
    area_used_mm2: float
    """Area of the chip with every memory fitted to what this rule stores."""
    placements: tuple[Placement, ...]
    """Which tensor lies in which memory, and what of it spills."""
    feedback_bits: int
    """Bits stored for the error path."""
    transported_bits: float
    """Payload of weight transport per step; energy counts the words that it takes."""
    macs: int
    """Number of multiply-accumulates of a step."""
    one_time_pj: float
    """Energy of writing the rule's own feedback weights once; no part of a step."""
    isolated_static_pj: float
    """Static energy of a step that runs alone, power times `cycles`."""
    work: Work = field(repr=False, compare=False)
    """Work of the step: the tasks that time and energy come from."""
    spilled_bits: int = 0
    """Bits that lie in DRAM because no memory has room for them."""
    micro_batch: int = 0
    """Samples that go through the phases together: at most the batch size."""
    splits: tuple[int, ...] = ()
    """Where `micro_batch: best` asked for the best split: those that it was chosen from, in samples."""

    @property
    def padding_macs(self) -> int:
        """Number of multiply-accumulates of a step with zeros of paddings."""
        return self.work.padding_macs

    @property
    def cycles(self) -> int:
        """Cycles from the first start to the last end of one isolated step."""
        return self.timing.cycles

    @property
    def interval_cycles(self) -> float:
        """Cycles between the ends of consecutive steps in steady state."""
        return self.timing.interval_cycles

    @property
    def seconds(self) -> float:
        """Time of a step in steady state, in seconds."""
        return self.interval_cycles / self.clock_mhz * 1e-6

    @property
    def energy_pj(self) -> float:
        """Energy of a step: the sum of the ledger."""
        return total_pj(self.ledger)

    @property
    def static_pj(self) -> float:
        """The static part of `energy_pj`: leakage, background and clock root over the steady-state interval."""
        return total_pj(row for row in self.ledger if row.static)

    @property
    def energy_pj_per_sample(self) -> float:
        """Energy of a step over its samples."""
        return self.energy_pj / self.batch_size

    @property
    def inference_pj_per_sample(self) -> float:
        """Dynamic energy of inference over its samples: forward without what only training needs (labels, masks, values
        kept for the way back, dropout, noise that mirrors weights)."""
        return total_pj(action_rows(self.work.inference, prices_of(self.work.chip), "forward", "")) / self.batch_size

    @property
    def power_mw(self) -> float:
        """Mean power in steady state, static power included."""
        return self.energy_pj / self.seconds * 1e-9

    @property
    def samples_per_second(self) -> float:
        """Training throughput in steady state."""
        return self.batch_size / self.seconds

    @property
    def tops_per_watt(self) -> float:
        """Operations (two per multiply-accumulate) per second and watt, in tera."""
        return 2 * self.macs / self.energy_pj

    @property
    def energy_delay_js(self) -> float:
        """Energy-delay product of a step, joule seconds."""
        return self.energy_pj * 1e-12 * self.seconds


_OBJECTIVES: dict[str, Callable[[Cost], float]] = {
    "energy": lambda cost: cost.energy_pj, "latency": lambda cost: cost.interval_cycles,
    "edp": lambda cost: cost.energy_delay_js,
}  # fmt: skip
"""What is least of several costs, by the chip's `mapping_objective`: in steady state, static energy included. Splits of
a batch and rivals of equal area are chosen by it."""


def get_rule(name: str) -> Rule:
    """The rule of this name. Raises ConfigError with a suggestion where there is none."""
    check_kind("rule", name, str, f"one of {', '.join(RULES)}")
    if name not in RULES:
        raise ConfigError(Problem("rule", f"no rule '{name}'{suggestion(name, RULES)}; known: {', '.join(RULES)}"))
    return RULES[name]


def rule_names(rules: Iterable[str]) -> list[str]:
    """Names of known rules, at least one. Raises ConfigError with every unknown one."""
    if isinstance(rules, str) or not isinstance(rules, Collection) or not rules:
        raise ConfigError(Problem("rules", f"name at least one rule of {', '.join(RULES)} (got {rules!r})"))
    names: list[str] = []
    problems: list[Problem] = []
    for rule in rules:
        try:
            names.append(get_rule(rule).name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return names


def simulate(
    chip: Chip | str | Path,
    network: Network | str | Path,
    rule: str = "dfa",
    batch_size: int = 64,
    transport: str | None = None,
    activity: Activity | None = None,
) -> Cost:
    """Cost of a training step of `network` on `chip` under `rule`.

    `transport`: a form that the chip lists (its first where None), or `shared` for the chip without its feedback
    memory, under its better form. `activity`: what a training measured (`fahw.activity`), for a chip that skips zeros
    or moves only what changed; the chip file's assumed shares where absent. Raises ConfigError where the chip cannot
    host the rule, with advice.
    """
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    network = network if isinstance(network, Network) else load_model(network)
    value = get_rule(rule)
    check_integer("batch_size", batch_size, 1, 10_000_000)
    check_kind("transport", transport, (str, NoneType), f"one of {', '.join(chip.transport)}, {SHARED}, or None")
    if transport == SHARED and value != BACKPROPAGATION:
        message = f"'{SHARED}' is the baseline of backpropagation; forms for {rule}: {', '.join(chip.transport)}"
        raise ConfigError(Problem("transport", message))
    priced = _best_split if chip.micro_batch == "best" else _at_split
    with without_garbage_collection():
        return priced(chip, network, value, batch_size, transport, activity)


def _best_split(
    chip: Chip, network: Network, rule: Rule, batch_size: int, transport: str | None, activity: Activity | None
) -> Cost:  # fmt: skip
    """The cost at that split of the batch which makes the chip's objective least, the first of equals.

    Splits with more tasks than are simulated, or that do not fit, are not among them. Raises ConfigError where there
    is none: what is wrong with the whole batch.
    """
    best, priced, problems = None, list[int](), list[Problem]()
    for size in splits_of(batch_size):
        split = chip.model_copy(update={"micro_batch": size})
        try:
            cost = _at_split(split, network, rule, batch_size, transport, activity)
        except ConfigError as error:
            problems = problems or list(error.problems)
            continue
        priced.append(size)
        best = cost if best is None else min(best, cost, key=_OBJECTIVES[chip.mapping_objective])
    if best is None:
        raise ConfigError(problems)
    return replace(best, splits=tuple(priced))


def splits_of(batch_size: int) -> tuple[int, ...]:
    """Sizes of the micro-batches that `micro_batch: best` chooses from: the batch, and half of each before, rounded
    up."""
    sizes = [batch_size]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return tuple(sizes)


def _at_split(
    chip: Chip, network: Network, rule: Rule, batch_size: int, transport: str | None, activity: Activity | None
) -> Cost:  # fmt: skip
    if transport == SHARED:
        return _shared(chip, network, rule, batch_size, activity)
    form = form_of(chip, rule, transport, network)
    return _fair_cost(chip, network, rule, batch_size, form, activity)


def _shared(chip: Chip, network: Network, rule: Rule, batch_size: int, activity: Activity | None) -> Cost:
    derived = chip.without_feedback_memory()
    costs: list[Cost] = []
    problems: list[Problem] = []
    for form in derived.transport:
        transposable = form == "transposable"
        rivals, own = [derived], list[Cost]()
        if chip.mapping == "best":
            rivals.append(with_free_area_as_buffer(derived, area_mm2(chip, False), transposable))
        for rival in dict.fromkeys(rivals):
            try:
                if own and not _may_be_better(chip, own[0], rival):
                    continue
                priced_form = form_of(rival, rule, form, network)
                before = own[0].work if own else None
                own.append(_cost(rival, network, rule, batch_size, priced_form, SHARED, activity, before))
            except ConfigError as error:
                problems += error.problems
        costs += own
    if not costs:
        raise ConfigError(list(dict.fromkeys(problems)))
    return _least(chip, costs)


def _fair_cost(
    chip: Chip, network: Network, rule: Rule, batch_size: int, form: Form | None, activity: Activity | None
) -> Cost:  # fmt: skip
    """The cost on the chip as it is, or, under the best mappings, with the area that feedback weights leave free as
    buffer, whichever its objective prefers. What is pinned may fit one of these alone."""
    inputs, costs, problems = (network, rule, batch_size, form), list[Cost](), list[Problem]()
    try:
        costs.append(_cost(chip, *inputs, form or NONE, activity))
    except ConfigError as error:
        if not chip.pins_anything:
            raise
        problems += error.problems
    if chip.mapping != "best":
        return costs[0]
    stored = _stored_feedback(costs[0].placements if costs else _unmapped(chip, *inputs, activity).placements)
    fitted = with_feedback_fitted(chip, stored, form == "transposable")
    try:
        if fitted is not chip and not (costs and not _may_be_better(chip, costs[0], fitted)):
            before = costs[0].work if costs else None
            costs.append(_cost(fitted, *inputs, form or NONE, activity, before))
    except ConfigError:
        if not chip.pins_anything:
            raise
    if not costs:
        raise ConfigError(problems)
    return _least(chip, costs)


def _may_be_better(chip: Chip, cost: Cost, rival: Chip) -> bool:
    """Whether the step whose cost is known may cost less on a rival, with other sizes of memories; where its work would
    be the same, whether it does."""
    if not cost.work.is_same_on(rival):
        return True
    work, names = replace(cost.work, chip=rival), (cost.model, cost.rule)
    repriced = _priced(work, cost.timing, *names, cost.batch_size, cost.form, cost.transport)
    return _least(chip, (cost, repriced)) is not cost


def _least(chip: Chip, costs: Iterable[Cost]) -> Cost:
    """The rival that the chip's objective prefers, of equals that of least energy."""
    objective = _OBJECTIVES[chip.mapping_objective]
    return min(costs, key=lambda cost: (objective(cost), cost.energy_pj))


def _unmapped(
    chip: Chip, network: Network, rule: Rule, batch_size: int, form: Form | None, activity: Activity | None
) -> Work:  # fmt: skip
    """The work of the step without a search."""
    return training_step(chip.model_copy(update={"mapping": "fixed"}), network, rule, batch_size, form, activity)


def _stored_feedback(placements: Iterable[Placement]) -> int:
    """Bits of feedback weights that a memory has to hold."""
    return max((item.bits for item in placements if item.tensor == "feedback"), default=0)


def _cost(
    chip: Chip, network: Network, rule: Rule, batch_size: int, form: Form | None, transport: str,
    activity: Activity | None, rival: Work | None = None,
) -> Cost:  # fmt: skip
    pricing = partial(step_pricing, transposable=form == "transposable")
    work = training_step(chip, network, rule, batch_size, form, activity, pricing, rival)
    timing = time_step(work.tasks, work.chip.tiles_per_task, work.chip.steps_in_flight)
    return _priced(work, timing, network.name, rule.name, batch_size, form or NONE, transport)


def _priced(
    work: Work, timing: Timing, model: str, rule: str, batch_size: int, form: str, transport: str
) -> Cost:  # fmt: skip
    """The cost of work that takes this time."""
    chip, transposable = work.chip, form == "transposable"
    prices = prices_of(chip)
    dram_cycles = timing.busy.get("dram", 0)
    leakage = leakages(chip, transposable, work.placements)
    static = static_rows(chip, leakage, timing.interval_cycles, dram_cycles)
    isolated = total_pj(static_rows(chip, leakage, timing.cycles, dram_cycles))
    one_time = total_pj(action_rows(work.one_time, prices, "", ""))
    return Cost(
        chip=chip.name, model=model, rule=rule, transport=transport, form=form,
        batch_size=batch_size, clock_mhz=chip.clock_mhz, ledger=(*dynamic_rows(work.tasks, prices), *static),
        timing=timing, area_mm2=area_mm2(chip, transposable),
        area_used_mm2=area_mm2(chip, transposable, work.placements), placements=work.placements,
        feedback_bits=work.feedback_bits, transported_bits=work.transported_bits, macs=work.macs,
        one_time_pj=one_time, isolated_static_pj=isolated, work=work, spilled_bits=spilled_to_dram(work.placements),
        micro_batch=chip.together(batch_size),
    )  # fmt: skip
