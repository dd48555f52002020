"""Pricing thousands of points: from the store where it has them, else in chunks on an executor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from fahw.study.costs.cost_record import Request, figures_of, price_all
from fahw.study.storage.executors import run_tasks
from fahw.study.storage.store import Store

OnProgress = Callable[[int, int, str], None]
_FEW_POINTS = 32
"""Points that are priced where they stand: starting processes for them takes longer."""
_CHUNK = 50
"""Points that are priced by one task, at most."""


def price_requests(
    requests: dict[str, Request], store: Store, workers: int, executor: Executor | None, on_priced: OnProgress
) -> dict[str, dict[str, Any]]:
    """The figures of every request by its key, or `{"reason": ...}`; what is new is stored as it comes. `requests` is
    used up, so that thousands of chips need not stay in memory."""
    total = len(requests)
    costs = {key: _figures(value) for key, value in store.costs(requests.keys())}
    for key in costs:
        del requests[key]
    say = on_priced if total > _FEW_POINTS else (lambda done, total, what: None)
    say(len(costs), total, f"{len(costs)} from the store" if costs else "")
    keys = sorted(requests, key=lambda key: _likeness(requests[key]))
    size = max(1, min(_CHUNK, -(-len(keys) // (4 * workers))))
    chunks = [keys[at : at + size] for at in range(0, len(keys), size)]
    processes = workers if len(keys) > _FEW_POINTS else 1
    alone: list[list[str]] = []
    for tasks, last in ((chunks, False), (alone, True)):
        bundles = [tuple(requests[key] for key in chunk) for chunk in tasks]
        for outcome in run_tasks(price_all, bundles, processes, executor):
            chunk = tasks[outcome.index]
            if outcome.value is None and not last and len(chunk) > 1:
                alone += [[key] for key in chunk]  # one of them brought its process down: which?
                continue
            costs |= _kept(store, chunk, outcome.value, outcome.reason)
            say(len(costs), total, "")
    requests.clear()
    return costs


def _likeness(request: Request) -> tuple[str, int, str, str]:
    """Requests that are next to each other by it often take the same time to the cycle, which a process remembers."""
    return request.network.name, request.batch_size, request.rule, str(request.transport)


def _kept(
    store: Store, keys: Sequence[str], found: list[tuple[str, bool]] | None, reason: str
) -> dict[str, dict[str, Any]]:
    if found is None:
        return {key: {"reason": reason} for key in keys}
    store.add_costs([(key, text) for key, (text, final) in zip(keys, found, strict=True) if final])
    return {key: _figures(json.loads(text)) for key, (text, _) in zip(keys, found, strict=True)}


def _figures(value: dict[str, Any]) -> dict[str, Any]:
    return value if "reason" in value else figures_of(value)
