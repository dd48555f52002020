"""Energies, leakage and areas: the CACTI table exactly, its interpolation, and the published operation energies."""

import csv
from functools import partial
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.errors import ConfigError
from fahw.formats.number import FLOATS
from fahw.technology import operations as ops
from fahw.technology import random_bits, scaling, storage, wires
from fahw.technology import sram as sram_module
from fahw.technology.sram import sram
from tests.support.strategies import REFERENCE
from tests.validation.sram import QUANTITIES, all_rows, contents, errors_of_thirds, key, mixed_errors

NODES = (65, 45, 32, 22)
widths = st.integers(1, 48)
nodes = st.sampled_from(NODES)


def test_every_row_of_the_table_is_given_back_exactly():
    """On a point of the CACTI tables the result is CACTI's number to the last bit."""
    rows = all_rows()
    assert len(rows) == 672 + 432
    for row in rows:
        given = sram(*key(row))
        assert [getattr(given, name) for name in QUANTITIES] == [float(row[name]) for name in QUANTITIES], row


@pytest.mark.parametrize(("name", "periphery"), [("sram", "cell_type"), ("mixed", "periphery_type")])
def test_shipped_tables_are_the_reference_tables(name, periphery):
    """The tables in the package are those that CACTI gave."""
    path = REFERENCE / f"cacti7_{name}.csv"
    if not path.exists():
        pytest.skip("no reference folder beside this checkout")
    with path.open(newline="") as file:
        reference = {
            (
                *(int(row[name]) for name in ("size_bytes", "word_bits", "node_nm")),
                row[periphery].split("-")[1], None, row["cell_type"].split("-")[1],
            ): [float(row[name]) for name in QUANTITIES]
            for row in csv.DictReader(file)
        }  # fmt: skip
    assert {key(row): [float(row[name]) for name in QUANTITIES] for row in contents(name)} == reference


def check_thirds(seed):
    """Leave out each third of a random split of the rows; the others must predict it."""
    for _, errors in errors_of_thirds(seed):
        for name in QUANTITIES:
            assert median(errors[name]) <= 0.10, name
            assert np.percentile(errors[name], 95) <= 0.45, name
            assert max(errors[name]) <= 1.50, name


