"""A product of a step as the mapper sees it, and the mapping that it finds, as the array's layout of the product."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Table
from dataclasses import dataclass, replace
from functools import cached_property

from fahw.hardware.array import Array
from fahw.hardware.arrays.catalogue import DATAFLOWS
from fahw.hardware.arrays.mapping import Mapping, Product
from fahw.hardware.arrays.systolic import Folded
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.layers.window_axes import Windows
from fahw.mapping import problem
from fahw.mapping.mapper import MappedProduct, Tiling, mapped_as
from fahw.mapping.problem import Dataflow, MappedArray, OperandPlace, ResultPlace, TiledProduct, Unfolded
from fahw.mapping.tiled import TiledMapping
from fahw.mapping.untiled import best_of, is_best_whole
from fahw.work.counts.gemm import Gemm
from fahw.work.plan.pricing import PriceBook, StreamPrice
from fahw.work.plan.tensors.outer_tiles import Surroundings, in_outer

_NO_MEMORY = "-"
"""Where an operand lies that takes no room: it is generated, or read from a memory that holds nothing else."""


NARROWER: tuple[Callable[[MappedArray], MappedArray], ...] = (
    lambda array: array,
    lambda array: replace(array, accumulators=0),
    lambda array: replace(array, accumulators=0, dataflows=array.dataflows[:1]),
)
"""What a search may leave out of its choices: nothing, accumulators, further dataflows too."""


def narrowed(product: TiledProduct, narrowing: int) -> TiledProduct:
    """The product with fewer choices, by the number of `NARROWER`."""
    return replace(product, array=NARROWER[narrowing](product.array)) if narrowing else product


def narrowings(chip: Chip) -> Iterator[int]:
    """Yield the numbers of `NARROWER` that leave something out on a chip."""
    if any(array.accumulators for array in chip.arrays):
        yield 1
    if any(array.dataflows for array in chip.arrays):
        yield 2


@dataclass(frozen=True)
class Unfolding:
    """What the windows of a convolution overlap in, and the windows."""

    part: Unfolded
    windows: Windows


def can_be_tiled(mapping: Mapping) -> bool:
    """Whether a product laid out like that is one for the mapper: of a kind of array that it knows."""
    return isinstance(mapping, Folded) and mapping.name in problem.DATAFLOWS


@dataclass(frozen=True)
class UntiledProduct:
    """A product of a task, its first or that of another `number`, on the core and array that run it, with the memory
    that its sums wait in, if any."""

    gemm: Gemm
    number: int
    unfolding: Unfolding | None
    array: Array
    psum: Memory | None
    core: int
    chip: Chip
    book: PriceBook

    def on(self, chip: Chip, book: PriceBook) -> UntiledProduct:
        """The same product on a chip with other sizes of memories."""
        place = self.unfolding, self.array, self.psum, self.core
        return UntiledProduct(self.gemm, self.number, *place, chip, book)

    @cached_property
    def streams(self) -> tuple[tuple[StreamPrice, ...], tuple[StreamPrice, ...]]:
        """What of either operand can lie in DRAM."""
        return self.book.streams(self.gemm.left), self.book.streams(self.gemm.right)

    @property
    def is_best_whole(self) -> bool:
        """Whether it is best in one tile where its operands are there and the memories have room."""
        return is_best_whole(self._alone.array)

    @cached_property
    def _alone(self) -> TiledProduct:
        """One of the equal products, of whose operands nothing is there, without room."""
        gemm, array, psum, dram = self.gemm, self.array, self.psum, self.chip.dram
        m, n, k = gemm.mapping.sizes
        left, right = (_place(streams, {}) for streams in self.streams)
        flows = tuple(_flow(name, gemm, array, psum, self.book) for name in _dataflows(gemm, array))
        rate = dram.gbyte_per_s * 8e3 / self.chip.clock_mhz if dram is not None else float("inf")
        mapped_array = MappedArray(
            array.rows, array.cols, flows, array.accumulators, array.weights_per_element,
            array.edge_tiles == "trimmed", array.double_buffered,
        )  # fmt: skip
        unfolded, windows = (self.unfolding.part, self.unfolding.windows) if self.unfolding else (None, None)
        return TiledProduct(
            m, n, k, mapped_array, left, right, ResultPlace(gemm.accumulator_bits, psum.name if psum else _NO_MEMORY),
            prices=self.book.product_prices(gemm, array, psum), windows=windows, unfolded=unfolded,
            dram_bits_per_cycle=rate, objective=self.chip.mapping_objective,
        )  # fmt: skip

    def around(self, around: Surroundings) -> TiledProduct:
        """One of the equal products, to be mapped."""
        left, right = (_place(streams, around.shares) for streams in self.streams)
        product = self._alone.where(left, right, around.room)
        if not self.book.outer_homes:
            return product
        return in_outer(product, self.streams, self.gemm, self.psum, self.chip, self.book, around)


def _dataflows(gemm: Gemm, array: Array) -> tuple[str, ...]:
    """That of the phase, then the array's further ones."""
    return tuple(dict.fromkeys([gemm.mapping.name, *array.dataflows]))


def _flow(name: str, gemm: Gemm, array: Array, psum: Memory | None, book: PriceBook) -> Dataflow:
    kind = DATAFLOWS[name].laid_out(Product(*gemm.mapping.sizes), array)
    assert isinstance(kind, Folded), "folds fit any array"
    mac, idle = book.element_prices(gemm, array, kind)
    costs = book.flow_costs(gemm, array, psum, kind)
    return problem.DATAFLOWS[name].priced(mac, idle, costs)


def _place(streams: Sequence[StreamPrice], shares: Table[str, float]) -> OperandPlace:
    """Bits of a value that can lie in DRAM, and the share of them that is in their innermost homes."""
    bits = sum(stream.bits for stream in streams)
    if not bits:
        return OperandPlace(1, _NO_MEMORY, 1.0)
    fetched = sum(stream.bits * (1 - shares.get(stream.stored, 1.0)) for stream in streams)
    return OperandPlace(bits, streams[0].memory, 1 - fetched / bits)


def laid_out(gemm: Gemm, product: TiledProduct, array: Array, tiling: Tiling | None = None) -> Gemm:
    """The product in the best of its mappings, or in the given one. Raises ConfigError where no tile fits its
    memory."""
    return _in_tiles(gemm, product, array, mapped_as(product, tiling) if tiling else best_of(product))


def _all(values: float, there: float) -> int:
    """Values that would come if none were there, from those that come while a share is."""
    return round(values / (1 - there)) if there < 1 else 0


def _in_tiles(gemm: Gemm, product: TiledProduct, array: Array, mapped: MappedProduct) -> Gemm:
    m, n, k = gemm.mapping.sizes
    folded = DATAFLOWS[mapped.tiling.dataflow].laid_out(Product(m, n, k), array)
    assert isinstance(folded, Folded)
    left, right = (_all(values, place.resident) for values, place in zip(mapped.fetched, product.operands, strict=True))
    costs = next(flow.costs for flow in product.array.dataflows if flow.name == folded.name)
    tiled = TiledMapping(folded, mapped, (left, right), product.result.memory, costs, product.unfolded == "result")
    if mapped.outer is None or product.outer is None:
        return replace(gemm, mapping=tiled)
    places, sums = product.outer.places[:2], product.outer.result
    through = [
        _all(values, place.resident) if place else None
        for values, place in zip(mapped.outer.fetched, places, strict=True)
    ]
    memory = sums.memory if sums else ""
    return replace(gemm, mapping=replace(tiled, through=(through[0], through[1]), outer_sums_memory=memory))
