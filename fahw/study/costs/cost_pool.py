"""Pricing thousands of points: from the store where it has them, else in chunks on an executor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from fahw.study.costs.cost_record import Request, figures_of, is_record, price_records
from fahw.study.storage.executors import run_tasks
from fahw.study.storage.store import Store

OnProgress = Callable[[int, int, str], None]
_FEW_POINTS = 32
"""Points up to which all are priced in this process: starting others takes longer."""
_CHUNK = 50
"""Most points that one task prices."""


def price_requests(
    requests: dict[str, Request], store: Store, workers: int, executor: Executor | None, on_priced: OnProgress
) -> dict[str, dict[str, Any]]:
    """The figures of every request by its key, or `{"reason": ...}`; what is new is stored as it comes. `requests` is
    emptied, so that thousands of chips need not stay in memory."""
    total = len(requests)
    costs = {key: _figures_or_reason(value) for key, value in store.costs(requests.keys()) if is_record(value)}
    for key in costs:
        del requests[key]
    report = on_priced if total > _FEW_POINTS else (lambda done, total, what: None)
    report(len(costs), total, f"{len(costs)} from the store" if costs else "")
    keys = sorted(requests, key=lambda key: _similarity(requests[key]))
    chunk_size = max(1, min(_CHUNK, -(-len(keys) // (4 * workers))))
    chunks = [keys[at : at + chunk_size] for at in range(0, len(keys), chunk_size)]
    processes = workers if len(keys) > _FEW_POINTS else 1
    single_keys: list[list[str]] = []
    for key_chunks, one_by_one in ((chunks, False), (single_keys, True)):
        bundles = [tuple(requests[key] for key in chunk) for chunk in key_chunks]
        for outcome in run_tasks(price_records, bundles, processes, executor):
            chunk = key_chunks[outcome.index]
            if outcome.value is None and not one_by_one and len(chunk) > 1:
                single_keys += [[key] for key in chunk]  # one of them brought its process down: which?
                continue
            costs |= _stored_figures(store, chunk, outcome.value, outcome.reason)
            report(len(costs), total, "")
    requests.clear()
    return costs


def _similarity(request: Request) -> tuple[str, int, str, str, str]:
    """A sorting key that puts requests side by side that share work which a process remembers: a chip has the same
    mappings under several rules, and steps often take the same time to the cycle."""
    return request.network.name, request.batch_size, request.chip.key, request.rule, str(request.transport)


def _stored_figures(
    store: Store, keys: Sequence[str], records: list[tuple[str, bool]] | None, reason: str
) -> dict[str, dict[str, Any]]:
    """The figures of `keys` from their records (JSON text, whether it is final), which are stored where final; the
    reason for each where there are no records."""
    if records is None:
        return {key: {"reason": reason} for key in keys}
    store.add_costs([(key, text) for key, (text, final) in zip(keys, records, strict=True) if final])
    return {key: _figures_or_reason(json.loads(text)) for key, (text, _) in zip(keys, records, strict=True)}


def _figures_or_reason(value: dict[str, Any]) -> dict[str, Any]:
    """The figures of a stored record; a record of a failure, with its reason, as it is."""
    return value if "reason" in value else figures_of(value)
