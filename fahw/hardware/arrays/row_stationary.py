"""Row-stationary arrays: rows of filters and inputs stay in the elements' scratchpads (Eyeriss).

Convolutions are laid out as `row_movement` says, a model of accesses; where mappings are searched for, `row_time` has
the cycles, with fill, drain and buses. Other products are laid out as `os` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from fahw.config.schema import Frozen
from fahw.hardware.arrays.mapping import (
    LEFT,
    ONCE,
    RIGHT,
    Burst,
    ElementAction,
    Elements,
    Fetches,
    Mapping,
    Product,
)
from fahw.hardware.arrays.row_movement import Movement, movement
from fahw.hardware.arrays.row_time import Buses, timed_cycles, timed_movement
from fahw.hardware.arrays.systolic import OutputStationary
from fahw.hardware.part import Count, Device
from fahw.hardware.process import Technology
from fahw.technology.constant import Constant, parts_of_sum
from fahw.technology.operations import CLOCK_FACTOR, clock_part, register_clock_pj
from fahw.technology.storage import Scratchpad, scratchpad


class Scratchpads(Frozen):
    """What every element of a row-stationary array keeps: words of a filter, of an input and of partial sums.

    Each is a register file or an SRAM, whichever takes less energy.
    """

    filter_words: Count
    input_words: Count
    psum_words: Count
    device: Device = "lop"
    """Transistor type of those that are SRAMs."""
    filter_bus_words: Count = 4
    """Under `mapping: best`: words per cycle that the bus of filters brings from the buffer to the elements."""
    input_bus_words: Count = 1
    """The same of the bus of inputs."""
    psum_bus_words: Count = 4
    """The same of the bus of partial sums, which has as wide a one back. Source of all three: 64, 16 and 64 bits at
    words of 16 (Chen et al., JSSC 2017, recalled)."""
    clock_gated: bool = True
    """Registers take the clock only when they are accessed; false: all of a working element's in every cycle."""

    @property
    def words(self) -> tuple[int, int, int]:
        """Words for filters, inputs and partial sums."""
        return self.filter_words, self.input_words, self.psum_words

    @property
    def buses(self) -> Buses:
        """The buses that bring them."""
        return Buses(self.filter_bus_words, self.input_bus_words, self.psum_bus_words)


class PaddedElements(Elements):
    """Elements of which each may have scratchpads."""

    scratchpads: Scratchpads | None = None
    """Of `rs`, which needs them."""


ACTIONS = ("pad", "clock_pad", "clock_registers")
"""Actions of elements with scratchpads: an access of any, its clock, and a cycle of registers that are not gated."""


