"""Pairs of random setups of which one leaves more open, at equal prices, and what the plans found for both cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest.mock import patch

from fahw.chip import cost
from fahw.chip.step_pricing import StepPricing
from fahw.errors import ConfigError
from fahw.mapping.tiled import TiledMapping
from fahw.work import training_step
from fahw.work.mesh import parts_of
from fahw.work.plan import search
from fahw.work.plan.measured import product_tasks
from tests.support.random_setups import RandomSetup, large_setup, tight

PRICES = {"read_pj": 1, "write_pj": 1.5, "leak_mw": 0.05, "area_mm2": 0.01}
"""Of every memory, whatever its size and ports."""


@dataclass(frozen=True)
class Planned:
    """What a plan costs per step: pJ of all actions, cycles of all products, and pJ of static power in one."""

    dynamic_pj: float
    cycles: float
    static_pj: float

    @property
    def energy_pj(self) -> float:
        """What the search makes small: actions, and static power while products are computed."""
        return self.dynamic_pj + self.static_pj * self.cycles


@dataclass(frozen=True)
class Pair:
    """A setup, and one that leaves the search more: what is more, and whether errors may share tiles in the first."""

    name: str
    less: RandomSetup
    more: RandomSetup
    shares_errors: bool = True


def setup_of(seed: int) -> RandomSetup:
    """A setup in whose memories not all has room, at equal prices of all sizes. Layers keep their cores: with larger
    memories a layer is split over fewer, which is another chip."""
    setup = tight(large_setup(seed), Random(seed).choice([0.1, 0.2, 0.4, 0.7]))
    prices = {f"memories.{n}.energy": PRICES for n in range(len(setup.chip["memories"]))}
    setup = setup.with_chip(prices | {"mapping": "best"})
    if setup.chip.get("mesh") is None:
        return setup
    parts = parts_of(setup.made_chip, setup.network, False)
    return setup.with_chip({"mesh.placement": {name: [part.core for part in of] for name, of in parts.items()}})


def pairs(setup: RandomSetup) -> Iterator[Pair]:
    """All pairs with the setup."""
    memories = setup.chip["memories"]
    for n, memory in enumerate(memories):
        size = memory["size_kib"]
        for factor in (1.3, 2, 5):
            larger = {f"memories.{n}.size_kib": max(size + 1, int(size * factor))}
            yield Pair(f"{memory['name']} x {factor}", setup, setup.with_chip(larger))
        ports = {f"memories.{n}.{key}": 2 * memory[key] for key in ("read_bits_per_cycle", "write_bits_per_cycle")}
        yield Pair(f"{memory['name']}'s ports x 2", setup, setup.with_chip(ports))
    larger = {f"memories.{n}.size_kib": 1.5 * memory["size_kib"] for n, memory in enumerate(memories)}
    yield Pair("all memories x 1.5", setup, setup.with_chip(larger))
    yield Pair("DRAM x 2", setup, setup.with_chip({"dram.gbyte_per_s": 2 * setup.chip["dram"]["gbyte_per_s"]}))
    for form in ("gather", "scatter"):
        yield Pair(f"{form} or the other form", setup.with_chip({"error_form": form}), setup)
    yield Pair("shared errors", setup, setup, shares_errors=False)
    for n, array in enumerate(setup.chip["arrays"]):
        if "broadcast" not in array["phases"].values():
            yield from _of_array(setup, n, array)


def _of_array(setup: RandomSetup, n: int, array: dict[str, Any]) -> Iterator[Pair]:
    flows = setup.with_chip({f"arrays.{n}.dataflows": ["os", "ws", "is"]})
    yield Pair(f"dataflows of {array['name']}", setup, flows)
    for key in ("accumulators", "weights_per_element"):
        for number in (2, 8):
            more = flows.with_chip({f"arrays.{n}.{key}": number})
            yield Pair(f"{number} {key} of {array['name']}", flows, more)


@contextmanager
def _noting(noted: list[Any], static_pj: float | None, shares_errors: bool) -> Iterator[None]:
    plan, prices = training_step.planned, cost.step_pricing

    def note(step: Any, tasks: Any, tensors: Any, counted: Any) -> Any:
        found = plan(step, tasks, tensors, counted)
        noted.append((found, counted.book.pricing))
        return found

    def priced(chip: Any, transposable: Any) -> StepPricing:
        own = prices(chip, transposable)
        return own if static_pj is None else StepPricing(own.prices, static_pj)

    search.known_plans.cache_clear()  # a plan that is known is not searched
    with ExitStack() as patches:
        patches.enter_context(patch.object(training_step, "planned", note))
        patches.enter_context(patch.object(cost, "step_pricing", priced))
        if not shares_errors:
            patches.enter_context(patch.object(search, "worth_sharing", lambda *_: ()))
        yield


def planned(setup: RandomSetup, static_pj: float | None = None, shares_errors: bool = True) -> Planned:
    """What the plan found costs, at the chip's own static power or a given one. Raises ConfigError."""
    noted: list[Any] = []
    with _noting(noted, static_pj, shares_errors):
        cost.simulate(setup.made_chip, setup.network, setup.rule, setup.batch)
    step, pricing = noted[0]
    dynamic = sum(pricing.energy_pj(task.counts) / task.every for task in training_step._tasks(step, {}))
    cycles = 0.0
    for work in product_tasks(step):
        for gemm in work.products(step.during(work.task), work.part, step.micro_batch_sizes[0]):
            mapped = gemm.mapping.mapped if isinstance(gemm.mapping, TiledMapping) else None
            cycles += (mapped.latency * gemm.repeats if mapped else gemm.cycles) * work.times
    return Planned(dynamic, cycles, pricing.static_pj_per_cycle)


def rises(seed: int, chosen: Random | None = None, number: int = 3) -> Iterator[tuple[Pair, Planned, Planned]]:
    """Yield pairs with a seed's setup, all or a `number` of them, and both plans; none where no tile fits at first."""
    try:
        setup = setup_of(seed)
        own = planned(setup)
    except ConfigError:
        return
    found = list(pairs(setup))
    known: dict[tuple[int, bool], Planned] = {(id(setup), True): own}
    for pair in chosen.sample(found, number) if chosen else found:
        key = id(pair.less), pair.shares_errors
        try:
            known[key] = known.get(key) or planned(pair.less, own.static_pj, pair.shares_errors)
        except ConfigError:
            continue  # one form of an error alone may not fit
        yield pair, known[key], planned(pair.more, own.static_pj)
