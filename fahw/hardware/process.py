"""The process that a chip is made in, and energies that a chip file gives outright."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fahw.hardware.part import Factor, NotNegative, Sourced
from fahw.technology.constant import Constant
from fahw.technology.logic_units import LogicProcess

Node = Literal[7, 10, 14, 16, 20, 22, 32, 45, 65, 90, 130, 180]


class Technology(Sourced):
    """Process of the logic, the wires and the SRAM estimates."""

    node_nm: Node
    """65, 45, 32 and 22 nm have SRAM tables; at other nodes the nearest one is scaled, with a wider uncertainty."""
    vdd_v: Annotated[float, Field(ge=0.3, le=1.5)] = 0.9
    """Supply of the logic. Published operation energies are at 0.9 V; others go with the square of the voltage."""
    temp_c: Annotated[float, Field(ge=20, le=85)] | None = None
    """Temperature of the leakage; the tables' 27 C where absent."""
    clock_share: NotNegative = 0.35
    """Energy of the clock tree, relative to that of the logic and registers that it drives; what registers take for
    their own clock (7.94 of 9 fJ a bit) is in their energy, and no part of this base."""
    clock_root_mw: NotNegative = 0.0
    """Clock root that is never gated: static power."""

    def built_for(self, clock_mhz: float = 200.0) -> LogicProcess:
        """The process of units that are built for a clock; registers are the same for every one."""
        return LogicProcess(self.node_nm, clock_mhz, self.vdd_v, self.temp_c)


class UnitEnergy(Sourced):
    """Energy of one action of a component, given outright: a memory's word, a PE's MAC, a bit elsewhere."""

    component: str
    action: str
    pj: NotNegative
    """pJ per action; for the action `static` of a memory or of a store of an array, pJ per cycle."""
    uncertainty: Factor = 1.0

    def constant(self, kind: str, scale: float = 1.0) -> Constant:
        """The constant that it gives, of a kind of `Constant`; `scale` brings it to the unit that is wanted."""
        source = self.source or self.assumed or "given"
        return Constant(self.pj * scale, source, kind, self.uncertainty, given=True)
