"""Every point against backpropagation at its best: the same values of all other axes, under every form of transport
that its chip has, and on one memory that both directions read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fahw.chip.cost import SHARED
from fahw.rules.catalogue import BACKPROPAGATION
from fahw.study.costs.cost_record import Request
from fahw.study.costs.verdict import KINDS
from fahw.work.training_step import NONE

if TYPE_CHECKING:
    from fahw.study.sweeps.point import Point
    from fahw.study.sweeps.setups import Setup

SAVING_COLUMNS = (
    "baseline_transport", "saving_per_step", "saving_low", "saving_high", "winner", "time_saving", "saving_to_target",
)  # fmt: skip
_CORNERS = np.array(list(product((0, 1), repeat=len(KINDS))))
_AXES = ("rule", "transport")


@dataclass(frozen=True)
class Rival:
    """A cost of backpropagation that a sweep adds on its own: one form of transport of one of its points."""

    point: int
    key: str
    request: Request


def rivals(setups: Mapping[int, Setup], everywhere: bool = False) -> Iterator[Rival]:
    """Backpropagation under the forms that are not among the points (by their numbers), if there are other rules to
    compare it with; `everywhere`: also where no point backpropagates."""
    if {setup.request.rule for setup in setups.values()} <= {BACKPROPAGATION.name}:
        return
    for number, setup in setups.items():
        if setup.request.rule == BACKPROPAGATION.name or everywhere:
            request = setup.request
            own = request.transport or next(iter(request.chip.forms), NONE)
            for form in (*request.chip.forms, SHARED):
                if request.rule != BACKPROPAGATION.name or form != own:
                    rival = replace(request, rule=BACKPROPAGATION.name, transport=form)
                    yield Rival(number, rival.key(setup.network_key), rival)


@dataclass(frozen=True)
class Pairs:
    """Points of other rules (their numbers), and for each the best backpropagation at the same values of the other
    axes: its cost, and the number of its point. `mine`, `theirs`: both sides' energies, (pair, kind of constant,
    divided or times its uncertainty)."""

    numbers: tuple[int, ...]
    against: tuple[tuple[dict[str, Any], int], ...]
    mine: NDArray[np.float64]
    theirs: NDArray[np.float64]


def pairs(points: Sequence[Point], added: dict[int, list[dict[str, Any]]]) -> Pairs:
    """Who is compared with whom; `added` has the costs of `rivals` by the number of their point."""
    best: dict[tuple[Any, ...], tuple[dict[str, Any], int]] = {}
    for number, point in enumerate(points):
        for cost in _baselines(point, added.get(number, ())):
            place = _place(point)
            if place not in best or cost["energy_pj"] < best[place][0]["energy_pj"]:
                best[place] = (cost, number)
    chosen = tuple(n for n, p in enumerate(points) if p.cost and p.rule != BACKPROPAGATION.name and _place(p) in best)
    against = tuple(best[_place(points[number])] for number in chosen)
    mine, theirs = (_ends(side) for side in ([points[n].cost or {} for n in chosen], [cost for cost, _ in against]))
    return Pairs(chosen, against, mine, theirs)


AREA = (
    "saving_per_step",
    "time_saving",
    "baseline_energy_pj_per_step",
    "baseline_area_mm2",
    "grown_memory",
    "added_kib",
)


def equal_area(points: Sequence[Point], added: dict[int, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Every point of another rule against backpropagation that was given the area of the second memory."""
    at: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, point in enumerate(points):
        for cost in _baselines(point, added.get(number, ())):
            at |= {_place(point): cost["equal_area"]} if "equal_area" in cost else {}
    for number, point in enumerate(points, 1):
        against = at.get(_place(point))
        if point.cost and against and point.rule != BACKPROPAGATION.name:
            yield _axes(point) | {
                "point": number, "rule": point.rule, "transport": point.cost["transport"],
                "saving_per_step": 1 - point.cost["energy_pj"] / against["energy_pj"],
                "time_saving": 1 - point.cost["seconds"] / against["seconds"],
                "baseline_energy_pj_per_step": against["energy_pj"], "baseline_area_mm2": against["area_mm2"],
                "grown_memory": against["grown_memory"], "added_kib": against["added_kib"],
            }  # fmt: skip


def _axes(point: Point) -> dict[str, Any]:
    return {f"axis.{name}": value for name, value in point.values.items()}


def savings(points: Sequence[Point], found: Pairs) -> list[dict[str, Any]]:
    """Columns for every point's row: what it saves against its backpropagation, as shares; none where there is none."""
    rows: list[dict[str, Any]] = [{} for _ in points]
    if not found.numbers:
        return rows
    shares = 1 - _at_corners(found.mine) / _at_corners(found.theirs)
    ranges = zip(shares.min(axis=1), shares.max(axis=1), strict=True)
    for number, (cost, of), (low, high) in zip(found.numbers, found.against, ranges, strict=True):
        rows[number] = _row(points[number], cost, points[of], float(low), float(high))
    return rows


