"""Where a fixed B comes from: a generator, an SRAM or DRAM, and the energy per random bit where they cost the same."""

from __future__ import annotations

from functools import cache
from math import ceil, fsum, log2, sqrt

import fahw
from fahw.chip.cost import Cost, simulate
from fahw.chip.ledger import Row
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.hardware.memories.prng import Prng
from fahw.network.load import load_model
from fahw.technology.dram import activations, dram_type
from fahw.technology.random_bits import lfsr_pj_per_bit
from fahw.units import fixed
from tests.validation.chips import ASSUMED
from tests.validation.page import table

TITLE = "A generator, an SRAM or DRAM for fixed feedback weights"
MODEL, RULE, BATCH = "mlp_mnist", "fa", 16
LEFT_KIB = 1.0
"""What is left of the feedback memory where B lies in DRAM."""
HOMES = ("SRAM", "SRAM and its leakage", "DRAM")


def feedback_bits() -> list[int]:
    """Bits of B, layer by layer: 8 per weight of the layers that send an error."""
    return [8 * layer.weights for layer in load_model(MODEL).weighted[1:]]


def in_sram() -> Chip:
    """edge_dual: B in an SRAM; one order of loops, as the sums by hand have it."""
    return load_chip("edge_dual", {"mapping": "fixed"})


def in_dram() -> Chip:
    """edge_dual with hardly any feedback memory: B is streamed through it."""
    size = {f"memories.1.{key}_kib": str(LEFT_KIB) for key in ("size", "bank")}
    return load_chip("edge_dual", {"mapping": "fixed"} | size)


def generated(pj_per_bit: float) -> Chip:
    """edge_dual with a generator in place of the feedback memory, as fast."""
    chip = in_sram()
    sram = chip.memory("feedback_sram")
    generator = Prng(
        name=sram.name, kind="prng", holds=("feedback",), width_bits=sram.width_bits, pj_per_bit=pj_per_bit,
        read_bits_per_cycle=sram.read_bits_per_cycle, latency_cycles=sram.latency_cycles, area_mm2=0, assumed=ASSUMED,
    )  # fmt: skip
    memories = tuple(generator if memory.name == sram.name else memory for memory in chip.memories)
    return chip.model_copy(update={"memories": memories})


@cache
def cost(home: str, pj_per_bit: float = 0.0) -> Cost:
    """A step with B at `home`, or generated."""
    chips = {"SRAM": in_sram, "SRAM and its leakage": in_sram, "DRAM": in_dram}
    return simulate(chips[home]() if home in chips else generated(pj_per_bit), MODEL, RULE, BATCH)


def energy(home: str, pj_per_bit: float = 0.0, static: bool = False) -> float:
    """Dynamic energy of a step, pJ; `static`: and the leakage of the feedback memory."""

    def counts(row: Row) -> bool:
        return not row.static or (static and row.component == "feedback_sram")

    return fsum(row.energy_pj for row in cost(home, pj_per_bit).ledger if counts(row))


def crossing(home: str) -> float:
    """Energy per random bit at which generating costs what `home` costs, from the lines through simulated points."""
    static = home == HOMES[1]
    free, dear = energy("generator", 0.0), energy("generator", 1.0)
    return (energy(home, static=static) - free) / (dear - free)


def by_hand(home: str) -> float:
    """The same from the prices of a word, a DRAM bit and a row, and the power of the banks. At batch 16 the array
    holds all samples, so that B is fetched once."""
    layers, chip = feedback_bits(), in_sram()
    total = sum(layers)
    bank = fahw.sram(64 * 1024, 64, 45, "lop", cells="lstp")
    wires_pj = 0.07 * (64 + log2(320 * 1024 / 8)) * 0.75 * sqrt(5 * bank.area_mm2)
    read_pj = bank.read_pj + wires_pj
    if home == "SRAM":
        return read_pj / 64
    if home == "SRAM and its leakage":
        leak_pj_per_cycle = 5 * fahw.sram(64 * 1024, 64, 45, "lop", cells="lstp").leak_mw * 1e3 / chip.clock_mhz
        return read_pj / 64 + leak_pj_per_cycle * cost(home).interval_cycles / total
    small, lpddr4, dram = fahw.sram(LEFT_KIB * 1024, 64, 45, "lop", cells="lstp"), dram_type("lpddr4"), chip.dram
    assert dram is not None
    spilled = total - LEFT_KIB * 8192
    moved = [ceil(bits * spilled / total) for bits in layers]
    rows = sum(activations(lpddr4, ceil(bits / 8), ceil(bits / 8), "tiled").rows for bits in moved)
    words = sum(ceil(bits / 64) for bits in moved)
    streamed = sum(moved) * (dram.read_pj_per_bit or 0.0) + rows * lpddr4.activate_pj
    return (total / 64 * small.read_pj + words * small.write_pj + streamed) / total


def section() -> str:
    """The crossings, and on which side of them generators are."""
    rows = [[home, fixed(by_hand(home), 4), fixed(crossing(home), 4)] for home in HOMES]
    leaping, stepping = (lfsr_pj_per_bit(32, bits, 45).value for bits in (32, 1))
    return _TEXT.format(
        table=table(("B in", "by hand, pJ per bit", "simulated, pJ per bit"), rows), leaping=fixed(leaping, 3),
        stepping=fixed(stepping, 2), kib=fixed(LEFT_KIB, 0),
    )  # fmt: skip


_TEXT = """\\
Feedback alignment on `mlp_mnist` at batch 16 on `edge_dual`: B in its SRAM, or streamed from LPDDR4 (the SRAM cut down
to {kib} KiB), or generated at every fetch. Generating costs a straight line over the energy of a random bit, the others
are constant; where the lines cross follows from few prices.

* SRAM: one 64-bit read with its wires to five banks, over 64 bits. With its leakage: the power of these banks over the
  interval between steps, over the bits of B, besides.
* DRAM: 8.5 pJ per bit, the rows that are opened, a word written and a word read in the SRAM that it passes through.

{table}

So it depends on the generator: a 32-bit LFSR that leaps 32 steps per cycle takes {leaping} pJ per bit and beats the
SRAM; one that yields a bit per step takes {stepping} and costs more than the SRAM's reads, but less than these with
its leakage. Either is far cheaper than DRAM.
"""
