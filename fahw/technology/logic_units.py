"""Area and leakage of arithmetic units and registers, by the clock that they are built for.

Source: Aladdin's 40 nm table (`fahw/data/aladdin_40nm.csv`), taken as 45 nm. A unit is the slowest of the table that
meets the clock; below 1 ns it is that of 1 ns. Integer multipliers go with the product of their widths, adders and
registers with their width; of floats the multiplier goes with the square of the significand's bits, the adder with
them (assumed). Areas go to other nodes as logic does. Leakage goes as that of CACTI's lop cells does from node to node
and with the temperature, and in proportion to the supply (assumed: Aladdin's leaks about twice as much per area).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from fahw.formats.number import FLOATS, Float
from fahw.technology import tables
from fahw.technology.constant import Constant
from fahw.technology.operations import ALADDIN
from fahw.technology.scaling import VDD_V, logic_area
from fahw.technology.sram import sram_estimate

LEAKAGE_FACTOR = 3.0
SCALED_LEAKAGE_FACTOR = 6.0
"""Assumed: leakage of standard cells varies by their threshold; more where another node's is derived."""
_TABLE_BITS, _TABLE_CLOCK_MHZ = 32, 200.0
_CELL_BANK = (65536, 64)
"""Bytes and word of the bank whose leakage stands for that of a cell."""


@dataclass(frozen=True)
class LogicProcess:
    """What units are built in and for: node, clock, supply, and the temperature in C (None: 27)."""

    node_nm: int
    clock_mhz: float = _TABLE_CLOCK_MHZ
    vdd_v: float = VDD_V
    temp_c: float | None = None


@dataclass(frozen=True)
class Unit:
    """A unit, or several side by side: area in mm2, leakage in mW."""

    area_mm2: float
    leak_mw: float

    def __add__(self, other: Unit) -> Unit:
        return Unit(self.area_mm2 + other.area_mm2, self.leak_mw + other.leak_mw)

    def times(self, number: float) -> Unit:
        """So many of it."""
        return Unit(self.area_mm2 * number, self.leak_mw * number)


def registers(bits: int, process: LogicProcess) -> Unit:
    """`bits` flip-flops."""
    return _unit("register", process).times(bits)


def adder(bits: int, process: LogicProcess, form: Float | None = None) -> Unit:
    """An adder of `bits`, or of a float format."""
    if form is not None:
        return _unit("float_add", process).times(form.digits / FLOATS["fp32"].digits)
    return _unit("add", process).times(bits / _TABLE_BITS)


def multiplier(bits_a: int, bits_b: int, process: LogicProcess, form: Float | None = None) -> Unit:
    """A multiplier of two widths, or of a float format."""
    if form is not None:
        return _unit("float_multiply", process).times((form.digits / FLOATS["fp32"].digits) ** 2)
    return _unit("multiply", process).times(bits_a * bits_b / _TABLE_BITS**2)


def shifter(bits: int, process: LogicProcess) -> Unit:
    """A shifter of `bits` by a variable number of places."""
    return _unit("shift", process).times(bits / _TABLE_BITS)


@lru_cache(maxsize=1024)
def processing_element(
    bits: tuple[int, int, int], process: LogicProcess, form: Float | None = None, sum_form: Float | None = None
) -> Unit:
    """A multiply-accumulator with registers for its operands and its sum; `bits` of these three.

    `form`: of the products, where an operand is a float; `sum_form`: of the accumulator, where that is one.
    """
    product, sum_ = multiplier(bits[0], bits[1], process, form), adder(bits[2], process, sum_form)
    return product + sum_ + registers(sum(bits), process)


def leakage_constant(value_mw: float, node_nm: int) -> Constant:
    """The static power of units as a constant, with its uncertainty."""
    source = f"{ALADDIN}: leakage by the clock built for"
    if node_nm == 45:
        return Constant(value_mw, source, "leakage", LEAKAGE_FACTOR).named("leakage of logic")
    source = f"{source}; {node_nm} nm as CACTI's lop cells"
    return Constant(value_mw, source, "leakage", SCALED_LEAKAGE_FACTOR).named("leakage of logic")


@cache
def _unit(name: str, process: LogicProcess) -> Unit:
    """The slowest unit of the table whose cycle fits the clock, brought to the node, supply and temperature."""
    rows = [row for row in tables.rows("aladdin_40nm") if row["unit"] == name]
    fitting = [row for row in rows if float(row["cycle_ns"]) <= 1e3 / process.clock_mhz]
    row = max(fitting or rows[:1], key=lambda row: float(row["cycle_ns"]))
    area_mm2 = float(row["area_um2"]) * 1e-6 * logic_area(process.node_nm)
    return Unit(area_mm2, float(row["leak_uw"]) * 1e-3 * _leakage_scale(process))


def _leakage_scale(process: LogicProcess) -> float:
    """Leakage relative to that at 45 nm, .9 V and 27 C."""
    here, there = (
        sram_estimate(*_CELL_BANK, node, "lop", temp_c).bank.leak_mw
        for node, temp_c in ((process.node_nm, process.temp_c), (45, None))
    )
    return here / there * process.vdd_v / VDD_V
