"""Pseudo-random generator in a memory's place: it yields fixed feedback weights again at every read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from fahw.hardware.memory import Memory
from fahw.hardware.part import Factor, NotNegative
from fahw.hardware.process import Technology
from fahw.technology.constant import Constant, Entry


class Prng(Memory):
    """A generator. It stores nothing; energy, which includes leakage, is that of generated bits."""

    writable: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    needs_bank: ClassVar[bool] = False
    constant_kind: ClassVar[str] = "generator"
    actions: ClassVar[tuple[str, ...]] = ("generate",)

    kind: Literal["prng"]
    pj_per_bit: NotNegative
    """Energy of one generated bit."""
    area_mm2: NotNegative
    uncertainty: Factor = 4.0
    """The true energy lies between the number divided and multiplied by this factor."""

    def _estimated_access(self, process: Technology, action: str) -> Constant:
        price = Constant(self.pj_per_bit, self._source, "generator", self.uncertainty, given=True)
        return price.named("generator in a memory's place")

    def _estimated_leakage(self, process: Technology) -> Constant:
        return Constant(0.0, "within the energy per bit", "leakage", 1.0)

    def _estimated_area(self, process: Technology, size_kib: float) -> float:
        return self.area_mm2

    @classmethod
    def listed(cls, node_nm: int) -> Iterator[Entry]:
        """Nothing: a chip file gives the energy of its generator."""
        yield from ()

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if self.energy is not None:
            yield "a prng has no energy per access: its energy is pj_per_bit"
