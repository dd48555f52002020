"""What a product's reads, sums and tiles cost, value by value: the mapper's prices, made of the ledger's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from fahw.hardware.array import Array
from fahw.hardware.arrays.mapping import Mapping
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.hardware.part import Tensor
from fahw.mapping.problem import Prices
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Accesses, Traffic
from fahw.work.counts.gemm import Gemm, Operand, Stream, accumulators_name, generated_traffic
from fahw.work.counts.record import Count
from fahw.work.counts.task_accesses import TaskAccesses, TaskShares

_MANY = 1 << 16
"""Values whose price is taken, so that words and bursts are nearly full."""
NEVER_PJ = 1e9
"""What a value costs that would have to go to a DRAM that a chip lacks."""
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
    bits: int
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
                stream.bits,
                self._fetch(stream) * float(operand.block),
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

    def product_prices(self, gemm: Gemm, array: Array, psum: Memory) -> Prices:
        """The mapper's prices of a product whose sums wait in `psum`."""
        key = array.name, psum.name, gemm.accumulator_bits, _signature(gemm.left), _signature(gemm.right)
        if key not in self._kept:
            self._kept[key] = self._product_prices(gemm, array, psum)
        return self._kept[key]  # type: ignore[return-value]

    def _product_prices(self, gemm: Gemm, array: Array, psum: Memory) -> Prices:
        sums = self.here.write(psum, "psum", [(1, _MANY)], gemm.accumulator_bits)
        sums += self.here.read(psum, "psum", [(1, _MANY)], gemm.accumulator_bits)
        spilled = sum(self._more(psum, "psum", action, gemm.accumulator_bits) for action in ("write", "read"))
        addition = lanes.operations(array, "psum", [("add", _MANY, (gemm.accumulator_bits,))])
        left, right = (sum(stream.fetch_pj for stream in self.streams(operand)) for operand in gemm.operands)
        return Prices(
            read=(self.read_pj(gemm.left), self.read_pj(gemm.right)), fetch=(left, right),
            partial_sum=self._per_value(sums), spilled_sum=spilled, accumulator=self._accumulator(array),
            window_sum=self._per_value(sums + addition), static=self.pricing.static_pj_per_cycle,
        )  # fmt: skip

    def _accumulator(self, array: Array) -> float:
        if not array.accumulators:
            return 0.0
        name = accumulators_name(array)
        counts = [Count(name, action, "psum", 1) for action in ("write", "read")]
        return self.pricing.energy_pj(counts)

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
    return operand.bits, operand.block, operand.generated_bits, operand.generator, *streams


def price_book(pricing: Pricing, chip: Chip) -> PriceBook:
    """The prices of a chip's parts, which are the same on every core."""
    away = TaskAccesses(chip, "", TaskShares(NOWHERE, NOWHERE, NOWHERE))
    return PriceBook(pricing, Accesses(chip, ()), away, chip.dram is not None)
