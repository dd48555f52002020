"""From values to words: accesses of a tensor in its homes, and what lies further out where a home is too small.

Words pack densely: a burst of n values of b bits takes ceil(n * b / width) accesses. An array reads the innermost home
of a tensor. What does not fit there lies in the next one, and at last in DRAM: each time it is fetched it is read there
and written (staged) here, and the other way round for results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from fahw.errors import ConfigError, Problem
from fahw.hardware.array import Array
from fahw.hardware.arrays.mapping import Burst
from fahw.hardware.chip import Chip
from fahw.hardware.memory import LEVELS, Memory
from fahw.hardware.part import Tensor
from fahw.technology.dram import DramType, activations, dram_type
from fahw.work.counts.record import Count, Flow, Placement

SHARE_PARTS = 1 << 20
"""Parts that a share of a tensor is a whole number of."""


@dataclass(slots=True)
class Traffic:
    """Action counts, and the flows through ports that they cause: `loads` before, `drains` after the computation."""

    counts: tuple[Count, ...] = ()
    loads: tuple[Flow, ...] = ()
    drains: tuple[Flow, ...] = ()

    def __add__(self, other: Traffic) -> Traffic:
        if not other.counts and not other.loads and not other.drains:  # a quarter of all sums
            return self
        return Traffic(self.counts + other.counts, self.loads + other.loads, self.drains + other.drains)


def required_memory(chip: Chip, tensor: Tensor, array: Array | None, need: str) -> Memory:
    """The innermost memory of `tensor`, reachable from `array`. Raises ConfigError that names what needs it, and
    advises, where there is none."""
    memory = chip.home(tensor)
    if memory is None:
        fixed = ", ".join(f"{other.name} is a {other.kind}" for other in chip.memories if tensor in other.holds)
        where = f"that training can write ({fixed})" if fixed else ""
        message = f"no memory {where} holds {tensor}, which {need} needs: add it to the `holds` of a memory"
        message = message.replace("  ", " ")
        raise ConfigError(Problem(chip.name, message, "memories"))
    return wired_memory(chip, memory, array, tensor, need)


def wired_memory(chip: Chip, memory: Memory, array: Array | None, tensor: Tensor, need: str) -> Memory:
    """`memory` itself. Raises ConfigError where `array` is not wired to it; `need` says what runs there."""
    if array is not None and memory.name not in array.memories:
        message = f"{need} runs on {array.name}, which is not wired to {memory.name}, where {tensor} lives"
        raise ConfigError(Problem(chip.name, message, "arrays"))
    return memory


def place_tensors(chip: Chip, tensor_bits: Mapping[Tensor, int], prefix: str = "") -> tuple[Placement, ...]:
    """Placements of `tensor_bits` in a core's memories, innermost level first; tensors named first in its `holds` stay,
    the last overflow.

    Raises ConfigError where something overflows the last level and the chip has no DRAM.
    """
    placements: list[Placement] = []
    remaining = dict(tensor_bits)
    outermost: dict[Tensor, Memory] = {}
    for memory in sorted(chip.memories, key=lambda memory: LEVELS.index(memory.level)):
        if not memory.writable:
            continue
        free = int(memory.kib * 8192)
        for tensor in memory.holds:
            bits = remaining.get(tensor, 0)
            placed = min(bits, free)
            free -= placed
            if bits:
                placements.append(Placement(f"{prefix}{memory.name}", tensor, bits, bits - placed))
                outermost[tensor] = memory
                remaining[tensor] = bits - placed
    if chip.dram is None and any(remaining[tensor] for tensor in outermost):
        messages = [
            _too_small(memory, tensor, tensor_bits[tensor], remaining[tensor]) for tensor, memory in outermost.items()
        ]
        raise ConfigError([Problem(chip.name, message, "memories") for message in messages if message])
    return tuple(placements)


def _too_small(memory: Memory, tensor: Tensor, bits: int, excess_bits: int) -> str:
    if not excess_bits:
        return ""
    return (
        f"{tensor} ({bits / 8192:.1f} KiB) does not fit {memory.name} ({memory.kib:g} KiB): "
        f"{excess_bits / 8192:.1f} KiB too much and no DRAM to spill to; "
        "enlarge the memory, add a dram, lower the batch or bits"
    )


def spilled_to_dram(placements: Iterable[Placement]) -> int:
    """Bits that lie in DRAM because no level has room for them."""
    outermost = {
        (placement.memory.rpartition(":")[0], placement.tensor): placement.spilled_bits for placement in placements
    }
    return sum(outermost.values())


class InTurn(NamedTuple):
    """Values that come to their innermost home if none of them is there, `inner`, from the one behind it; and to that
    one from DRAM if none is on the chip, `outer`."""

    inner: int
    outer: int


class Accesses:
    """Reads and writes on one core with one placement; names of parts carry the core's `prefix`."""

    def __init__(self, chip: Chip, placements: Sequence[Placement], prefix: str = "") -> None:
        self._chip, self._prefix = chip, prefix
        self._ports: dict[tuple[str, str], tuple[str, str, float]] = {}
        self._outer_homes: dict[str, Memory | None] = {}
        memories = {f"{prefix}{each.name}": each for each in chip.memories if each.writable} if placements else {}
        chains: dict[str, list[Placement]] = {}
        for placement in placements:
            if placement.memory in memories:
                chains.setdefault(placement.tensor, []).append(placement)
        self._overflow: dict[str, list[tuple[Memory | None, int, int]]] = {}
        for tensor, chain in chains.items():
            total = chain[0].bits
            outer: list[tuple[Memory | None, int, int]] = [
                (memories[level.memory], level.bits - level.spilled_bits, total)
                for level in chain[1:]
                if level.bits > level.spilled_bits
            ]
            if chain[-1].spilled_bits:
                outer.append((None, chain[-1].spilled_bits, total))
            self._overflow[tensor] = outer

    def without_overflow(self) -> Accesses:
        """The same core where all fits its innermost home."""
        return Accesses(self._chip, (), self._prefix)

    def with_sums_outside(self, share: float, in_outer: bool = False) -> Accesses:
        """The same core where a share of partial sums lies in DRAM, or in its outer home, and nothing else does."""
        accesses = self.without_overflow()
        if share:
            parts = round(share * SHARE_PARTS)
            accesses._overflow["psum"] = [(self._outer_home("psum") if in_outer else None, parts, SHARE_PARTS)]
        return accesses

    def _outer_home(self, tensor: str) -> Memory | None:
        """The home of a tensor behind the innermost; kept."""
        if tensor not in self._outer_homes:
            self._outer_homes[tensor] = self._chip.outer_home(tensor)  # type: ignore[arg-type]
        return self._outer_homes[tensor]

    @property
    def of_operands(self) -> Accesses:
        """Accesses to the operands of a task's product, of which other shares may be there."""
        return self

    def overflow_share(self, tensor: str) -> float:
        """The share of `tensor`, 0 to 1, that does not fit its innermost home."""
        outer = self._overflow.get(tensor)
        return sum(bits / total for _, bits, total in outer) if outer else 0.0

    def read(
        self, memory: Memory, tensor: Tensor, bursts: Iterable[Burst], bits: int, factor: float = 1.0,
        stored: Tensor | None = None, fetched: int | InTurn | None = None,
    ) -> Traffic:  # fmt: skip
        """Traffic of reading bursts of `bits`-wide values; `factor` raises the energy of an access (transposed
        reading).

        `stored`: the tensor that lies there, where it is read as another one. `fetched`: values that come from further
        out if none of them fits here (all that are read, where absent); in turn, if they come from DRAM to the home
        behind this one first.
        """
        return self._access("read", memory, (tensor, stored or tensor), tuple(bursts), bits, factor, fetched)

    def write(self, memory: Memory, tensor: Tensor, bursts: Iterable[Burst], bits: int, factor: float = 1.0) -> Traffic:
        """Traffic of writing bursts of `bits`-wide values; `factor` raises the energy of an access."""
        return self._access("write", memory, (tensor, tensor), tuple(bursts), bits, factor, None)

    def dram(self, action: str, tensor: Tensor, bits: int, runs: Iterable[Burst] = ()) -> Traffic:
        """Traffic of streaming `bits` from (`read`) or to (`write`) DRAM, in runs that lie together: (times, bits) of
        each length, of which `bits` may be a part; one run of all where there are none."""
        dram = self._chip.dram
        if dram is None or not bits:
            return Traffic()
        per_cycle = dram.gbyte_per_s * 8e3 / self._chip.clock_mhz
        kind = dram_type(dram.kind)
        if dram.layout == "row_major":
            rows, bursts = _opened_by_runs(kind, bits, tuple(runs) or ((1, bits),))
            bits = bursts * kind.burst_bytes * 8
        else:
            rows = activations(kind, -(-bits // 8), -(-bits // 8), dram.layout).rows
        flow = Flow("dram", bits, per_cycle, dram.latency_cycles)
        counts = (Count("dram", action, tensor, bits), Count("dram", "activate", tensor, rows))
        return Traffic(counts, loads=(flow,)) if action == "read" else Traffic(counts, drains=(flow,))

    def round_trip(self, memory: Memory, tensor: Tensor, values: int, bits: int) -> Traffic:
        """Traffic of sending values from `memory` to DRAM and of bringing them back."""
        words = -(-values * bits // memory.width_bits)
        traffic = self._words("read", memory, tensor, words, 1.0) + self.dram("write", tensor, values * bits)
        return traffic + self.dram("read", tensor, values * bits) + self._words("write", memory, tensor, words, 1.0)

    def outer_trip(self, memory: Memory, tensor: Tensor, values: int, bits: int) -> Traffic:
        """Traffic of sending values from `memory`, their innermost home, to the outer one and of bringing them back."""
        outer, traffic = self._outer_home(tensor), Traffic()
        assert outer is not None, "what goes there has an outer home"
        for source, target in ((memory, outer), (outer, memory)) if values else ():
            for action, place in (("read", source), ("write", target)):
                traffic += self._words(action, place, tensor, -(-values * bits // place.width_bits), 1.0)
        return traffic

    def sums_beyond(self, values: int, bits: int) -> Traffic:
        """Traffic of sums that go on from their outer home to DRAM and come back."""
        outer = self._outer_home("psum") if values else None
        return Traffic() if outer is None else self.round_trip(outer, "psum", values, bits)

    def run_price(self, runs: Sequence[Burst]) -> float:
        """Energy that DRAM takes for a bit that is read in these runs, relative to that of a bit that is moved: 1 where
        data lie in the order of the fetch."""
        dram, bits = self._chip.dram, sum(times * run for times, run in runs)
        if dram is None or dram.layout != "row_major" or not bits:
            return 1.0
        rows, bursts = _opened_by_runs(dram_type(dram.kind), bits, runs)
        read_pj = dram.constant("read").value
        moved_pj = bursts * dram_type(dram.kind).burst_bytes * 8 * read_pj + rows * dram.constant("activate").value
        return moved_pj / (bits * read_pj) if read_pj else 1.0

    def _access(
        self, action: str, memory: Memory, tensors: tuple[Tensor, Tensor], bursts: tuple[Burst, ...], bits: int,
        factor: float, fetched: int | InTurn | None,
    ) -> Traffic:  # fmt: skip
        tensor = tensors[0]
        width, moves, words = memory.width_bits, 0, 0
        for times, values in bursts:
            moves += times * values
            words += times * -(-values * bits // width)
        payload = moves * bits
        if not payload:
            return Traffic()
        if memory.generates:
            counts = (Count(f"{self._prefix}{memory.name}", "generate", tensor, payload),)
            flow = Flow(f"{self._prefix}{memory.name}", payload, memory.read_bits_per_cycle, memory.latency_cycles)
            return Traffic(counts, loads=(flow,))
        traffic = self._words(action, memory, tensor, words, factor)
        if isinstance(fetched, InTurn):
            return traffic + self._in_turn(memory, tensors, fetched, bursts, bits)
        moved = payload if fetched is None else fetched * bits
        return traffic + self._further(action, memory, tensors, moved, bursts, bits)

    def staged(self, memory: Memory, tensor: Tensor, bits: int) -> Traffic:
        """Traffic of bringing `bits` of a tensor to its innermost home, as far as they are not there."""
        return self._further("read", memory, (tensor, tensor), bits, ((1, bits),), 1)

    def _further(
        self, action: str, memory: Memory, tensors: tuple[Tensor, Tensor], moved: int, bursts: tuple[Burst, ...],
        bits: int,
    ) -> Traffic:  # fmt: skip
        """Traffic between `memory` and where else a tensor lies, of its share of `moved` bits, in the runs of
        bursts."""
        (tensor, stored), traffic = tensors, Traffic()
        opposite = "write" if action == "read" else "read"
        for outer_memory, held_bits, total in self._outside(action, memory, stored):
            part_bits = -(-moved * held_bits // total)
            traffic += self._words(opposite, memory, tensor, -(-part_bits // memory.width_bits), 1.0)
            if outer_memory is None:
                traffic += self.dram(action, tensor, part_bits, [(times, values * bits) for times, values in bursts])
            else:
                traffic += self._words(action, outer_memory, tensor, -(-part_bits // outer_memory.width_bits), 1.0)
        return traffic

    def _in_turn(
        self, memory: Memory, tensors: tuple[Tensor, Tensor], values: InTurn, bursts: tuple[Burst, ...], bits: int
    ) -> Traffic:
        """Traffic of bringing what is not in `memory` there from the home behind it, and what is not there from DRAM;
        in the runs of bursts."""
        (tensor, stored), traffic = tensors, Traffic()
        outer, outside = self._outer_home(stored), self._outside("read", memory, stored)
        if not outside:
            return traffic
        assert outer is not None, "values come in turn where there are two homes"
        moved = sum(-(-values.inner * bits * held // total) for _, held, total in outside)
        if moved:
            traffic += self._words("write", memory, tensor, -(-moved // memory.width_bits), 1.0)
            traffic += self._words("read", outer, tensor, -(-moved // outer.width_bits), 1.0)
        for place, held, total in outside:
            if place is None:
                part = -(-values.outer * bits * held // total)
                traffic += self._words("write", outer, tensor, -(-part // outer.width_bits), 1.0)
                traffic += self.dram("read", tensor, part, [(times, number * bits) for times, number in bursts])
        return traffic

    def _outside(self, action: str, memory: Memory, stored: str) -> Sequence[tuple[Memory | None, int, int]]:
        """Where further out than `memory` a tensor lies: in which one (None: DRAM), how much, and how much there is."""
        return self._overflow.get(stored, ())

    def _words(self, action: str, memory: Memory, tensor: Tensor, words: int, factor: float) -> Traffic:
        name, side, rate = self._ports.get((memory.name, action)) or self._port(memory, action)
        counts = (Count(name, action, tensor, words, (), factor),)
        flow = Flow(side, words * memory.width_bits, rate, memory.latency_cycles)
        return Traffic(counts, (flow,)) if action == "read" else Traffic(counts, (), (flow,))

    def _port(self, memory: Memory, action: str) -> tuple[str, str, float]:
        """A memory's name on this core, that of its read or write side, and the bits per cycle through it; kept."""
        name = f"{self._prefix}{memory.name}"
        side = name if memory.shared_port else f"{name}.{action}"
        port = name, side, memory.bits_per_cycle(action, self._chip.clock_mhz)
        self._ports[memory.name, action] = port
        return port


def _opened_by_runs(kind: DramType, bits: int, runs: Sequence[Burst]) -> tuple[int, int]:
    """Rows opened and bursts moved by `bits`, which are all or a share of runs of several lengths; every run starts at
    a byte and in a row of its own."""
    total = rows = bursts = 0
    for times, run in runs:
        run_bytes = -(-run // 8)
        opened = activations(kind, run_bytes, run_bytes, "row_major") if times * run else None
        if opened is not None:
            total, rows, bursts = total + times * run, rows + times * opened.rows, bursts + times * opened.bursts
    return -(-rows * bits // total), -(-bursts * bits // total)


def with_sized_memories(chip: Chip, tensor_bits: Mapping[Tensor, int], rom_bits: int = 0) -> Chip:
    """The chip with memories of size `fit` at as many whole banks as `tensor_bits` take, read-only ones `rom_bits`."""
    return with_fitted_memories(
        chip,
        {
            memory.name: rom_bits if memory.is_read_only else sum(tensor_bits.get(each, 0) for each in memory.holds)
            for memory in chip.memories
        },
    )


def with_fitted_memories(chip: Chip, bits: Mapping[str, float]) -> Chip:
    """The chip with memories of size `fit` at as many whole banks as these bits take, by name of the memory."""
    memories = []
    for memory in chip.memories:
        if memory.size_kib == "fit":
            banks = ceil(bits.get(memory.name, 0) / int(memory.bank * 8192)) if memory.bank else 0
            size = max(1, banks) * memory.bank if memory.bank else 1.0
            memory = memory.model_copy(update={"size_kib": float(size)})
        memories.append(memory)
    return chip if tuple(memories) == chip.memories else chip.model_copy(update={"memories": tuple(memories)})
