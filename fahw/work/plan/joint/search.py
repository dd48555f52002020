"""The search for mappings and lifetimes together, where the step is small enough.

In turns, what frees the room of a tile is not seen: an operand that is there wholly needs none, and a smaller tile of
one product may let a tensor stay that others read. So small steps are searched once more as one programme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fahw.work.counts.record import TaskId
from fahw.work.plan.joint.branches import Branches, Chosen
from fahw.work.plan.joint.menu import Menu, menus_of
from fahw.work.plan.joint.programme import JointProgramme
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import Measured, ProductTask, measured
from fahw.work.plan.step_plan import StepPlan

_MOST_TASKS = 12
"""Tasks with products of the largest step that is searched so."""
_GRAIN = 2.0**-20
"""What shares are multiples of."""


def joint_plan(keeping: Keeping, products: Measured, energy: float) -> tuple[StepPlan, Sequence[float]] | None:
    """A plan that should cost less than a given one, with its shares of the ways to keep tensors; None where none is
    found. `products`, `energy`: of the given plan, in pJ."""
    if not _is_open(keeping):
        return None
    menus = menus_of(keeping, products)
    if not menus or any(not len(menu.best[0]) for menu in menus):
        return None
    rest = measured(keeping.step, keeping.nothing_kept(0), _others(keeping, menus))
    programme = JointProgramme(keeping, menus, rest)
    chosen = Branches(programme, energy).search() if programme.can_begin else None
    if chosen is None:
        return None
    found = _rounded(keeping, chosen)
    return keeping.plan(found, replace(products, room=_room(menus, chosen)), grown=True), found


def is_small(keeping: Keeping) -> bool:
    """Whether a step has few tasks with products."""
    return len(keeping.tasks) <= _MOST_TASKS


def _is_open(keeping: Keeping) -> bool:
    """Whether the step is small, energy is to be least, and tensors have one home and nothing pinned."""
    chip = keeping.step.chip
    is_pinned = bool(keeping.tilings) or any(min(shares, default=1.0) < 1 for shares in keeping.given.values())
    has_one_home = keeping.one_level or not chip.has_outer_homes
    return is_small(keeping) and chip.mapping_objective == "energy" and has_one_home and not is_pinned


def _others(keeping: Keeping, menus: Sequence[Menu]) -> list[ProductTask]:
    """The tasks without a menu."""
    on_menus = {menu.task for menu in menus}
    return [task for task in keeping.tasks if task.task not in on_menus]


def _rounded(keeping: Keeping, chosen: Chosen) -> tuple[float, ...]:
    """The shares of ways on the grain: down, but a tensor that is kept wholly stays whole, in its shortest way."""
    shares, exact = np.floor(np.maximum(np.array(chosen.ways) / _GRAIN - 1e-3, 0)) * _GRAIN, np.array(chosen.ways)
    own = [way for way in keeping.ways if way.tensor not in keeping.given]
    tensors, reads = np.array([way.tensor for way in own]), np.array([way.reads for way in own])
    for tensor in set(tensors.tolist()):
        ways = np.flatnonzero((tensors == tensor) & (exact > _GRAIN))
        if exact[ways].sum() > 1 - _GRAIN:
            shares[ways[reads[ways].argmin()]] += 1 - shares[tensors == tensor].sum()
    return keeping.with_given(shares.tolist())


def _room(menus: Sequence[Menu], chosen: Chosen) -> dict[tuple[TaskId, str], float]:
    """Bits that the tiles of the chosen mappings take, by task and memory."""
    room: dict[tuple[TaskId, str], float] = {}
    for number, menu in enumerate(menus):
        choice = chosen.choices[number]
        for name in menu.names:
            bits = float(menu.room_in(name, choice.there)[choice.mapping])
            room[menu.task, name] = max(room.get((menu.task, name), 0.0), bits)
    return room
