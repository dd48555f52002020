"""Energy of arithmetic, registers and wires: 45 nm values with their sources, scaled to other nodes.

Every function gives a `Constant`: the value with its source and the factor that it is uncertain by.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

_HOROWITZ = "Horowitz, ISSCC 2014, 45 nm"
_ALADDIN = "Aladdin 40/45 nm tables (Shao et al., ISCA 2014)"
_WIRES = "CACTI 7 repeated global wire, 30 % delay overhead"

NODE_FACTOR = {65: 1.51, 45: 1.0, 32: 0.65, 22: 0.335}
"""Logic energy relative to 45 nm, all at 0.9 V. Source: Stillmaker and Baas 2017; 22 nm interpolated (32 and 20 nm)."""
AREA_FACTOR = {65: 2.09, 45: 1.0, 32: 0.506, 22: 0.239}
"""Logic area relative to 45 nm: the square of the node's ratio (assumed: ideal shrink)."""
_WIRE_PJ_PER_MM = {
    (65, "hp"): 0.33, (65, "lop"): 0.22, (65, "lstp"): 0.50, (45, "hp"): 0.25, (45, "lop"): 0.14, (45, "lstp"): 0.38,
    (32, "hp"): 0.20, (32, "lop"): 0.10, (32, "lstp"): 0.29, (22, "hp"): 0.16, (22, "lop"): 0.10, (22, "lstp"): 0.19,
}  # fmt: skip
_ACTIVITY = 0.5  # transitions per transported bit: random data toggle every other cycle

VDD_V = 0.9
"""Supply that the energies below hold for; switching energy goes with its square."""

LOGIC_FACTOR = 1.5
"""Assumed: arithmetic energies of published tables differ by about this factor (speed and voltage targets)."""
WIRE_FACTOR = 2.0
"""Source: range of published on-chip wire energies, 0.018 to 0.15 pJ/bit/mm."""


@dataclass(frozen=True)
class Constant:
    """A physical constant: the true value lies between `value` divided and multiplied by `factor`."""

    value: float
    source: str
    kind: str
    factor: float = 1.0


def _logic(pj_at_45: float, node_nm: int, source: str) -> Constant:
    scaled = "" if node_nm == 45 else f", scaled to {node_nm} nm by {NODE_FACTOR[node_nm]:g} (Stillmaker and Baas 2017)"
    return Constant(pj_at_45 * NODE_FACTOR[node_nm], source + scaled, "logic", LOGIC_FACTOR)


def add_pj(bits: int, node_nm: int, is_float: bool = False) -> Constant:
    """Energy of an addition: 0.1 pJ x bits / 32; fp32 0.9 pJ."""
    return _logic(0.9 if is_float else 0.1 * bits / 32, node_nm, f"{_HOROWITZ}: adder")


def multiply_pj(bits_a: int, bits_b: int, node_nm: int, is_float: bool = False) -> Constant:
    """Energy of a multiplication: 0.2 pJ x a x b / 64; by one bit only a conditional inversion; fp32 3.7 pJ."""
    if is_float:
        return _logic(3.7, node_nm, f"{_HOROWITZ}: multiplier")
    if min(bits_a, bits_b) == 1:
        return _logic(0.00057 * max(bits_a, bits_b), node_nm, f"{_ALADDIN}: bitwise operation")
    return _logic(0.2 * bits_a * bits_b / 64, node_nm, f"{_HOROWITZ}: multiplier, energy as a x b")


def mac_pj(bits_a: int, bits_b: int, accumulator_bits: int, node_nm: int, is_float: bool = False) -> Constant:
    """Energy of a multiply-accumulate: the multiplier at both widths and the adder at the accumulator's."""
    product, total = multiply_pj(bits_a, bits_b, node_nm, is_float), add_pj(accumulator_bits, node_nm, is_float)
    return Constant(product.value + total.value, f"{product.source}; adder at accumulator width", "logic", LOGIC_FACTOR)


def register_pj(bits: int, node_nm: int) -> Constant:
    """Energy of writing a register of `bits`: 9 fJ per bit."""
    return _logic(0.009 * bits, node_nm, f"{_ALADDIN}: register, 9 fJ/bit")


def compare_pj(bits: int, node_nm: int) -> Constant:
    """Energy of a comparison (ReLU, maximum pooling, saturation): 0.92 fJ per bit."""
    return _logic(0.00092 * bits, node_nm, f"{_ALADDIN}: comparator")


def shift_pj(bits: int, node_nm: int) -> Constant:
    """Energy of a variable shift (rescaling into a format): 13 fJ per bit."""
    return _logic(0.013 * bits, node_nm, f"{_ALADDIN}: shifter")


def table_pj(bits: int, node_nm: int) -> Constant:
    """Energy of a look-up (tanh, exponential) of 2^8 entries; proportional to the entry's width."""
    return _logic(0.4 * bits / 8, node_nm, "small-SRAM power law, 256 x 8 look-up 0.3 to 0.5 pJ")


def wire_pj_per_bit_mm(node_nm: int, device: str) -> Constant:
    """Energy of a bit over one millimetre of repeated wire, half of the bits toggling."""
    return Constant(
        _WIRE_PJ_PER_MM[node_nm, device] * _ACTIVITY, f"{_WIRES}, activity {_ACTIVITY}", "wire", WIRE_FACTOR
    )


def pe_area_mm2(bits_a: int, bits_b: int, accumulator_bits: int, node_nm: int) -> float:
    """Area of a processing element: multiplier, adder, operand and accumulator registers. Source: Aladdin tables."""
    multiplier_um2 = 6350 * bits_a * bits_b / 1024
    adder_um2 = 278 * accumulator_bits / 32
    register_um2 = 5.98 * (bits_a + bits_b + accumulator_bits)
    return (multiplier_um2 + adder_um2 + register_um2) * AREA_FACTOR[node_nm] * 1e-6


def pe_leak_mw(bits_a: int, bits_b: int, accumulator_bits: int) -> float:
    """Static power of a processing element. Source: Aladdin tables (multiplier 80 uW, adder 2.4 uW at 32 bits)."""
    multiplier_uw = 80 * bits_a * bits_b / 1024
    return (multiplier_uw + 2.4 * accumulator_bits / 32 + 0.07 * (bits_a + bits_b + accumulator_bits)) * 1e-3


def index_bits(choices: int) -> int:
    """Bits that name one of `choices`."""
    return max(1, ceil(log2(choices)))
