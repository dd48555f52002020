"""DRAM types with sourced values, and what a stream of bytes costs in row activations and useless bytes.

A burst is the least that a DRAM moves, a row what it opens at once. Data in the layout `tiled` lie in the order in
which they are fetched, so that n bytes are one stream: ceil(n / burst) bursts and ceil(n / row) activations. In the
layout `row_major` they are fetched in runs of contiguous bytes that start `pitch_bytes` apart: every run takes its own
ceil(run / burst) bursts, and as many runs share an activation as start within one row, max(1, row // pitch); a run
longer than a row takes ceil(run / row). Runs are taken to start at the start of a burst, and nothing else to close
their row.

LPDDR5, HBM2E and GDDR6 are left out: their published energies differ by up to a factor of six or name no source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fahw.errors import ConfigError, Problem, suggestion
from fahw.technology import tables
from fahw.technology.constant import Constant

LAYOUTS = ("row_major", "tiled")
DRAM_KINDS = ("ddr3_1600", "ddr4_2400", "ddr4_3200", "lpddr3", "lpddr4", "hbm1", "hbm2", "gddr5")


@dataclass(frozen=True)
class DramType:
    """One kind of DRAM. Streaming energies are those of open rows; `activate_pj` opens and closes one row."""

    kind: str
    title: str
    core_read_pj_per_bit: float
    core_write_pj_per_bit: float
    io_read_pj_per_bit: float
    io_write_pj_per_bit: float
    activate_pj: float
    row_bytes: int
    burst_bytes: int
    active_standby_mw: float
    powerdown_mw: float | None
    """None where no source gives it: take `active_standby_mw`."""
    refresh_mw: float
    """Mean power of the refresh commands, beside standby and power-down; 0 where no source gives it."""
    self_refresh_mw: float | None
    """Power where the device refreshes itself between bursts; None where no source gives it."""
    row_hit_ns: float
    row_miss_ns: float
    gbyte_per_s: float
    """Peak of one channel, in 10^9 bytes per second."""
    uncertainty: float
    source: str
    assumed: str

    @property
    def read_pj_per_bit(self) -> float:
        """Energy of reading a bit, core and interface together."""
        return self.core_read_pj_per_bit + self.io_read_pj_per_bit

    @property
    def write_pj_per_bit(self) -> float:
        """Energy of writing a bit, core and interface together."""
        return self.core_write_pj_per_bit + self.io_write_pj_per_bit

    def streaming(self, action: str) -> Constant:
        """Energy in pJ of one bit that is read (`read`) or written (`write`) in an open row."""
        value = self.read_pj_per_bit if action == "read" else self.write_pj_per_bit
        return Constant(value, self._source_text, "dram", self.uncertainty)

    def activation(self) -> Constant:
        """Energy in pJ of opening and closing one row."""
        return Constant(self.activate_pj, self._source_text, "dram", self.uncertainty)

    @property
    def _source_text(self) -> str:
        return f"{self.title}: {self.source}; assumed: {self.assumed}"


@dataclass(frozen=True)
class Activations:
    """The work of a stream: rows opened, bursts moved, and bytes in these bursts that nobody asked for."""

    rows: int
    bursts: int
    useless_bytes: int


def dram_type(kind: str) -> DramType:
    """The DRAM of this kind. Raises ConfigError with a suggestion where there is none."""
    types = _types()
    if kind not in types:
        message = f"no DRAM '{kind}'{suggestion(kind, types)}; known: {', '.join(types)}"
        raise ConfigError(Problem("dram", message))
    return types[kind]


def activations(
    dram: DramType, total_bytes: int, run_bytes: int, layout: str = "row_major", pitch_bytes: int | None = None
) -> Activations:
    """Activations and bursts of `total_bytes` that are fetched in runs of `run_bytes` contiguous bytes.

    `layout`: `row_major` or `tiled` (runs lie one after the other, in the order of the fetch). `pitch_bytes`: from the
    start of a run to the start of the next; None: each run lies in a row of its own. Raises ConfigError for a layout
    that is not known, negative bytes, runs without bytes and a pitch shorter than the run.
    """
    if layout not in LAYOUTS:
        raise ConfigError(Problem("layout", f"must be one of {', '.join(LAYOUTS)} (got '{layout}')"))
    if total_bytes < 0 or run_bytes < 1 or (pitch_bytes is not None and pitch_bytes < run_bytes):
        message = f"needs total_bytes >= 0, run_bytes >= 1, pitch_bytes >= run_bytes: got {total_bytes}, {run_bytes}, "
        raise ConfigError(Problem("activations", f"{message}{pitch_bytes}"))
    if layout == "tiled" or run_bytes >= total_bytes:
        rows, bursts = _ceil(total_bytes, dram.row_bytes), _ceil(total_bytes, dram.burst_bytes)
    else:
        full_runs, remainder = divmod(total_bytes, run_bytes)
        bursts = full_runs * _ceil(run_bytes, dram.burst_bytes) + _ceil(remainder, dram.burst_bytes)
        runs_per_row = max(1, dram.row_bytes // pitch_bytes) if pitch_bytes else 1
        if runs_per_row > 1:
            rows = _ceil(full_runs + (remainder > 0), runs_per_row)
        else:
            rows = full_runs * _ceil(run_bytes, dram.row_bytes) + _ceil(remainder, dram.row_bytes)
    return Activations(rows, bursts, bursts * dram.burst_bytes - total_bytes)


def _ceil(number: int, step: int) -> int:
    return -(-number // step)


@cache
def _types() -> dict[str, DramType]:
    return {row["kind"]: _type(row) for row in tables.rows("dram")}


def _type(row: dict[str, str]) -> DramType:
    def number(name: str) -> float:
        return float(row[name])

    return DramType(
        kind=row["kind"], title=row["title"], source=row["source"], assumed=row["assumed"],
        core_read_pj_per_bit=number("core_read_pj_per_bit"), core_write_pj_per_bit=number("core_write_pj_per_bit"),
        io_read_pj_per_bit=number("io_read_pj_per_bit"), io_write_pj_per_bit=number("io_write_pj_per_bit"),
        activate_pj=number("activate_pj"), row_bytes=int(row["row_bytes"]), burst_bytes=int(row["burst_bytes"]),
        active_standby_mw=number("active_standby_mw"),
        powerdown_mw=number("powerdown_mw") if row["powerdown_mw"] else None,
        refresh_mw=float(row["refresh_mw"] or 0), row_hit_ns=number("row_hit_ns"),
        self_refresh_mw=number("self_refresh_mw") if row["self_refresh_mw"] else None,
        row_miss_ns=number("row_miss_ns"), gbyte_per_s=number("gbyte_per_s"), uncertainty=number("uncertainty"),
    )  # fmt: skip
