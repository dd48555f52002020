"""Costs of many points: what a cost depends on as a key, and the cost as a compact record. Loads no torch."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from math import fsum
from typing import Any

from fahw.activity import Activity
from fahw.chip.cost import SHARED, Cost, get_rule, simulate
from fahw.errors import FAULTS, ConfigError, fault_text
from fahw.garbage import without_garbage_collection
from fahw.hardware.chip import Chip
from fahw.network.graph import Network
from fahw.rules.catalogue import stored_name
from fahw.study.costs.equal_area import at_equal_area
from fahw.study.storage.result_files import compact_json
from fahw.version import code_digest

NOT_COSTS = ("cli", "datasets", "learn", "report", "study")
"""Folders of the package that no cost comes from, but for `COST_MODULES`."""
COST_MODULES = ("study/costs/cost_record.py", "study/costs/equal_area.py", "study/storage/result_files.py")
"""Modules of those folders that costs do come from."""
_DIGITS = 12
"""Significant digits of an energy in a stored ledger."""

FIGURES = (
    "transport", "form", "cycles", "interval_cycles", "seconds", "energy_pj", "energy_pj_per_sample", "static_pj",
    "one_time_pj", "area_mm2", "area_used_mm2", "feedback_bits", "transported_bits", "spilled_bits", "macs",
    "inference_pj_per_sample", "power_mw", "samples_per_second", "tops_per_watt", "energy_delay_js", "micro_batch",
)  # fmt: skip


@dataclass(frozen=True)
class PackedChip:
    """A chip in a few hundred bytes, so that thousands fit; `key` stands for its content."""

    key: str
    packed: bytes
    forms: tuple[str, ...]
    """Its forms of weight transport, the default first."""
    two_memories: bool
    """Whether the error path has a weight memory of its own."""
    shared_key: str
    """The key of the chip where backpropagation has one memory: the links to the other do not count."""
    uses_activity: bool
    """Whether its costs depend on what a training measures."""

    def unpack(self) -> Chip:
        """The chip itself, built anew at each call."""
        return Chip.model_validate_json(zlib.decompress(self.packed), strict=False)


@dataclass(frozen=True)
class Request:
    """All that the cost of a point depends on."""

    chip: PackedChip
    network: Network
    rule: str
    batch_size: int
    transport: str | None
    activity: Activity | None = None
    """What trainings measured, for chips that use it."""
    micro_batch: int | None = None
    """The split that a chip which asks for the best one gets, where it was searched before."""

    def key(self, network_key: str) -> str:
        """The name of the cost in a store: it stands for the content of the request and for the code that computes the
        cost."""
        activity = "" if self.activity is None else json.dumps(asdict(self.activity))
        rule = stored_name(get_rule(self.rule))
        chip = self.chip.shared_key if self.transport == SHARED else self.chip.key
        contents = [code_key(), chip, network_key, rule, str(self.batch_size), str(self.transport), activity]
        contents += [str(self.micro_batch)] if self.micro_batch else []
        return _digest(" ".join(contents))


def pack_chip(chip: Chip) -> PackedChip:
    """The chip, packed; names and descriptions do not change its key."""
    baseline = chip.without_feedback_memory()
    two_memories = baseline is not chip
    key, packed = _content_key(chip), zlib.compress(chip.model_dump_json(by_alias=True).encode(), 1)
    shared = _content_key(chip.model_copy(update={"links": baseline.links})) if two_memories else key
    return PackedChip(key, packed, chip.transport, two_memories, shared, chip.uses_activity)


def _content_key(chip: Chip) -> str:
    """A key for all of a chip that costs depend on: its names, descriptions and sources are left out, and the name of a
    file whose content it has."""
    left_out = {"name", "description", "source", "assumed", "pinned_mappings"}
    return _digest(chip.model_dump_json(exclude=left_out, by_alias=True))


def network_key(network: Network) -> str:
    """A key for the geometry of a network, how direct rules send the error into it, and what updates compute."""
    geometry = [layer.description() for layer in network.layers]
    error_path = (network.input_shape, network.dfa_feedback, network.dfa_residual)
    recipe = network.recipe
    updates_by_rule = {
        rule: (tuning.optimizer, tuning.weight_decay is None or tuning.weight_decay > 0, tuning.clip is None)
        for rule, tuning in recipe.rules.items()
        if (tuning.optimizer, tuning.weight_decay, tuning.clip) != (None, None, None)
    }
    shared = (recipe.optimizer, recipe.weight_decay > 0, recipe.clip is None, recipe.power_of_two_rates)
    return _digest(json.dumps([geometry, error_path, shared, updates_by_rule], sort_keys=True, default=str))


def code_key() -> str:
    """A key for the code and the tables that costs come from: a change of either makes stored costs unknown."""
    return code_digest(NOT_COSTS, COST_MODULES)


def price_records(requests: Sequence[Request]) -> list[tuple[str, bool]]:
    """The record of each request as JSON text, and whether it is final: a fault of fahw's is not."""
    with without_garbage_collection():
        return [_record_text(_chip_of(request), request) for request in requests]


