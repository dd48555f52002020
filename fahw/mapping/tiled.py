"""A product laid out by the mapper: what an array reads, sums up and takes in time for the tiles that were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from typing import ClassVar

from fahw.hardware.arrays.mapping import LEFT, ONCE, Burst, ElementAction, Elements, Fetches, Mapping, Product
from fahw.hardware.arrays.systolic import Folded
from fahw.mapping.mapper import MappedProduct
from fahw.mapping.problem import DATAFLOWS, FlowCosts


@dataclass(frozen=True)
class TiledMapping(Mapping):
    """A product in tiles. `folded`: the same product untiled, in the dataflow that was chosen; its folds run `again` as
    tiles bring them. `brought`: values of both operands that come from further out if none is there."""

    name: ClassVar[str] = "tiled"

    folded: Folded
    mapped: MappedProduct
    brought: tuple[int, int]
    sums_memory: str = ""
    """Where sums wait."""
    costs: FlowCosts = field(default_factory=FlowCosts)
    """What values cost in the dataflow relative to their prices."""
    adds_windows: bool = False
    """Whether results are sums of overlapping windows, which are added up in memory."""
    through: tuple[int | None, int | None] = (None, None)
    """Values of both operands that come from DRAM to outer tiles if none is on the chip; None without such tiles."""
    outer_sums_memory: str = ""
    """Where sums go on to in outer tiles, if not to DRAM."""

    @classmethod
    def laid_out(cls, product: Product, array: Elements) -> Mapping | None:
        """Nothing: the mapper lays tiles out, with more than the product and the array."""
        raise NotImplementedError

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, N and K."""
        return self.folded.sizes

    @property
    def folds(self) -> int:
        """Runs of all folds."""
        return self.folded.folds * self.again

    @property
    def fold_cycles(self) -> int:
        """Cycles of the longest run of a fold: those of a full one."""
        return min(self.cycles, ceil(self.cycles / self.folds))

    @property
    def cycles(self) -> int:
        """Cycles of the array."""
        return self.mapped.array_cycles

    @cached_property
    def again(self) -> int:
        """How often a fold is loaded, or left and gone on with where the results stay."""
        stays = DATAFLOWS[self.folded.name].stays
        if stays is None:
            return self._breaks + 1
        m, n, k = self.sizes
        return max(1, self.mapped.reads[stays] // (m * k if stays == LEFT else k * n))

    @property
    def _breaks(self) -> int:
        m, n, _ = self.sizes
        return self.mapped.partial_sums // (m * n)

    @property
    def fetched(self) -> tuple[int, int]:
        """Values of both operands that come from further out if none is there."""
        return self.brought

    @property
    def through_outer(self) -> tuple[int | None, int | None]:
        """Values that come from DRAM to outer tiles, where there are some."""
        return self.through

    @property
    def sums_in_outer(self) -> bool:
        """Whether sums go on to outer tiles."""
        return bool(self.outer_sums_memory)

    @property
    def room(self) -> dict[str, int]:
        """Bits that tiles take, by memory, outer ones among them."""
        room = dict(self.mapped.room)
        for memory, bits in self.mapped.outer.room if self.mapped.outer else ():
            room[memory] = room.get(memory, 0) + bits
        return room

    @property
    def sums_room(self) -> dict[str, int]:
        """Of the room, what sums take."""
        outer = self.mapped.outer
        both = {self.outer_sums_memory: outer.sums_room} if outer and self.outer_sums_memory else {}
        return both | {self.sums_memory: self.mapped.sums_room + both.get(self.sums_memory, 0)}

    @property
    def sums_beyond(self) -> int:
        """Sums that go on from outer tiles to DRAM."""
        return self.mapped.outer.spilled_sums if self.mapped.outer and self.sums_in_outer else 0

    @property
    def operand_bursts(self) -> tuple[tuple[int, list[Burst]], ...]:
        """A burst per run of a fold for the operand that stays, per fold for those that move."""
        return self._bursts(self.folded.operand_bursts)

    def unskipped_bursts(self, zeros: tuple[float, float]) -> tuple[tuple[int, list[Burst]], ...]:
        """The bursts without what meets nothing but skipped zeros."""
        return self._bursts(self.folded.unskipped_bursts(zeros))

    def _bursts(self, bursts: tuple[tuple[int, list[Burst]], ...]) -> tuple[tuple[int, list[Burst]], ...]:
        """The bursts of the folds as often as they run; tiles that cut folds in two read the rest."""
        stays, read = DATAFLOWS[self.folded.name].stays, dict(self.folded.operand_bursts)
        found = []
        for side, own in bursts:
            runs = [(count * self.again, values) for count, values in own] if side == stays else own
            whole = sum(count * values for count, values in read[side]) * (self.again if side == stays else 1)
            rest = self.mapped.reads[side] - whole
            found.append((side, [*runs, (1, rest)] if rest > 0 else runs))
        return tuple(found)

    @property
    def partial_sum_bursts(self) -> list[Burst]:
        """Bursts of sums that are left incomplete: written, and read back."""
        breaks = self._breaks
        return [(count * breaks, values) for count, values in self.folded.result_bursts] if breaks else []

    @property
    def spilled_share(self) -> float:
        """The share of partial sums that goes on from its memory and comes back."""
        spilled = 0 if self.adds_windows else self.mapped.spilled_sums
        return spilled / self.mapped.partial_sums if spilled else 0.0

    @property
    def left_windows(self) -> int:
        """Sums of overlapping windows that one tile leaves to another."""
        return self.mapped.spilled_sums if self.adds_windows else 0

    @property
    def accumulated(self) -> int:
        """Sums at the array's edge, each written and read."""
        return self.mapped.accumulated

    @property
    def held(self) -> tuple[int, int, int] | None:
        """The operand that stays, as its tiles come."""
        stays = DATAFLOWS[self.folded.name].stays
        return None if stays is None else (stays, self.mapped.reads[stays], self.mapped.begun)

    def waiting_sums(self, repeats: int) -> int:
        """None: tiles have their room."""
        return 0

    @property
    def fetches(self) -> tuple[tuple[Fetches, Fetches], ...]:
        """Fixed by the tiles (`fetched`)."""
        return ((ONCE, ONCE),)

    def moved_bits(self, left_bits: int, right_bits: int) -> int:
        """Those of the dataflow."""
        return self.folded.moved_bits(left_bits, right_bits)

    def element_actions(
        self, result: str, widths: tuple[int, int, int], moved: tuple[int, int], useful_macs: int, idle: int,
        repeats: int,
    ) -> list[ElementAction]:  # fmt: skip
        """Those of the dataflow."""
        return self.folded.element_actions(result, widths, moved, useful_macs, idle, repeats)

    def gated_share(self, zeros: Sequence[float]) -> float:
        """That of the dataflow."""
        return self.folded.gated_share(zeros)
