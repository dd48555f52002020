"""Every point against backpropagation at its best: the same values of all other axes, under every form of transport
that its chip has, and on one memory that both directions read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fahw.chip.cost import SHARED
from fahw.hardware.memories.catalogue import CONSTANT_KINDS
from fahw.rules.catalogue import BACKPROPAGATION
from fahw.study.costs.cost_record import Request
from fahw.study.costs.verdict import LOGIC, SHARES, energies_at_corners, summed_over_kinds
from fahw.work.training_step import NONE

if TYPE_CHECKING:
    from fahw.study.sweeps.point import Point
    from fahw.study.sweeps.setups import Setup

SAVING_COLUMNS = (
    "baseline_transport", "saving_per_step", "saving_low", "saving_high", "winner", "time_saving", "saving_to_target",
)  # fmt: skip
_COMPARED_AXES = ("rule", "transport")


@dataclass(frozen=True)
class AddedBaseline:
    """A cost of backpropagation that a sweep adds to its own: one form of transport at the values of one of its
    points."""

    point_number: int
    key: str
    request: Request


def added_baselines(setups: Mapping[int, Setup], everywhere: bool = False) -> Iterator[AddedBaseline]:
    """The costs of backpropagation under the forms of transport that are not among the points (keyed by their
    numbers); none where there is no other rule to compare with. `everywhere`: also where no point is one of
    backpropagation."""
    if {setup.request.rule for setup in setups.values()} <= {BACKPROPAGATION.name}:
        return
    for number, setup in setups.items():
        if setup.request.rule == BACKPROPAGATION.name or everywhere:
            request = setup.request
            own_form = request.transport or next(iter(request.chip.forms), NONE)
            for form in (*request.chip.forms, SHARED):
                if request.rule != BACKPROPAGATION.name or form != own_form:
                    added_request = replace(request, rule=BACKPROPAGATION.name, transport=form, micro_batch=None)
                    yield AddedBaseline(number, added_request.key(setup.network_key), added_request)


@dataclass(frozen=True)
class BaselinePairs:
    """Points of rules other than backpropagation, each with the best backpropagation at the same values of the other
    axes. `point_numbers`: the points; `baselines`: the cost of the best backpropagation for each, and the number of
    the point it comes from. `rule_energies`, `baseline_energies`: energies in pJ, (pair, kind of constant, divided
    or multiplied by its uncertainty)."""

    point_numbers: tuple[int, ...]
    baselines: tuple[tuple[dict[str, Any], int], ...]
    rule_energies: NDArray[np.float64]
    baseline_energies: NDArray[np.float64]


def pair_with_baselines(points: Sequence[Point], added_costs: dict[int, list[dict[str, Any]]]) -> BaselinePairs:
    """Every point of another rule with the best backpropagation beside it; `added_costs` has the costs of
    `added_baselines` by the number of their point."""
    best: dict[tuple[Any, ...], tuple[dict[str, Any], int]] = {}
    for number, point in enumerate(points):
        for cost in _baseline_costs(point, added_costs.get(number, ())):
            other_values = _other_axis_values(point)
            if other_values not in best or cost["energy_pj"] < best[other_values][0]["energy_pj"]:
                best[other_values] = (cost, number)
    numbers = tuple(
        number
        for number, point in enumerate(points)
        if point.cost and point.rule != BACKPROPAGATION.name and _other_axis_values(point) in best
    )
    baselines = tuple(best[_other_axis_values(points[number])] for number in numbers)
    rule_energies = _energy_bounds([points[number].cost or {} for number in numbers])
    return BaselinePairs(numbers, baselines, rule_energies, _energy_bounds([cost for cost, _ in baselines]))


EQUAL_AREA_COLUMNS = (
    "saving_per_step",
    "time_saving",
    "baseline_energy_pj_per_step",
    "baseline_area_mm2",
    "grown_memory",
    "added_kib",
)


def equal_area_rows(points: Sequence[Point], added_costs: dict[int, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The rows of equal_area.csv: every point of another rule against backpropagation that was given the area of the
    second memory."""
    costs_at: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, point in enumerate(points):
        for cost in _baseline_costs(point, added_costs.get(number, ())):
            costs_at |= {_other_axis_values(point): cost["equal_area"]} if "equal_area" in cost else {}
    for number, point in enumerate(points, 1):
        equal_area_cost = costs_at.get(_other_axis_values(point))
        if point.cost and equal_area_cost and point.rule != BACKPROPAGATION.name:
            yield _axis_columns(point) | {
                "point": number, "rule": point.rule, "transport": point.cost["transport"],
                "saving_per_step": 1 - point.cost["energy_pj"] / equal_area_cost["energy_pj"],
                "time_saving": 1 - point.cost["seconds"] / equal_area_cost["seconds"],
                "baseline_energy_pj_per_step": equal_area_cost["energy_pj"],
                "baseline_area_mm2": equal_area_cost["area_mm2"],
                "grown_memory": equal_area_cost["grown_memory"], "added_kib": equal_area_cost["added_kib"],
            }  # fmt: skip


