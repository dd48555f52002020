"""The constants behind a ledger: what every action of every component costs, from where, and how surely."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fahw.chip.ledger import Row

GIVEN, ESTIMATED = "given", "estimated"


@dataclass(frozen=True)
class UsedConstant:
    """One constant that a ledger used; `unit_pj` of the action `static` is per cycle. `origin`: given or estimated."""

    component: str
    action: str
    unit_pj: float
    origin: str
    factor: float
    source: str


def constants_used(rows: Iterable[Row]) -> tuple[UsedConstant, ...]:
    """Every constant of the ledger once, in the order of their first use; one per width of an action."""
    constants = (
        UsedConstant(
            row.component, row.action, row.unit_pj, GIVEN if row.price.given else ESTIMATED, row.price.factor,
            row.price.source,
        )
        for row in rows
    )  # fmt: skip
    return tuple(dict.fromkeys(constants))


def summary(constants: Iterable[UsedConstant]) -> list[tuple[str, str]]:
    """(component, text) of every component: which energies come from the file, which are estimated, and how surely."""
    lines: dict[str, dict[tuple[str, float], list[str]]] = {}
    for constant in constants:
        actions = lines.setdefault(constant.component, {}).setdefault((constant.origin, constant.factor), [])
        name = "clock" if constant.action.startswith("clock_") else constant.action
        if name not in actions:
            actions.append(name)
    return [(name, _origins_line(groups)) for name, groups in lines.items()]


def _origins_line(groups: dict[tuple[str, float], list[str]]) -> str:
    origins: dict[str, list[str]] = {}
    for (origin, factor), actions in groups.items():
        origins.setdefault(origin, []).append(f"{', '.join(actions)}{f' ×/÷ {factor:g}' if factor > 1 else ''}")
    origin_texts = {GIVEN: "from the file", ESTIMATED: "estimated"}
    return "; ".join(f"{origin_texts[origin]}: {', '.join(parts)}" for origin, parts in origins.items())
