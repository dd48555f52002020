"""Lifetimes: which share of each tensor stays in its memory, from its write until one of its reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

import numpy as np

from fahw.mapping.shares.greedy import greedy_shares, settled
from fahw.mapping.shares.programme import Numbers, Programme, Values
from fahw.mapping.shares.simplex import best_vertex

_MOST_CELLS = 4e6
"""Scarce rows times choices of which a matrix is made."""
_MOST_WORK = 2e9
"""Multiplications up to which the programme is solved exactly, a pivot for each choice; about a second."""


@dataclass(frozen=True)
class Choice:
    """One way to keep a tensor: from its write, or from one of its reads, until a later read."""

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

    Nothing is above its capacity at any moment. Shares are multiples of 2^-20 to 2^-30. Very large steps get
    shares that are good, not best.
    """
    if not choices:
        return ()
    programme = _guarded(_programme(choices, capacity))
    shares = programme.wholes()
    if not programme.fits(shares):
        shares = settled(programme, _solved(programme))
    return tuple(shares.tolist())


def _solved(programme: Programme) -> Values:
    """Shares that gain most, rounded nowhere."""
    blocked = programme.per_choice(programme.room * programme.grain > programme.capacity[programme.row]) > 0
    useful = (programme.gain > 0) & ~blocked
    rest = programme.among(useful)
    shares = np.zeros(len(useful))
    shares[useful] = _packed(rest.within(rest.taken(np.ones(len(rest.gain))) > rest.capacity))
    return shares


def _packed(programme: Programme) -> Values:
    """The same of choices that gain something, in rows that are scarce."""
    if len(programme.capacity) * len(programme.gain) > _MOST_CELLS:
        return greedy_shares(programme)
    if not len(programme.gain):
        return programme.gain
    room = _binding(programme.dense(), programme.tensor)
    if not room.size:
        return programme.wholes()
    if room.size * sum(room.shape) > _MOST_WORK:
        return greedy_shares(programme)
    try:
        return best_vertex(programme.gain, programme.tensor, room)
    except np.linalg.LinAlgError:  # a basis that rounding makes singular; never seen
        return greedy_shares(programme)


def _binding(room: Values, tensor: Numbers) -> Values:
    """Room by row and choice without rows that are never full, and without those that one beside them implies."""
    order = np.argsort(tensor, kind="stable")
    starts = np.unique(tensor[order], return_index=True)[1]
    room = room[np.maximum.reduceat(room[:, order], starts, axis=1).sum(axis=1) > 1]
    while len(room) > 1:
        below = (room[:-1] <= room[1:]).all(axis=1)
        above = (room[:-1] >= room[1:]).all(axis=1) & ~below
        kept = ~(np.append(below, False) | np.append(False, above))
        if kept.all():
            break
        room = room[kept]
    return room


def _guarded(programme: Programme) -> Programme:
    """The programme with a hair less capacity in rows in which sums of shares may be rounded."""
    hair = np.bincount(programme.row, programme.room % 1 != 0, len(programme.capacity)) > 0
    hair |= programme.capacity > 2**33
    return replace(programme, capacity=np.where(hair, programme.capacity * (1 - 2**-40), programme.capacity))


def _programme(choices: Sequence[Choice], capacity: Mapping[str, Sequence[float]]) -> Programme:
    choice, row, room = _entries(choices, capacity)
    return Programme(
        np.array([choice.gain for choice in choices], float),
        np.unique([choice.tensor for choice in choices], return_inverse=True)[1],
        choice, row, room,
        np.maximum(np.array(list(chain.from_iterable(capacity.values())), float), 0.0),
    )  # fmt: skip


def _entries(choices: Sequence[Choice], capacity: Mapping[str, Sequence[float]]) -> tuple[Numbers, Numbers, Values]:
    """Choice, row and bits of each entry, choice by choice in the order of rows, each row once."""
    sizes = {memory: len(room) for memory, room in capacity.items()}
    first = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    choice = np.repeat(np.arange(len(choices)), [len(choice.moments) for choice in choices])
    moment, copies = np.fromiter(_numbers(choices), np.int64).reshape(-1, 2).T
    if ((moment < 0) | (moment >= np.array([sizes[choice.memory] for choice in choices])[choice])).any():
        raise ValueError("a choice has a moment of which no capacity is given")
    row = moment + np.array([first[choice.memory] for choice in choices])[choice]
    room = copies * np.array([choice.bits for choice in choices], float)[choice]
    choice, row, room = choice[room > 0], row[room > 0], room[room > 0]
    rows = sum(sizes.values())
    place = choice * rows + row
    if (np.diff(place) <= 0).any():
        place, same = np.unique(place, return_inverse=True)
        return place // rows, place % rows, np.bincount(same, room).astype(np.float64)
    return choice, row, room


def _numbers(choices: Sequence[Choice]) -> Iterator[int]:
    """Moments and copies of all choices, in turn."""
    return chain.from_iterable(chain.from_iterable(choice.moments for choice in choices))
