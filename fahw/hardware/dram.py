"""Off-chip memory as a chip file describes it."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from fahw.hardware.part import Count, Factor, NotNegative, Positive, Sourced
from fahw.technology.constant import Constant
from fahw.technology.dram import DRAM_KINDS, dram_type

if TYPE_CHECKING:
    DramKind: TypeAlias = str
else:
    DramKind = Literal[DRAM_KINDS]


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
    refresh_mw: NotNegative | None = None
    """Mean power of refreshing, on top of both; the table's where absent, nothing where `background_mw` is given."""
    channels: Count | None = None
    """Channels of the table's type: each has its static power. As many as `gbyte_per_s` takes where absent."""
    latency_cycles: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    layout: Literal["tiled", "row_major"] = "tiled"
    """`tiled`: data lie in the order in which they are fetched. `row_major`: each run of a tile opens a row of its
    own."""
    activate_pj: NotNegative | None = None
    """Energy of opening and closing a row."""
    uncertainty: Factor = 1.6

    def constant(self, action: str) -> Constant:
        """Energy of one bit (`read`, `write`) or one row (`activate`), or static power in mW, with
        refresh (`background`, `powerdown`)."""
        if action in ("background", "powerdown"):
            return self._static(action).named("DRAM static power")
        return self._dynamic(action).named(f"DRAM {action}")

    def _dynamic(self, action: str) -> Constant:
        given_value = {
            "read": self.read_pj_per_bit, "write": self.write_pj_per_bit, "activate": self.activate_pj,
        }[action]  # fmt: skip
        if given_value is not None:
            return self._given(given_value)
        kind = dram_type(self.kind)
        table_value = {
            "read": kind.read_pj_per_bit, "write": kind.write_pj_per_bit, "activate": kind.activate_pj,
        }[action]  # fmt: skip
        return Constant(table_value, f"{kind.title}: {kind.source}", "dram", kind.uncertainty)

    def _static(self, action: str) -> Constant:
        """Static power with refresh, in mW: what the file gives, else the table's for every channel."""
        kind, given_value = dram_type(self.kind), self.background_mw
        if action == "powerdown" and self.powerdown_mw is not None:
            given_value = self.powerdown_mw
        channels = self.channels or ceil(self.gbyte_per_s / kind.gbyte_per_s * (1 - 1e-9))
        table_refresh = 0.0 if self.background_mw is not None else kind.refresh_mw * channels
        refresh = table_refresh if self.refresh_mw is None else self.refresh_mw
        if given_value is not None:
            return self._given(given_value + refresh)
        powerdown = kind.active_standby_mw if kind.powerdown_mw is None else kind.powerdown_mw
        table_value = (kind.active_standby_mw if action == "background" else powerdown) * channels + refresh
        source = f"{kind.title}: {kind.source}; channels: {channels}, refresh {refresh:g} mW"
        return Constant(table_value, source, "dram", kind.uncertainty)

    def _given(self, value: float) -> Constant:
        return Constant(value, self.source or "assumed", "dram", self.uncertainty, given=True)
