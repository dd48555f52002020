"""What arrays keep for a search of mappings: accumulators at their edge, more weights in their elements; by hand."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.chip.area import areas_mm2
from fahw.chip.array_stores import stores
from fahw.chip.ledger import leakages
from fahw.chip.price_list import entries
from fahw.chip.unit_prices import Prices
from fahw.errors import ConfigError
from fahw.technology.logic_units import LogicProcess
from fahw.technology.scaling import NODES
from fahw.technology.storage import scratchpad
from fahw.work.counts.record import Count
from tests.support.strategies import CHIP, ROOT, chip_of, network_of, swap

REGISTER_PJ, REGISTER_UW, REGISTER_UM2 = 0.009, 0.07395312, 5.981433  # a bit, 45 nm: Aladdin's and Accelergy's
ACCUMULATORS, WEIGHTS = "fwd.accumulators", "fwd.weights"


def chip_with(folder, more, **overrides):
    """The tiny chip, 4 x 3 elements of 8 x 8 + 32 bits, with keys of its forward array, which can run `ws` too."""
    text = swap(CHIP, "    lanes: 2", f"    dataflows: [ws]\n    {more}\n    lanes: 2")
    return chip_of(folder, f"mapping: best\n{text}", {key.replace("__", "."): each for key, each in overrides.items()})


def access(chip, component, action="read"):
    return Prices(chip).unit_price(Count(component, action, "psum", 1))


def static_mw(chip):
    return dict(leakages(chip, transposable=False))


def sram_row(node, size_bytes, bits):
    """The row of CACTI's table for a bank of lop transistors."""
    lines = (ROOT / "fahw" / "data" / "cacti7_sram.csv").read_text(encoding="utf-8").splitlines()
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        if (row["node_nm"], row["device"], row["size_bytes"], row["word_bits"]) == (
            str(node), "lop", str(size_bytes), str(bits)
        ):  # fmt: skip
            return {key: float(row[key]) for key in ("read_pj", "write_pj", "leak_mw", "area_mm2")}
    raise AssertionError("no such row")


def test_a_few_accumulators_are_registers(tmp_path):
    """8 of 32 bits in each of 3 columns: .288 pJ an access; 768 flip-flops of .074 uW and 5.98 um2."""
    chip = chip_with(tmp_path, "accumulators: 8")
    for action in ("read", "write"):
        price = access(chip, ACCUMULATORS, action)
        assert price.value == pytest.approx(32 * REGISTER_PJ)
        assert (price.kind, price.factor) == ("logic", 3.0)
        assert "8 entries" in price.source
    assert static_mw(chip)[ACCUMULATORS].value == pytest.approx(3 * 8 * 32 * REGISTER_UW * 1e-3)
    assert areas_mm2(chip, transposable=False)[ACCUMULATORS] == pytest.approx(3 * 8 * 32 * REGISTER_UM2 * 1e-6)


@pytest.mark.parametrize("words", [100, 256])
def test_many_accumulators_are_an_sram_no_smaller_than_the_tables(words, tmp_path):
    """At 32 nm 256 of 32 bits are the table's bank of 1 KiB: (.308 + .400) / 2 pJ, .0497 mW, .00174 mm2 a column; 100
    words use a part of it."""
    chip, row = chip_with(tmp_path, f"accumulators: {words}", technology__node_nm=32), sram_row(32, 1024, 32)
    price = access(chip, ACCUMULATORS)
    assert price.value == pytest.approx((row["read_pj"] + row["write_pj"]) / 2)
    assert (price.kind, price.factor) == ("sram", 2.0)
    leakage = static_mw(chip)[ACCUMULATORS]
    assert leakage.value == pytest.approx(3 * row["leak_mw"])
    assert leakage.factor == 10.0
    assert areas_mm2(chip, transposable=False)[ACCUMULATORS] == pytest.approx(3 * row["area_mm2"])


def test_more_weights_of_an_element_are_registers_of_the_operand_that_stays(tmp_path):
    """4 of 8 bits in 12 elements: .072 pJ an access, 384 flip-flops; under `is` they are as wide as what stays then."""
    chip = chip_with(tmp_path, "weights_per_element: 4")
    assert access(chip, WEIGHTS).value == pytest.approx(8 * REGISTER_PJ)
    assert static_mw(chip)[WEIGHTS].value == pytest.approx(12 * 4 * 8 * REGISTER_UW * 1e-3)
    assert areas_mm2(chip, transposable=False)[WEIGHTS] == pytest.approx(12 * 4 * 8 * REGISTER_UM2 * 1e-6)
    left_stays = chip_with(tmp_path, "weights_per_element: 4", precision__error=16, arrays__fwd__dataflows="[is]")
    assert access(left_stays, WEIGHTS).value == pytest.approx(16 * REGISTER_PJ)
    right_stays = chip_with(tmp_path, "weights_per_element: 4", precision__error=16)
    assert access(right_stays, WEIGHTS).value == pytest.approx(8 * REGISTER_PJ)


