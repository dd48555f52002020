"""The parts that fahw has numbers for: value, unit, node, uncertainty and source."""

from __future__ import annotations

from collections.abc import Iterator

from fahw.formats.number import FLOATS
from fahw.technology import operations as ops
from fahw.technology import random_bits, scaling, wires
from fahw.technology.constant import AREA_FACTOR, Entry
from fahw.technology.dram import DRAM_KINDS, dram_type
from fahw.technology.logic_units import LogicProcess, leakage_constant, processing_element
from fahw.technology.storage import scratchpad


def entries(node_nm: int = 45) -> tuple[Entry, ...]:
    """All parts, logic and wires at `node_nm`. Raises ConfigError for a node that nothing is known of."""
    scaling.logic_energy(node_nm)
    return (
        *_arithmetic(node_nm), *_storage(node_nm), *_moving(node_nm), *_dram(), *_scaling(),
    )  # fmt: skip


def _arithmetic(node: int) -> Iterator[Entry]:
    constants = {
        "add 8": ops.add_pj(8, node), "add 32": ops.add_pj(32, node),
        **{f"add {name}": ops.float_add_pj(form, node) for name, form in FLOATS.items()},
        "multiply 8x8": ops.multiply_pj(8, 8, node), "multiply 16x16": ops.multiply_pj(16, 16, node),
        **{f"multiply {name}": ops.float_multiply_pj(form, node) for name, form in FLOATS.items()},
        "mac 1x8+32": ops.mac_pj(1, 8, 32, node),
        "mac 8x8+32": ops.mac_pj(8, 8, 32, node), "mac 16x16+48": ops.mac_pj(16, 16, 48, node),
        **{
            f"mac {name}+fp32": ops.mac_pj(form.bits, form.bits, 32, node, form, FLOATS["fp32"])
            for name, form in FLOATS.items()
        },
        "divide 16": ops.divide_pj(16, node),
        "compare 32": ops.compare_pj(32, node), "bitwise 32": ops.bitwise_pj(32, node),
        "shift 32": ops.shift_pj(32, node), "table 256x8": ops.table_pj(8, node),
        "lfsr bit, 32 bits, 1 per cycle": random_bits.lfsr_pj_per_bit(32, 1, node),
        "lfsr bit, 32 bits, 32 per cycle": random_bits.lfsr_pj_per_bit(32, 32, node),
        "lfsr bit, 1279 bits, 512 per cycle": random_bits.lfsr_pj_per_bit(1279, 512, node),
        "stochastic rounding 16, 8 random bits": random_bits.stochastic_rounding_pj(16, 8, node),
    }  # fmt: skip
    yield from (Entry.of(name, constant, "pJ", node) for name, constant in constants.items())
    yield Entry.of("programmable prng bit", random_bits.programmable_prng_pj_per_bit(), "pJ", 65)
    source = f"{ops.ALADDIN}: multiplier, adder, registers for"
    for clock_mhz in (200, 1000):
        element = processing_element((8, 8, 32), LogicProcess(node, clock_mhz))
        name, leakage = f"processing element 8x8+32 for {clock_mhz} MHz", leakage_constant(element.leak_mw, node)
        yield Entry(f"{name}, area", element.area_mm2, "mm2", node, AREA_FACTOR, f"{source} {clock_mhz} MHz")
        yield Entry.of(f"{name}, leakage", leakage, "mW", node)


def _storage(node: int) -> Iterator[Entry]:
    """Accumulators of a column, in the smallest SRAM of the tables or larger."""
    for words in (16, 256, 4096):
        pad, name = scratchpad(32, words, LogicProcess(node), least_bytes=1024), f"accumulators {words}x32"
        yield Entry.of(f"{name}, access", pad.access, "pJ", node)
        yield Entry.of(f"{name}, leakage", pad.leakage, "mW", node)
        yield Entry(f"{name}, area", pad.area_mm2, "mm2", node, AREA_FACTOR, pad.access.source)


def _moving(node: int) -> Iterator[Entry]:
    for device in ("hp", "lop", "lstp"):
        yield Entry.of(f"wire {device}, bit and mm", wires.wire_pj_per_bit_mm(node, device), "pJ", node)
    yield Entry.of("router, bit and hop", wires.router_pj_per_bit(node), "pJ", node)
    for kind in wires.LINK_KINDS:
        yield Entry.of(f"{kind} link, bit", wires.chip_link_pj_per_bit(kind), "pJ", None)


def _dram() -> Iterator[Entry]:
    for kind in DRAM_KINDS:
        dram = dram_type(kind)
        for name in ("read", "write"):
            yield Entry.of(f"{kind}, {name} a bit", dram.streaming(name), "pJ", None)
        activation = dram.activation()
        if dram.activate_pj:
            yield Entry.of(f"{kind}, activate {dram.row_bytes} bytes", activation, "pJ", None)
        if dram.active_standby_mw:
            yield Entry(
                f"{kind}, active standby", dram.active_standby_mw, "mW", None, activation.factor, activation.source
            )
        if dram.powerdown_mw is not None:
            yield Entry(f"{kind}, power-down", dram.powerdown_mw, "mW", None, activation.factor, activation.source)
        for name, power in (("refresh", dram.refresh_mw or None), ("self-refresh", dram.self_refresh_mw)):
            if power is not None:
                yield Entry(f"{kind}, {name}", power, "mW", None, activation.factor, activation.source)
        yield Entry(f"{kind}, row miss", dram.row_miss_ns, "ns", None, 1.0, activation.source)
        yield Entry(f"{kind}, peak", dram.gbyte_per_s, "GB/s", None, 1.0, activation.source)


def _scaling() -> Iterator[Entry]:
    for node in scaling.NODES:
        scale = scaling.logic_energy(node, "multiply")
        yield Entry("logic energy over 45 nm", scale.ratio, "", node, scale.factor, scale.source or "the reference")
