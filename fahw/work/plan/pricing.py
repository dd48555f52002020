"""What a product's reads, sums and tiles cost, value by value: the mapper's prices, made of the ledger's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Protocol

from fahw.hardware.array import Array
from fahw.hardware.arrays.mapping import LEFT, RIGHT, Burst, Mapping
from fahw.hardware.arrays.systolic import Folded
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.hardware.part import Tensor
from fahw.mapping.problem import FlowCosts, Prices
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Accesses, Traffic
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


class Pricing(Protocol):
    """Prices of a chip's actions."""

    @property
    def static_pj_per_cycle(self) -> float:
        """Energy per cycle of everything that is powered."""

    def energy_pj(self, counts: Iterable[Count]) -> float:
        """Energy of counted actions."""


@dataclass(frozen=True)
class StreamPrice:
    """What one value of a stream costs more if it comes from DRAM, in pJ, and the tensor that lies there."""

    stored: Tensor
    memory: str
    bits: float
    fetch_pj: float


@dataclass(frozen=True)
class PriceBook:
    """Prices per value; each computed once."""

    pricing: Pricing
    here: Accesses
    """Accesses to memories in which all is there."""
    elsewhere: Accesses
    """Accesses to memories in which nothing is there."""
    has_dram: bool = True
    _kept: dict[object, object] = field(default_factory=dict)

    def fetch_pj_per_bit(self, memory: Memory, tensor: Tensor, action: str) -> float:
        """What a bit costs more that is read (or written) in DRAM, in pJ: both accesses."""
        key = memory.name, tensor, action
        if key not in self._kept:
            bits = memory.width_bits
            self._kept[key] = self._more(memory, tensor, action, bits) / bits
        return self._kept[key]  # type: ignore[return-value]

    def _more(self, memory: Memory, tensor: Tensor, action: str, bits: int) -> float:
        """What a value of `bits` costs more whose other end is DRAM; more than all else where there is none."""
        if not self.has_dram:
            return NEVER_PJ
        both = [
            getattr(accesses, action)(memory, tensor, [(1, _MANY)], bits) for accesses in (self.elsewhere, self.here)
        ]
        away, here = (self.pricing.energy_pj(traffic.counts) for traffic in both)
        return (away - here) / _MANY

    def streams(self, operand: Operand) -> tuple[StreamPrice, ...]:
        """The streams of an operand that can lie in DRAM, with what a value costs from there."""
        return tuple(
            StreamPrice(
                stream.stored or stream.tensor,
                stream.memory.name,
                stream.bits * _stored_share(operand, stream),
                self._fetch(stream) * float(operand.block) * _stored_share(operand, stream),
            )
            for stream in operand.streams
            if stream.memory.writable
        )

    def _fetch(self, stream: Stream) -> float:
        return self.fetch_pj_per_bit(stream.memory, stream.stored or stream.tensor, "read") * stream.bits

    def read_pj(self, operand: Operand) -> float:
        """What a value of an operand costs that the array reads."""
        traffic = generated_traffic(operand, _MANY)
        for stream in operand.streams:
            traffic += self.here.read(stream.memory, stream.tensor, [(1, _MANY)], stream.bits, stream.factor)
        return self._per_value(traffic) * float(operand.block)

    def _per_value(self, traffic: Traffic) -> float:
        return self.pricing.energy_pj(traffic.counts) / _MANY

    def product_prices(self, gemm: Gemm, array: Array, psum: Memory | None) -> Prices:
        """The mapper's prices of a product whose sums wait in `psum`, or nowhere."""
        key = array.name, psum and psum.name, gemm.accumulator_bits, _signature(gemm.left), _signature(gemm.right)
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

    def flow_costs(self, gemm: Gemm, array: Array, psum: Memory | None, kind: Folded) -> FlowCosts:
        """What the product costs in a dataflow, untiled, relative to its prices."""
        key = (
            "flow",
            array.name,
            psum and psum.name,
            kind,
            gemm.accumulator_bits,
            gemm.imbalance,
            *map(_signature, gemm.operands),
        )
        if key not in self._kept:
            self._kept[key] = self._flow_costs(gemm, psum, kind)
        return self._kept[key]  # type: ignore[return-value]

    def _flow_costs(self, gemm: Gemm, psum: Memory | None, kind: Folded) -> FlowCosts:
        skipped = [operand.zeros if operand.skipping == "skip" else 0.0 for operand in gemm.operands]
        whole, moved = dict(kind.operand_bursts), dict(kind.unskipped_bursts((skipped[LEFT], skipped[RIGHT])))
        found = [self._relative(operand, whole[side], moved[side]) for side, operand in enumerate(gemm.operands)]
        bits, bursts = gemm.accumulator_bits, kind.result_bursts
        sums = [
            self.pricing.energy_pj(self.here.write(psum, "psum", some, bits).counts) / _values(some) if psum else 0.0
            for some in (bursts, [(1, _MANY)])
        ]
        zeros = [operand.zeros for operand in gemm.operands if operand.skipping != "none"]
        remaining = prod(1 - share for share in skipped)
        paced = 1.0 if remaining == 1 else min(1.0, remaining * (1 + gemm.imbalance))
        (left_read, left), (right_read, right) = found
        useful = 1 - kind.gated_share(zeros)
        return FlowCosts((left_read, right_read), (left, right), sums[0] / sums[1] if sums[1] else 1.0, useful, paced)

    def _relative(self, operand: Operand, whole: Sequence[Burst], moved: Sequence[Burst]) -> tuple[float, float]:
        """What reading and fetching an operand's value costs relative to its price. `whole`, `moved`: bursts of all its
        values, and without skipped ones."""
        if operand.block != 1:
            moved = [(times, ceil(number * operand.block)) for times, number in moved]
        values = _values(moved)
        here, away = (
            self.pricing.energy_pj(operand_reads(operand, moved, accesses, values).counts)
            for accesses in (self.here, self.elsewhere)
        )
        read = self.read_pj(operand) * _values(whole)
        fetched = sum(stream.fetch_pj for stream in self.streams(operand)) * values / float(operand.block)
        return here / read if read else 1.0, (away - here) / fetched if fetched and self.has_dram else 1.0

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

    def element_prices(self, gemm: Gemm, array: Array, kind: Mapping) -> tuple[float, float]:
        """What an element costs per multiply-accumulate, and per cycle without one, laid out as `kind`."""
        key = array.name, kind.name, gemm.result, _signature(gemm.left), _signature(gemm.right)
        if key not in self._kept:
            self._kept[key] = self._element_prices(gemm, array, kind)
        return self._kept[key]  # type: ignore[return-value]

    def _element_prices(self, gemm: Gemm, array: Array, kind: Mapping) -> tuple[float, float]:
        widths = gemm.left.bits, gemm.right.bits, gemm.accumulator_bits
        moved, prices = (round(gemm.left.bits * gemm.left.block), gemm.right.bits), []
        for useful, idle in ((1, 0), (0, 1)):
            actions = kind.element_actions(gemm.result, widths, moved, useful, idle, 1)
            counts = [Count(array.name, act.action, act.tensor, act.count, act.widths) for act in actions if act.count]
            prices.append(self.pricing.energy_pj(counts))
        return prices[0], prices[1]


def _signature(operand: Operand) -> tuple[object, ...]:
    """What the price of an operand's value depends on."""
    streams = ((item.memory.name, item.tensor, item.stored, item.bits, item.factor) for item in operand.streams)
    return (
        operand.bits, operand.block, operand.generated_bits, operand.generator, operand.zeros, operand.skipping,
        operand.packing, *streams,
    )  # fmt: skip


def _values(bursts: Sequence[Burst]) -> int:
    return sum(times * number for times, number in bursts)


def _stored_share(operand: Operand, stream: Stream) -> float:
    """Bits that lie in memory relative to those of the values: zeros may be left out."""
    if operand.packing is None:
        return 1.0
    return operand.packing.stored_bits(_MANY, stream.bits) / (_MANY * stream.bits)


def price_book(pricing: Pricing, chip: Chip) -> PriceBook:
    """The prices of a chip's parts, which are the same on every core."""
    away = TaskAccesses(chip, "", TaskShares(NOWHERE, NOWHERE, NOWHERE))
    return PriceBook(pricing, Accesses(chip, ()), away, chip.dram is not None)
