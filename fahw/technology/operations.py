"""Energy of arithmetic, registers and their like: 45 nm values with their sources, scaled to other nodes.

Every function gives a `Constant`: the value in pJ at 0.9 V with its source and the factor that it is uncertain by. No
bits, no energy; one more bit never costs less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil, log2

from fahw.formats.number import FLOATS, Float
from fahw.technology.constant import Constant, Part, parts_of_sum
from fahw.technology.scaling import logic_energy

HOROWITZ = "Horowitz, ISSCC 2014, 45 nm"
ALADDIN = "Aladdin 40/45 nm tables (Shao et al., ISCA 2014)"
ACCELERGY = "Accelergy's Aladdin plug-in, 40 nm"
LAW_FACTOR = 4.0
"""Uncertainty of the energies of small floats, which no source gives (assumed)."""
DIVISION_PRODUCTS = 7
"""Multiplications of its width that a division costs as much as. Assumed: about what table 3 of PMC8934428 says of
dividers."""
DIVISION_FACTOR = 2.0
CLOCK_SHARE_RANGE = (0.2, 0.45)
"""Of the energy of the logic that a clock drives; common values, for want of a source that could be read."""
CLOCK_FACTOR = 1.75
"""From 0.35 down to 0.2; up it is less."""
REGISTER_CLOCK_RANGE = (0.5, 1.0)
"""Share of a register's energy that its own clock takes, where Aladdin's table has 7.94 of 9 fJ; assumed: from half to
all of it."""


def logic_constant(
    pj_at_45: float, node_nm: int, source: str, operation: str = "other", factor: float = 1.0, name: str = ""
) -> Constant:
    """A 45 nm energy brought to `node_nm`; `factor`: what the value is uncertain by where that exceeds logic's own
    factor; `name`: of the number that it is in proportion to."""
    scale = logic_energy(node_nm, operation)
    full_source = f"{source}, {scale.source}" if scale.source else source
    constant = Constant(pj_at_45 * scale.ratio, full_source, "logic", max(factor, scale.factor))
    return constant.named(name) if name else constant


def weighted_sum(parts: list[tuple[float, Constant]], source: str, factor: float = 1.0) -> Constant:
    """The sum of `number` x constant over `parts`; as uncertain as the least certain part, or as `factor`."""
    value = sum(number * part.value for number, part in parts)
    worst = max((part.factor for _, part in parts), default=1.0)
    return Constant(value, source, "logic", max(factor, worst), parts=parts_of_sum(parts))


def add_pj(bits: int, node_nm: int, form: Float | None = None) -> Constant:
    """Energy of an addition: 0.1 pJ x bits / 32; of a float format `float_add_pj`."""
    if form is not None:
        return float_add_pj(form, node_nm)
    return logic_constant(0.1 * bits / 32, node_nm, f"{HOROWITZ}: adder", "add", name="integer adder")


def multiply_pj(bits_a: int, bits_b: int, node_nm: int, form: Float | None = None) -> Constant:
    """Energy of a multiplication: 0.2 pJ x a x b / 64; by one bit only a conditional inversion, of a float's sign too;
    of a float format `float_multiply_pj`."""
    if min(bits_a, bits_b) == 1:
        return bitwise_pj(max(bits_a, bits_b), node_nm)
    if form is not None:
        return float_multiply_pj(form, node_nm)
    source = f"{HOROWITZ}: multiplier, energy as a x b"
    return logic_constant(0.2 * bits_a * bits_b / 64, node_nm, source, "multiply", name="integer multiplier")


def float_add_pj(form: Float, node_nm: int) -> Constant:
    """Energy of a floating-point addition: fp16 0.4, fp32 0.9 pJ; for others a power law in the significand's bits."""
    return _float_operation(form, node_nm, 0.4, 0.9, "adder", "float_add")


def float_multiply_pj(form: Float, node_nm: int) -> Constant:
    """Energy of a floating-point multiplication: fp16 1.1, fp32 3.7 pJ; for others a power law in the significand's
    bits."""
    return _float_operation(form, node_nm, 1.1, 3.7, "multiplier", "float_multiply")


def mac_pj(
    bits_a: int,
    bits_b: int,
    accumulator_bits: int,
    node_nm: int,
    form: Float | None = None,
    sum_form: Float | None = None,
) -> Constant:
    """Energy of a multiply-accumulate: the multiplier at both widths and the adder at the accumulator's.

    `form`: of the products, where an operand is a float; `sum_form`: of the accumulator, where that is one.
    """
    product, sum_ = multiply_pj(bits_a, bits_b, node_nm, form), add_pj(accumulator_bits, node_nm, sum_form)
    return weighted_sum([(1, product), (1, sum_)], f"{product.source}; adder at accumulator width")


def divide_pj(bits: int, node_nm: int, form: Float | None = None) -> Constant:
    """Energy of a division: 7 multiplications of its width."""
    product = multiply_pj(bits, bits, node_nm, form)
    source = f"{product.source}; assumed: a division as {DIVISION_PRODUCTS} multiplications"
    own = Part("multiplications of a division", 1.0, 1 / DIVISION_FACTOR, DIVISION_FACTOR)
    division = product.times(DIVISION_PRODUCTS, own)
    return replace(division, source=source, factor=max(DIVISION_FACTOR, product.factor))