def _axis_columns(point: Point) -> dict[str, Any]:
    """The point's value on every axis, as the columns that begin with `axis.`."""
    return {f"axis.{name}": value for name, value in point.values.items()}


def saving_columns(points: Sequence[Point], pairs: BaselinePairs) -> list[dict[str, Any]]:
    """The columns that say what each point saves against its backpropagation, as shares; empty for a point without
    one."""
    rows: list[dict[str, Any]] = [{} for _ in points]
    if not pairs.point_numbers:
        return rows
    factors = [_logic_factors([points[number].cost or {} for number in pairs.point_numbers])]
    factors += [_logic_factors([cost for cost, _ in pairs.baselines])]
    mine, theirs = map(energies_at_corners, (pairs.rule_energies, pairs.baseline_energies), factors)
    shares = 1 - mine / theirs
    ranges = zip(shares.min(axis=1), shares.max(axis=1), strict=True)
    for number, (cost, baseline_number), (low, high) in zip(pairs.point_numbers, pairs.baselines, ranges, strict=True):
        rows[number] = _saving_row(points[number], cost, points[baseline_number], float(low), float(high))
    return rows


def _baseline_costs(point: Point, added_costs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The costs of backpropagation that a point brings: its own where it is one, and those that were added to it."""
    own_costs = [point.cost] if point.cost and point.rule == BACKPROPAGATION.name else []
    return [*own_costs, *added_costs]


def _other_axis_values(point: Point) -> tuple[Any, ...]:
    """Names and values of the axes that both sides of a comparison share: all but rule and transport."""
    return tuple((name, value) for name, value in point.values.items() if name not in _COMPARED_AXES)


def _saving_row(
    point: Point, baseline_cost: dict[str, Any], baseline_point: Point, low: float, high: float
) -> dict[str, Any]:
    """The columns of one point against its best backpropagation; `low` and `high` are the ends of its saving."""
    cost = point.cost or {}
    energy_ratio = cost["energy_pj"] / baseline_cost["energy_pj"]
    baseline_steps = baseline_point.mean_steps if baseline_point.rule == BACKPROPAGATION.name else None
    steps_ratio = baseline_steps and point.mean_steps and point.mean_steps / baseline_steps
    winner = "rule" if low > 0 else "baseline" if high < 0 else "undecided"
    return {
        "baseline_transport": baseline_cost["transport"], "saving_per_step": 1 - energy_ratio,
        "saving_low": low, "saving_high": high,
        "winner": winner, "time_saving": 1 - cost["seconds"] / baseline_cost["seconds"],
        "saving_to_target": 1 - energy_ratio * steps_ratio if steps_ratio else None,
    }  # fmt: skip


def _energy_bounds(costs: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Energies in pJ, (point, kind of constant, divided or multiplied by its uncertainty)."""
    bounds = np.zeros((len(costs), len(CONSTANT_KINDS), 2))
    for number, cost in enumerate(costs):
        for (kind, factor), energy in cost["kinds"].items():
            bounds[number, CONSTANT_KINDS.index(kind)] += (energy / factor, energy * factor)
    return bounds


def _logic_factors(costs: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """The factor of logic of each cost, by which what is a share of it moves too."""
    return np.array(
        [max((f for kind, f in cost["kinds"] if kind == "logic"), default=1.0) for cost in costs], dtype=float
    )


SENSITIVITY_COLUMNS = ("rule", "kind", "name", "saving_mean", "low_at", "saving_low", "high_at", "saving_high", "flips")


def sensitivity_rows(points: Sequence[Point], pairs: BaselinePairs) -> list[dict[str, Any]]:
    """The rows of sensitivity.csv: what moves the mean saving of each rule, the most first. That is the axes of the
    sweep, by the mean at each of their values, and each kind of constant within its uncertainty. `flips`: whether
    the sign of the saving changes on the way."""
    rules = dict.fromkeys(points[number].rule for number in pairs.point_numbers)
    return [row for rule in rules for row in _sensitivity_of_rule(rule, points, pairs)]


def _sensitivity_of_rule(rule: str, points: Sequence[Point], pairs: BaselinePairs) -> list[dict[str, Any]]:
    """The rows of one rule, the widest range of savings first."""
    chosen = [index for index, number in enumerate(pairs.point_numbers) if points[number].rule == rule]
    costs = [points[pairs.point_numbers[index]].cost or {} for index in chosen]
    baseline_costs = [pairs.baselines[index][0] for index in chosen]
    rule_energies, baseline_energies = _nominal_energies(costs), _nominal_energies(baseline_costs)
    factors, baseline_factors = _logic_factors(costs), _logic_factors(baseline_costs)
    shares = 1 - summed_over_kinds(rule_energies) / summed_over_kinds(baseline_energies)
    rows = []
    for kind_index, kind in enumerate(CONSTANT_KINDS):
        means = [
            float(
                np.mean(
                    1
                    - _energies_at_bound(rule_energies, pairs.rule_energies[chosen], factors, kind_index, bound)
                    / _energies_at_bound(
                        baseline_energies, pairs.baseline_energies[chosen], baseline_factors, kind_index, bound
                    )
                )
            )
            for bound in (0, 1)
        ]
        if rule_energies[:, kind_index].any() or baseline_energies[:, kind_index].any():
            rows.append(_effect("constants", kind, dict(zip(("divided", "multiplied"), means, strict=True))))
    for name in dict.fromkeys(name for point in points for name in point.values):
        groups: dict[str, list[float]] = {}
        for index, share in zip(chosen, shares, strict=True):
            groups.setdefault(str(points[pairs.point_numbers[index]].values[name]), []).append(share)
        if name not in _COMPARED_AXES and len(groups) > 1:
            rows.append(_effect("axis", name, {value: float(np.mean(group)) for value, group in groups.items()}))
    rows.sort(key=lambda row: row["saving_low"] - row["saving_high"])
    return [{"rule": rule, "saving_mean": float(shares.mean())} | row for row in rows]


def _effect(kind: str, name: str, means: dict[str, float]) -> dict[str, Any]:
    """The lowest and the highest of the mean savings in `means`, keyed by setting, as a row."""
    low, high = min(means, key=lambda setting: means[setting]), max(means, key=lambda setting: means[setting])
    flips = int(means[low] < 0 < means[high])
    ends = {"low_at": low, "saving_low": means[low], "high_at": high, "saving_high": means[high]}
    return {"kind": kind, "name": name, "flips": flips} | ends


def _nominal_energies(costs: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Energies in pJ at the nominal constants, (point, kind of constant)."""
    sums = np.zeros((len(costs), len(CONSTANT_KINDS)))
    for number, cost in enumerate(costs):
        for (kind, _), energy in cost["kinds"].items():
            sums[number, CONSTANT_KINDS.index(kind)] += energy
    return sums


def _energies_at_bound(
    nominal: NDArray[np.float64], bounds: NDArray[np.float64], logic: NDArray[np.float64], kind: int, bound: int
) -> NDArray[np.float64]:
    """Energies in pJ with one kind of constant at one of its bounds and the others nominal, one for each pair; with
    logic move the shares of it."""
    energies = nominal.copy()
    energies[:, kind] = bounds[:, kind, bound]
    if kind == LOGIC:
        energies[:, SHARES] *= (logic ** (2 * bound - 1))[:, np.newaxis]
    return summed_over_kinds(energies)
