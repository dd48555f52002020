"""Kinds of memories: what each can hold and what it costs, by hand; none without a law of its own."""

import re
from dataclasses import replace
from math import ceil
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw.chip import price_list
from fahw.chip.area import area_mm2
from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.hardware.memories.catalogue import CONSTANT_KINDS, MEMORY_KINDS
from fahw.hardware.memories.rom import AREA_SHARE, LEAK_SHARE, READ_SHARE, Rom
from fahw.hardware.memories.sram import Sram
from fahw.hardware.memory import Memory, TransposedAccess
from fahw.hardware.process import Technology
from fahw.study.costs.verdict import saving
from fahw.technology.sram import sram
from tests.support.strategies import CHIP, ROOT, chip_of, marked, network_of, swap

AT_45 = Technology(node_nm=45)
SIZED = {
    "name": "m", "holds": ("feedback",), "size_kib": 64, "bank_kib": 16, "width_bits": 32, "read_bits_per_cycle": 32,
}  # fmt: skip
OWN = {"prng": {"pj_per_bit": 0.5, "area_mm2": 0.01, "size_kib": None, "bank_kib": None}}


def memory_of(kind, **changes):
    return kind.model_validate(SIZED | {"kind": name_of(kind)} | OWN.get(name_of(kind), {}) | changes)


def name_of(kind):
    return get_args(kind.model_fields["kind"].annotation)[0]


@pytest.mark.parametrize("kind", MEMORY_KINDS, ids=name_of)
def test_every_kind_answers_for_its_prices(kind):
    """A positive energy for its reads and a non-negative one for its writes, with a source; leakage, area; kinds of
    constants that ranges know."""
    memory = memory_of(kind)
    read, write = memory.access_energy(AT_45, "read"), memory.access_energy(AT_45, "write")
    leak = memory.leakage(AT_45)
    assert read.value > 0 <= write.value
    assert memory.area(AT_45, 64) > 0 <= leak.value
    assert {read.kind, write.kind, leak.kind, kind.constant_kind} <= set(CONSTANT_KINDS)
    assert all(constant.source and constant.factor >= 1 for constant in (read, write, leak))


@pytest.mark.parametrize("kind", [kind for kind in MEMORY_KINDS if kind is not Sram], ids=name_of)
def test_the_kind_of_a_memory_with_cells_of_its_own_can_be_changed(kind):
    """`cells` are an SRAM's: a ROM or MRAM in its place costs what it costs without them."""
    plain, mixed = memory_of(kind), memory_of(kind, cells="lstp")
    for action in ("read", "write"):
        assert plain.access_energy(AT_45, action) == mixed.access_energy(AT_45, action)
    assert plain.leakage(AT_45) == mixed.leakage(AT_45)
    assert plain.area(AT_45, 64) == mixed.area(AT_45, 64)


@pytest.mark.parametrize("kind", MEMORY_KINDS, ids=name_of)
def test_the_listed_parts_are_those_of_the_kinds(kind):
    """`fahw list technology` shows what every kind says of itself."""
    assert set(kind.listed(45)) <= set(price_list.entries(45))