def _baselines(point: Point, added: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The costs of backpropagation that a point brings: its own, and those of its rivals."""
    own = [point.cost] if point.cost and point.rule == BACKPROPAGATION.name else []
    return [*own, *added]


def _place(point: Point) -> tuple[Any, ...]:
    return tuple((name, value) for name, value in point.values.items() if name not in _AXES)


def _row(point: Point, best: dict[str, Any], other: Point, low: float, high: float) -> dict[str, Any]:
    cost = point.cost or {}
    energy = cost["energy_pj"] / best["energy_pj"]
    trained = other.mean_steps if other.rule == BACKPROPAGATION.name else None
    steps = trained and point.mean_steps and point.mean_steps / trained
    winner = "rule" if low > 0 else "baseline" if high < 0 else "undecided"
    return {
        "baseline_transport": best["transport"], "saving_per_step": 1 - energy, "saving_low": low, "saving_high": high,
        "winner": winner, "time_saving": 1 - cost["seconds"] / best["seconds"],
        "saving_to_target": 1 - energy * steps if steps else None,
    }  # fmt: skip


def _ends(costs: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    ends = np.zeros((len(costs), len(KINDS), 2))
    for number, cost in enumerate(costs):
        for (kind, factor), energy in cost["kinds"].items():
            ends[number, KINDS.index(kind)] += (energy / factor, energy * factor)
    return ends


def _at_corners(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energies, (pairs, corners): each kind of constant at one of its ends."""
    return np.asarray(ends[:, np.arange(len(KINDS)), _CORNERS].sum(axis=2))


SENSITIVITY = ("rule", "kind", "name", "saving_mean", "low_at", "saving_low", "high_at", "saving_high", "flips")


def sensitivity(points: Sequence[Point], found: Pairs) -> list[dict[str, Any]]:
    """What moves the mean saving of each rule, the most first: the axes of the sweep, by the mean at each of their
    values, and each kind of constant within its uncertainty. `flips`: whether the sign changes on the way."""
    rules = dict.fromkeys(points[number].rule for number in found.numbers)
    return [row for rule in rules for row in _sensitivity_of(rule, points, found)]


def _sensitivity_of(rule: str, points: Sequence[Point], found: Pairs) -> list[dict[str, Any]]:
    chosen = [index for index, number in enumerate(found.numbers) if points[number].rule == rule]
    mine = _nominal([points[found.numbers[index]].cost or {} for index in chosen])
    theirs = _nominal([found.against[index][0] for index in chosen])
    shares = 1 - mine.sum(axis=1) / theirs.sum(axis=1)
    rows = []
    for at, kind in enumerate(KINDS):
        ends = [
            float(
                np.mean(1 - _moved(mine, found.mine[chosen], at, end) / _moved(theirs, found.theirs[chosen], at, end))
            )
            for end in (0, 1)
        ]
        if mine[:, at].any() or theirs[:, at].any():
            rows.append(_effect("constants", kind, dict(zip(("divided", "multiplied"), ends, strict=True))))
    for name in dict.fromkeys(name for point in points for name in point.values):
        groups: dict[str, list[float]] = {}
        for index, share in zip(chosen, shares, strict=True):
            groups.setdefault(str(points[found.numbers[index]].values[name]), []).append(share)
        if name not in _AXES and len(groups) > 1:
            rows.append(_effect("axis", name, {value: float(np.mean(group)) for value, group in groups.items()}))
    rows.sort(key=lambda row: row["saving_low"] - row["saving_high"])
    return [{"rule": rule, "saving_mean": float(shares.mean())} | row for row in rows]


def _effect(kind: str, name: str, means: dict[str, float]) -> dict[str, Any]:
    low, high = min(means, key=lambda at: means[at]), max(means, key=lambda at: means[at])
    flips = int(means[low] < 0 < means[high])
    ends = {"low_at": low, "saving_low": means[low], "high_at": high, "saving_high": means[high]}
    return {"kind": kind, "name": name, "flips": flips} | ends


def _nominal(costs: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Energies, (pair, kind of constant)."""
    sums = np.zeros((len(costs), len(KINDS)))
    for number, cost in enumerate(costs):
        for (kind, _), energy in cost["kinds"].items():
            sums[number, KINDS.index(kind)] += energy
    return sums


def _moved(nominal: NDArray[np.float64], ends: NDArray[np.float64], kind: int, end: int) -> NDArray[np.float64]:
    """Energies with one kind of constant at one of its ends."""
    return np.asarray(nominal.sum(axis=1) - nominal[:, kind] + ends[:, kind, end])
