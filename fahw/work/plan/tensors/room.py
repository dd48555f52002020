"""Room that tensors take of memories at every moment, by the shares of them that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set

import numpy as np

from fahw.hardware.memory import Memory
from fahw.work.plan.fused.error import Bits
from fahw.work.plan.tensors.lives import KeptTensor

Kind = tuple[int, str, str]
"""A core, a memory, and a kind of tensor that lies there."""


class TensorRoom:
    """The ways to keep tensors, each of a kind and with the bits that it takes at its moments."""

    def __init__(self, kinds: Sequence[Kind], room: Sequence[Sequence[tuple[int, float]]], moments: int) -> None:
        numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
        self._kinds, self._moments = tuple(numbers), moments
        places = [numbers[kind] * moments for kind in kinds]
        self._way = np.repeat(np.arange(len(room)), [len(taken) for taken in room])
        entries = np.array([entry for taken in room for entry in taken], np.float64).reshape(-1, 2)
        self._place = np.array(places, np.intp)[self._way] + entries[:, 0].astype(np.intp)
        self._bits = entries[:, 1].copy()

    def of_way(self, number: int) -> dict[int, float]:
        """The moments at which one way takes room, with its bits."""
        own = self._way == number
        return dict(zip((self._place[own] % self._moments).tolist(), self._bits[own].tolist(), strict=True))

    def of(self, shares: Sequence[float]) -> Iterator[tuple[Kind, Bits]]:
        """The bits of every kind at every moment, where these shares of the ways are kept."""
        kept, number = self._bits * np.array(shares, np.float64)[self._way], len(self._kinds)
        total = np.bincount(self._place, kept, number * self._moments).astype(np.float64)
        return zip(self._kinds, total.reshape(number, self._moments), strict=True)


def room_of_ways(
    ways: Iterable[tuple[tuple[int, int, int], Sequence[tuple[int, int]]]], tensors: Sequence[KeptTensor],
    homes: Sequence[Sequence[Memory]], in_tiles: Set[int], moments: int,
) -> TensorRoom:  # fmt: skip
    """The room of ways to keep tensors: the number of a tensor, its reads and the level of its home, with its moments
    and copies. Those that lie in tiles have none of their own."""
    kinds, room = list[Kind](), list[Sequence[tuple[int, float]]]()
    for (number, _, level), open_moments in ways:
        tensor = tensors[number]
        kinds.append((tensor.core, homes[number][level].name, tensor.tensor))
        taken = () if number in in_tiles else open_moments
        room.append([(moment, float(copies * tensor.bits)) for moment, copies in taken])
    return TensorRoom(kinds, room, moments)
