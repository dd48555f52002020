"""Energy, delay and area of logic at another node or supply.

From 180 to 20 nm: the polynomials of Stillmaker and Baas (2017) for high-performance transistors, relative to 45 nm
with both at 0.9 V; 22 nm lies between 32 and 20 nm on a log-log line. They describe a fan-out-of-4 gate without wires,
and published tables disagree with them below 20 nm: they predict 8 times less energy from 45 to 7 nm at one voltage (18
at nominal ones), where the 45 nm table of Horowitz (2014) and the 7 nm table of Jouppi et al. (2021) differ by 2.1 to
4.3. So 16, 14, 10 and 7 nm lie on a log-log line between these two tables, per operation, within a factor that also
covers the polynomials. The two models do not meet: by these sources 16 nm logic costs more than 20 nm logic. DRAM is
never scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp, log

from fahw.errors import ConfigError, Problem
from fahw.technology import tables

NODES = (180, 130, 90, 65, 45, 32, 22, 20, 16, 14, 10, 7)
VDD_V = 0.9
"""Supply that the energies of operations hold for; switching energy goes with its square."""
LOGIC_FACTOR = 3.0
"""Published tables of arithmetic at one node differ by about this factor: at 32 bits Horowitz has 3.1 pJ for a
multiplication where Aladdin's 5 ns row has 8.6, and .9 pJ for a float addition where it has 2.6."""
BELOW_20_FACTOR = 4.0
"""Below 20 nm: covers what Stillmaker and Baas predict, up to 3.6 times less than the line between the tables."""
_SMALLEST_BY_POLYNOMIAL = 20
_GAIN_AT_7_NM = {
    "multiply": 0.07 / 0.2, "add": 0.03 / 0.1, "float_multiply": 1.31 / 3.7, "float_add": 0.38 / 0.9, "other": 0.35,
}  # fmt: skip
"""Energy at 7 nm relative to 45 nm: Jouppi 2021, Table 2, over Horowitz 2014; `other` assumed, as the multiplier."""


@dataclass(frozen=True)
class Scale:
    """How to bring a 45 nm energy to a node: multiply by `ratio`; the result is uncertain by `factor`."""

    ratio: float
    factor: float
    source: str


@dataclass(frozen=True)
class _Gate:
    """Stillmaker and Baas's polynomials of one node, highest power first, and its area relative to 180 nm."""

    energy: tuple[float, ...]
    delay: tuple[float, ...]
    nominal_vdd_v: float
    area: float


def logic_energy(node_nm: int, operation: str = "other") -> Scale:
    """Energy of `operation` (add, multiply, float_add, float_multiply, other) relative to 45 nm, both at 0.9 V.

    Raises ConfigError for a node that is not one of `NODES`.
    """
    _check_node(node_nm)
    if node_nm == 45:
        return Scale(1.0, LOGIC_FACTOR, "")
    if node_nm >= _SMALLEST_BY_POLYNOMIAL:
        ratio = gate_energy(node_nm, VDD_V) / gate_energy(45, VDD_V)
        return Scale(ratio, LOGIC_FACTOR, f"scaled to {node_nm} nm by {ratio:.3g} (Stillmaker and Baas 2017)")
    gain = _GAIN_AT_7_NM[operation]
    ratio = gain ** (log(45 / node_nm) / log(45 / 7))
    tables_at = "Jouppi 2021 at 7 nm over Horowitz 2014 at 45 nm"
    return Scale(ratio, BELOW_20_FACTOR, f"scaled to {node_nm} nm by {ratio:.3g} ({tables_at}, log-log)")


def gate_energy(node_nm: int, vdd_v: float | None = None, flavour: str = "HP") -> float:
    """Energy of a gate by Stillmaker and Baas at a supply (the nominal one where None); only ratios mean something.

    Holds from half to 1.2 times the nominal supply (assumed). Raises ConfigError elsewhere and for unknown nodes.
    """
    return _polynomial(node_nm, vdd_v, flavour, "energy")


def gate_delay(node_nm: int, vdd_v: float | None = None, flavour: str = "HP") -> float:
    """Delay of a gate by Stillmaker and Baas at a supply, under the conditions of `gate_energy`."""
    return _polynomial(node_nm, vdd_v, flavour, "delay")


def logic_area(node_nm: int) -> float:
    """Area of logic relative to 45 nm. Source: Stillmaker and Baas 2017, 180 to 7 nm."""
    _check_node(node_nm)
    if node_nm == 22:
        return _between(22, logic_area(32), logic_area(20))
    return _gates()[_gate_name(node_nm, "HP")].area / _gates()["HP45"].area


def _polynomial(node_nm: int, vdd_v: float | None, flavour: str, quantity: str) -> float:
    _check_node(node_nm)
    if node_nm == 22:
        return _between(22, *(_polynomial(node, vdd_v, flavour, quantity) for node in (32, 20)))
    gate = _gates().get(_gate_name(node_nm, flavour))
    if gate is None:
        message = f"no {flavour} transistors at {node_nm} nm: HP everywhere, LP from 45 nm down"
        raise ConfigError(Problem("node_nm", message))
    volts = gate.nominal_vdd_v if vdd_v is None else vdd_v
    value = 0.0
    for coefficient in gate.energy if quantity == "energy" else gate.delay:
        value = value * volts + coefficient
    low, high = 0.5 * gate.nominal_vdd_v, 1.2 * gate.nominal_vdd_v
    if not low - 1e-9 <= volts <= high + 1e-9 or value <= 0:
        message = f"the scaling law of {node_nm} nm holds from {low:g} to {high:g} V (got {volts:g})"
        raise ConfigError(Problem("vdd_v", message))
    return value


def _between(node_nm: int, at_32: float, at_20: float) -> float:
    """The value at `node_nm` on a log-log line between those at 32 and at 20 nm."""
    return at_20 * exp(log(at_32 / at_20) * log(node_nm / 20) / log(32 / 20))


def _check_node(node_nm: int) -> None:
    if node_nm not in NODES:
        nodes = ", ".join(map(str, NODES))
        raise ConfigError(Problem("node_nm", f"no scaling law for {node_nm} nm; known: {nodes}"))


def _gate_name(node_nm: int, flavour: str) -> str:
    return f"{flavour}{node_nm}"


@cache
def _gates() -> dict[str, _Gate]:
    gates = {}
    for row in tables.rows("tech_scaling"):
        energy = tuple(float(row[f"energy_c{power}"]) for power in (2, 1, 0))
        delay = tuple(float(row[f"delay_d{power}"]) for power in (3, 2, 1, 0))
        gates[row["node"]] = _Gate(energy, delay, float(row["nominal_vdd_v"]), float(row["area_rel_180nm"]))
    return gates
