"""Shares filled in one after the other: what rounding leaves of an exact solution, and steps too large for one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fahw.mapping.shares.prices import market_shares
from fahw.mapping.shares.programme import Flags, Programme, Values

_CRUMB = 2.0**-10
"""The least share that a tensor of which nothing is kept is given: smaller ones gain nothing that counts."""


def filled(
    programme: Programme, order: Iterable[int], limits: Values, start: Values | None = None, least: float = _CRUMB
) -> Values:
    """Shares from the start on raised in this order as far as there is room, each to its limit at most; no share that
    is nothing to less than `least`, which is all for what gains nothing."""
    shares = np.zeros(len(programme.gain)) if start is None else start.copy()
    free = programme.capacity - programme.taken(shares)
    left = 1 - np.bincount(programme.tensor, shares)
    entries, grain = list(programme.entries_of()), programme.grain
    for choice in order:
        most = min(left[programme.tensor[choice]], limits[choice] - shares[choice])
        if most <= 0:
            continue
        rows, room = programme.row[entries[choice]], programme.room[entries[choice]]
        more = np.floor(min(most, (free[rows] / room).min(initial=most)) / grain) * grain
        if shares[choice] > 0 or more >= min(most, least if programme.gain[choice] > 0 else 1.0):
            shares[choice] += more
            left[programme.tensor[choice]] -= more
            free[rows] -= room * more
    return shares


def settled(programme: Programme, shares: Values) -> Values:
    """These shares on the grain and within the capacities, the room that is left given to whom it gains most."""
    near = np.where(shares > 1 - 1e-9, 1.0, np.floor(shares / programme.grain + 1e-3) * programme.grain)
    if not programme.fits(near) or (np.bincount(programme.tensor, near) > 1).any():
        near = filled(programme, np.argsort(-near, kind="stable")[: np.count_nonzero(near)], near, least=0.0)
    worth = density(programme, 1 / np.maximum(programme.capacity, 1))
    order = np.argsort(-worth, kind="stable")
    return filled(programme, order[_raisable(programme, near)[order]], np.ones(len(near)), near)


def _raisable(programme: Programme, shares: Values) -> Flags:
    """The choices that there is room for more of."""
    free = programme.capacity - programme.taken(shares)
    blocked = programme.per_choice(free[programme.row] < programme.room * programme.grain) > 0
    return ~blocked & (np.bincount(programme.tensor, shares)[programme.tensor] < 1) & (programme.gain >= 0)


def density(programme: Programme, price: Values) -> Values:
    """The gain of each choice per price of its room."""
    cost = programme.per_choice(programme.room * price[programme.row])
    return programme.gain / np.maximum(cost, 1e-30)


def in_order(programme: Programme, worth: Values) -> Values:
    """Shares by worth, the largest first."""
    order = np.argsort(-worth, kind="stable")
    return filled(programme, order[programme.gain[order] > 0], np.ones(len(worth)))


def wholes_first(programme: Programme, worth: Values) -> Values:
    """Whole tensors by worth, then of others what there is room for."""
    order = np.argsort(-worth, kind="stable")
    order = order[programme.gain[order] > 0]
    wholes = filled(programme, order, np.ones(len(worth)), least=1.0)
    return filled(programme, order, np.ones(len(worth)), wholes)


def priced(programme: Programme, reached: float) -> Values:
    """The shares of a market for room, those nearest to all or nothing first, then more of what is worth its price."""
    shares, net = market_shares(programme, reached)
    start = filled(programme, np.argsort(-shares, kind="stable"), shares)
    worth = net / programme.gain
    return filled(programme, np.lexsort((-programme.gain, -worth)), np.ones(len(shares)), start)


def greedy_shares(programme: Programme) -> Values:
    """Shares that are good, not best: the best of three orders of filling."""
    even = density(programme, 1 / programme.capacity)
    found = [wholes_first(programme, even), in_order(programme, even)]
    found.append(priced(programme, max(float(programme.gain @ shares) for shares in found)))
    return max(found, key=lambda shares: float(programme.gain @ shares))
