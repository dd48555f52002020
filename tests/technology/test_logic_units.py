"""Area and leakage of units: Aladdin's rows by the clock, float formats, node, supply and temperature."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.chip.area import areas_mm2, array_leak_mw
from fahw.formats.number import FLOATS
from fahw.technology.logic_units import LogicProcess, adder, multiplier, processing_element, registers, shifter
from fahw.technology.scaling import NODES
from tests.support.strategies import REFERENCE

widths = st.integers(1, 48)


@pytest.mark.parametrize(
    ("clock_mhz", "area_um2", "leak_uw"),
    [
        (200, 4595.0 / 16 + 179.443 + 48 * 5.981433, 48.17683 / 16 + 2.380803 + 48 * 0.07395312),
        (201, 4619.555 / 16 + 179.443 + 48 * 5.981433, 48.53217 / 16 + 2.380803 + 48 * 0.07395312),
        (1000, 6351.338 / 16 + 277.9792 + 48 * 5.981433, 77.86052 / 16 + 2.249908 + 48 * 0.07395312),
        (3000, 6351.338 / 16 + 277.9792 + 48 * 5.981433, 77.86052 / 16 + 2.249908 + 48 * 0.07395312),
    ],
)
def test_an_element_is_the_slowest_row_that_meets_the_clock(clock_mhz, area_um2, leak_uw):
    """An 8 x 8 + 32 element at 200 MHz is that of the 5 ns row, at 201 MHz of 4 ns, from 1 GHz on of 1 ns."""
    element = processing_element((8, 8, 32), LogicProcess(45, clock_mhz))
    assert element.area_mm2 == pytest.approx(area_um2 * 1e-6)
    assert element.leak_mw == pytest.approx(leak_uw * 1e-3)


def test_units_at_200_mhz_are_accelergys():
    """Accelergy's estimates at 5 ns, leakage per cycle, are these multipliers, adders and registers."""
    path = REFERENCE / "accelergy_45nm_components.csv"
    if not path.exists():
        pytest.skip("no reference folder beside this checkout")
    process, compared = LogicProcess(45, 200), 0
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            unit = {
                "intmultiplier": lambda bits: multiplier(bits, bits, process),
                "intadder": lambda bits: adder(bits, process),
                "reg": lambda bits: registers(bits, process),
            }.get(row["accelergy_class"])
            if unit is not None:
                here = unit(int(row["width_bits"]))
                assert here.area_mm2 * 1e6 == pytest.approx(float(row["area_um2"]), rel=0.003)
                assert here.leak_mw * 5 == pytest.approx(float(row["leak_pJ_per_cycle"]), rel=0.01)
                compared += 1
    assert compared == 13


def test_a_float_element_has_float_units():
    """An fp32 adder at 200 MHz is 2,064 um2 and 15.2 uW, where an integer adder of 32 bits is 179 and 2.4."""
    process, fp32 = LogicProcess(45, 200), FLOATS["fp32"]
    here = processing_element((32, 32, 32), process, fp32, fp32)
    assert here.area_mm2 * 1e6 == pytest.approx(4905.719 + 2063.594 + 96 * 5.981433)
    assert here.leak_mw * 1e3 == pytest.approx(42.15861 + 15.20482 + 96 * 0.07395312)
    bf16 = multiplier(16, 16, process, FLOATS["bf16"])
    assert bf16.area_mm2 * 1e6 == pytest.approx(4905.719 * (8 / 24) ** 2)


def test_a_chip_of_floats_is_larger_than_one_of_integers_of_the_same_width():
    """The chip's area and leakage ask the formats."""
    integers = fahw.load_chip("edge_dual")
    precision = {f"precision.{name}": "bf16" for name in ("weight", "feedback", "activation", "error")}
    floats = fahw.load_chip("edge_dual", precision | {"precision.accumulator": "fp32"})
    assert areas_mm2(floats, False)["forward_array"] > 1.5 * areas_mm2(integers, False)["forward_array"]
    assert array_leak_mw(floats, floats.arrays[0]) > 1.5 * array_leak_mw(integers, integers.arrays[0])


@given(st.sampled_from(NODES), widths, widths, widths, st.sampled_from((10.0, 200.0, 700.0, 2000.0)))
def test_units_grow_with_their_widths_and_leak_more_when_hot_or_at_a_higher_supply(node, a, b, accumulator, clock):
    """Area and leakage rise with each width; leakage with the temperature and in proportion to the supply."""
    process = LogicProcess(node, clock)
    small = processing_element((a, b, accumulator), process)
    for bits in ((a + 1, b, accumulator), (a, b + 1, accumulator), (a, b, accumulator + 1)):
        large = processing_element(bits, process)
        assert large.area_mm2 > small.area_mm2 > 0
        assert large.leak_mw > small.leak_mw > 0
    assert processing_element((a, b, accumulator), LogicProcess(node, clock, 0.9, 85)).leak_mw > 2 * small.leak_mw
    low = processing_element((a, b, accumulator), LogicProcess(node, clock, 0.6))
    assert low.leak_mw == pytest.approx(small.leak_mw * 2 / 3)


@given(widths, widths, widths)
def test_areas_fall_from_node_to_node(a, b, accumulator):
    """A smaller node has smaller units, shifters too."""
    areas = [processing_element((a, b, accumulator), LogicProcess(node)).area_mm2 for node in NODES]
    assert areas == sorted(areas, reverse=True)
    assert shifter(a, LogicProcess(22)).area_mm2 < shifter(a, LogicProcess(45)).area_mm2


def test_the_chips_temperature_and_supply_reach_its_arrays():
    """At 85 C and .6 V an array leaks 2.45^(58/50) times 2/3 as much, by CACTI's factor of lop cells at 350 K."""
    cold = fahw.load_chip("edge_dual")
    hot = fahw.load_chip("edge_dual", {"technology.temp_c": 85.0, "technology.vdd_v": 0.6})
    ratio = array_leak_mw(hot, hot.arrays[0]) / array_leak_mw(cold, cold.arrays[0])
    assert ratio == pytest.approx(2.45 ** ((85 + 273.15 - 300) / 50) * 0.6 / 0.9)
