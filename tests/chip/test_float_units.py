"""Units declared float, of batch norms and of Adam: fp32 prices whatever the chip's formats, and time on the lanes."""

from dataclasses import replace

import pytest

from fahw.chip.cost import simulate
from fahw.chip.roofline import points
from fahw.chip.usage import uses
from fahw.hardware.load import load_chip
from fahw.network.recipe import Recipe
from tests.support.models import graph
from tests.support.strategies import CHIP, chip_of

PJ = {"float_multiply": 3.7, "float_add": 0.9, "float_divide": 7 * 3.7, "float_root": 7 * 3.7}
"""Of fp32 at 45 nm and 0.9 V: Horowitz 2014; a division and a root as 7 products."""
FORMATS = {
    "8 bits": {},
    "4 bits": {"activation": 4, "error": 4, "weight": 4},
    "bf16": dict.fromkeys(("activation", "error", "weight", "feedback", "gradient", "master", "optimizer"), "bf16")
    | {"accumulator": "fp32"},
}


def network(norm=True, optimizer="adam"):
    layers = [
        {"kind": "conv2d", "name": "conv", "out": 3, "kernel": 3},
        *([{"kind": "batchnorm2d"}] if norm else []),
        {"kind": "relu"},
        {"kind": "flatten"},
        {"kind": "linear", "out": 4},
    ]
    return replace(graph((2, 6, 6), *layers), recipe=Recipe(optimizer=optimizer))


def chip(folder, formats="8 bits", more=None):
    return chip_of(folder, CHIP, {f"precision.{name}": form for name, form in FORMATS[formats].items()} | (more or {}))


@pytest.mark.parametrize("formats", FORMATS)
def test_float_units_have_fp32_prices(tmp_path, formats):
    """The rows of norm (forward, error) and update, at 32 bits; each with its share of the clock beside it."""
    here = chip(tmp_path, formats)
    share = here.technology.clock_share
    ledger = simulate(here, network(), "bp", 4).ledger
    seen = set()
    for row in (row for row in ledger if "float_" in row.action):
        clocked, name = row.action.startswith("clock_"), row.action.removeprefix("clock_")
        assert row.unit_pj == pytest.approx(PJ[name] * (share if clocked else 1)), row
        assert row.energy_pj == pytest.approx(row.count * row.unit_pj), row
        seen.add((row.phase, name, clocked))
    every = {(phase, name) for phase in ("forward", "update") for name in PJ}
    every |= {("error", "float_multiply"), ("error", "float_add")}
    assert seen == {(*each, clocked) for each in every for clocked in (False, True)}


def test_a_norm_takes_nothing_at_the_chips_own_formats(tmp_path):
    """Beside what the same network does without it, all that a norm adds on the lanes is float."""
    here = chip(tmp_path)

    def whole(norm):
        rows = simulate(here, network(norm, "sgd"), "bp", 4).ledger
        lanes = [row for row in rows if row.component.endswith(".vector") and row.phase in ("forward", "error")]
        return {(row.action, row.phase, row.layer): row.count for row in lanes if "float_" not in row.action}

    assert whole(True) == whole(False)


def test_other_nodes_and_voltages_scale_float_units_too(tmp_path):
    """As other logic, with the square of the supply."""
    rows = simulate(chip(tmp_path, more={"technology.vdd_v": 0.45}), network(), "bp", 4).ledger
    units = [row.unit_pj for row in rows if row.action == "float_add"]
    assert units == pytest.approx([PJ["float_add"] / 4] * len(units))


def test_a_chip_file_can_give_the_energy_of_a_float_unit(tmp_path):
    given = [{"component": "fwd.vector", "action": "float_add", "pj": 5.0, "source": "a test"}]
    rows = simulate(chip(tmp_path, more={"energies": given}), network(), "bp", 4).ledger
    units = {(row.component, row.action): row.unit_pj for row in rows}
    assert units["fwd.vector", "float_add"] == 5
    assert units["bwd.vector", "float_add"] == pytest.approx(PJ["float_add"])


def test_float_operations_keep_the_lanes_busy(tmp_path):
    """One lane: a cycle for every operation, float or not; the products' points on the roofline count MACs alone."""
    cost = simulate(chip(tmp_path, more={"arrays.0.lanes": 1, "arrays.1.lanes": 1}), network(), "bp", 4)
    lanes = [row for row in cost.ledger if row.component.endswith(".vector") and not row.action.startswith("clock_")]
    busy = {use.part: use.busy_cycles for use in uses(cost)}
    for name in ("fwd.vector", "bwd.vector"):
        assert busy[name] == sum(row.count for row in lanes if row.component == name)
    macs = {(point.phase, point.layer): point.macs for point in points(cost)}
    assert macs["forward", "conv"] == 4 * 16 * 3 * 18


def test_lanes_of_a_shipped_chip_take_float_units_at_its_own_node():
    """edge_dual's own node and clock share."""
    here = load_chip("edge_dual")
    rows = simulate(here, network(), "fa", 4).ledger
    units = {row.action: row.unit_pj for row in rows if "float_" in row.action}
    assert units["clock_float_root"] == pytest.approx(here.technology.clock_share * units["float_root"])
    assert units["float_root"] == pytest.approx(7 * units["float_multiply"])