@pytest.mark.parametrize(("held", "written"), [(4, 20), (2, 40)])
def test_more_weights_are_written_as_they_come_and_read_as_folds_run(held, written, tmp_path):
    """linear2 forward, 8 x 4 x 5 under `ws` on 4 x 3 elements: 4 folds of its 20 weights run for 4 samples each, twice.
    Elements that hold all 4 have them once, those that hold 2 twice; at 8 bits a weight .072 pJ an access."""
    pinned = "{layer: linear2, phase: forward, dataflow: ws, tile: [4, 4, 5], order: knm}"
    text = swap(CHIP, "    lanes: 2", f"    dataflows: [ws]\n    weights_per_element: {held}\n    lanes: 2")
    chip = chip_of(tmp_path, f"mapping: best\nlayer_mappings: [{pinned}]\n{text}")
    cost = fahw.simulate(chip, network_of(tmp_path), "bp", 8)
    rows = [row for row in cost.ledger if (row.component, row.layer, row.phase) == (WEIGHTS, "linear2", "forward")]
    assert {(row.action, row.tensor, row.count) for row in rows} == {
        ("write", "weight", written), ("read", "weight", 40),
    }  # fmt: skip
    assert sum(row.energy_pj for row in rows) == pytest.approx((written + 40) * 8 * REGISTER_PJ)


def test_an_array_without_them_has_no_such_parts(tmp_path):
    """Nothing of either at their defaults, 0 and 1."""
    chip = chip_with(tmp_path, "accumulators: 0\n    weights_per_element: 1")
    names = {*static_mw(chip), *areas_mm2(chip, transposable=False)}
    assert not {name for name in names if "accumulators" in name or "weights" in name.partition(".")[2]}
    assert not list(stores(chip, chip.arrays[0]))


def test_the_supply_of_the_logic_reaches_registers_and_not_an_sram(tmp_path):
    """At .6 V in place of .9 a register takes (2/3)^2; a memory has a supply of its own."""
    for words, factor in ((8, (0.6 / 0.9) ** 2), (4096, 1.0)):
        prices = [
            access(chip_with(tmp_path, f"accumulators: {words}", technology__vdd_v=volts), ACCUMULATORS).value
            for volts in (0.9, 0.6)
        ]
        assert prices[1] / prices[0] == pytest.approx(factor)


def test_a_chip_file_can_give_their_energies(tmp_path):
    """Per access, and per cycle for all of an array's; others keep their estimates."""
    given_energies = "energies: [{component: fwd.accumulators, action: read, pj: 7, source: x}, "
    given_energies += "{component: fwd.accumulators, action: static, pj: 5, source: x}]\narrays:"
    text = swap(CHIP, "    lanes: 2", "    dataflows: [ws]\n    accumulators: 8\n    lanes: 2")
    chip = chip_of(tmp_path, f"mapping: best\n{swap(text, 'arrays:', given_energies)}")
    assert (access(chip, ACCUMULATORS).value, access(chip, ACCUMULATORS).given) == (7, True)
    assert access(chip, ACCUMULATORS, "write").value == pytest.approx(0.288)
    (row,) = (row for row in fahw.simulate(chip, network_of(tmp_path), "bp", 2).ledger if row.component == ACCUMULATORS)
    assert (row.action, row.unit_pj) == ("static", pytest.approx(5))
    with pytest.raises(ConfigError, match=r"no component 'fwd\.accumulators'"):
        chip_of(tmp_path, swap(CHIP, "arrays:", given_energies))


def test_every_core_of_a_mesh_has_its_own(tmp_path):
    """Static power and area by core, under its name."""
    mesh = "mesh: {rows: 1, cols: 3, link_bits_per_cycle: 8, hop_pj_per_bit: 0.1, assumed: a test}\ntransport:"
    text = swap(CHIP, "    lanes: 2", "    dataflows: [ws]\n    accumulators: 8\n    lanes: 2")
    chip = chip_of(tmp_path, f"mapping: best\n{swap(text, 'transport:', mesh)}")
    names = [f"core{core}:{ACCUMULATORS}" for core in range(3)]
    for found in (static_mw(chip), areas_mm2(chip, transposable=False)):
        assert [name for name in found if name.endswith(ACCUMULATORS)] == names


@given(st.integers(1, 20_000), st.integers(1, 64), st.sampled_from(NODES))
def test_a_smaller_store_never_takes_more_for_an_access(words, bits, node):
    """One word fewer, and half as many."""

    def energy(number):
        return scratchpad(bits, number, LogicProcess(node), least_bytes=1024).access.value

    assert energy(max(1, words - 1)) <= energy(words) * (1 + 1e-9)
    assert energy(max(1, words // 2)) <= energy(words) * (1 + 1e-9)


def test_they_are_listed_with_the_technology():
    """Accesses, leakage and area of three depths."""
    parts = {entry.part: entry for entry in entries(32)}
    row = sram_row(32, 1024, 32)
    assert parts["accumulators 256x32, access"].value == pytest.approx((row["read_pj"] + row["write_pj"]) / 2)
    assert parts["accumulators 256x32, leakage"].value == pytest.approx(row["leak_mw"])
    assert parts["accumulators 256x32, area"].value == pytest.approx(row["area_mm2"])
    assert parts["accumulators 16x32, access"].value < parts["accumulators 4096x32, access"].value
