"""What is to be mapped: one matrix product, the array that computes it, the memories around it, and their prices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Literal

from fahw.hardware.arrays.mapping import LEFT, RIGHT, Objective
from fahw.layers.window_axes import Windows

Dimension = Literal["m", "n", "k"]
"""A dimension of an (M x K) by (K x N) product."""
Unfolded = Literal["left", "right", "result"]
"""What the windows of a convolution overlap in: an operand that is unfolded, or the results that are added up."""

UNFOLDED_DIMENSIONS: dict[Unfolded, tuple[Dimension, Dimension]] = {
    "left": ("m", "k"),
    "right": ("k", "n"),
    "result": ("m", "n"),
}
"""The dimension over output positions and the one over a window."""


@dataclass(frozen=True)
class FlowCosts:
    """What a product costs in a dataflow beside its prices: by what factors `reads` and `fetches` of both operands, and
    `sums` that are left incomplete, are dearer (words that are not full, runs of rows in DRAM, skipped zeros);
    likewise what comes from DRAM `to_outer` memories, and what `moves` from there to local ones, which are no runs; the
    share of multiply-accumulates that are done, and of cycles that remain, where zeros are gated or skipped."""

    reads: tuple[float, float] = (1.0, 1.0)
    fetches: tuple[float, float] = (1.0, 1.0)
    to_outer: tuple[float, float] = (1.0, 1.0)
    moves: tuple[float, float] = (1.0, 1.0)
    sums: float = 1.0
    useful: float = 1.0
    paced: float = 1.0

    def mixed(self, way: DirectWay) -> FlowCosts:
        """Those where values come from DRAM and from outer memories."""
        left, right = (
            (fetch * of_fetches + move * of_moves) / (fetch + move) if fetch + move else 1.0
            for fetch, move, of_fetches, of_moves in zip(way.fetch, way.move, self.fetches, self.moves, strict=True)
        )
        return replace(self, fetches=(left, right))


@dataclass(frozen=True)
class Dataflow:
    """How an array runs a product: what lies on its rows and columns, what streams, and what an element costs."""

    name: str
    rows: Dimension
    cols: Dimension
    streamed: Dimension
    stays: int | None = None
    """The operand that stays in the elements, `LEFT` or `RIGHT`; None where the results stay."""
    skewed: bool = True
    """Whether operands enter skewed, so that every run of a fold is filled and drained."""
    mac_pj: float = 0.0
    idle_pj: float = 0.0
    """Energy of an element in a cycle without a multiply-accumulate."""
    costs: FlowCosts = FlowCosts()

    def priced(self, mac_pj: float, idle_pj: float, costs: FlowCosts) -> Dataflow:
        """The same with these energies."""
        layout = self.name, self.rows, self.cols, self.streamed, self.stays, self.skewed
        return Dataflow(*layout, mac_pj, idle_pj, costs)


DATAFLOWS = {
    flow.name: flow
    for flow in (
        Dataflow("os", "m", "n", "k"),
        Dataflow("ws", "k", "n", "m", stays=RIGHT),
        Dataflow("is", "k", "m", "n", stays=LEFT),
        Dataflow("broadcast", "m", "n", "k", skewed=False),
    )
}
"""The dataflows that the mapper knows, without prices."""


@dataclass(frozen=True)
class MappedArray:
    """The array. `accumulators`: partial sums that each column keeps at the array's edge (`ws`, `is`). `held_folds`:
    folds of the operand that stays that the elements hold at once. `trimmed`, `double_buffered`: as in `Folded`."""

    rows: int
    cols: int
    dataflows: tuple[Dataflow, ...]
    accumulators: int = 0
    held_folds: int = 1
    trimmed: bool = False
    double_buffered: bool = False

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Of numbers alone, which is the same in every process; computed once, as thousands of products have few
        arrays."""
        flows = tuple((flow.mac_pj, flow.idle_pj, flow.costs) for flow in self.dataflows)
        return hash((self.rows, self.cols, self.accumulators, self.held_folds, flows))


