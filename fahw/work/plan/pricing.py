"""What a product's reads, sums and tiles cost, value by value: the mapper's prices, made of the ledger's."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import NamedTuple, Protocol

from fahw.hardware.array import Array
from fahw.hardware.arrays import mapping as arrays
from fahw.hardware.arrays.mapping import LEFT, RIGHT, Burst
from fahw.hardware.arrays.systolic import Folded
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.hardware.part import Tensor
from fahw.mapping.problem import FlowCosts, OuterPrices, Prices
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Accesses, InTurn, Traffic
from fahw.work.counts.gemm import Gemm, Operand, Stream, accumulators_name, generated_traffic, held_name, operand_reads
from fahw.work.counts.record import Count
from fahw.work.counts.task_accesses import TaskAccesses, TaskShares

_MANY = 1 << 16
"""Values whose price is taken, so that words and bursts are nearly full."""
NEVER_PJ = 1e9
"""What a value costs that would have to go to a DRAM, or a sum to a memory, that a chip lacks."""
NOWHERE = dict.fromkeys(
    ("weight", "feedback", "activation", "error", "mask", "master", "optimizer", "gradient", "param", "psum"), 0.0
)
"""Shares of tensors of which nothing is on the chip."""
AWAY = TaskShares(NOWHERE, NOWHERE, NOWHERE)
IN_OUTER = replace(AWAY, anywhere=TaskShares())
"""Nothing is in an innermost home, and all of what has two homes in the other one."""


class Pricing(Hashable, Protocol):
    """Prices of a chip's actions."""

    @property
    def static_pj_per_cycle(self) -> float:
        """Energy per cycle of everything that is powered."""

    def energy_pj(self, counts: Iterable[Count]) -> float:
        """Energy of counted actions."""


class StreamPrice(NamedTuple):
    """What one value of a stream costs more if it comes from DRAM, in pJ, and the tensor that lies there.

    `outer`: the tensor's home behind the innermost, none where it is empty; then `move_pj`: if the value comes from
    there, and `to_outer_pj`: from DRAM there.
    """

    stored: Tensor
    memory: str
    bits: float
    fetch_pj: float
    outer: str = ""
    move_pj: float = 0.0
    to_outer_pj: float = 0.0


