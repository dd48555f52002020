"""From values to words: accesses of a tensor in its home, and what spills to DRAM where the home is too small.

Words pack densely: a burst of n values of b bits takes ceil(n * b / width) accesses. The part of a tensor that does
not fit its memory is fetched from DRAM at every use (no reuse across folds, the pessimistic bound): a DRAM access for
its share of the bits, and a write (or read) of the memory that stages it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fahw.config.chip import Array, Chip, Memory, Tensor
from fahw.errors import ConfigError, Problem
from fahw.work.records import Count, Flow, Placement

Burst = tuple[int, int]
"""(how many bursts, values in each)."""


@dataclass(frozen=True)
class Traffic:
    """Action counts and the flows that they cause."""

    counts: tuple[Count, ...] = ()
    loads: tuple[Flow, ...] = ()
    drains: tuple[Flow, ...] = ()

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.counts + other.counts, self.loads + other.loads, self.drains + other.drains)


def home(chip: Chip, tensor: Tensor, array: Array | None, need: str) -> Memory:
    """The memory of `tensor`, reachable from `array`. Raises ConfigError with what needs it and what to do."""
    memory = chip.home(tensor)
    if memory is None:
        message = f"no memory holds {tensor}, which {need} needs: add it to the `holds` of a memory"
        raise ConfigError(Problem(chip.name, message, "memories"))
    if array is not None and memory.name not in array.memories:
        message = f"{need} runs on {array.name}, which is not wired to {memory.name}, where {tensor} lives"
        raise ConfigError(Problem(chip.name, message, "arrays"))
    return memory


def place(chip: Chip, needs: dict[Tensor, int]) -> tuple[Placement, ...]:
    """What each memory holds; tensors named first in its `holds` stay, the last ones spill.

    Raises ConfigError where something spills and the chip has no DRAM.
    """
    placements = []
    for memory in chip.memories:
        free = int(memory.size_kib * 8192)
        for tensor in memory.holds:
            bits = needs.get(tensor, 0)
            kept = min(bits, free)
            free -= kept
            if bits:
                placements.append(Placement(memory.name, tensor, bits, bits - kept))
    spilled = [placement for placement in placements if placement.spilled_bits]
    if spilled and chip.dram is None:
        raise ConfigError([Problem(chip.name, _too_small(chip, placement), "memories") for placement in spilled])
    return tuple(placements)


def _too_small(chip: Chip, placement: Placement) -> str:
    memory = chip.memory(placement.memory)
    missing = placement.spilled_bits / 8192
    return (
        f"{placement.tensor} ({placement.bits / 8192:.1f} KiB) does not fit {memory.name} ({memory.size_kib:g} KiB): "
        f"{missing:.1f} KiB too much and no DRAM to spill to; enlarge the memory, add a dram, lower the batch or bits"
    )


class Accesses:
    """Reads and writes on one chip with one placement."""

    def __init__(self, chip: Chip, placements: Iterable[Placement]) -> None:
        self._chip = chip
        self._spilled = {p.tensor: (p.spilled_bits, p.bits) for p in placements}

    def read(
        self, memory: Memory, tensor: Tensor, bursts: Iterable[Burst], bits: int, factor: float = 1.0,
        stored: Tensor | None = None,
    ) -> Traffic:  # fmt: skip
        """Read bursts of `bits`-wide values; `factor` raises the energy of an access (transposed reading).

        `stored`: the tensor that lies there, where it is read as another one.
        """
        return self._access("read", memory, (tensor, stored or tensor), tuple(bursts), bits, factor)

    def write(self, memory: Memory, tensor: Tensor, bursts: Iterable[Burst], bits: int, factor: float = 1.0) -> Traffic:
        """Write bursts of `bits`-wide values."""
        return self._access("write", memory, (tensor, tensor), tuple(bursts), bits, factor)

    def dram(self, action: str, tensor: Tensor, bits: int) -> Traffic:
        """Stream `bits` from (`read`) or to (`write`) DRAM."""
        dram = self._chip.dram
        if dram is None or not bits:
            return Traffic()
        per_cycle = dram.gbyte_per_s * 8e3 / self._chip.clock_mhz
        flow = Flow("dram", bits, per_cycle, dram.latency_cycles)
        counts = (Count("dram", action, tensor, bits),)
        return Traffic(counts, loads=(flow,)) if action == "read" else Traffic(counts, drains=(flow,))

    def _access(
        self, action: str, memory: Memory, tensors: tuple[Tensor, Tensor], bursts: tuple[Burst, ...], bits: int,
        factor: float,
    ) -> Traffic:  # fmt: skip
        tensor, stored = tensors
        words = sum(times * -(-values * bits // memory.width_bits) for times, values in bursts)
        if not words:
            return Traffic()
        traffic = self._words(action, memory, tensor, words, factor)
        spilled, total = self._spilled.get(stored, (0, 1))
        if not spilled:
            return traffic
        payload = sum(times * values for times, values in bursts) * bits
        staged = -(-words * spilled // total)
        other = "write" if action == "read" else "read"
        traffic += self._words(other, memory, tensor, staged, 1.0)
        return traffic + self.dram(action, tensor, -(-payload * spilled // total))

    def _words(self, action: str, memory: Memory, tensor: Tensor, words: int, factor: float) -> Traffic:
        counts = (Count(memory.name, action, tensor, words, factor=factor),)
        side = memory.name if memory.shared_port else f"{memory.name}.{action}"
        rate = memory.read_bits_per_cycle if action == "read" else memory.write_bits_per_cycle
        flow = Flow(side, words * memory.width_bits, rate, memory.latency_cycles)
        return Traffic(counts, loads=(flow,)) if action == "read" else Traffic(counts, drains=(flow,))