@dataclass(frozen=True)
class OperandPlace:
    """An operand: bits of a value, the memory that its tiles lie in, and the share of it that is there already.

    `buffers`: tiles that have room at once where more than one comes (2: double buffering). `overlaps`: whether the
    next tile is loaded while the array works; if not, every load makes it wait.
    """

    bits: float
    memory: str
    resident: float = 0.0
    buffers: int = 2
    overlaps: bool = True


@dataclass(frozen=True)
class ResultPlace:
    """The results: bits of a partial sum and the memory that these wait in; bits of a finished value, and the share of
    them that does not leave for DRAM."""

    sum_bits: int
    memory: str
    bits: int = 0
    resident: float = 1.0


@dataclass(frozen=True)
class Prices:
    """Energies in pJ, each per value. `read`, `fetch`: of the left and the right operand."""

    read: tuple[float, float] = (1.0, 1.0)
    """From the local memory into the array."""
    fetch: tuple[float, float] = (100.0, 100.0)
    """From DRAM into the local memory, both accesses."""
    partial_sum: float = 8.0
    """Of a sum that is left incomplete: written to its memory and read back."""
    spilled_sum: float = 800.0
    """Of a sum that goes on from its memory to DRAM and comes back, all four accesses."""
    accumulator: float = 0.0
    """Written and read at the array's edge."""
    window_sum: float = 0.0
    """Of an error that is added to its place in a buffer of windows: read, add, write."""
    result: float = 0.0
    """Of a finished value that leaves for DRAM."""
    static: float = 0.0
    """Per cycle, of everything that is powered."""
    held: tuple[float, float] = (0.0, 0.0)
    """Of the operand that stays, where elements hold several folds: written to an element, and read as a fold runs."""


@dataclass(frozen=True)
class OuterPlace:
    """Where a part lies between DRAM and its local memory: the memory, the share of the part that is there already or
    nearer (of results: that does not go on to DRAM), and the tiles that have room at once where more than one comes."""

    memory: str
    resident: float = 0.0
    buffers: int = 2


@dataclass(frozen=True)
class OuterPrices:
    """Energies in pJ, each per value, in place of those between DRAM and a local memory. `fetch`, `move`: of the left
    and the right operand."""

    fetch: tuple[float, float] = (95.0, 95.0)
    """From DRAM into the outer memory, both accesses."""
    move: tuple[float, float] = (10.0, 10.0)
    """From the outer memory into the local one, both accesses."""
    moved_sum: float = 80.0
    """Of a sum that goes on from its memory to the outer one and comes back, all four accesses."""
    spilled_sum: float = 760.0
    """Of a sum that goes on from the outer memory to DRAM and comes back, all four accesses."""
    moved_result: float = 0.0
    """Of a finished value that leaves for the outer memory."""
    result: float = 0.0
    """Of one that goes on from there to DRAM."""


@dataclass(frozen=True)
class DirectWay:
    """How both operands come to their local memories without outer tiles, where part of them may lie in an outer one:
    of the pJ of a value that comes what it takes from DRAM, `fetch`, and what from there, `move`; bits per cycle; bits
    for tiles, by memory."""

    fetch: tuple[float, float]
    move: tuple[float, float]
    bits_per_cycle: float
    room: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class OuterLevel:
    """Memories on the chip behind the local ones: what comes from DRAM to a part with such a place goes through it.

    A part without one comes straight from DRAM. `room`: bits for outer tiles, by memory; `bits_per_cycle`: from there
    into local memories and back; `direct`: how it goes without outer tiles, where something lies in these memories.
    """

    left: OuterPlace | None
    right: OuterPlace | None
    result: OuterPlace | None
    prices: OuterPrices = OuterPrices()
    room: tuple[tuple[str, float], ...] = ()
    bits_per_cycle: float = inf
    direct: DirectWay | None = None

    @property
    def places(self) -> tuple[OuterPlace | None, OuterPlace | None, OuterPlace | None]:
        """Those of left, right and results."""
        return self.left, self.right, self.result


