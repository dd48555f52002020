"""Costs of many points: what a cost depends on as a key, and the cost as a compact record. Loads no torch."""

from __future__ import annotations

import gc
import json
import pickle
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from math import fsum
from typing import Any

from fahw.activity import Activity
from fahw.chip.cost import SHARED, Cost, simulate
from fahw.errors import FAULTS, ConfigError, fault_text
from fahw.hardware.chip import Chip
from fahw.network.graph import Network
from fahw.study.costs.equal_area import at_equal_area
from fahw.study.storage.result_files import compact
from fahw.version import code_digest

NOT_COSTS = ("cli", "datasets", "learn", "report", "study")
"""Folders of the package that no cost comes from."""
BUT_COSTS = ("study/costs/cost_record.py", "study/costs/equal_area.py", "study/storage/result_files.py")
"""Modules there that costs do come from."""
_DIGITS = 12

FIGURES = (
    "transport", "form", "cycles", "interval_cycles", "seconds", "energy_pj", "energy_pj_per_sample", "static_pj",
    "one_time_pj", "area_mm2", "area_used_mm2", "feedback_bits", "transported_bits", "spilled_bits", "macs",
    "inference_pj_per_sample", "power_mw", "samples_per_second", "tops_per_watt", "energy_delay_js",
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
    """Stands for what counts where backpropagation has one memory: all but the links to the other."""
    uses_activity: bool
    """Whether its costs depend on what a training measures."""

    def unpack(self) -> Chip:
        """The chip."""
        chip = pickle.loads(zlib.decompress(self.packed))
        assert isinstance(chip, Chip)
        return chip


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

    def key(self, network_key: str) -> str:
        """Name of the cost in a store: by content, the code that computes it included."""
        seen = "" if self.activity is None else json.dumps(asdict(self.activity))
        chip = self.chip.shared_key if self.transport == SHARED else self.chip.key
        parts = (code_key(), chip, network_key, self.rule, str(self.batch_size), str(self.transport), seen)
        return _digest(" ".join(parts))


def pack(chip: Chip) -> PackedChip:
    """`chip`, packed; names and descriptions do not change its key."""
    derived = chip.without_feedback_memory()
    two = derived is not chip
    key, packed = _content(chip), zlib.compress(pickle.dumps(chip), 1)
    shared = _content(chip.model_copy(update={"links": derived.links})) if two else key
    return PackedChip(key, packed, chip.transport, two, shared, chip.uses_activity)


def _content(chip: Chip) -> str:
    return _digest(chip.model_dump_json(exclude={"name", "description", "source", "assumed"}, by_alias=True))


def network_key(network: Network) -> str:
    """Stands for the geometry of a network, how direct rules send the error into it, and what updates compute."""
    geometry = [asdict(layer) for layer in network.layers]
    ways = (network.input_shape, network.dfa_feedback, network.dfa_residual)
    recipe = network.recipe
    updates = {
        rule: (own.optimizer, own.weight_decay is None or own.weight_decay > 0, own.clip is None)
        for rule, own in recipe.rules.items()
        if (own.optimizer, own.weight_decay, own.clip) != (None, None, None)
    }
    shared = (recipe.optimizer, recipe.weight_decay > 0, recipe.clip is None, recipe.power_of_two_rates)
    return _digest(json.dumps([geometry, ways, shared, updates], sort_keys=True, default=str))


def code_key() -> str:
    """Stands for the code and the tables that costs come from: a change of either makes stored costs unknown."""
    return code_digest(NOT_COSTS, BUT_COSTS)


def price_all(requests: Sequence[Request]) -> list[tuple[str, bool]]:
    """The record of each request as JSON text, and whether it is the answer for good (not a fault of fahw's)."""
    with _uncollected():
        return [_priced(_unpacked(request.chip), request) for request in requests]


@lru_cache(maxsize=64)
def _unpacked(chip: PackedChip) -> Chip:
    return chip.unpack()


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: a cost is hundreds of thousands of small objects, which it would go through
    again and again (a tenth of the time). What refers to itself is collected afterwards."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
            gc.collect(0)


def _priced(chip: Chip, request: Request) -> tuple[str, bool]:
    try:
        return compact(_record(chip, request)), True
    except ConfigError as error:
        return compact({"reason": error.problems[0].message}), True
    except FAULTS as error:
        return compact({"reason": f"fahw failed: {fault_text(error)}"}), False


def _record(chip: Chip, request: Request) -> dict[str, Any]:
    cost = simulate(chip, request.network, request.rule, request.batch_size, request.transport, request.activity)
    if request.transport != SHARED or not request.chip.two_memories:
        return record(cost)
    grown = at_equal_area(chip, request.network, cost, request.activity)
    figures = {name: getattr(grown.cost, name) for name in ("energy_pj", "seconds", "area_mm2")}
    return record(cost) | {"equal_area": figures | {"grown_memory": grown.memory, "added_kib": grown.added_kib}}


def record(cost: Cost) -> dict[str, Any]:
    """What is kept of a cost: its figures, and its ledger by phase; there by component, kind and uncertainty of the
    price."""
    sums: dict[tuple[str, str, str, float], list[float]] = defaultdict(list)
    for row in cost.ledger:
        sums[row.phase or "static", row.component, row.price.kind, row.price.factor].append(row.energy_pj)
    ledger: dict[str, list[list[Any]]] = {}
    for (phase, *address), parts in sums.items():
        ledger.setdefault(phase, []).append([*address, float(f"{fsum(parts):.{_DIGITS}g}")])
    return {name: getattr(cost, name) for name in FIGURES} | {"ledger": ledger}


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:20]


def figures_of(record: dict[str, Any]) -> dict[str, Any]:
    """The figures of a cost's record, and under `kinds` its energy by kind and uncertainty of the price; the ledger
    itself stays in the store."""
    kinds: dict[tuple[str, float], float] = defaultdict(float)
    for _, _, kind, factor, energy_pj in ledger_entries(record["ledger"]):
        kinds[kind, factor] += energy_pj
    return {name: value for name, value in record.items() if name != "ledger"} | {"kinds": dict(kinds)}


def ledger_entries(ledger: dict[str, list[list[Any]]]) -> list[list[Any]]:
    """Phase, component, kind, uncertainty and energy of each entry of a record's ledger."""
    return [[phase, *entry] for phase, entries in ledger.items() for entry in entries]
