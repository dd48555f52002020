"""Shares filled in one after the other: what rounding leaves of an exact solution, and steps too large for one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fahw.mapping.shares.programme import Flags, Programme, Values

GRAIN = 2.0**-20
"""Shares are multiples of it, so that they times whole bits add up without rounding."""
_CRUMB = 2.0**-10
"""The least share that a tensor of which nothing is kept is given: smaller ones gain nothing that counts."""


def filled(programme: Programme, order: Iterable[int], limits: Values, start: Values | None = None) -> Values:
    """Shares from the start on raised in this order as far as there is room, each to its limit at most."""
    shares = np.zeros(len(programme.gain)) if start is None else start.copy()
    free = programme.capacity - programme.taken(shares)
    left = 1 - np.bincount(programme.tensor, shares)
    entries = list(programme.entries_of())
    for choice in order:
        most = min(left[programme.tensor[choice]], limits[choice] - shares[choice])
        if most <= 0:
            continue
        rows, room = programme.row[entries[choice]], programme.room[entries[choice]]
        more = np.floor(min(most, (free[rows] / room).min(initial=most)) / GRAIN) * GRAIN
        if shares[choice] > 0 or more >= _least(programme.gain[choice], most):
            shares[choice] += more
            left[programme.tensor[choice]] -= more
            free[rows] -= room * more
    return shares


def _least(gain: float, most: float) -> float:
    """The least that is worth keeping: of what gains nothing, all of it."""
    return min(_CRUMB, most) if gain > 0 else 1.0


def settled(programme: Programme, shares: Values) -> Values:
    """These shares on the grain and within the capacities, the room that is left given to whom it gains most."""
    near = np.floor(shares / GRAIN + 1e-3) * GRAIN
    if not programme.fits(near) or (np.bincount(programme.tensor, near) > 1).any():
        near = filled(programme, np.argsort(-near, kind="stable")[: np.count_nonzero(near)], near)
    worth = density(programme, 1 / np.maximum(programme.capacity, 1))
    order = np.argsort(-worth, kind="stable")
    return filled(programme, order[_raisable(programme, near)[order]], np.ones(len(near)), near)


def _raisable(programme: Programme, shares: Values) -> Flags:
    """The choices that there is room for more of."""
    free = programme.capacity - programme.taken(shares)
    blocked = programme.per_choice(free[programme.row] < programme.room * GRAIN) > 0
    return ~blocked & (np.bincount(programme.tensor, shares)[programme.tensor] < 1) & (programme.gain >= 0)


def density(programme: Programme, price: Values) -> Values:
    """The gain of each choice per price of its room."""
    cost = programme.per_choice(programme.room * price[programme.row])
    return programme.gain / np.maximum(cost, 1e-300)


def in_order(programme: Programme, worth: Values) -> Values:
    """Shares by worth, the largest first."""
    order = np.argsort(-worth, kind="stable")
    return filled(programme, order[programme.gain[order] > 0], np.ones(len(worth)))
