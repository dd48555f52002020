"""DRAM types, and what a stream of bytes costs in row activations and useless bytes."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.hardware.dram import Dram
from fahw.technology.dram import DRAM_KINDS, LAYOUTS, activations, dram_type
from tests.support.strategies import REFERENCE

kinds = st.sampled_from(DRAM_KINDS)
REFERENCE_NAMES = {
    "ddr3_1600": "DDR3-1600 4Gb x8 (64-bit channel)", "ddr4_2400": "DDR4-2400 8Gb x8 (64-bit channel)",
    "ddr4_3200": "DDR4-3200 8Gb x8 (64-bit channel)", "lpddr3": "LPDDR3-1600 8Gb x32", "lpddr4": "LPDDR4-3200 6Gb x16",
    "hbm1": "HBM1 4Gb", "hbm2": "HBM2 8Gb",
}  # fmt: skip


@pytest.mark.parametrize("kind", REFERENCE_NAMES)
def test_shipped_types_are_the_reference(kind):
    """Core energies, rows, bursts, power, latency and bandwidth as derived from datasheets and specifications."""
    path = REFERENCE / "dram_energy.csv"
    if not path.exists():
        pytest.skip("no reference folder beside this checkout")
    with path.open(newline="") as file:
        row = next(r for r in csv.DictReader(file) if r["device"] == REFERENCE_NAMES[kind])
    dram = dram_type(kind)
    for mine, column in [
        (dram.core_read_pj_per_bit, "read_pj_per_bit"), (dram.core_write_pj_per_bit, "write_pj_per_bit"),
        (dram.activate_pj / 1e3, "activate_precharge_nj_per_row"), (dram.row_bytes, "row_bytes"),
        (dram.active_standby_mw, "active_standby_mw"), (dram.gbyte_per_s, "peak_gb_per_s"),
        (dram.burst_bytes, "burst_bytes"), (dram.row_hit_ns, "row_hit_ns"), (dram.row_miss_ns, "row_miss_ns"),
    ]:  # fmt: skip
        assert mine == pytest.approx(float(row[column].split("/")[0])), column


def test_lpddr4_with_its_interface():
    """8.5 pJ a bit read, 5.0 written; 5.5 mW in power-down."""
    dram = dram_type("lpddr4")
    assert (dram.read_pj_per_bit, dram.write_pj_per_bit, dram.powerdown_mw) == (8.5, 5.0, 5.5)
    assert dram.streaming("write").value == 5.0
    assert dram.activation().value == 1200


@pytest.mark.parametrize("kind", DRAM_KINDS)
def test_every_type_says_where_it_is_from(kind):
    """A source, what is assumed, an uncertainty, and numbers that can be."""
    dram = dram_type(kind)
    assert dram.source
    assert dram.assumed
    assert dram.uncertainty > 1
    assert 0 < dram.row_hit_ns < dram.row_miss_ns
    assert dram.row_bytes % dram.burst_bytes == 0


def test_a_type_that_is_not_known():
    """Another kind is an input error with a suggestion."""
    with pytest.raises(ConfigError, match="did you mean 'ddr4_2400'"):
        dram_type("ddr4_240")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((4096, 4096), (2, 128, 0)),  # one run of two LPDDR4 rows of 2 KiB, bursts of 32 bytes
        ((0, 10), (0, 0, 0)),
        ((1, 1), (1, 1, 31)),
        ((100, 10), (10, 10, 220)),  # ten runs, each in a row and a burst of its own
        ((105, 10), (11, 11, 247)),
        ((100, 10, "tiled"), (1, 4, 28)),
        ((100, 10, "row_major", 512), (3, 10, 220)),  # four runs start in each row of 2 KiB
        ((100, 10, "row_major", 3000), (10, 10, 220)),
        ((6000, 3000), (4, 188, 16)),  # runs longer than a row
    ],
)
def test_activations_worked_out_by_hand(arguments, expected):
    """Rows, bursts and useless bytes on LPDDR4."""
    found = activations(dram_type("lpddr4"), *arguments)
    assert (found.rows, found.bursts, found.useless_bytes) == expected


@given(kinds, st.integers(0, 10**6), st.integers(1, 10**5), st.sampled_from(LAYOUTS), st.integers(0, 10**5))
def test_what_is_moved_holds_what_was_asked_for(kind, total, run, layout, gap):
    """Bursts and rows hold all bytes; what is useless is the difference; never cheaper than one stream."""
    dram = dram_type(kind)
    found = activations(dram, total, run, layout, run + gap)
    assert found.bursts * dram.burst_bytes - found.useless_bytes == total
    assert found.useless_bytes >= 0
    assert found.rows * dram.row_bytes >= total
    stream = activations(dram, total, run, "tiled")
    assert found.bursts >= stream.bursts == -(-total // dram.burst_bytes)
    assert found.rows >= stream.rows == -(-total // dram.row_bytes)
    assert activations(dram, total, run, layout).rows >= found.rows


@given(kinds, st.integers(1, 10**6), st.integers(1, 10**4))
def test_a_longer_stream_never_opens_fewer_rows(kind, total, run):
    """One more byte costs no fewer rows and bursts."""
    dram = dram_type(kind)
    here, more = activations(dram, total, run), activations(dram, total + 1, run)
    assert more.rows >= here.rows
    assert more.bursts >= here.bursts


@pytest.mark.parametrize("arguments", [(-1, 1), (1, 0), (1, 8, "row_major", 4), (1, 1, "diagonal")])
def test_streams_that_cannot_be(arguments):
    """Negative bytes, empty runs, overlapping runs and unknown layouts are input errors."""
    with pytest.raises(ConfigError):
        activations(dram_type("lpddr4"), *arguments)


def static_mw(**keys):
    dram = Dram.model_validate({"gbyte_per_s": 6.4} | keys)
    return tuple(dram.constant(action).value for action in ("background", "powerdown"))


@pytest.mark.parametrize(
    ("keys", "mw"),
    [
        ({}, (37 + 8.1, 5.5 + 8.1)),  # LPDDR4 refreshes, in power-down too
        ({"refresh_mw": 0}, (37, 5.5)),
        ({"background_mw": 40}, (40, 40)),  # given outright: all of it
        ({"background_mw": 40, "powerdown_mw": 5, "refresh_mw": 2}, (42, 7)),
        ({"powerdown_mw": 1.1, "refresh_mw": 0}, (37, 1.1)),  # self-refresh
        ({"gbyte_per_s": 12.8}, (2 * 45.1, 2 * 13.6)),
        ({"gbyte_per_s": 12.9}, (3 * 45.1, 3 * 13.6)),
        ({"kind": "hbm2", "gbyte_per_s": 300, "channels": 8}, (8 * 83.8, 8 * 51.4)),
        ({"kind": "hbm2", "gbyte_per_s": 32}, (83.8, 51.4)),
        ({"kind": "hbm1", "gbyte_per_s": 100}, (7 * 83.8, 7 * 51.4)),
    ],
)
def test_static_power_of_all_channels_with_refresh(keys, mw):
    """By hand from the table: each channel stands by and refreshes."""
    assert static_mw(**keys) == pytest.approx(mw)


CURRENTS = {
    "ddr3_1600": (1.35, 8, 235, 38, 18, 208 / 6240),
    "ddr4_2400": (1.2, 8, 250, 43, 25, 420 / 9364),
    "ddr4_3200": (1.2, 8, 250, 52, 25, 560 / 12480),
    "lpddr3": (1.2, 2, 150, 21, 1.3, 168 / 3120),
    "hbm1": (1.2, 1, 250, 55, 28, 130 / 1950),
    "hbm2": (1.2, 1, 250, 55, 28, 260 / 3900),
}
"""Volts, devices of a channel, mA in refresh (IDD5AB), active standby (IDD3N), power-down (IDD2P), share of the time in
refresh (tRFC / tREFI), as DRAMsim3 distributes them."""


@pytest.mark.parametrize("kind", CURRENTS)
def test_static_power_is_that_of_the_datasheets_currents(kind):
    """Three powers of one channel, each a current times the supply; refresh is what it takes beyond power-down."""
    volts, devices, refreshing, active, down, share = CURRENTS[kind]
    dram = dram_type(kind)
    assert dram.active_standby_mw == pytest.approx(active * volts * devices, rel=0.01)
    assert dram.powerdown_mw == pytest.approx(down * volts * devices, rel=0.005)
    assert dram.refresh_mw == pytest.approx((refreshing - down) * volts * devices * share, rel=0.005)


def test_lpddr4_refreshes_as_its_memory_specification_says():
    """DRAMSys, Micron 6 Gb LPDDR4-3200: two supplies, and the interface's; refresh 448 of 6,246 cycles."""
    refreshing, down = 10 * 1.8 + (90 + 0.75) * 1.1, 1.2 * 1.8 + 3 * 1.1
    assert dram_type("lpddr4").powerdown_mw == pytest.approx(down, rel=0.01)
    assert dram_type("lpddr4").refresh_mw == pytest.approx((refreshing - down) * 448 / 6246, rel=0.01)