def test_the_table_of_the_model_page_has_every_kind():
    """docs/model.md has a row for every kind, in the order of the catalogue."""
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    table = page.partition("| kind | what it is | access |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [name_of(kind) for kind in MEMORY_KINDS]


def test_a_kind_without_a_law_cannot_be_made():
    """Where a kind says nothing of its energy, leakage or area, nothing takes an SRAM's in their place."""

    class Lawless(Memory):
        kind: Literal["lawless"]

    with pytest.raises(TypeError, match="abstract"):
        Lawless.model_validate(SIZED | {"kind": "lawless"})


@given(st.integers(64, 2**20), st.sampled_from((8, 16, 64)), st.sampled_from(("hp", "lop", "lstp")))
def test_a_rom_is_smaller_than_an_sram(size_bytes, width_bits, device):
    """A ROM reads, leaks and measures less than the SRAM of its size: by the shares that its module states."""
    sizes = {"size_kib": size_bytes / 1024, "bank_kib": size_bytes / 1024, "width_bits": width_bits, "device": device}
    bank, mask = memory_of(Sram, **sizes), memory_of(Rom, **sizes)
    for share, value, other in (
        (READ_SHARE, mask.access_energy(AT_45, "read").value, bank.access_energy(AT_45, "read").value),
        (LEAK_SHARE, mask.leakage(AT_45).value, bank.leakage(AT_45).value),
        (AREA_SHARE, mask.area(AT_45, sizes["size_kib"]), bank.area(AT_45, sizes["size_kib"])),
    ):
        assert value == pytest.approx(share * other)
        assert 0 < share < 1


@pytest.mark.parametrize("used", [0, 1, 16, 17, 64])
def test_banks_that_hold_nothing_do_not_leak(used):
    """A gated memory of four banks leaks by the banks that hold something; another leaks whole."""
    whole, gated = memory_of(Sram), memory_of(Sram, power_gated=True)
    per_bank = sram(16 * 1024, 32, 45).leak_mw
    assert whole.leakage(AT_45, used).value == pytest.approx(4 * per_bank)
    assert gated.leakage(AT_45, used).value == pytest.approx(ceil(used / 16) * per_bank)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("holds: [feedback]", "holds: [feedback]\n    kind: @@sarm", "must be one of .*rom.* 'sram'"),
        ("holds: [feedback]", "holds: [feedback]\n    @@pj_per_bit: 1", "unknown key 'pj_per_bit'"),
        ("holds: [feedback]", "holds: [feedback]\n    kind: prng", "missing key"),
        ("holds: [feedback]", "holds: [feedback]\n    kind: rom\n    @@pj_per_bit: 1", "unknown key 'pj_per_bit'"),
    ],
)
def test_keys_are_those_of_the_kind(old, new, message, tmp_path):
    """A kind that there is not, and keys of another kind, are refused at their place."""
    text, places = marked(swap(CHIP, old, new))
    (tmp_path / "chip.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_chip(tmp_path / "chip.yaml")
    assert set(places) <= {problem.place.split(":", 1)[1] for problem in caught.value.problems}


def message_at(tmp_path, keys):
    """The one problem of a chip whose first SRAM has these keys, and whether its place is the mark in them."""
    text, places = marked(swap(CHIP, "holds: [feedback]", f"holds: [feedback]\n    {keys}"))
    (tmp_path / "chip.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_chip(tmp_path / "chip.yaml")
    (problem,) = caught.value.problems
    assert problem.place.split(":", 1)[1] in places
    return problem.message


@pytest.mark.parametrize("keys", ["@@leakage_device: lstp", "device: hp\n    @@leakage_device: lop"])
def test_the_leakage_of_another_device_is_refused(keys, tmp_path):
    """`leakage_device` took the leakage of a whole bank of another type: the message says what to write instead."""
    assert "`cells: lstp` beside `device: lop`" in message_at(tmp_path, keys)


@pytest.mark.parametrize("keys", ["cells: @@hp", "device: lstp\n    cells: @@lop", "cells: @@lop\n    device: hp"])
def test_mixtures_that_no_table_has(keys, tmp_path):
    """The place is that of the cells, and the message names the mixtures that there are."""
    assert "lstp cells in lop or hp" in message_at(tmp_path, keys)


@pytest.mark.parametrize(("device", "node"), [("lop", 45), ("hp", 22), ("lop", 65)])
def test_a_mixture_is_a_device_of_its_own(device, node):
    """Energies, leakage and area of an SRAM are all those of its cells in its periphery."""
    memory, process = memory_of(Sram, cells="lstp", device=device), Technology(node_nm=node)
    bank = sram(16 * 1024, 32, node, device, cells="lstp")
    assert memory.access_energy(process, "read").value == bank.read_pj
    assert memory.access_energy(process, "write").value == bank.write_pj
    assert memory.leakage(process).value == 4 * bank.leak_mw
    assert memory.area(process, 64) == 4 * bank.area_mm2
    assert "mixed" in memory.leakage(process).source


def test_a_memory_without_a_kind_is_an_sram(tmp_path):
    """`kind` may be left out, also where other keys have mistakes."""
    assert all(isinstance(memory, Sram) for memory in chip_of(tmp_path).memories)
    (tmp_path / "wrong.yaml").write_text(swap(CHIP, "holds: [feedback]", "holds: [feedback]\n    sise_kib: 1"))
    with pytest.raises(ConfigError, match="did you mean 'size_kib'") as caught:
        load_chip(tmp_path / "wrong.yaml")
    assert "pj_per_bit" not in str(caught.value)


def test_a_constant_of_no_known_kind_does_not_drop_out_of_a_range():
    """A saving whose rows have a kind of constant that no range has is refused, not computed without them."""
    rows = simulate("edge_dual", "mlp_digits", "fa", 8).ledger
    odd = [replace(rows[0], price=replace(rows[0].price, kind="odd")), *rows[1:]]
    with pytest.raises(ValueError, match="odd"):
        saving(odd, rows)


ROM = """
  - name: fixed
    kind: rom
    holds: [feedback]
    size_kib: fit
    bank_kib: 0.015625
    width_bits: 32
    read_bits_per_cycle: 32
    assumed: a test
"""
SENT = (12 * 5 + 5 * 4) * 8
"""Bits of B on the small network: layers of 12 x 5 and 5 x 4 send an error, 8 bits a weight; a bank holds 128."""


def chip_with_rom(tmp_path, keys=""):
    wired = swap(CHIP, "links:", f"{ROM[1:]}{keys}links:").replace("copies, buffer]", "copies, fixed, buffer]")
    return chip_of(tmp_path, wired)


@pytest.mark.parametrize("keys", ["", "    power_gated: true\n"])
def test_a_rom_has_as_many_banks_as_it_holds(keys, tmp_path):
    """Its banks are counted, placed and measured, and none of them is taken for empty."""
    cost = simulate(chip_with_rom(tmp_path, keys), network_of(tmp_path), "fa", 3)
    rom = cost.work.chip.memory("fixed")
    assert rom.kib * 8192 == ceil(SENT / 128) * 128
    (placed,) = [placement for placement in cost.placements if placement.memory == "fixed"]
    assert (placed.tensor, placed.bits, placed.spilled_bits) == ("feedback", SENT, 0)
    (row,) = [row for row in cost.ledger if (row.component, row.action) == ("fixed", "static")]
    bank = sram(16, 32, 45)
    assert row.unit_pj == pytest.approx(5 * LEAK_SHARE * bank.leak_mw * 1e3 / 100)
    others = simulate(chip_with_rom(tmp_path, keys), network_of(tmp_path), "bp", 3)
    assert not [placement for placement in others.placements if placement.memory == "fixed"]


def test_area_in_use_counts_a_roms_banks(tmp_path):
    """What a ROM holds counts as for any other memory: five banks of those that fa fills."""
    cost = simulate(chip_with_rom(tmp_path), network_of(tmp_path), "fa", 3)
    bank_mm2 = AREA_SHARE * sram(16, 32, 45).area_mm2
    without = [placement for placement in cost.placements if placement.memory != "fixed"]
    built = cost.work.chip
    assert area_mm2(built, False, cost.placements) - area_mm2(built, False, without) == pytest.approx(5 * bank_mm2)


@pytest.mark.parametrize(("used", "banks"), [(0, 0), (1, 1), (16, 1), (17, 2), (64, 4)])
def test_given_areas_are_of_whole_banks_too(used, banks):
    """A memory of four banks whose numbers the file gives."""
    energy = {"read_pj": 1.0, "write_pj": 1.0, "leak_mw": 1.0, "area_mm2": 2.0}
    assert memory_of(Sram, energy=energy).area(AT_45, used) == 2.0 * banks / 4


@pytest.mark.parametrize(
    ("device", "node", "size", "bits", "read", "write", "area", "leak"),
    [
        ("lop", 45, 64, 64, 1.00, 0.64, 0.20, 0.32),
    ],
)
def test_transposed_access_of_a_bank(device, node, size, bits, read, write, area, leak):
    """CACTI 7: as many banks of 8 bits as a word has bytes, in place of one bank."""
    memory = memory_of(Sram, size_kib=4 * size, bank_kib=size, width_bits=bits, device=device)
    found = TransposedAccess().of(memory, Technology(node_nm=node))
    assert tuple(found) == pytest.approx((read, write, area, leak), abs=0.005)
    given = TransposedAccess(read_overhead=0.5, leak_overhead=0.0).of(memory, Technology(node_nm=node))
    assert given == (0.5, found.write, found.area, 0.0)


@pytest.mark.parametrize("kind", [kind for kind in MEMORY_KINDS if kind.needs_bank], ids=name_of)
def test_a_transposable_memory_takes_no_less_than_an_ordinary_one(kind):
    """Of every size; a memory whose words are a byte takes as much."""
    for size, bits in ((1, 8), (1, 64), (64, 12), (256, 128), (4096, 256)):
        found = memory_of(kind, size_kib=size, bank_kib=size, width_bits=bits).transposed(AT_45)
        assert min(found) >= 0
        assert bits > 8 or max(found) == 0
