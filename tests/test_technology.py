"""Energies, leakage and areas: the CACTI table exactly, its interpolation, and the published operation energies."""

import csv
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.errors import ConfigError
from fahw.technology import operations as ops
from fahw.technology import sram as sram_module
from fahw.technology.sram import sram
from tests.strategies import REFERENCE, ROOT

TABLE = ROOT / "fahw" / "data" / "cacti7_sram.csv"
QUANTITIES = ("read_pj", "write_pj", "leak_mw", "area_mm2")
NODES = (65, 45, 32, 22)
widths = st.integers(1, 48)
nodes = st.sampled_from(NODES)


def table():
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")], list(csv.DictReader(x for x in lines if x[0] != "#"))


def key(row):
    return int(row["size_bytes"]), int(row["word_bits"]), int(row["node_nm"]), row["device"]


def test_every_row_of_the_table_is_given_back_exactly():
    """On a point of the CACTI table the result is CACTI's number to the last bit."""
    rows = table()[1]
    assert len(rows) == 672
    for row in rows:
        given = sram(*key(row))
        assert [getattr(given, name) for name in QUANTITIES] == [float(row[name]) for name in QUANTITIES], row


def test_shipped_table_is_the_reference_table():
    """The table in the package is the one that CACTI gave."""
    path = REFERENCE / "cacti7_sram.csv"
    if not path.exists():
        pytest.skip("no reference folder beside this checkout")
    with path.open(newline="") as file:
        reference = {
            (*(int(row[name]) for name in ("size_bytes", "word_bits", "node_nm")), row["cell_type"].split("-")[1]): [
                float(row[name]) for name in QUANTITIES
            ]
            for row in csv.DictReader(file)
        }
    assert {key(row): [float(row[name]) for name in QUANTITIES] for row in table()[1]} == reference


@pytest.fixture
def on_rows(tmp_path, monkeypatch):
    """A function that makes `sram` know only the given rows of the table."""
    comments, rows = table()

    def use(chosen):
        (tmp_path / "data").mkdir(exist_ok=True)
        lines = [*comments, ",".join(rows[0]), *(",".join(row.values()) for row in chosen)]
        (tmp_path / "data" / TABLE.name).write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(sram_module, "files", lambda package: tmp_path)
        sram_module._tables.cache_clear()
        sram.cache_clear()

    yield use
    monkeypatch.undo()
    sram_module._tables.cache_clear()
    sram.cache_clear()


@pytest.mark.parametrize("seed", range(3))
def test_rows_left_out_are_interpolated(on_rows, seed):
    """With a third of the rows left out, the others predict them: median 10 %, 95th percentile 45 %, at most 150 %."""
    rows = table()[1]
    part = np.random.default_rng(seed).permutation(len(rows)) % 3
    errors = {name: [] for name in QUANTITIES}
    for left_out in range(3):
        on_rows([row for row, number in zip(rows, part, strict=True) if number != left_out])
        for row in (row for row, number in zip(rows, part, strict=True) if number == left_out):
            predicted = sram(*key(row))
            for name in QUANTITIES:
                errors[name].append(abs(getattr(predicted, name) / float(row[name]) - 1))
    for name, found in errors.items():
        assert median(found) <= 0.10, name
        assert np.percentile(found, 95) <= 0.45, name
        assert max(found) <= 1.50, name


@given(st.integers(1024, 2**23), st.integers(8, 256), nodes, st.sampled_from(("hp", "lop", "lstp")))
def test_every_size_in_the_table_is_plausible(size_bytes, word_bits, node, device):
    """Between rows too, energies, leakage and area lie within a factor of the smallest and largest rows."""
    rows = [row for row in table()[1] if (int(row["node_nm"]), row["device"]) == (node, device)]
    given = sram(size_bytes, word_bits, node, device)
    for name in QUANTITIES:
        values = [float(row[name]) for row in rows]
        assert min(values) / 2 < getattr(given, name) < max(values) * 2, name


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
    assert ops.add_pj(32, 45, is_float=True).value == 0.9
    assert ops.multiply_pj(32, 32, 45, is_float=True).value == 3.7


@given(widths, widths, widths, nodes)
def test_operations_do_not_get_cheaper_with_more_bits(a, b, accumulator, node):
    """One more bit of either operand, of the accumulator, register, comparison, shift or table never costs less."""
    mac = ops.mac_pj(a, b, accumulator, node).value
    assert mac > 0
    assert ops.mac_pj(a + 1, b, accumulator, node).value >= mac
    assert ops.mac_pj(a, b + 1, accumulator, node).value >= mac
    assert ops.mac_pj(a, b, accumulator + 1, node).value > mac
    for price in (ops.add_pj, ops.register_pj, ops.compare_pj, ops.shift_pj, ops.table_pj):
        assert ops.add_pj(a + 1, node).value > ops.add_pj(a, node).value > 0
        assert price(a + 1, node).value > price(a, node).value > 0
    assert ops.pe_area_mm2(a + 1, b, accumulator, node) > ops.pe_area_mm2(a, b, accumulator, node) > 0
    assert ops.pe_leak_mw(a + 1, b, accumulator) > ops.pe_leak_mw(a, b, accumulator) > 0


@given(widths, widths, widths)
def test_smaller_nodes_cost_less(a, b, accumulator):
    """Energy and area of logic fall from 65 to 22 nm."""
    energies = [ops.mac_pj(a, b, accumulator, node).value for node in NODES]
    areas = [ops.pe_area_mm2(a, b, accumulator, node) for node in NODES]
    assert energies == sorted(energies, reverse=True)
    assert areas == sorted(areas, reverse=True)


def test_every_constant_says_its_source_and_uncertainty():
    """No number without a source, and its factor is at least one."""
    constants = [
        price(8, node) for node in NODES for price in (ops.add_pj, ops.register_pj, ops.compare_pj, ops.shift_pj)
    ]
    constants += [
        ops.mac_pj(8, 8, 32, 22),
        ops.multiply_pj(1, 8, 65),
        ops.table_pj(8, 45),
        ops.wire_pj_per_bit_mm(32, "hp"),
    ]
    for constant in constants:
        assert constant.source
        assert constant.kind in ("logic", "wire")
        assert constant.factor >= 1
    assert "Stillmaker" in ops.add_pj(8, 22).source
    assert "Stillmaker" not in ops.add_pj(8, 45).source


def test_wires():
    """A transported bit toggles a repeated CACTI wire every other cycle: 0.07 pJ/mm at 45 nm, low operating power."""
    assert ops.wire_pj_per_bit_mm(45, "lop").value == pytest.approx(0.07)


@given(st.integers(1, 100_000))
def test_index_bits_name_every_choice(choices):
    """The bits of a pooling index suffice for all choices, and one fewer would not; a bit at least."""
    bits = ops.index_bits(choices)
    assert 2**bits >= choices
    assert bits == 1 or 2 ** (bits - 1) < choices
