"""What it is worth, and what room it takes, to keep the tensors of a step on the chip; and the plan that follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from fahw.hardware.memory import Memory
from fahw.mapping.lifetimes import Choice, best_shares
from fahw.mapping.mapper import Tiling
from fahw.work.context import StepContext
from fahw.work.counts.record import TaskId
from fahw.work.counts.task_accesses import TaskShares
from fahw.work.plan.fused.error import Bits, FusedError, tiles_room
from fahw.work.plan.measured import Measured, ProductTask
from fahw.work.plan.moments import Moments
from fahw.work.plan.others import Away, OtherKey
from fahw.work.plan.pricing import PriceBook, dram_cycles
from fahw.work.plan.step_plan import ProductKey, StepPlan
from fahw.work.plan.tensors.lives import KeptTensor
from fahw.work.plan.tensors.room import TensorRoom, room_of_ways
from fahw.work.plan.tensors.shares import Kept, kept_by_ways, task_shares
from fahw.work.plan.tensors.worth import Saved, Way, Worth, ways_to_keep
from fahw.work.plan.tile_room import TileRoom

_ROUNDED = 1.0
"""Bits by which sums of shares may be off."""


@dataclass(frozen=True)
class Keeping:
    """The tensors of a step with their lives, the tasks with products beside them, and prices.

    `away_pj`: what accesses other than to operands cost more per step if nothing of what they are to is on the chip.
    `tilings`, `given`: what is pinned and not searched, the mappings of products and the shares of tensors at their
    reads, by number; `is_complete`: nothing is left to search. `errors`: those of which two tasks share the tiles.
    `given_outer`: as `given`, in outer homes; `one_level`: these stay empty. `narrowing`: as a plan's.
    """

    step: StepContext
    tensors: tuple[KeptTensor, ...]
    moments: Moments
    book: PriceBook
    tasks: tuple[ProductTask, ...]
    away_pj: Mapping[OtherKey, Away]
    tilings: Mapping[ProductKey, Tiling] = field(default_factory=dict)
    given: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    is_complete: bool = False
    errors: tuple[FusedError, ...] = ()
    given_outer: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    one_level: bool = False
    narrowing: int = 0
    rooms: dict[object, TensorRoom] = field(default_factory=dict, compare=False, repr=False)
    """What rooms are known, of this step and equal ones."""

    def nothing_kept(self, reserve: int) -> StepPlan:
        """The plan in which all that is not given comes from DRAM, and tiles take at most `reserve` bits of a
        memory."""
        room = {
            task.task: tuple((memory.name, float(min(reserve, memory.kib * 8192))) for memory in self.memories)
            for task in self.tasks
        }
        return self._planned(self._shares_given, room)

    @cached_property
    def _shares_given(self) -> Mapping[tuple[int, TaskId], TaskShares]:
        """What tasks find where nothing is kept but what is given."""
        return task_shares(self.tensors, self.kept(self.only_given))

    def _planned(
        self, shares: Mapping[tuple[int, TaskId], TaskShares], room: Mapping[TaskId, tuple[tuple[str, float], ...]]
    ) -> StepPlan:
        fused = {task: error.samples for error in self.errors for task in error.tasks}
        return StepPlan(
            self.step.chip, self.book, shares, room, tilings=self.tilings, fused=fused, one_level=self.one_level,
            narrowing=self.narrowing,
        )  # fmt: skip

    @cached_property
    def homes(self) -> tuple[tuple[Memory, ...], ...]:
        """The memories that each tensor can lie in, innermost first."""
        kinds = {tensor.tensor: self.step.chip.homes(tensor.tensor) for tensor in self.tensors}
        return tuple(kinds[tensor.tensor][: 1 if self.one_level else 2] for tensor in self.tensors)

    def outer_home(self, tensor: str) -> Memory | None:
        """The home of a kind of tensors behind the innermost, where it is used."""
        return None if self.one_level else self.book.outer_homes.get(tensor)

    @cached_property
    def worth(self) -> Worth:
        """What it costs if tensors are not where they are used."""
        return Worth(self.step, self.tensors, self.tasks, self.away_pj)

    def staged_cycles(self, shares: Sequence[float]) -> float:
        """Cycles per step that errors take which come in tiles for two tasks."""
        kept = self.kept(shares)
        bits = sum(
            (1 - kept[error.number].anywhere.reads[-1])
            * self.tensors[error.number].bits
            * self.worth.runs(error.tasks[0])
            for error in self.errors
        )
        return dram_cycles(self.step.chip, bits)

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """All ways to keep a tensor."""
        return tuple(ways_to_keep(self.tensors, self.homes))

    @cached_property
    def _open(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The moments at which each way takes room, with copies."""
        always = tuple((moment, 1) for moment in range(len(self.moments.tasks)))
        found = []
        for number, reads, _ in self.ways:
            tensor = self.tensors[number]
            found.append(always if tensor.persistent else tuple(self.moments.room(tensor, reads).items()))
        return tuple(found)

    @cached_property
    def _in_tiles(self) -> dict[tuple[int, str, str], Bits]:
        return tiles_room(self.errors, self.moments)

    @cached_property
    def _room(self) -> TensorRoom:
        """The room of what is kept. Errors that are made in tiles have none of their own."""
        in_tiles = frozenset(error.number for error in self.errors if error.is_made)
        key = self.moments, self.tensors, in_tiles, self.one_level
        if key not in self.rooms:
            ways = zip(self.ways, self._open, strict=True)
            self.rooms[key] = room_of_ways(ways, self.tensors, self.homes, in_tiles, len(self.moments.tasks))
        return self.rooms[key]

    def room_of(self, way: int) -> dict[int, float]:
        """The moments at which a way takes room, with its bits; none of errors that are made in tiles."""
        return self._room.of_way(way)

    @cached_property
    def _given(self) -> tuple[float | None, ...]:
        """The share of each way that is given; None where it is searched."""
        shares = []
        for number, until, level in self.ways:
            there = self._given_at(number, level)
            shares.append(None if there is None else there[until - 1] - (*there, 0.0)[until])
        return tuple(shares)

    def _given_at(self, number: int, level: int) -> tuple[float, ...] | None:
        """The shares of a tensor that are given for a level; none in its outer home where they are for the inner one
        alone."""
        inner = self.given.get(number)
        return inner if inner is None or not level else self.given_outer.get(number, (0.0,) * len(inner))

    @cached_property
    def only_given(self) -> tuple[float, ...]:
        """The share of each way where nothing else is kept."""
        return tuple(share or 0.0 for share in self._given)

    def with_given(self, searched: Sequence[float]) -> tuple[float, ...]:
        """The share of each way, from those of the choices."""
        rest = iter(searched)
        return tuple(next(rest) if share is None else share for share in self._given)

    def choices(self, found: Measured) -> list[Choice]:
        """The ways to keep tensors that are searched, with what each saves per step."""
        choices, worths = [], dict[tuple[int, int], Saved]()
        for way, moments, given in zip(self.ways, self._open, self._given, strict=True):
            if given is not None:
                continue
            tensor, place = self.tensors[way.tensor], (way.tensor, way.level)
            if place not in worths:
                worths[place] = self.worth.saved(way.tensor, found, way.level > 0)
            memory = f"{tensor.core}:{self.homes[way.tensor][way.level].name}"
            gain = worths[place].until(way.reads)
            choices.append(Choice(way.tensor, memory, float(tensor.bits), gain, moments))
        return choices

    @cached_property
    def _shares_found(self) -> dict[object, tuple[float, ...]]:
        """The best shares by gains and room: rounds of a search ask again for the same."""
        return {}

    def best_shares(self, found: Measured, room: Measured) -> tuple[float, ...]:
        """The shares of the choices that gain most by what products cost where they were `found`, in what tiles of
        `room` leave free."""
        choices, capacity = self.choices(found), self.capacity(room)
        key = tuple(choice.gain for choice in choices), tuple(map(tuple, capacity.values()))
        if key not in self._shares_found:
            self._shares_found[key] = best_shares(choices, capacity)
        return self._shares_found[key]

    @cached_property
    def tiles(self) -> TileRoom:
        """Room that tiles take."""
        return TileRoom(self.moments, self.tasks, self.errors)

    @cached_property
    def places(self) -> tuple[tuple[int, Memory], ...]:
        """The memories of all cores that hold anything."""
        return tuple((core, memory) for core in self._cores for memory in self.memories)

    @cached_property
    def _cores(self) -> list[int]:
        return sorted({tensor.core for tensor in self.tensors} | {task.core for task in self.tasks})

    @cached_property
    def memories(self) -> tuple[Memory, ...]:
        """The memories that training can write."""
        return tuple(memory for memory in self.step.chip.memories if memory.writable)

    def where_all_stays(self, found: Measured) -> Measured:
        """The same with tiles of sums alone in the memories that have room for all that lies there: operands that are
        there wholly need no tiles. Those of which less is given do."""
        pairs = zip(self._everywhere, self._given, strict=True)
        live = self._live([one if given is None else given for one, given in pairs])
        least = dict(found.sums_room) | {key: bits for key, bits in found.room.items() if key in self._given_away}
        whole = {
            memory.name
            for memory in self.memories
            if all(
                (self.tiles.taken(core, memory, least) + live[core, memory.name] <= memory.kib * 8192).all()
                for core in self._cores
            )
        }
        room = {key: least.get(key, 0.0) if key[1] in whole else bits for key, bits in found.room.items()}
        return replace(found, room=room)

    @cached_property
    def _given_away(self) -> set[tuple[TaskId, str]]:
        """Tasks, with the memories of an operand of which less than all is given at their read."""
        return {
            (use.task, home.name)
            for number, shares in self.given.items()
            for use, share in zip(self.tensors[number].reads, shares, strict=True)
            for home in self.homes[number]
            if use.is_operand and share < 1
        }

    @cached_property
    def _lives_found(self) -> dict[tuple[float, ...], dict[tuple[int, str], Bits]]:
        """Bits that lie in memories, by shares: rounds of a search ask again for the same."""
        return {}

    def _live(self, shares: Sequence[float]) -> dict[tuple[int, str], Bits]:
        """Bits that lie in each memory at every moment."""
        key = tuple(shares)
        if key not in self._lives_found:
            live = {(core, memory.name): np.zeros(len(self.moments.tasks)) for core, memory in self.places}
            for (core, memory, _), bits in self.by_kind(shares).items():
                live[core, memory] = live[core, memory] + bits
            self._lives_found[key] = live
        return self._lives_found[key]

    def capacity(self, found: Measured) -> dict[str, list[float]]:
        """Bits that tiles and what is given leave free, by memory and moment."""
        return {
            f"{core}:{memory.name}": np.maximum(memory.kib * 8192 - tiles - live, 0.0).tolist()
            for core, memory, tiles, live in self.taken(self.only_given, found)
        }

    def overfull(
        self, found: Measured, shares: Sequence[float] | None = None
    ) -> Iterator[tuple[Memory, TaskId, float, float]]:
        """Memories that tiles and what these shares keep (or what is given) do not fit, each at the moment of most,
        with the bits of both."""
        for _, memory, tiles, live in self.taken(self.only_given if shares is None else shares, found):
            moment = int((tiles + live).argmax())
            if tiles[moment] + live[moment] > memory.kib * 8192 + _ROUNDED:
                yield memory, self.moments.tasks[moment][0], float(tiles[moment]), float(live[moment])

    def taken(self, shares: Sequence[float], found: Measured) -> Iterator[tuple[int, Memory, Bits, Bits]]:
        """Bits of each memory at every moment: those of tiles, and of the tensors that these shares keep."""
        live = self._live(shares)
        for core, memory in self.places:
            yield core, memory, self.tiles.taken(core, memory, found.room), live[core, memory.name]

    @cached_property
    def _kept_found(self) -> dict[tuple[float, ...], tuple[Kept, ...]]:
        """What is kept, by shares."""
        return {}

    def kept(self, shares: Sequence[float]) -> tuple[Kept, ...]:
        """What is on the chip at each read, from the share of each way."""
        key = tuple(shares)
        if key not in self._kept_found:
            two_homes = [len(homes) > 1 for homes in self.homes]
            self._kept_found[key] = kept_by_ways(self.tensors, self.ways, key, two_homes)
        return self._kept_found[key]

    def plan(self, shares: Sequence[float], found: Measured, grown: bool) -> StepPlan:
        """The plan that keeps these shares. Room for tiles is what they took, and where `grown` what is left free."""
        room = self._grown_room(shares, found) if grown else self._taken_room(found)
        return self._planned(task_shares(self.tensors, self.kept(shares)), room)

    @cached_property
    def everything(self) -> list[float]:
        """The shares of ways under which all stays to the end, in the innermost homes."""
        return [float(not level) * share for share, (_, _, level) in zip(self._everywhere, self.ways, strict=True)]

    @cached_property
    def _everywhere(self) -> list[float]:
        """The same in every home at once."""
        return [float(reads == len(self.tensors[number].reads)) for number, reads, _ in self.ways]

    def by_kind(self, shares: Sequence[float]) -> dict[tuple[int, str, str], Bits]:
        """Bits that lie in each memory at every moment, by kind of tensor."""
        live = dict(self._in_tiles)
        for kind, bits in self._room.of(shares):
            live[kind] = live[kind] + bits if kind in live else bits
        return live

    @property
    def is_pinned(self) -> bool:
        """Whether anything is given."""
        return bool(self.tilings or self.given or self.errors)

    def all_kept(self) -> StepPlan | None:
        """The plan that keeps all, with what this leaves free as room for tiles; None where it is too much."""
        found = Measured()
        if any((live > memory.kib * 8192).any() for _, memory, _, live in self.taken(self.everything, found)):
            return None
        return self.plan(self.everything, found, grown=True)

    def keeps_all(self, shares: Sequence[float]) -> bool:
        """Whether all tensors stay to the end."""
        return all(there.written == 1 for there, tensor in zip(self.kept(shares), self.tensors, strict=True))

    def _taken_room(self, found: Measured) -> dict[TaskId, tuple[tuple[str, float], ...]]:
        return {
            task.task: tuple((memory.name, found.room.get((task.task, memory.name), 0.0)) for memory in self.memories)
            for task in self.tasks
        }

    def _grown_room(self, shares: Sequence[float], found: Measured) -> dict[TaskId, tuple[tuple[str, float], ...]]:
        """Bits for tiles, by task and memory: what they took, and what is free whatever else runs at the time."""
        room: dict[TaskId, list[tuple[str, float]]] = {task.task: [] for task in self.tasks}
        for core, memory, tiles, live in self.taken(shares, found):
            for task, bits in self.tiles.grown(core, memory, memory.kib * 8192 - (tiles + live), found.room):
                room[task].append((memory.name, bits))
        return {task: tuple(limits) for task, limits in room.items()}

    def others_pj(self, shares: Sequence[float], found: Measured) -> float:
        """What reads other than of operands, and writes, cost more per step for what is not in its innermost home."""
        return self.worth.others_pj(self.kept(shares), found)