def _chip_of(request: Request) -> Chip:
    """The chip of a request, with its micro-batch where that was searched before."""
    chip = _unpacked_chip(request.chip)
    return chip.model_copy(update={"micro_batch": request.micro_batch}) if request.micro_batch else chip


@lru_cache(maxsize=64)
def _unpacked_chip(chip: PackedChip) -> Chip:
    """The chip, unpacked once for the points that share it."""
    return chip.unpack()


def _record_text(chip: Chip, request: Request) -> tuple[str, bool]:
    """The record of a request as JSON text, or the reason why there is none; and whether that is final."""
    try:
        return compact_json(_simulated_record(chip, request)), True
    except ConfigError as error:
        return compact_json({"reason": error.problems[0].message}), True
    except FAULTS as error:
        return compact_json({"reason": f"fahw failed: {fault_text(error)}"}), False


def _simulated_record(chip: Chip, request: Request) -> dict[str, Any]:
    """The record of a request; for backpropagation on one memory also its figures at equal area."""
    cost = simulate(chip, request.network, request.rule, request.batch_size, request.transport, request.activity)
    if request.transport != SHARED or not request.chip.two_memories:
        return cost_record(cost)
    equal_area = at_equal_area(chip, request.network, cost, request.activity)
    figures = {name: getattr(equal_area.cost, name) for name in ("energy_pj", "seconds", "area_mm2")}
    return cost_record(cost) | {
        "equal_area": figures | {"grown_memory": equal_area.memory, "added_kib": equal_area.added_kib}
    }


def cost_record(cost: Cost) -> dict[str, Any]:
    """What is stored of a cost: its figures, and its ledger by phase, each entry a component, kind of constant,
    uncertainty and energy in pJ."""
    sums: dict[tuple[str, str, str, float], list[float]] = defaultdict(list)
    for row in cost.ledger:
        sums[row.phase or "static", row.component, row.price.kind, row.price.factor].append(row.energy_pj)
    ledger: dict[str, list[list[Any]]] = {}
    for (phase, *address), parts in sums.items():
        ledger.setdefault(phase, []).append([*address, float(f"{fsum(parts):.{_DIGITS}g}")])
    return {name: getattr(cost, name) for name in FIGURES} | {"ledger": ledger}


def _digest(text: str) -> str:
    """The first 20 hexadecimal digits of the text's SHA-256."""
    return sha256(text.encode()).hexdigest()[:20]


def is_record(value: Any) -> bool:
    """Whether a stored value is a cost's record, or the reason why there is none: a line can be whole and hold another
    thing."""
    if not isinstance(value, dict) or "reason" in value:
        return isinstance(value, dict) and isinstance(value["reason"], str)
    ledger, numbers = value.get("ledger"), (value.get(name) for name in FIGURES[2:])
    return (
        isinstance(ledger, dict)
        and all(isinstance(value.get(name), str) for name in FIGURES[:2])
        and all(map(_is_number, numbers))
        and all(isinstance(entries, list) and all(map(_is_entry, entries)) for entries in ledger.values())
    )


def _is_number(value: Any) -> bool:
    """Whether a stored value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_entry(entry: Any) -> bool:
    """Whether a stored value is an entry of a record's ledger: component, kind, uncertainty and energy."""
    return (
        isinstance(entry, list)
        and [isinstance(part, str) for part in entry] == [True, True, False, False]
        and all(map(_is_number, entry[2:]))
    )


def figures_of(record: dict[str, Any]) -> dict[str, Any]:
    """The figures of a cost's record, and under `kinds` its energy in pJ by kind and uncertainty of the constant; the
    ledger itself stays in the store."""
    kinds: dict[tuple[str, float], float] = defaultdict(float)
    for _, _, kind, factor, energy_pj in ledger_entries(record["ledger"]):
        kinds[kind, factor] += energy_pj
    return {name: value for name, value in record.items() if name != "ledger"} | {"kinds": dict(kinds)}


def ledger_entries(ledger: dict[str, list[list[Any]]]) -> list[list[Any]]:
    """The entries of a record's ledger: phase, component, kind, uncertainty and energy in pJ of each."""
    return [[phase, *entry] for phase, entries in ledger.items() for entry in entries]
