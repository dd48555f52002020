"""Off-chip memory as a chip file describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fahw.hardware.part import Factor, NotNegative, Positive, Sourced

DramKind = Literal["ddr3_1600", "ddr4_2400", "ddr4_3200", "lpddr3", "lpddr4", "hbm1", "hbm2", "gddr5"]


class Dram(Sourced):
    """Off-chip memory: training samples come from it, and what does not fit on the chip lives there.

    Numbers that are not given are those of the `kind` in fahw's table (`fahw list technology`).
    """

    kind: DramKind = "lpddr4"
    gbyte_per_s: Positive
    read_pj_per_bit: NotNegative | None = None
    write_pj_per_bit: NotNegative | None = None
    background_mw: NotNegative | None = None
    """Static power while data move (active standby), and always where `powerdown_mw` is not given."""
    powerdown_mw: NotNegative | None = None
    """Static power between bursts, where the controller powers the device down."""
    latency_cycles: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    layout: Literal["tiled", "row_major"] = "tiled"
    """`tiled`: data lie in the order in which they are fetched. `row_major`: each run of a tile opens a row of its
    own."""
    activate_pj: NotNegative | None = None
    """Energy of opening and closing a row."""
    uncertainty: Factor = 1.6
