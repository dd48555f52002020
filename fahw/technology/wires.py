"""Energy of moving bits: repeated wires, routers of an on-chip network, links between chips."""

from __future__ import annotations

from fahw.errors import ConfigError, Problem, suggestion
from fahw.technology.constant import Constant
from fahw.technology.scaling import logic_energy

WIRE_FACTOR = 2.0
"""Source: range of published on-chip wire energies, 0.018 to 0.15 pJ/bit/mm."""
_OTHER_NODE_FACTOR = 3.0
_ACTIVITY = 0.5  # transitions per transported bit: random data toggle every other cycle
_WIRES = "CACTI 7 repeated global wire, 30 % delay overhead"
_PJ_PER_MM = {
    (65, "hp"): 0.33, (65, "lop"): 0.22, (65, "lstp"): 0.50, (45, "hp"): 0.25, (45, "lop"): 0.14, (45, "lstp"): 0.38,
    (32, "hp"): 0.20, (32, "lop"): 0.10, (32, "lstp"): 0.29, (22, "hp"): 0.16, (22, "lop"): 0.10, (22, "lstp"): 0.19,
}  # fmt: skip
_NODES = (65, 45, 32, 22)
_LINKS = {
    "ucie_standard": (0.5, 1.5, "UCIe 1.0, standard package, as quoted"),
    "ucie_advanced": (0.25, 1.5, "UCIe 1.0, advanced package, as quoted"),
    "package_serial": (1.0, 1.5, "ground-referenced serial link on a package, 0.8 to 1.2 pJ/bit (Simba), recalled"),
    "serdes": (7.0, 4.0, "serial link on a board, published 5 to 10 and up to 30 pJ/bit"),
}
LINK_KINDS = tuple(_LINKS)


def wire_pj_per_bit_mm(node_nm: int, device: str) -> Constant:
    """Energy of a bit over one millimetre of repeated wire, half of the bits toggling.

    Values for 65, 45, 32 and 22 nm; other nodes take the nearest one's, with a larger factor (the capacitance of a
    millimetre hardly scales).
    """
    if node_nm in _NODES:
        return Constant(_at(node_nm, device), f"{_WIRES}, activity {_ACTIVITY}", "wire", WIRE_FACTOR).named("wire")
    nearest = _NODES[0] if node_nm > _NODES[0] else min(_NODES, key=lambda node: abs(node - node_nm))
    source = f"{_WIRES}, activity {_ACTIVITY}; assumed: {node_nm} nm as {nearest} nm"
    return Constant(_at(nearest, device), source, "wire", _OTHER_NODE_FACTOR).named("wire")


def router_pj_per_bit(node_nm: int) -> Constant:
    """Energy of a bit through one router of an on-chip network (a hop), its wires apart: 0.081 pJ at 32 nm."""
    at_node, at_32 = logic_energy(node_nm), logic_energy(32)
    scaled = "" if node_nm == 32 else f", scaled to {node_nm} nm as logic"
    source = f"ISAAC (ISCA 2016): router of 256-bit flits, 32 nm{scaled}"
    return Constant(0.081 * at_node.ratio / at_32.ratio, source, "wire", max(WIRE_FACTOR, at_node.factor))


def chip_link_pj_per_bit(kind: str) -> Constant:
    """Energy of a bit between chips: `ucie_standard`, `ucie_advanced`, `package_serial` or `serdes`."""
    if kind not in _LINKS:
        message = f"no chip-to-chip link '{kind}'{suggestion(kind, _LINKS)}; known: {', '.join(_LINKS)}"
        raise ConfigError(Problem("link", message))
    value, factor, source = _LINKS[kind]
    return Constant(value, source, "wire", factor)


def _at(node_nm: int, device: str) -> float:
    return _PJ_PER_MM[node_nm, device] * _ACTIVITY