@dataclass(frozen=True)
class PriceBook:
    """Prices per value; each computed once."""

    pricing: Pricing
    here: Accesses
    """Accesses to memories in which all is there."""
    elsewhere: Accesses
    """Accesses to memories in which nothing is there."""
    in_outer: Accesses
    """Accesses to memories in which nothing is there, but in those behind them all that has a home there."""
    has_dram: bool = True
    outer_homes: Mapping[str, Memory] = field(default_factory=dict)
    """The homes of tensors behind the innermost ones."""
    _kept: dict[object, object] = field(default_factory=dict)

    def fetch_pj_per_bit(self, memory: Memory, tensor: Tensor, action: str, in_outer: bool = False) -> float:
        """What a bit costs more that is read (or written) in DRAM, in pJ: both accesses; or in its outer home."""
        key = memory.name, tensor, action, in_outer
        if key not in self._kept:
            bits = memory.width_bits
            self._kept[key] = self._more(memory, tensor, action, bits, in_outer) / bits
        return self._kept[key]  # type: ignore[return-value]

    def _more(self, memory: Memory, tensor: Tensor, action: str, bits: int, in_outer: bool = False) -> float:
        """What a value of `bits` costs more whose other end is DRAM (more than all else where there is none), or its
        outer home."""
        if not (self.has_dram or in_outer):
            return NEVER_PJ
        both = [
            getattr(accesses, action)(memory, tensor, [(1, _MANY)], bits)
            for accesses in (self.in_outer if in_outer else self.elsewhere, self.here)
        ]
        away, here = (self.pricing.energy_pj(traffic.counts) for traffic in both)
        return (away - here) / _MANY

    def _to_outer(self, memory: Memory, tensor: Tensor, bits: int) -> float:
        """What a value of `bits` costs that comes from DRAM to an outer home: both accesses."""
        if not self.has_dram:
            return NEVER_PJ
        traffic = self.here.write(memory, tensor, [(1, _MANY)], bits) + self.here.dram("read", tensor, _MANY * bits)
        return self._per_value(traffic)

    def streams(self, operand: Operand) -> tuple[StreamPrice, ...]:
        """The streams of an operand that can lie in DRAM, with what a value costs from there."""
        key = "streams", operand.price_key
        if key not in self._kept:
            writable = [stream for stream in operand.streams if stream.memory.writable]
            self._kept[key] = tuple(self._stream(operand, stream) for stream in writable)
        return self._kept[key]  # type: ignore[return-value]

    def _stream(self, operand: Operand, stream: Stream) -> StreamPrice:
        stored, outer = stream.stored or stream.tensor, self.outer_homes.get(stream.stored or stream.tensor)
        share = _stored_share(operand, stream)
        bits, factor = stream.bits * share, float(operand.block) * share
        fetch = self.fetch_pj_per_bit(stream.memory, stored, "read") * stream.bits * factor
        if outer is None:
            return StreamPrice(stored, stream.memory.name, bits, fetch)
        move = self.fetch_pj_per_bit(stream.memory, stored, "read", True) * stream.bits * factor
        key = "to outer", stored
        if key not in self._kept:
            self._kept[key] = self._to_outer(outer, stored, outer.width_bits) / outer.width_bits
        to_outer: float = self._kept[key] * stream.bits * factor  # type: ignore[operator]
        return StreamPrice(stored, stream.memory.name, bits, fetch, outer.name, move, to_outer)

    def read_pj(self, operand: Operand) -> float:
        """What a value of an operand costs that the array reads."""
        key = "read", operand.price_key
        if key not in self._kept:
            self._kept[key] = self._read_pj(operand)
        return self._kept[key]  # type: ignore[return-value]

    def _read_pj(self, operand: Operand) -> float:
        traffic = generated_traffic(operand, _MANY)
        for stream in operand.streams:
            traffic += self.here.read(stream.memory, stream.tensor, [(1, _MANY)], stream.bits, stream.factor)
        return self._per_value(traffic) * float(operand.block)

    def _per_value(self, traffic: Traffic) -> float:
        return self.pricing.energy_pj(traffic.counts) / _MANY

    def product_prices(self, gemm: Gemm, array: Array, psum: Memory | None) -> Prices:
        """The mapper's prices of a product whose sums wait in `psum`, or nowhere."""
        key = array.name, psum and psum.name, gemm.accumulator_bits, gemm.left.price_key, gemm.right.price_key
        if key not in self._kept:
            self._kept[key] = self._product_prices(gemm, array, psum)
        return self._kept[key]  # type: ignore[return-value]

    def _product_prices(self, gemm: Gemm, array: Array, psum: Memory | None) -> Prices:
        waiting, spilled, added = self._sum_prices(psum, gemm.accumulator_bits, array) if psum else (NEVER_PJ,) * 3
        left, right = (sum(stream.fetch_pj for stream in self.streams(operand)) for operand in gemm.operands)
        return Prices(
            read=(self.read_pj(gemm.left), self.read_pj(gemm.right)), fetch=(left, right),
            partial_sum=waiting, spilled_sum=spilled, accumulator=self._accumulator(array), window_sum=added,
            static=self.pricing.static_pj_per_cycle, held=self._held(array),
        )  # fmt: skip

    def _sum_prices(self, psum: Memory, bits: int, array: Array) -> tuple[float, float, float]:
        """A sum of so many bits in `psum`: written and read back; more, where it goes on to DRAM; with an addition."""
        sums = self.here.write(psum, "psum", [(1, _MANY)], bits) + self.here.read(psum, "psum", [(1, _MANY)], bits)
        spilled = sum(self._more(psum, "psum", action, bits) for action in ("write", "read"))
        addition = lanes.operations(array, "psum", [("add", _MANY, (bits,))])
        return self._per_value(sums), spilled, self._per_value(sums + addition)

    def outer_prices(self, gemm: Gemm, psum: Memory | None) -> OuterPrices:
        """Those of a product whose tiles lie in outer ones."""
        name = psum.name if psum else ""
        key = "outer", name, gemm.accumulator_bits, gemm.left.price_key, gemm.right.price_key
        if key not in self._kept:
            self._kept[key] = self._outer_prices(gemm, psum)
        return self._kept[key]  # type: ignore[return-value]

    def _outer_prices(self, gemm: Gemm, psum: Memory | None) -> OuterPrices:
        left, right = (self.streams(operand) for operand in gemm.operands)
        moved_sum = spilled_sum = 0.0
        outer, bits = self.outer_homes.get("psum"), gemm.accumulator_bits
        if psum is not None and outer is not None:
            moved_sum = sum(self._more(psum, "psum", action, bits, True) for action in ("write", "read"))
            beyond = self.here.round_trip(outer, "psum", _MANY, bits)
            spilled_sum = self._per_value(beyond) if self.has_dram else NEVER_PJ
        return OuterPrices(
            fetch=(sum(stream.to_outer_pj for stream in left), sum(stream.to_outer_pj for stream in right)),
            move=(sum(stream.move_pj for stream in left), sum(stream.move_pj for stream in right)),
            moved_sum=moved_sum, spilled_sum=spilled_sum,
        )  # fmt: skip

    def flow_costs(self, gemm: Gemm, array: Array, psum: Memory | None, kind: Folded) -> FlowCosts:
        """What the product costs in a dataflow, untiled, relative to its prices."""
        left, right = gemm.operands
        place, rest = (array.name, psum and psum.name), (gemm.accumulator_bits, gemm.imbalance)
        key = "flow", kind, *place, *rest, left.price_key, right.price_key
        if key not in self._kept:
            self._kept[key] = self._flow_costs(gemm, psum, kind)
        return self._kept[key]  # type: ignore[return-value]

    def _flow_costs(self, gemm: Gemm, psum: Memory | None, kind: Folded) -> FlowCosts:
        skipped = [operand.zeros if operand.skipping == "skip" else 0.0 for operand in gemm.operands]
        whole = moved = dict(kind.operand_bursts)
        if any(skipped):
            moved = dict(kind.unskipped_bursts((skipped[LEFT], skipped[RIGHT])))
        found = [self._relative(operand, whole[side], moved[side]) for side, operand in enumerate(gemm.operands)]
        bits, bursts = gemm.accumulator_bits, kind.result_bursts
        sums = [
            self.pricing.energy_pj(self.here.write(psum, "psum", some, bits).counts) / _values(some) if psum else 0.0
            for some in (bursts, [(1, _MANY)])
        ]
        zeros = [operand.zeros for operand in gemm.operands if operand.skipping != "none"]
        remaining = prod(1 - share for share in skipped)
        paced = 1.0 if remaining == 1 else min(1.0, remaining * (1 + gemm.imbalance))
        left, right = found
        return FlowCosts(
            (left[0], right[0]), (left[1], right[1]), (left[2], right[2]), (left[3], right[3]),
            sums[0] / sums[1] if sums[1] else 1.0, 1 - kind.gated_share(zeros), paced,
        )  # fmt: skip

    def _relative(
        self, operand: Operand, whole: Sequence[Burst], moved: Sequence[Burst]
    ) -> tuple[float, float, float, float]:
        """What reading and fetching an operand's value costs relative to its price, and bringing it to its outer home
        and from there. `whole`, `moved`: bursts of all its values, and without skipped ones."""
        if operand.block != 1:
            moved = [(times, ceil(number * operand.block)) for times, number in moved]
        values = _values(moved)
        here, away = (
            self.pricing.energy_pj(operand_reads(operand, moved, accesses, values).counts)
            for accesses in (self.here, self.elsewhere)
        )
        read = self.read_pj(operand) * _values(whole)
        streams, number = self.streams(operand), values / float(operand.block)
        fetched = sum(stream.fetch_pj for stream in streams) * number
        ratios = here / read if read else 1.0, (away - here) / fetched if fetched and self.has_dram else 1.0
        if not streams or not all(stream.outer for stream in streams):
            return *ratios, 1.0, 1.0
        between, through = (
            self.pricing.energy_pj(operand_reads(operand, moved, accesses, InTurn(values, values)).counts)
            for accesses in (self.in_outer, self.elsewhere)
        )
        move, to_outer = (
            sum(prices) * number
            for prices in ([stream.move_pj for stream in streams], [stream.to_outer_pj for stream in streams])
        )
        return (
            *ratios, (through - between) / to_outer if to_outer and self.has_dram else 1.0,
            (between - here) / move if move else 1.0,
        )  # fmt: skip

    def _accumulator(self, array: Array) -> float:
        if not array.accumulators:
            return 0.0
        name = accumulators_name(array)
        counts = [Count(name, action, "psum", 1) for action in ("write", "read")]
        return self.pricing.energy_pj(counts)

    def _held(self, array: Array) -> tuple[float, float]:
        """What a value costs that is written to an element's further weights, and read there."""
        if array.weights_per_element == 1:
            return 0.0, 0.0
        counts = (Count(held_name(array), action, "weight", 1) for action in ("write", "read"))
        written, read = (self.pricing.energy_pj([count]) for count in counts)
        return written, read

    def element_prices(self, gemm: Gemm, array: Array, kind: arrays.Mapping) -> tuple[float, float]:
        """What an element costs per multiply-accumulate, and per cycle without one, laid out as `kind`."""
        key = array.name, kind.name, gemm.result, gemm.left.price_key, gemm.right.price_key
        if key not in self._kept:
            self._kept[key] = self._element_prices(gemm, array, kind)
        return self._kept[key]  # type: ignore[return-value]

    def _element_prices(self, gemm: Gemm, array: Array, kind: arrays.Mapping) -> tuple[float, float]:
        widths = gemm.left.bits, gemm.right.bits, gemm.accumulator_bits
        moved, prices = (round(gemm.left.bits * gemm.left.block), gemm.right.bits), []
        for useful, idle in ((1, 0), (0, 1)):
            actions = kind.element_actions(gemm.result, widths, moved, useful, idle, 1)
            counts = [Count(array.name, act.action, act.tensor, act.count, act.widths) for act in actions if act.count]
            prices.append(self.pricing.energy_pj(counts))
        return prices[0], prices[1]


def _values(bursts: Sequence[Burst]) -> int:
    return sum(times * number for times, number in bursts)


def _stored_share(operand: Operand, stream: Stream) -> float:
    """Bits that lie in memory relative to those of the values: zeros may be left out."""
    if operand.packing is None:
        return 1.0
    return operand.packing.stored_bits(_MANY, stream.bits) / (_MANY * stream.bits)


def dram_cycles(chip: Chip, bits: float) -> float:
    """Cycles that bits take from DRAM or to it; none where there is no DRAM."""
    return bits * chip.clock_mhz / (chip.dram.gbyte_per_s * 8e3) if chip.dram is not None else 0.0


def price_book(pricing: Pricing, chip: Chip) -> PriceBook:
    """The prices of a chip's parts, which are the same on every core; kept for the rules that are priced on it."""
    away = TaskAccesses(chip, "", AWAY)
    homes = ((tensor, chip.outer_home(tensor)) for memory in chip.memories for tensor in memory.holds)
    outer: dict[str, Memory] = {tensor: memory for tensor, memory in homes if memory is not None}
    in_outer = TaskAccesses(chip, "", IN_OUTER)
    return PriceBook(pricing, Accesses(chip, ()), away, in_outer, chip.dram is not None, outer)