@pytest.mark.parametrize("seed", range(21))
def test_rows_left_out_are_interpolated(seed):
    """A random third of the rows left out: median error 10 %, 95th percentile 45 %, at most 150 %, every quantity."""
    check_thirds(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_rows_left_out_are_interpolated_however_they_are_drawn(block):
    """The same for two hundred other draws."""
    for seed in range(20_000 + 20 * block, 20_020 + 20 * block):
        check_thirds(seed)


def check_mixtures(seed):
    """Leave out each ninth of a random split of the mixtures, so that about as much is known as without the third that
    the table lacks."""
    for name, errors in mixed_errors(seed).items():
        assert median(errors) <= 0.10, name
        assert np.percentile(errors, 95) <= 0.45, name
        assert max(errors) <= 1.50, name


def test_mixtures_left_out_are_interpolated():
    """Cells of another type than the periphery: median error 10 %, 95th percentile 45 %, every quantity."""
    check_mixtures(0)


@pytest.mark.slow
def test_mixtures_left_out_are_interpolated_however_they_are_drawn():
    """The same for other draws."""
    for seed in range(1, 6):
        check_mixtures(seed)


def test_low_leakage_cells_do_not_stop_the_periphery_from_leaking():
    """64 KiB x 64 at 45 nm, CACTI 7: lstp cells in a lop periphery leak 175 times what a bank of lstp throughout does,
    and cost another write; the mixture's own area too."""
    mixture, lstp = sram(65536, 64, 45, "lop", cells="lstp"), sram(65536, 64, 45, "lstp")
    assert (mixture.read_pj, mixture.write_pj, mixture.leak_mw, mixture.area_mm2) == (
        13.0683, 9.88801, 0.291575, 0.245993,
    )  # fmt: skip
    assert mixture.leak_mw / lstp.leak_mw == pytest.approx(175, abs=1)
    assert sram(65536, 64, 45, "lop", cells="lop") == sram(65536, 64, 45, "lop")


@pytest.mark.parametrize(("device", "cells"), [("lstp", "lop"), ("hp", "lop"), ("lop", "hp"), ("lstp", "hp")])
def test_mixtures_without_a_table(device, cells):
    """Other mixtures are refused, and the message says which there are."""
    with pytest.raises(ConfigError, match=f"{device} with {cells} cells; tables: .*45 lop with lstp cells"):
        sram(65536, 64, 45, device, cells=cells)


def test_the_leakage_of_a_mixture_takes_its_peripherys_temperature():
    """At 350 K 2.45 times a lop periphery's leakage."""
    cold, hot = (sram(65536, 64, 45, "lop", temp_c, "lstp").leak_mw for temp_c in (26.85, 76.85))
    assert hot / cold == pytest.approx(2.45)


@pytest.mark.parametrize(
    ("node", "device", "factor"), [(45, "hp", 1.8), (45, "lop", 2.45), (22, "lop", 28), (65, "lstp", 3.8)]
)
def test_leakage_rises_with_temperature(node, device, factor):
    """At 300 K the table's, at 350 K CACTI's factor more, steadily in between; energy and area stay."""
    cold, hot = (sram(65536, 64, node, device, temp_c=kelvin - 273.15) for kelvin in (300, 350))
    assert cold == sram(65536, 64, node, device)
    assert hot.leak_mw == pytest.approx(factor * cold.leak_mw)
    assert cold.leak_mw < sram(65536, 64, node, device, temp_c=50).leak_mw < hot.leak_mw
    assert (hot.read_pj, hot.write_pj, hot.area_mm2) == (cold.read_pj, cold.write_pj, cold.area_mm2)


@pytest.mark.parametrize("temp_c", [-40, 19.9, 86, 125])
def test_temperatures_that_the_law_does_not_hold_for(temp_c):
    """Leakage is not extrapolated beyond 20 to 85 C."""
    with pytest.raises(ConfigError, match="20 to 85"):
        sram(65536, 64, 45, temp_c=temp_c)


@pytest.mark.parametrize("node", scaling.NODES)
def test_srams_at_nodes_without_a_table(node):
    """Where there is a table, its numbers; elsewhere the nearest table's, scaled: the source says so, and less sure."""
    found = sram_module.sram_estimate(65536, 64, node)
    if node in NODES:
        assert found.bank == sram(65536, 64, node)
        assert (found.energy_factor, found.leakage_factor) == (2, 10)
    else:
        assert "assumed" in found.source
        assert (found.energy_factor, found.leakage_factor) == (4, 30)
        with pytest.raises(ConfigError):
            sram(65536, 64, node)


def test_older_srams_cost_more():
    """From 180 nm down energy and area of one SRAM never rise."""
    banks = [sram_module.sram_estimate(65536, 64, node).bank for node in scaling.NODES]
    assert [bank.read_pj for bank in banks] == sorted((bank.read_pj for bank in banks), reverse=True)
    assert [bank.area_mm2 for bank in banks] == sorted((bank.area_mm2 for bank in banks), reverse=True)


@given(st.integers(1024, 2**23), st.integers(8, 256), nodes, st.sampled_from(("hp", "lop", "lstp")))
def test_every_size_in_the_table_is_plausible(size_bytes, word_bits, node, device):
    """Between rows too, energies, leakage and area lie within a factor of the smallest and largest rows, of which some
    of 1 KiB are lacking: half of those of 2 KiB."""
    rows = [row for row in contents() if (int(row["node_nm"]), row["device"]) == (node, device)]
    given = sram(size_bytes, word_bits, node, device)
    for name in QUANTITIES:
        values = [float(row[name]) for row in rows]
        assert min(values) / 2.5 < getattr(given, name) < max(values) * 2, name


@given(st.integers(1, 4096), nodes, st.sampled_from(("hp", "lop", "lstp")))
def test_outside_the_table_larger_costs_more(factor, node, device):
    """Beyond the table the power law goes on: a larger memory leaks more and takes more area, and nothing is NaN."""
    big, bigger = (sram(2**23 * f, 64, node, device) for f in (factor + 1, factor + 2))
    assert bigger.leak_mw > big.leak_mw > 0
    assert bigger.area_mm2 > big.area_mm2 > 0
    assert np.isfinite([big.read_pj, big.write_pj]).all()
    tiny = sram(64, 8, node, device)
    assert min(tiny.read_pj, tiny.write_pj, tiny.leak_mw, tiny.area_mm2) > 0


@pytest.mark.parametrize("arguments", [(0, 8, 45), (1024, 0, 45), (-5, 8, 45), (1024, 8, 44), (1024, 8, 45, "fast")])
def test_srams_that_the_tables_lack(arguments):
    """Unknown nodes and types, and sizes that are not positive, are user errors that name what there is."""
    with pytest.raises(ConfigError, match="45 lop"):
        fahw.sram(*arguments)


@pytest.mark.parametrize(
    ("a", "b", "accumulator", "pj"), [(8, 8, 32, 0.30), (8, 16, 32, 0.50), (16, 16, 48, 0.95), (1, 8, 32, 0.10)]
)
def test_energies_of_multiply_accumulate(a, b, accumulator, pj):
    """The energies of research/energy.md at 45 nm, rounded to 0.01 pJ as there; order of operands does not matter."""
    assert ops.mac_pj(a, b, accumulator, 45).value == pytest.approx(pj, abs=0.005)
    assert ops.mac_pj(b, a, accumulator, 45).value == ops.mac_pj(a, b, accumulator, 45).value


def test_horowitz():
    """The 45 nm numbers of Horowitz (ISSCC 2014): 8- and 32-bit adds, 8-bit and float products."""
    assert ops.add_pj(32, 45).value == pytest.approx(0.1)
    assert ops.add_pj(8, 45).value == pytest.approx(0.03, abs=0.006)
    assert ops.multiply_pj(8, 8, 45).value == pytest.approx(0.2)
    assert ops.multiply_pj(32, 32, 45).value == pytest.approx(3.1, rel=0.05)
    assert ops.add_pj(32, 45, FLOATS["fp32"]).value == 0.9
    assert ops.multiply_pj(32, 32, 45, FLOATS["fp32"]).value == 3.7


@pytest.mark.parametrize("form", [None, "fp32", "fp16", "bf16"])
def test_a_product_with_a_sign_is_no_product(form):
    """By +1 or -1 bits are inverted, 0.57 fJ each: of an integer all, and no more of a float."""
    float_form = FLOATS[form] if form else None
    for bits in ((16, 1), (1, 16)):
        assert ops.multiply_pj(*bits, 45, float_form).value == pytest.approx(16 * 0.00057)


@given(widths, widths, widths, nodes)
def test_operations_do_not_get_cheaper_with_more_bits(a, b, accumulator, node):
    """One more bit of either operand, of the accumulator, register, comparison, shift or table never costs less."""
    mac = ops.mac_pj(a, b, accumulator, node).value
    assert mac > 0
    assert ops.mac_pj(a + 1, b, accumulator, node).value >= mac
    assert ops.mac_pj(a, b + 1, accumulator, node).value >= mac
    assert ops.mac_pj(a, b, accumulator + 1, node).value > mac
    for price in (ops.add_pj, ops.register_pj, ops.bitwise_pj, ops.compare_pj, ops.shift_pj, ops.table_pj):
        assert price(a + 1, node).value > price(a, node).value > 0


@given(widths, widths, widths)
def test_smaller_nodes_cost_less(a, b, accumulator):
    """Energy of logic falls from 180 to 20 nm, and from 16 to 7 nm; the two models do not meet."""
    large, small = scaling.NODES[:8], scaling.NODES[8:]
    for part in (large, small):
        energies = [ops.mac_pj(a, b, accumulator, node).value for node in part]
        assert energies == sorted(energies, reverse=True)


def test_every_constant_says_its_source_and_uncertainty():
    """No number without a source, and its factor is at least one."""
    constants = [
        price(8, node) for node in NODES for price in (ops.add_pj, ops.register_pj, ops.compare_pj, ops.shift_pj)
    ]
    constants += [
        ops.mac_pj(8, 8, 32, 22),
        ops.multiply_pj(1, 8, 65),
        ops.table_pj(8, 45),
        wires.wire_pj_per_bit_mm(32, "hp"),
    ]
    for constant in constants:
        assert constant.source
        assert constant.kind in ("logic", "wire")
        assert constant.factor >= 1
    assert "Stillmaker" in ops.add_pj(8, 22).source
    assert "Stillmaker" not in ops.add_pj(8, 45).source


def test_nothing_costs_nothing():
    """Zero bits take zero energy in every operation."""
    for price in (ops.add_pj, ops.register_pj, ops.bitwise_pj, ops.compare_pj, ops.shift_pj, ops.table_pj):
        assert price(0, 45).value == 0
    assert ops.multiply_pj(0, 8, 45).value == ops.multiply_pj(8, 0, 45).value == ops.mac_pj(0, 8, 0, 45).value == 0
    assert storage.register_file_pj(0, 16, 45).value == 0
    assert random_bits.stochastic_rounding_pj(0, 0, 45).value == 0


def lane_price(action, bits, node):
    return ops.LANE_PRICES[action]((bits, bits), node, None)


@given(widths, nodes)
def test_composed_operations_do_not_get_cheaper_with_more_bits(bits, node):
    """What the lanes do, rounding, register files: one more bit never costs less."""
    prices = [partial(lane_price, action) for action in ops.LANE_PRICES]
    prices += [lambda b, n: storage.register_file_pj(b, 32, n), lambda b, n: storage.register_file_pj(8, b, n)]
    prices += [lambda b, n: random_bits.stochastic_rounding_pj(b, 8, n)]
    prices += [lambda b, n: random_bits.stochastic_rounding_pj(8, b, n)]
    for price in prices:
        assert price(bits + 1, node).value >= price(bits, node).value > 0


def test_random_bits():
    """A 32-bit LFSR: 0.29 pJ per bit one step at a time, 0.011 leaping 32 bits; rounding with 8 bits 0.1 to 0.4 pJ."""
    assert random_bits.lfsr_pj_per_bit(32, 1, 45).value == pytest.approx(0.29)
    assert random_bits.lfsr_pj_per_bit(32, 32, 45).value == pytest.approx(0.011)
    assert 0.1 <= random_bits.stochastic_rounding_pj(8, 8, 45).value <= 0.4
    with pytest.raises(ConfigError, match="leaps 1 to 8"):
        random_bits.lfsr_pj_per_bit(8, 9, 45)


@given(st.integers(1, 2000), st.data())
def test_an_lfsr_that_leaps_further_costs_less_per_bit(register, data):
    """Per fresh bit, longer registers cost more and longer leaps less."""
    bits = data.draw(st.integers(1, register))
    here = random_bits.lfsr_pj_per_bit(register, bits, 45).value
    assert random_bits.lfsr_pj_per_bit(register + 1, bits, 45).value > here
    assert bits == 1 or random_bits.lfsr_pj_per_bit(register, bits - 1, 45).value > here


def test_register_files_of_the_tables():
    """Accelergy's Aladdin register files of 64 and 128 x 16 bits; a single register is 9 fJ per bit."""
    assert storage.register_file_pj(16, 64, 45).value == pytest.approx(0.35718)
    assert storage.register_file_pj(16, 128, 45).value == pytest.approx(0.82142)
    assert storage.register_file_pj(16, 1, 45).value == pytest.approx(ops.register_pj(16, 45).value)


def test_wires():
    """A transported bit toggles a repeated CACTI wire every other cycle: 0.07 pJ/mm at 45 nm, low operating power."""
    assert wires.wire_pj_per_bit_mm(45, "lop").value == pytest.approx(0.07)


@given(st.integers(1, 100_000))
def test_index_bits_name_every_choice(choices):
    """The bits of a pooling index suffice for all choices, and one fewer would not; a bit at least."""
    bits = ops.index_bits(choices)
    assert 2**bits >= choices
    assert bits == 1 or 2 ** (bits - 1) < choices
