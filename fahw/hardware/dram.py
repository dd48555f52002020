"""Off-chip memory as a chip file describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from fahw.hardware.part import Factor, NotNegative, Positive, Sourced
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
    latency_cycles: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    layout: Literal["tiled", "row_major"] = "tiled"
    """`tiled`: data lie in the order in which they are fetched. `row_major`: each run of a tile opens a row of its
    own."""
    activate_pj: NotNegative | None = None
    """Energy of opening and closing a row."""
    uncertainty: Factor = 1.6

    def constant(self, action: str) -> Constant:
        """Energy of one bit (`read`, `write`) or one row (`activate`), or static power in mW (`background`,
        `powerdown`)."""
        given_value = {
            "read": self.read_pj_per_bit, "write": self.write_pj_per_bit, "activate": self.activate_pj,
            "background": self.background_mw,
            "powerdown": self.background_mw if self.powerdown_mw is None else self.powerdown_mw,
        }[action]  # fmt: skip
        if given_value is not None:
            return Constant(given_value, self.source or "assumed", "dram", self.uncertainty, given=True)
        kind = dram_type(self.kind)
        table_value = {
            "read": kind.read_pj_per_bit, "write": kind.write_pj_per_bit, "activate": kind.activate_pj,
            "background": kind.active_standby_mw,
            "powerdown": kind.active_standby_mw if kind.powerdown_mw is None else kind.powerdown_mw,
        }[action]  # fmt: skip
        return Constant(table_value, f"{kind.title}: {kind.source}", "dram", kind.uncertainty)
