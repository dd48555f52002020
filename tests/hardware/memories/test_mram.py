"""Embedded MRAM on a chip, by hand from the table of its module and the SRAM table."""

from math import ceil, sqrt

import pytest

from fahw.chip.area import areas_mm2
from fahw.chip.cost import simulate
from fahw.study.costs.verdict import saving
from fahw.technology.sram import sram
from tests.support.strategies import CHIP, chip_of, network_of, swap

COPIES = "  - name: copies\n    holds: [feedback]"
BANK = sram(16 * 1024, 32, 45)


def chip_with(tmp_path, keys=""):
    """The tiny chip with an MRAM for the feedback weights."""
    return chip_of(tmp_path, swap(CHIP, COPIES, f"{COPIES}\n    kind: mram{keys}"))


def row(cost, action):
    return next(r for r in cost.ledger if (r.component, r.action) == ("copies", action))


def test_energies_leakage_and_area(tmp_path):
    """Words of 32 bits: a read is 1.64 of the SRAM's, a write as much and 32 cells at the mean of 0.6 and 4.5 pJ; wires
    to four banks."""
    chip, network = chip_with(tmp_path).model_copy(update={"mapping": "fixed"}), network_of(tmp_path)
    cost = simulate(chip, network, "bp", 3)
    read = BANK.read_pj * sqrt(7.19 * 7.91) / 4.606 + chip.memory("copies").wires(chip.technology).value
    assert row(cost, "read").unit_pj == pytest.approx(read)
    assert row(cost, "write").unit_pj == pytest.approx(read + 32 * sqrt(0.6 * 4.5))
    assert row(cost, "write").price.factor > 4.5 / sqrt(0.6 * 4.5)
    leak_mw = 4 * BANK.leak_mw * sqrt(42.51 * 23.298) / 66.9
    assert row(cost, "static").unit_pj == pytest.approx(leak_mw * 1e3 / 100)
    area = 4 * BANK.area_mm2 * sqrt(0.28878 * 0.78941) / 1.387
    assert areas_mm2(chip, transposable=False)["copies"] == pytest.approx(area)


@pytest.mark.parametrize("device", ["hp", "lop", "lstp"])
def test_the_periphery_alone_leaks(device, tmp_path):
    """0.47 of what the SRAM of the same transistors leaks, whose cells leak too."""
    chip = chip_with(tmp_path, f"\n    device: {device}")
    leak = chip.memory("copies").leakage(chip.technology).value
    assert leak == pytest.approx(0.47 * 4 * sram(16 * 1024, 32, 45, device).leak_mw, rel=0.01)


@pytest.mark.parametrize(
    ("keys", "cycles_per_word"),
    [
        ("", 2),  # 20 ns at 100 MHz
        ("\n    write_pulse_ns: 20.1", 3),
        ("\n    write_pulse_ns: 65", 7),
        ("\n    write_pulse_ns: 65\n    words_at_once: 2", 3.5),
        ("\n    write_pulse_ns: 10", 1),
        ("\n    write_pulse_ns: 0", 1),  # what the port passes
        ("\n    write_pulse_ns: 10\n    words_at_once: 4", 1),
    ],
)
def test_a_write_keeps_the_port_busy_for_its_pulse(keys, cycles_per_word, tmp_path):
    """Transport writes the weights of two layers, 12 x 5 and 5 x 4 of 8 bits: 20 words of 32. Reads are as fast as
    ever."""
    network = network_of(tmp_path)
    cost, plain = simulate(chip_with(tmp_path, keys), network, "bp", 3), simulate(chip_of(tmp_path), network, "bp", 3)
    assert sum(r.count for r in cost.ledger if (r.component, r.action) == ("copies", "write")) == 20
    assert cost.timing.busy["copies.write"] == sum(ceil(words * cycles_per_word) for words in (15, 5))
    assert cost.timing.busy["copies.read"] == plain.timing.busy["copies.read"]
    assert cost.interval_cycles >= plain.interval_cycles


def test_long_writes_take_time(tmp_path):
    """Pulses of 1 us, which is 100 cycles: the port is the longer busy, and the step ends later."""
    network = network_of(tmp_path)
    slow = simulate(chip_with(tmp_path, "\n    write_pulse_ns: 1000"), network, "bp", 3)
    assert slow.cycles > simulate(chip_with(tmp_path), network, "bp", 3).cycles
    assert slow.timing.busy["copies.write"] == 20 * 100


def test_its_constants_move_apart_from_those_of_sram(tmp_path):
    """A chip with MRAM against the same with SRAM: the range holds the corner where the one kind alone moves."""
    network = network_of(tmp_path)
    mine, theirs = (simulate(chip, network, "bp", 3).ledger for chip in (chip_with(tmp_path), chip_of(tmp_path)))
    found = saving(mine, theirs)
    moved = sum(r.energy_pj * (r.price.factor if r.price.kind == "mram" else 1) for r in mine)
    assert {r.price.kind for r in mine} - {r.price.kind for r in theirs} == {"mram"}
    assert found.low <= 1 - moved / sum(r.energy_pj for r in theirs) < found.value
