"""What of a step's work is the same on a chip whose memories have other sizes, so that a rival costs less to search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fahw.hardware.chip import Chip
from fahw.work.context import StepContext
from fahw.work.counts.accesses import Accesses
from fahw.work.counts.site import Site
from fahw.work.plan.measured import measured, product_tasks
from fahw.work.plan.others import CountingPlan
from fahw.work.plan.pricing import Pricing, price_book


def is_same_on(
    chip: Chip, step: StepContext, pricing: Callable[[Chip], Pricing] | None, counted: CountingPlan | None
) -> bool:  # fmt: skip
    """Whether the step's plan is the best on a chip with more room, too, and all counts of its work are the same; not
    known to be so where False.

    That is so where all is kept and no product is cut, as nothing depends on sizes then but prices; and these decide
    nothing but the forms of errors. `chip`: that of the step, but for sizes of memories, in which all has room that it
    keeps. `counted`: what was counted of the step before its search, where it was searched.
    """
    plan = step.plan
    if plan is None or pricing is None or not plan.is_whole or chip.mesh or _are_fitted(chip):
        return False
    sites = {core: Site(chip, core, site.prefix, Accesses(chip, (), site.prefix)) for core, site in step.sites.items()}
    there = replace(step, chip=chip, sites=sites, plan=None, task=None)
    if there.transposed != step.transposed:
        return False
    book = price_book(pricing(chip), chip)
    products = counted.on(chip, book).products if counted is not None else product_tasks(there)
    tasks = [task for task in products if len(task.forms) > 1]
    undecided = replace(plan, chip=chip, book=book, forms={}) if tasks else plan
    forms = measured(there, undecided, tasks).forms
    return all(plan.forms[part] == form for part, form in forms.items())


def _are_fitted(chip: Chip) -> bool:
    """Whether memories are built to fit, so that sizes follow from the work."""
    return any(memory.size_kib == "fit" for memory in chip.memories)


def differ_in_sizes(one: Chip, other: Chip) -> bool:
    """Whether two chips differ in nothing but the sizes of memories, and a step on them in nothing but what is kept and
    how products are cut: the same parts, tensors and products."""
    if one.mesh or _are_fitted(one) or _are_fitted(other) or len(one.memories) != len(other.memories):
        return False
    if any(kind.keeps_sums for array in one.arrays for kind in array.kinds):  # whose layout depends on the buffer
        return False
    pairs = list(zip(one.memories, other.memories, strict=True))
    resized = tuple(
        own if own == their else own.model_copy(update={"size_kib": their.size_kib})
        for own, their in pairs
        if own == their or own.bank_kib
    )
    return resized == other.memories and one.model_copy(update={"memories": other.memories}) == other
