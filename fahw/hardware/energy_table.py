"""Energies that the user gives per component and action: in the chip file, or in an Accelergy energy reference table.

An energy reference table (ERT, version 0.2 to 0.4) is YAML:

    ERT:
      version: 0.4
      tables:
      - name: system.chip.weight_sram[1..1]
        actions:
        - {name: read, arguments: {...}, energy: 12.3}

A component is named by the end of its hierarchical name, ranges in brackets left out. Of an action that is listed for
several arguments the largest energy counts (data and address change). `leak` of a memory, pJ per cycle, is its static
power. Actions `idle` and `leak` of zero energy say nothing and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fahw.config import yamltext
from fahw.config.yamltext import Document, Key
from fahw.errors import ConfigError, Problem, check_path, suggestion
from fahw.hardware.arrays.catalogue import DATAFLOWS
from fahw.hardware.chip import Chip
from fahw.hardware.generator import GENERATORS
from fahw.hardware.part import STATIC
from fahw.hardware.process import UnitEnergy
from fahw.technology.operations import LANE_PRICES

VECTOR_ACTIONS = tuple(LANE_PRICES)
ARRAY_ACTIONS = ("mac", "shift_operand", "shift_psum", "clock", "idle", "ungated")
STORE_ACTIONS = ("read", "write", STATIC)
UPDATE = "update"
"""A whole update of one weight on the lanes, which has an energy only where a chip file gives one."""
_EMPTY_ACTIONS = ("idle", "leak")


@dataclass(frozen=True)
class Entry:
    """One action of a table, with the places of its names."""

    component: str
    action: str
    pj: float
    component_place: str
    action_place: str


def actions_of(chip: Chip) -> dict[str, tuple[str, ...]]:
    """The actions of every component of `chip` that have an energy, by component; `static` is pJ per cycle."""
    lanes = (*VECTOR_ACTIONS, *(f"clock_{action}" for action in VECTOR_ACTIONS), UPDATE)
    actions: dict[str, tuple[str, ...]] = {memory.name: memory.actions for memory in chip.memories}
    actions |= {link.name: ("send", "transpose") for link in chip.links}
    for array in chip.arrays:
        own_actions = [action for kind in DATAFLOWS.values() for action in kind.own_actions(array)]
        actions[array.name] = (*ARRAY_ACTIONS, *own_actions)
    actions |= {f"{array.name}.vector": lanes for array in chip.arrays}
    actions |= {store: STORE_ACTIONS for array in chip.arrays for store in array.stores}
    actions |= {name: ("generate",) for name in GENERATORS if getattr(chip, name) is not None}
    actions |= {"noc": ("hop",)} if chip.mesh is not None else {}
    return actions | ({"dram": ("read", "write", "activate")} if chip.dram is not None else {})


def given_energies(chip: Chip) -> Iterator[tuple[Key, str]]:
    """The check that the chip file's own `energies` name components and actions that the chip has, each once: (key,
    message) of every one that does not."""
    actions, checked = actions_of(chip), set[tuple[str, str]]()
    for index, energy in enumerate(chip.energies):
        name, field, message = _match(energy.component, energy.action, actions)
        if not message and (energy.component not in actions or energy.action not in actions[name]):
            field, message = "component", f"here the name is {name}, {energy.action.replace('leak', STATIC)}"
        if message:
            yield ("energies", index, field), message
        elif (name, energy.action) in checked:
            yield ("energies", index, "component"), f"{name}, {energy.action} comes twice"
        checked.add((name, energy.action))


def with_energy_table(chip: Chip, chip_path: Path) -> Chip:
    """The chip with the energies of the file that its `energy_table` names, relative to the chip file's folder.

    Its own `energies` win over the file's. Raises ConfigError with every problem of the file.
    """
    if chip.energy_table is None:
        return chip
    check_path("energy_table", chip.energy_table, "the path of a file")
    path = chip_path.parent / chip.energy_table
    actions, chip_file_energies = actions_of(chip), {(energy.component, energy.action) for energy in chip.energies}
    largest: dict[tuple[str, str], float] = {}
    problems = []
    for entry in read_table(path):
        name, field, message = _match(entry.component, entry.action, actions)
        if message:
            problems.append(Problem(entry.component_place if field == "component" else entry.action_place, message))
            continue
        key = name, STATIC if entry.action == "leak" else entry.action
        largest[key] = max(entry.pj, largest.get(key, 0.0))
    if problems:
        raise ConfigError(problems)
    source = f"{chip.energy_table} (energy_table)"
    added = [
        UnitEnergy(component=component, action=action, pj=pj, source=source)
        for (component, action), pj in largest.items() if (component, action) not in chip_file_energies
    ]  # fmt: skip
    return chip.model_copy(update={"energies": (*chip.energies, *added)})


def read_table(path: Path) -> list[Entry]:
    """The entries of an energy reference table. Raises ConfigError with every problem as file:line:col."""
    document = yamltext.read(path)
    problems = list(document.problems)
    root: Any = document.value
    key: Key = ()
    if isinstance(root, dict) and "ERT" in root:
        root, key = root["ERT"], ("ERT",)
    tables = root.get("tables") if isinstance(root, dict) else None
    if not isinstance(tables, list):
        message = "not an energy reference table: expected ERT, with a list of tables"
        raise ConfigError([*problems, Problem(document.place(key), message)])
    entries = [
        entry
        for index, table in enumerate(tables)
        for entry in _entries(document, table, (*key, "tables", index), problems)
    ]
    if problems:
        raise ConfigError(problems)
    return [entry for entry in entries if entry.pj or entry.action not in _EMPTY_ACTIONS]


def _entries(document: Document, table: Any, key: Key, problems: list[Problem]) -> Iterator[Entry]:
    name = _text(document, table, key, "name", problems)
    actions = table.get("actions") if isinstance(table, dict) else None
    if not isinstance(actions, list):
        problems.append(Problem(document.place(key), "a table needs a list of actions"))
        return
    for index, action in enumerate(actions):
        action_key = (*key, "actions", index)
        action_name = _text(document, action, action_key, "name", problems)
        energy = action.get("energy") if isinstance(action, dict) else None
        if isinstance(energy, bool) or not isinstance(energy, int | float) or not 0 <= energy <= 1e9:
            message = f"energy must be a number of pJ from 0 to 1e9 (got {energy!r})"
            problems.append(Problem(document.place((*action_key, "energy")), message))
        elif name and action_name:
            places = document.place((*key, "name")), document.place((*action_key, "name"))
            yield Entry(name, action_name, float(energy), *places)


def _text(document: Document, item: Any, key: Key, field: str, problems: list[Problem]) -> str:
    value = item.get(field) if isinstance(item, dict) else None
    if isinstance(value, str) and value:
        return value
    problems.append(Problem(document.place((*key, field)), f"needs a {field} (got {value!r})"))
    return ""


def _match(component: str, action: str, actions_by_component: dict[str, tuple[str, ...]]) -> tuple[str, str, str]:
    """The component that is meant; and where a name is wrong, the field (`component` or `action`) and a message."""
    without_ranges = re.sub(r"\[[^][]*\]", "", component)
    matches = [name for name in actions_by_component if without_ranges == name or without_ranges.endswith(f".{name}")]
    if not matches:
        last_part = without_ranges.rsplit(".", 1)[-1]
        message = f"no component '{component}'{suggestion(last_part, actions_by_component)}"
        return "", "component", f"{message}; known: {', '.join(actions_by_component)}"
    name = max(matches, key=len)
    allowed = actions_by_component[name]
    if action in allowed or (action == "leak" and STATIC in allowed):
        return name, "", ""
    message = f"no action '{action}' of {name}{suggestion(action, allowed)}; known: {', '.join(allowed)}"
    return name, "action", message