@dataclass(frozen=True)
class RowStationary(Mapping):
    """`rs`: a convolution as `moves` says, on elements with `pads`; other products are laid out as `os` does. `timed`:
    with fill, drain and buses."""

    name: ClassVar[str] = "rs"
    phases: ClassVar[tuple[str, ...]] = ("forward",)
    keeps_sums: ClassVar[bool] = True

    product: Product
    moves: Movement
    pads: Scratchpads
    timed: bool = False

    @classmethod
    def laid_out(cls, product: Product, array: Elements) -> Mapping | None:
        """The mapping of a convolution that moves the fewest values, or is best otherwise; None where its kernel does
        not fit."""
        pads = _pads(array)
        if product.convolution is None:
            return OutputStationary.laid_out(product, array)
        assert pads is not None, "the chip was checked when it was loaded"
        place, goal = (product.convolution, array.rows, array.cols, pads.words, product.buffer_words), product.objective
        moves = movement(*place) if goal is None else timed_movement(*place, pads.buses, goal)
        return None if moves is None else cls(product, moves, pads, goal is not None)

    @classmethod
    def problems(cls, array: Elements) -> Iterator[tuple[str, str]]:
        """Rows are kept in scratchpads."""
        if _pads(array) is None:
            yield "scratchpads", "forward: rs keeps rows in scratchpads: give their words"

    @classmethod
    def limits(cls, array: Elements) -> str:
        """The rows, and the words of the pads."""
        pads = _pads(array)
        words = pads.words if pads is not None else (0, 0, 0)
        return f"{array.rows} rows, scratchpads of {words[0]}, {words[1]} and {words[2]} words"

    @classmethod
    def own_actions(cls, array: Elements) -> tuple[str, ...]:
        """Those of the scratchpads, where there are any."""
        return ACTIONS if _pads(array) is not None else ()

    @classmethod
    def action_price(cls, action: str, widths: tuple[int, ...], array: Elements, process: Technology) -> Constant:
        """Energy of an access of a pad, or of its clock."""
        pads, (bits, entries), share = _pads(array), widths, process.clock_share
        assert pads is not None, "only elements with pads count these actions"
        pad = scratchpad(bits, entries, process.built_for(), pads.device).access
        if action == "pad":
            return pad
        is_clocked = pad.kind == "logic"
        if action == "clock_registers":
            clocked = register_clock_pj(bits * (entries - 1), process.node_nm)  # an access has that of its own word
            return replace(clocked, value=clocked.value if is_clocked else 0.0, kind="clock", factor=CLOCK_FACTOR)
        terms = [(1, pad), (-1, register_clock_pj(bits, process.node_nm))]
        driven = pad.value - terms[1][1].value if is_clocked else 0.0
        source = f"{share:g} of the registers clocked, without their own clock; none of an SRAM"
        tree = Constant(driven, source, "clock", CLOCK_FACTOR, parts=parts_of_sum(terms))
        return tree.times(share, clock_part(share))

    @classmethod
    def element_storage(cls, array: Elements, bits: Callable[[str], int], process: Technology) -> Sequence[Scratchpad]:
        """The scratchpads of one element."""
        pads = _pads(array)
        if pads is None:
            return ()
        sizes = zip(("weight", "activation", "accumulator"), pads.words, strict=True)
        return [scratchpad(bits(tensor), words, process.built_for(), pads.device) for tensor, words in sizes]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, N and K."""
        return self.product.m, self.product.n, self.product.k

    @property
    def folds(self) -> int:
        """Number of passes."""
        return self.moves.passes

    @property
    def fold_cycles(self) -> int:
        """Cycles of one pass, the longest."""
        return -(-self.cycles // self.folds)

    @cached_property
    def cycles(self) -> int:
        """Cycles of all passes."""
        return timed_cycles(self.moves, self.pads.buses) if self.timed else self.moves.cycles

    @property
    def operand_bursts(self) -> tuple[tuple[int, list[Burst]], ...]:
        """A burst per pass of weights and of inputs."""
        moves = self.moves
        return (
            (RIGHT, _bursts(moves.weights_read, moves.passes)),
            (LEFT, _bursts(moves.inputs_read, moves.passes)),
        )

    @property
    def partial_sum_bursts(self) -> list[Burst]:
        """A burst per pass of sums that wait in the buffer."""
        return _bursts(self.moves.sums_written, self.moves.passes)

    def waiting_sums(self, repeats: int) -> int:
        """The sums of a group of filters; groups of a convolution come one after the other."""
        return self.moves.waiting

    @property
    def fetches(self) -> tuple[tuple[Fetches, Fetches], ...]:
        """As `fetched` says."""
        return ((ONCE, ONCE),)

    @property
    def fetched(self) -> tuple[int, int]:
        """Inputs once per group of filters and strip of rows, weights once per strip and samples at a time."""
        return self.moves.inputs_fetched, self.moves.weights_read

    def gated_share(self, zeros: Sequence[float]) -> float:
        """Zeros of the inputs, the only ones that can be gated here."""
        return max(zeros, default=0.0)

    def element_actions(
        self, result: str, widths: tuple[int, int, int], moved: tuple[int, int], useful_macs: int, idle: int,
        repeats: int,
    ) -> list[ElementAction]:  # fmt: skip
        """A gated zero is still read; its weight and sum are not, and nothing is multiplied. An element that works has
        a multiply-accumulate in every cycle; those that do not are clock-gated."""
        moves, pads, (input_bits, weight_bits, accumulator_bits) = self.moves, self.pads, widths
        macs = repeats * moves.layer.macs
        actions = [
            ElementAction("mac", result, useful_macs, widths),
            ElementAction("clock", result, useful_macs, (*widths, 0)),
            ElementAction("idle", result, idle, (*widths, 0)),
            ElementAction("shift_psum", "psum", repeats * moves.sums_passed, (accumulator_bits,)),
        ]
        pad_accesses = (
            ("weight", useful_macs + repeats * moves.weights_kept, weight_bits, pads.filter_words),
            ("activation", macs + repeats * moves.inputs_kept, input_bits, pads.input_words),
            ("psum", 2 * useful_macs, accumulator_bits, pads.psum_words),
        )
        for tensor, count, bits, entries in pad_accesses:
            actions.append(ElementAction("pad", tensor, count, (bits, entries)))
            actions.append(ElementAction("clock_pad", tensor, count, (bits, entries)))
            if not pads.clock_gated:
                actions.append(ElementAction("clock_registers", tensor, macs, (bits, entries)))
        return actions


def _pads(array: Elements) -> Scratchpads | None:
    return array.scratchpads if isinstance(array, PaddedElements) else None


def _bursts(values: int, count: int) -> list[Burst]:
    """Bursts of equal length, or one apart, that carry `values` in `count` bursts."""
    length, longer = divmod(values, count)
    return [(count - longer, length), (longer, length + 1)]