@dataclass(frozen=True)
class TiledProduct:
    """An (M x K) by (K x N) product, `repeats` times, to be cut into tiles. `room`: bits for tiles by memory; one that
    is not named has no limit."""

    m: int
    n: int
    k: int
    array: MappedArray
    left: OperandPlace
    right: OperandPlace
    result: ResultPlace
    prices: Prices = Prices()
    room: tuple[tuple[str, float], ...] = ()
    repeats: int = 1
    windows: Windows | None = None
    unfolded: Unfolded | None = None
    dram_bits_per_cycle: float = inf
    objective: Objective = "energy"
    every_size: bool = False
    """Whether every tile size is tried in place of the short list."""
    outer: OuterLevel | None = None
    """Memories behind the local ones, which all that comes from DRAM goes through, or nothing."""

    def __post_init__(self) -> None:
        if self.outer and any(
            share < there for share, there in zip(self.shares_on_chip, self._shares_there, strict=True)
        ):
            raise ValueError("what is in a local memory does not come from DRAM")
        if (self.windows is None) != (self.unfolded is None):
            raise ValueError("windows and what is unfolded are given together")
        if self.windows is not None and self.unfolded is not None:
            positions, window = UNFOLDED_DIMENSIONS[self.unfolded]
            lengths = self.length(positions), self.length(window)
            if lengths != (self.windows.positions, self.windows.window):
                raise ValueError(f"the windows do not make up the product: {lengths}, {self.windows}")

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Of numbers alone, which is the same in every process; computed once, as several tables ask for it."""
        operands = self.left.bits, self.left.resident, self.right.bits, self.right.resident
        room = tuple([bits for _, bits in self.room])
        return hash((self.m, self.n, self.k, self.array, operands, self.result.sum_bits, self.prices, room))

    def where(self, left: OperandPlace, right: OperandPlace, room: tuple[tuple[str, float], ...]) -> TiledProduct:
        """The same product with its operands at other places, and other room for tiles."""
        other = object.__new__(TiledProduct)
        other.__dict__.update(self.__dict__, left=left, right=right, room=room)
        other.__dict__.pop("_hash", None)
        return other

    def length(self, dimension: Dimension) -> int:
        """M, N or K."""
        return {"m": self.m, "n": self.n, "k": self.k}[dimension]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product."""
        return self.m * self.n * self.k

    @property
    def outer_may_go_unused(self) -> bool:
        """Whether there is nothing in the outer memories that does not lie in local ones, too; or it has a way
        past outer tiles."""
        return self.shares_on_chip == self._shares_there or (self.outer is not None and self.outer.direct is not None)

    @property
    def on_one_level(self) -> TiledProduct:
        """The same without outer tiles."""
        way = self.outer.direct if self.outer is not None else None
        if way is None:
            return replace(self, outer=None)
        array, prices = self.array, self.prices
        if any(way.move):
            flows = tuple(replace(flow, costs=flow.costs.mixed(way)) for flow in array.dataflows)
            left, right = (sum(pair) for pair in zip(way.fetch, way.move, strict=True))
            array, prices = replace(array, dataflows=flows), replace(prices, fetch=(left, right))
        return replace(
            self, array=array, prices=prices, room=way.room, dram_bits_per_cycle=way.bits_per_cycle, outer=None
        )  # fmt: skip

    @property
    def shares_on_chip(self) -> tuple[float, float, float]:
        """The shares of left, right and results that do not come from DRAM, or leave for it."""
        there, outer = self._shares_there, self.outer.places if self.outer else (None, None, None)
        left, right, result = (place.resident if place else share for place, share in zip(outer, there, strict=True))
        return left, right, result

    @property
    def _shares_there(self) -> tuple[float, float, float]:
        return self.left.resident, self.right.resident, self.result.resident

    @property
    def operands(self) -> tuple[OperandPlace, OperandPlace]:
        """The left and the right operand."""
        return self.left, self.right
