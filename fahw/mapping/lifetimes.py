"""Lifetimes: which share of each tensor stays in its memory, from its write until one of its reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from fahw.mapping.shares.greedy import GRAIN, density, in_order, settled
from fahw.mapping.shares.programme import Programme, Values
from fahw.mapping.shares.simplex import best_vertex

_MOST_CELLS = 1_500_000
"""Rows times choices up to which the programme is solved exactly."""


@dataclass(frozen=True)
class Choice:
    """One way to keep a tensor: from its write until one of its reads."""

    tensor: int
    """Number of the tensor; of its choices the shares add up to at most 1."""
    memory: str
    bits: float
    """Bits of the whole tensor."""
    gain: float
    """pJ saved if the whole tensor is kept so."""
    moments: tuple[tuple[int, int], ...]
    """Moments at which it takes room, each with the number of copies there at once: several steps are in flight."""


def best_shares(choices: Sequence[Choice], capacity: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """The share of each choice, 0 to 1, that together gain most; `capacity` is in bits, by memory and moment.

    Nothing is above its capacity at any moment. Shares are multiples of 2^-20. Very large steps get shares that
    are good, not best.
    """
    if not choices:
        return ()
    programme = _programme(choices, capacity)
    shares = programme.wholes()
    if not programme.fits(shares):
        programme = _guarded(programme)
        shares = settled(programme, _solved(programme))
    return tuple(shares.tolist())


def _solved(programme: Programme) -> Values:
    """Shares that gain most, rounded nowhere."""
    blocked = programme.per_choice(programme.room * GRAIN > programme.capacity[programme.row]) > 0
    useful = (programme.gain > 0) & ~blocked
    rest = programme.among(useful)
    shares = np.zeros(len(useful))
    shares[useful] = _packed(rest.within(rest.taken(np.ones(len(rest.gain))) > rest.capacity))
    return shares


def _packed(programme: Programme) -> Values:
    """The same of choices that gain something, in rows that are scarce."""
    if not len(programme.row):
        return programme.wholes()
    if len(programme.capacity) * len(programme.gain) > _MOST_CELLS:
        return in_order(programme, density(programme, 1 / programme.capacity))
    tensors, number = np.unique(programme.tensor, return_inverse=True)
    return best_vertex(programme.gain, number, programme.dense(), len(number) + np.arange(len(tensors)))


def _guarded(programme: Programme) -> Programme:
    """The programme with a hair less capacity in rows in which sums of shares may be rounded."""
    rounded = (programme.room % 1 != 0) | (programme.room > 2**32)
    hair = np.bincount(programme.row, rounded, len(programme.capacity)) > 0
    hair |= programme.capacity > 2**33
    return replace(programme, capacity=np.where(hair, programme.capacity * (1 - 2**-40), programme.capacity))


def _programme(choices: Sequence[Choice], capacity: Mapping[str, Sequence[float]]) -> Programme:
    sizes = [len(room) for room in capacity.values()]
    offset = dict(zip(capacity, np.cumsum([0, *sizes]).tolist(), strict=False))
    pairs = np.fromiter(chain.from_iterable(chain.from_iterable(choice.moments for choice in choices)), np.int64)
    moment, copies = pairs.reshape(-1, 2).T
    choice = np.repeat(np.arange(len(choices)), [len(choice.moments) for choice in choices])
    return Programme(
        np.array([choice.gain for choice in choices], float),
        np.unique([choice.tensor for choice in choices], return_inverse=True)[1],
        choice,
        moment + np.array([offset[choice.memory] for choice in choices])[choice],
        copies * np.array([choice.bits for choice in choices], float)[choice],
        np.maximum(np.array(list(chain.from_iterable(capacity.values())), float), 0.0),
    )
