"""The mappings that a search found: as a file that a chip can pin, and as a table of the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fahw.chip.cost import Cost
from fahw.errors import ConfigError, Problem, printable
from fahw.report.run_folder import Line, Run
from fahw.report.table import Table, pivot
from fahw.work.counts.plan_record import FusedRecord, OuterRecord, PlanRecord, ProductRecord, TensorRecord

Cells = dict[tuple[str, ...], str]


def pinned_text(cost: Cost) -> str:
    """What the search decided for a cost, as the YAML file that `pinned_mappings` of a chip names.

    Raises ConfigError where nothing was searched.
    """
    plan = cost.work.plan
    if plan is None:
        message = "nothing was searched for: the chip has `mapping: fixed` (--set chip.mapping=best)"
        raise ConfigError(Problem("--save-mapping", message))
    return "\n".join(_lines(cost, plan)) + "\n"


def _lines(cost: Cost, plan: PlanRecord) -> Iterator[str]:
    what = f"{cost.model} on {cost.chip} under {cost.rule}, batch {cost.batch_size}"
    what += f", micro-batch {cost.micro_batch}" if cost.micro_batch < cost.batch_size else ""
    yield printable(f"# {what}: best for {plan.objective}.")
    yield "# For a chip file: `mapping: best` and `pinned_mappings: THIS_FILE`. What is left out is searched."
    own = {"rule": cost.rule, "transport": cost.form}
    for name, entries in (
        ("layer_mappings", [_mapping_entry(record) for record in plan.products]),
        ("kept_tensors", [_tensor_entry(record) for record in plan.tensors]),
        ("shared_errors", [_sharing_entry(record) for record in plan.fused]),
        ("waiting_tasks", [{"waits": plan.waits}]),
    ):
        yield f"{name}:" if entries else f"{name}: []"
        # sub-batches of a smaller last micro-batch are those of the others
        yield from dict.fromkeys(f"- {json.dumps(entry | own, ensure_ascii=False)}" for entry in entries)


def _mapping_entry(record: ProductRecord) -> dict[str, Any]:
    """A mapping as `PinnedMapping` has it."""
    form = {"form": record.form} if record.form else {}
    names = ("layer", "phase", "product", "sizes", "dataflow", "tile", "order", "hold", "blocks")
    return {name: getattr(record, name) for name in names} | form | _outer_entry(record.outer)


def _outer_entry(outer: OuterRecord | None) -> dict[str, Any]:
    """Tiles behind the local memories as `PinnedOuter` has them."""
    return {"outer": {name: getattr(outer, name) for name in ("tile", "order", "hold")}} if outer else {}


def _tensor_entry(record: TensorRecord) -> dict[str, Any]:
    """A tensor as `PinnedTensor` has it."""
    outer = {"outer_shares": record.outer_shares} if any(record.outer_shares) else {}
    return {"name": record.name, "core": record.core, "shares": record.shares} | outer


def _sharing_entry(record: FusedRecord) -> dict[str, Any]:
    """An error in tiles that two tasks share, as `PinnedSharing` has it."""
    return {"name": record.name, "core": record.core, "samples": record.samples}


def mapping_table(run: Run) -> Table | None:
    """The table of how every product is mapped, under each rule; None where none was."""
    columns = [(line.label, _cells(line)) for line in run.hosted if line.details.get("mapping")]
    keys = list(dict.fromkeys(key for _, cells in columns for key in cells))
    notes = (
        "Dataflow, the tile along M, N and K, the loops over tiles from the outermost, and of what all tiles over "
        "which the inner loops run are held. Blocks: what streams is cut so that sums stay at the array's edge. An "
        "error is gathered or scattered where it has the choice.",
    )
    return pivot("mapping", "Mapping of every product", ("layer", "phase", "product"), columns, keys, notes)


def _cells(line: Line) -> Cells:
    """The mapping of each product in words, by layer, phase and number."""
    cells: Cells = {}
    for record in line.details["mapping"]["products"]:
        key = record["layer"], record["phase"], str(record["product"])
        cells[key if key not in cells else (*key[:2], f"{key[2]}, last micro-batch")] = mapping_words(record)
    return cells


def mapping_words(record: dict[str, Any]) -> str:
    """A mapping in a few words: `gather, ws 64x32x144 mnk, hold left`."""
    words, outer = f"{record['dataflow']} {_loop_words(record)}", record.get("outer")
    parts = [record["form"], words, "blocks" if record["blocks"] else "", f"in {_loop_words(outer)}" if outer else ""]
    return ", ".join(part for part in parts if part)


def _loop_words(record: dict[str, Any]) -> str:
    """Tile, order and what is held."""
    words = f"{'x'.join(map(str, record['tile']))} {record['order']}"
    return f"{words}, hold {'+'.join(record['hold'])}" if record["hold"] else words
