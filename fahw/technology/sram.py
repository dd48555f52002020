"""Energy, leakage and area of an SRAM, from tables of CACTI 7 results (`sram_tables`, which interpolates them).

A device is one ITRS type throughout, or a mixture: cells of one type in a periphery of another, with energies, leakage
and area of its own. CACTI's own spread between objectives makes every energy uncertain by a factor of two.

Leakage is the table's, at 300 K (27 C), or at `temp_c` from 20 to 85 C: exponential through 300 and 350 K, by factors
that CACTI gives per type (middle of its range over capacities). A mixture's leakage is that of its periphery, whose
factor it takes. Nodes without a table are estimated by `sram_estimate`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from fahw.errors import ConfigError, Problem
from fahw.technology import sram_tables
from fahw.technology.constant import Constant
from fahw.technology.scaling import gate_energy, logic_area

SOURCE = "CACTI 7.0, one read/write port, 300 K, objective ED^2"
ENERGY_FACTOR = 2.0
"""The true energy lies between the table's divided and multiplied by this. Source: spread of CACTI's objectives."""
LEAKAGE_FACTOR = 10.0
"""Assumed: leakage varies by orders of magnitude between cell types and corners."""
SCALED_ENERGY_FACTOR = 4.0
SCALED_LEAKAGE_FACTOR = 30.0
"""Assumed, where the table of another node is scaled."""
NODES = (65, 45, 32, 22)
"""Nodes with a table."""
_AT_350_K = {"hp": 1.8, "lop": 2.45, "lstp": 3.8}
_LOP_22_AT_350_K = 28.0
"""Leakage at 350 K over 300 K, CACTI 7: hp 1.6 to 2.0, lop 2.3 to 2.6 (28 at 22 nm), lstp 2.2 to 6.4."""
_TEMP_C = (20.0, 85.0)
MIXTURES = {"lstp": ("lop", "hp")}
"""Cells that may have another periphery than their own type, and which."""

_SUPPLIES_V = {
    65: {"hp": 1.1, "lstp": 1.2, "lop": 0.8}, 45: {"hp": 1.0, "lstp": 1.1, "lop": 0.7},
    32: {"hp": 0.9, "lstp": 1.0, "lop": 0.6}, 22: {"hp": 0.8, "lstp": 0.8, "lop": 0.6},
}  # fmt: skip


@dataclass(frozen=True)
class Sram:
    """One SRAM bank: energy per access of a whole word, static power, area."""

    read_pj: float
    write_pj: float
    leak_mw: float
    area_mm2: float


@dataclass(frozen=True)
class Estimate:
    """An SRAM bank with where its numbers come from and how uncertain its energies and its leakage are."""

    bank: Sram
    source: str
    energy_factor: float
    leakage_factor: float


@cache
def sram(
    size_bytes: float, word_bits: int, node_nm: int, device: str = "lop", temp_c: float | None = None,
    cells: str | None = None,
) -> Sram:  # fmt: skip
    """An SRAM of `size_bytes` with words of `word_bits` at a node (65, 45, 32, 22 nm) of type hp, lop or lstp.

    `temp_c`: temperature of the leakage, 20 to 85; None: the table's 27. `cells`: type of the cells where it differs
    from that of the periphery, which `device` then is: lstp, with lop or hp. Raises ConfigError for a node, type,
    mixture or temperature that the tables lack, and for sizes that are not positive.
    """
    key = (node_nm, device, cells or device)
    if key not in sram_tables.devices() or not (0 < size_bytes <= 1e15 and 0 < word_bits <= 1_000_000):
        cell_text = f" with {cells} cells" if cells not in (None, device) else ""
        wanted = f"{size_bytes} bytes, {word_bits} bits at {node_nm} nm {device}{cell_text}"
        raise ConfigError(Problem("sram", f"no SRAM of {wanted}; tables: {_available()}"))
    bank = Sram(*sram_tables.bank_values(size_bytes, word_bits, key))
    return bank if temp_c is None else replace(bank, leak_mw=bank.leak_mw * _leakage_at(temp_c, node_nm, device))


@cache
def sram_estimate(
    size_bytes: float, word_bits: int, node_nm: int, device: str = "lop", temp_c: float | None = None,
    cells: str | None = None,
) -> Estimate:  # fmt: skip
    """The SRAM at any node of `scaling.NODES`, with its source and uncertainty.

    A node without a table takes the nearest one that has one. Older than 65 nm: energies by the gate energies of
    Stillmaker and Baas at nominal supplies (CACTI's own step from 65 to 22 nm agrees with them), leakage as at 65 nm.
    Newer than 22 nm: energies and leakage as at 22 nm, since published small SRAMs gained only 1.3 from 45 to 7 nm.
    Areas by the area of logic. Raises ConfigError as `sram`, and for a node that nothing is known of.
    """
    source = f"{SOURCE} ({table_of(device, cells)})"
    if node_nm in NODES:
        bank = sram(size_bytes, word_bits, node_nm, device, temp_c, cells)
        return Estimate(bank, source, ENERGY_FACTOR, LEAKAGE_FACTOR)
    area = logic_area(node_nm)
    nearest = 65 if node_nm > 65 else 22
    bank = sram(size_bytes, word_bits, nearest, device, temp_c, cells)
    energy = gate_energy(node_nm) / gate_energy(65) if node_nm > 65 else 1.0
    scaled = replace(
        bank, read_pj=bank.read_pj * energy, write_pj=bank.write_pj * energy,
        area_mm2=bank.area_mm2 * area / logic_area(nearest),
    )  # fmt: skip
    source = f"{source}; assumed: {node_nm} nm from {nearest} nm, energy x {energy:.3g}"
    return Estimate(scaled, source, SCALED_ENERGY_FACTOR, SCALED_LEAKAGE_FACTOR)


def supply_v(node_nm: int, device: str) -> float:
    """The supply at which CACTI 7 has a type of transistor; at other nodes that of the table which is taken."""
    return _SUPPLIES_V[node_nm if node_nm in NODES else 65 if node_nm > 65 else 22][device]


def access_constant(estimate: Estimate, action: str) -> Constant:
    """Energy in pJ of an access of a word (`read`, `write`)."""
    value = estimate.bank.read_pj if action == "read" else estimate.bank.write_pj
    return Constant(value, estimate.source, "sram", estimate.energy_factor).named(f"SRAM {action}")


def mixture_problem(device: str, cells: str | None) -> str:
    """Why there is no SRAM of these cells in a periphery of `device`; empty where there is one."""
    if cells is None or cells == device or device in MIXTURES.get(cells, ()):
        return ""
    mixtures = ", ".join(f"{mine} cells in {' or '.join(others)}" for mine, others in MIXTURES.items())
    return f"no table of {cells} cells in a {device} periphery; mixtures: {mixtures}; or one device for both"


def table_of(device: str, cells: str | None) -> str:
    """The file that has the rows of a device or mixture."""
    return f"fahw/data/cacti7_{'sram' if cells in (None, device) else 'mixed'}.csv"


def _available() -> str:
    """The nodes and devices that there are tables of, in words."""
    return ", ".join(
        f"{node} {device}" if device == cells else f"{node} {device} with {cells} cells"
        for node, device, cells in sram_tables.devices()
    )


def _leakage_at(temp_c: float, node_nm: int, device: str) -> float:
    """Leakage at a temperature relative to that at 300 K."""
    low, high = _TEMP_C
    if not low <= temp_c <= high:
        raise ConfigError(Problem("temp_c", f"leakage is known from {low:g} to {high:g} C (got {temp_c:g})"))
    factor = _LOP_22_AT_350_K if (node_nm, device) == (22, "lop") else _AT_350_K[device]
    return float(factor ** ((temp_c + 273.15 - 300) / 50))