def register_pj(bits: int, node_nm: int) -> Constant:
    """Energy of writing a register of `bits`: 9 fJ per bit."""
    return logic_constant(0.009 * bits, node_nm, f"{ALADDIN}: register, 9 fJ/bit", name="register")


def clock_part(share: float) -> Part:
    """The clock's share, with its range."""
    low, high = (end / share if share else 1.0 for end in CLOCK_SHARE_RANGE)
    return Part("clock share", 1.0, min(1.0, low), max(1.0, high))


def register_clock_pj(bits: int, node_nm: int) -> Constant:
    """Energy that the clock takes in registers of `bits` that keep their values, per cycle: 7.94 fJ per bit."""
    source = f"{ALADDIN}: register, 7.94 of the 9 fJ/bit are internal power"
    low, high = (share * 9 / 7.94 for share in REGISTER_CLOCK_RANGE)
    own = Part("registers' own clock", 1.0, low, high)
    return logic_constant(0.00794 * bits, node_nm, source, name="register").times(1.0, own)


def bitwise_pj(bits: int, node_nm: int) -> Constant:
    """Energy of XOR, AND or a conditional inversion: 0.57 fJ per bit."""
    return logic_constant(0.00057 * bits, node_nm, f"{ALADDIN}: bitwise operation", name="one-bit product")


def compare_pj(bits: int, node_nm: int) -> Constant:
    """Energy of a comparison (ReLU, maximum pooling, saturation): 0.92 fJ per bit."""
    return logic_constant(0.00092 * bits, node_nm, f"{ACCELERGY}: comparator", name="comparator")


def shift_pj(bits: int, node_nm: int) -> Constant:
    """Energy of a variable shift (rescaling into a format): 13 fJ per bit."""
    return logic_constant(0.013 * bits, node_nm, f"{ACCELERGY}: shifter", name="shifter")


def table_pj(bits: int, node_nm: int) -> Constant:
    """Energy of a look-up (tanh, exponential) of 2^8 entries; proportional to the entry's width."""
    source = "small-SRAM power law, 256 x 8 look-up 0.3 to 0.5 pJ"
    return logic_constant(0.4 * bits / 8, node_nm, source, name="look-up table")


LanePrice = Callable[[tuple[int, ...], int, Float | None], Constant]
"""Gives the energy from (widths of the operands in bits, node in nm, float format of the values or None)."""
_SUM: LanePrice = lambda widths, node_nm, form: add_pj(widths[0], node_nm, form)  # noqa: E731
LANE_PRICES: Mapping[str, LanePrice] = {
    "add": _SUM,
    "subtract": _SUM,
    "accumulate": _SUM,
    "multiply": lambda widths, node_nm, form: multiply_pj(widths[0], widths[-1], node_nm, form),
    "divide": lambda widths, node_nm, form: divide_pj(widths[0], node_nm, form),
    "compare": lambda widths, node_nm, form: compare_pj(widths[0], node_nm),
    "shift": lambda widths, node_nm, form: shift_pj(widths[0], node_nm),
    "table": lambda widths, node_nm, form: table_pj(widths[0], node_nm),
    "float_add": lambda widths, node_nm, form: float_add_pj(FLOATS["fp32"], node_nm),
    "float_multiply": lambda widths, node_nm, form: float_multiply_pj(FLOATS["fp32"], node_nm),
    "float_divide": lambda widths, node_nm, form: divide_pj(widths[0], node_nm, FLOATS["fp32"]),
    "float_root": lambda widths, node_nm, form: divide_pj(widths[0], node_nm, FLOATS["fp32"]),
}
"""What vector lanes can do. A unit declared float (`float_...`) computes in fp32 whatever the chip's formats; a root is
priced as a division."""


def index_bits(choices: int) -> int:
    """Number of bits that name one of `choices`, at least 1."""
    return max(1, ceil(log2(choices)))


def _float_operation(form: Float, node_nm: int, at_fp16: float, at_fp32: float, unit: str, operation: str) -> Constant:
    """Energy of a floating-point operation by the power law in the significand's bits through fp16 and fp32. It gives
    bf16 0.61 of fp16's multiplication and 0.72 of its addition, where Jouppi et al. 2021 (7 nm) have 0.62 and 0.69;
    what lies below 8 bits is further off."""
    half, single = FLOATS["fp16"], FLOATS["fp32"]
    source = f"{HOROWITZ}: {form.name} {unit}"
    name = f"float {unit}"
    if form in (half, single):
        return logic_constant(at_fp16 if form == half else at_fp32, node_nm, source, operation, name=name)
    slope = log2(at_fp32 / at_fp16) / log2(single.digits / half.digits)
    value = float(at_fp16 * (form.digits / half.digits) ** slope)
    source = f"{source}, power law in the significand through fp16 and fp32"
    return logic_constant(value, node_nm, source, operation, LAW_FACTOR, name)
