"""Technology scaling: the published polynomials and the two published tables, and where neither holds."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.formats.number import FLOATS
from fahw.technology import operations as ops
from fahw.technology import scaling, wires
from tests.support.strategies import REFERENCE

NOMINAL = {180: 30.62, 130: 6.014, 90: 3.013, 65: 1.952, 45: 1.0, 32: 0.5308, 20: 0.2332, 16: 0.1608, 7: 0.05552}
AT_0V9 = {180: 6.004, 130: 3.827, 90: 2.356, 65: 1.514, 45: 1.0, 32: 0.6541, 20: 0.2873}


@pytest.mark.parametrize("node", NOMINAL)
def test_gate_energy_at_nominal_supplies(node):
    """Stillmaker and Baas relative to 45 nm at 1.0 V, each node at its nominal supply."""
    assert scaling.gate_energy(node) / scaling.gate_energy(45) == pytest.approx(NOMINAL[node], rel=2e-3)


@pytest.mark.parametrize("node", AT_0V9)
def test_logic_from_180_to_20_nm(node):
    """Operations scale by the polynomials, both nodes at 0.9 V."""
    assert scaling.logic_energy(node).ratio == pytest.approx(AT_0V9[node], rel=1e-3)
    assert scaling.logic_energy(node).factor == scaling.LOGIC_FACTOR


def test_shipped_polynomials_are_the_reference():
    """Every coefficient in the package is the published one."""
    path = REFERENCE / "tech_scaling.csv"
    if not path.exists():
        pytest.skip("no reference folder beside this checkout")
    with path.open(newline="") as file:
        reference = {row["node"]: row for row in csv.DictReader(file)}
    shipped = {row["node"]: row for row in scaling.tables.rows("tech_scaling")}
    assert set(shipped) == {name if name[0] in "HL" else f"HP{name}" for name in reference}
    for name, row in reference.items():
        mine = shipped[name if name[0] in "HL" else f"HP{name}"]
        for power in (2, 1, 0):
            assert float(mine[f"energy_c{power}"]) == float(row[f"energy_c{power}"])
        for power in (3, 2, 1, 0):
            assert float(mine[f"delay_d{power}"]) == float(row[f"delay_c{power}"])
        assert float(mine["area_rel_180nm"]) == float(row["area_rel_to_180nm"])


def test_7_nm_is_the_table_of_jouppi():
    """At 7 nm the operations cost what Table 2 of Jouppi et al. (2021) says."""
    assert ops.multiply_pj(8, 8, 7).value == pytest.approx(0.07)
    assert ops.add_pj(32, 7).value == pytest.approx(0.03)
    assert ops.float_multiply_pj(FLOATS["fp32"], 7).value == pytest.approx(1.31)
    assert ops.float_add_pj(FLOATS["fp32"], 7).value == pytest.approx(0.38)


@pytest.mark.parametrize("operation", ["add", "multiply", "float_add", "float_multiply", "other"])
@pytest.mark.parametrize("node", [16, 14, 10, 7])
def test_below_20_nm_the_range_holds_both_models(node, operation):
    """The line between the tables, divided by its factor, still covers what the polynomials predict."""
    scale = scaling.logic_energy(node, operation)
    volts = min(scaling.VDD_V, 0.84 if node == 7 else scaling.VDD_V)
    predicted = scaling.gate_energy(node, volts) / scaling.gate_energy(45, volts)
    assert scale.ratio / scale.factor <= predicted < scale.ratio
    assert "Jouppi" in scale.source


def test_22_nm_lies_between_its_neighbours():
    """22 nm is not in the published table: between 32 and 20 nm in energy, delay and area."""
    for law in (scaling.gate_energy, scaling.gate_delay):
        low, high = sorted((law(32), law(20)))
        assert low < law(22) < high
    assert scaling.logic_area(20) < scaling.logic_area(22) < scaling.logic_area(32)


@given(st.sampled_from([node for node in scaling.NODES if node != 180]), st.floats(0.7, 1.1))
def test_gates_take_more_energy_at_more_volts(node, share):
    """Within the law's limits energy grows with the supply."""
    nominal = {130: 1.2, 90: 1.1, 65: 1.1, 45: 1.0, 32: 0.9, 22: 0.9, 20: 0.9, 16: 0.85, 14: 0.8, 10: 0.75, 7: 0.7}[
        node
    ]
    volts = nominal * share
    assert scaling.gate_energy(node, volts * 1.05) > scaling.gate_energy(node, volts) > 0


@pytest.mark.parametrize("call", [
    lambda: scaling.logic_energy(28), lambda: scaling.logic_area(3), lambda: scaling.gate_energy(45, 0.3),
    lambda: scaling.gate_energy(180, 0.7), lambda: scaling.gate_delay(7, 2.0),
    lambda: scaling.gate_energy(65, 1.0, "LP"),
])  # fmt: skip
def test_outside_the_limits_there_is_no_law(call):
    """Unknown nodes and supplies outside a law's limits are refused, with what is known."""
    with pytest.raises(ConfigError, match=r"known|holds from|HP everywhere"):
        call()


@pytest.mark.parametrize("node", scaling.NODES)
def test_every_node_has_wires_and_routers(node):
    """Wires and routers have a value at every node; where it is borrowed the source says so and the range is wider."""
    wire = wires.wire_pj_per_bit_mm(node, "lop")
    assert wire.value > 0
    assert ("assumed" in wire.source) == (node not in (65, 45, 32, 22)) == (wire.factor > wires.WIRE_FACTOR)
    assert wires.router_pj_per_bit(node).value > 0
    assert wires.router_pj_per_bit(32).value == pytest.approx(0.081)


def test_links_between_chips():
    """UCIe 0.5 and 0.25 pJ per bit; a name that is not known gets advice."""
    assert wires.chip_link_pj_per_bit("ucie_standard").value == 0.5
    assert wires.chip_link_pj_per_bit("ucie_advanced").value == 0.25
    assert 5 <= wires.chip_link_pj_per_bit("serdes").value <= 30
    with pytest.raises(ConfigError, match="did you mean 'ucie_standard'"):
        wires.chip_link_pj_per_bit("ucie_standart")
