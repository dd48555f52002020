"""Steps under the best mappings as their search leaves them, and what the ledger says of their parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from fahw.chip.cost import simulate
from fahw.hardware.memory import MemoryEnergy
from fahw.work import training_step
from fahw.work.layer_gemms import error_form, traffic_of
from fahw.work.phases.error import _add_windows
from fahw.work.plan import search
from fahw.work.plan.measured import product_tasks


@dataclass(frozen=True)
class Searched:
    """A step with the best plan found, what the search says of it, and prices. `shares`: of each way to keep a
    tensor."""

    step: Any
    found: Any
    keeping: Any
    shares: Any
    pricing: Any


@contextmanager
def _noted(costed: list[Any], searched: list[Searched]) -> Iterator[None]:
    cost, plan = search._costed, training_step.planned

    def note_costed(step: Any, keeping: Any, its_plan: Any, shares: Any, *rest: Any) -> Any:
        found = cost(step, keeping, its_plan, shares, *rest)
        costed.append((found, keeping, shares))
        return found

    def note_planned(step: Any, tasks: Any, tensors: Any, counted: Any) -> Any:
        costed.clear()
        step = plan(step, tasks, tensors, counted)
        for found, keeping, shares in costed:
            if (found.plan.shares, found.plan.room) == (step.plan.shares, step.plan.room):
                searched.append(Searched(step, found, keeping, shares, counted.book.pricing))
                break
        return step

    search.known_plans.cache_clear()  # a plan that is known is not searched
    with patch.object(search, "_costed", note_costed), patch.object(training_step, "planned", note_planned):
        yield


def with_outer_home(chip: Any, kib: float, local_kib: float | None) -> Any:
    """A chip under `mapping: best` with local memories of this size, or its own, and one behind them that holds the
    same tensors; none where it has no room. Accesses cost the same whatever the size, and nothing leaks."""
    writable = [memory for memory in chip.memories if memory.writable]
    near, far = (MemoryEnergy(read_pj=pj, write_pj=pj, leak_mw=0.0, area_mm2=0.0) for pj in (5.0, 20.0))
    sizes = {"size_kib": local_kib, "bank_kib": None} if local_kib else {}
    local = [memory.model_copy(update={"energy": near, **sizes}) for memory in chip.memories]
    kinds = tuple(dict.fromkeys(kind for memory in writable for kind in memory.holds))
    more = {"name": "behind", "level": "global", "holds": kinds, "size_kib": kib, "bank_kib": None, "energy": far}
    behind = [writable[0].model_copy(update=more)] if kib else []
    return chip.model_copy(update={"mapping": "best", "memories": (*local, *behind)})


def dynamic_pj(cost: Any) -> float:
    """Energy of a step without leakage."""
    return sum(row.energy_pj for row in cost.ledger if row.action != "leakage")


def searched(chip: Any, network: Any, rule: str, batch: int) -> Searched | None:
    """The step on the chip itself with its best plan; None where all is kept, and nothing had to be searched."""
    found: list[Searched] = []
    with _noted([], found):
        simulate(chip.model_copy(update={"mapping": "best"}), network, rule, batch)
    return found[0] if found else None


def product_counts(step: Any, work: Any) -> list[tuple[Any, list[Any]]]:
    """The products of a task of the first micro-batch, each with its counts."""
    under, samples = step.during(work.task), step.micro_batch_sizes[0]
    phase = {"transport": "error", "recompute": "forward"}.get(work.task[0], work.task[0])
    site, products = under.site(work.part, phase), []
    form = error_form(under, work.part, samples) if phase == "error" else None
    gemms = work.products(under, work.part, samples)
    for gemm in gemms:
        counts = [*traffic_of(site, gemm, phase).counts]
        if form is not None and form.name == "scatter" and work.task[0] == "error" and gemm is gemms[-1]:
            counts += _add_windows(site, gemm, site.array("error"), step.bits("accumulator"), form).counts
        products.append((gemm, counts))
    return products


def product_energies(one: Searched) -> Iterator[tuple[Any, float, float, int]]:
    """Yield each task with products in tiles: its energy as the mapper has it and as the ledger has it, both without
    leakage, and the rows of DRAM that the ledger opens."""
    static = one.pricing.static_pj_per_cycle
    for work in product_tasks(one.step):
        products = [(g, c) for g, c in product_counts(one.step, work) if g.mapping.name == "tiled"]
        mapped = sum((g.mapping.mapped.energy_pj - g.mapping.mapped.latency * static) * g.repeats for g, _ in products)
        counts = [count for _, counts in products for count in counts if count.action != "ungated"]
        rows = sum(count.action == "activate" for count in counts)
        if products:
            yield work, mapped, one.pricing.energy_pj(counts), rows


def reads_what_it_fetches(one: Searched, work: Any) -> bool:
    """Whether a task's products read every value that comes for them: where zeros of the other operand are skipped,
    some are read for none, which the ledger leaves out and the search does not."""
    return all(
        sum(times * number for times, number in bursts) >= gemm.mapping.fetched[side]
        for gemm, _ in product_counts(one.step, work)
        if gemm.mapping.name == "tiled"
        for side, bursts in gemm.mapping.unskipped_bursts(
            tuple(operand.zeros if operand.skipping == "skip" else 0.0 for operand in gemm.operands)
        )
    )


def step_pj(one: Searched, step: Any = None) -> float:
    """Dynamic energy of a step."""
    return sum(one.pricing.energy_pj(task.counts) / task.every for task in training_step._tasks(step or one.step, {}))


def others_pj(one: Searched) -> float:
    """What accesses other than those of products cost more than if all were on the chip."""

    def without_products(step: Any) -> float:
        products = (
            one.pricing.energy_pj(counts) * work.times
            for work in product_tasks(step) for _, counts in product_counts(step, work)
        )  # fmt: skip
        return step_pj(one, step) - sum(products)

    here = replace(one.step, plan=replace(one.step.plan, shares={}))
    return without_products(one.step) - without_products(here)
