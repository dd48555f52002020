"""Errors that a chip file says two tasks share tile by tile, checked."""

from __future__ import annotations

from collections.abc import Sequence

from fahw.errors import Problem, suggestion
from fahw.hardware.pinned_mapping import PinnedSharing, PinnedTensor
from fahw.work.plan.fused.error import FusedError
from fahw.work.plan.fused.fusing import Shareable, shareable, with_fused
from fahw.work.plan.keeping import Keeping


def with_shared(keeping: Keeping, entries: Sequence[PinnedSharing]) -> tuple[Keeping, list[Problem]]:
    """The step in which tasks share the tiles of these errors, and what is wrong with entries."""
    if not entries:
        return keeping, []
    numbers = {(tensor.core, tensor.name): number for number, tensor in enumerate(keeping.tensors)}
    known = {found.number: found for found in shareable(keeping)}
    errors, problems, taken = list[FusedError](), list[Problem](), set[object]()
    for entry in entries:
        number = numbers.get((entry.core, entry.name))
        found = None if number is None else known.get(number)
        if number is None:
            problems.append(unknown_tensor(keeping, entry))
        elif found is None or not taken.isdisjoint(found.tasks):
            problems.append(entry.problem(_unshareable(keeping, entry, found), "name"))
        elif message := _wrong_samples(keeping, entry):
            problems.append(entry.problem(message, "samples"))
        else:
            errors.append(found.in_sub_batches(keeping, entry.samples))
            taken.update(found.tasks)
    return (with_fused(keeping, errors) if errors else keeping), problems


def unknown_tensor(keeping: Keeping, entry: PinnedTensor | PinnedSharing) -> Problem:
    """The mistake that a step keeps no tensor of an entry's name."""
    names, step = list(dict.fromkeys(tensor.name for tensor in keeping.tensors)), keeping.step
    where = f" on core {entry.core}" if step.chip.mesh else ""
    what = f"no tensor '{entry.name}'{where} in a step of {step.rule.name} on {step.network.name}"
    return entry.problem(f"{what}{suggestion(entry.name, names)}", "name")


def _unshareable(keeping: Keeping, entry: PinnedSharing, found: Shareable | None) -> str:
    if found is not None:
        return f"a task of '{entry.name}' shares the tiles of another error already"
    if keeping.step.rule.path == "direct":
        why = "it is not made by one product and read by one, on one core and sample by sample"
    else:
        why = "it is not read by the products of an error and of a gradient on one core"
    return f"no two tasks can share the tiles of '{entry.name}': {why}"


def _wrong_samples(keeping: Keeping, entry: PinnedSharing) -> str:
    """What is wrong with the samples of an entry; empty where nothing is."""
    sizes = dict.fromkeys(keeping.step.micro_batch_sizes)
    if entry.samples < max(sizes) and all(size % entry.samples == 0 for size in sizes):
        return ""
    text = " and ".join(map(str, sizes))
    return f"a sub-batch is a part of a micro-batch, which it divides: of {text} samples (got {entry.samples})"
