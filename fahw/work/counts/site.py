"""One core of a chip while a step's work is counted: its arrays and memories under their names, its accesses."""

from __future__ import annotations

from dataclasses import dataclass, field

from fahw.hardware.array import Array
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.hardware.part import Phase, Tensor
from fahw.work.counts.accesses import Accesses, required_memory, wired_memory


@dataclass(frozen=True)
class Site:
    """A core. Names of its parts carry `prefix`, which is empty on a chip of one core."""

    chip: Chip
    core: int
    prefix: str
    accesses: Accesses
    _arrays: dict[str, Array] = field(default_factory=dict, compare=False, repr=False)
    _homes: dict[tuple[Tensor, Phase], Memory] = field(default_factory=dict, compare=False, repr=False)
    """Looked up once, for the core as every task finds it."""

    counts_products: bool = True
    """Whether what products move is counted."""

    def with_accesses(self, accesses: Accesses, counts_products: bool = True) -> Site:
        """The same core with other accesses."""
        return Site(self.chip, self.core, self.prefix, accesses, self._arrays, self._homes, counts_products)

    def array(self, phase: Phase) -> Array:
        """The array that runs `phase`, under its name on this core."""
        if phase not in self._arrays:
            array = self.chip.array_of(phase)
            assert array is not None, phase  # the chip was checked when it was loaded
            name = f"{self.prefix}{array.name}"
            self._arrays[phase] = array.model_copy(update={"name": name}) if self.prefix else array
        return self._arrays[phase]

    def home(self, tensor: Tensor, phase: Phase) -> Memory:
        """The innermost home of `tensor`, reachable from the array of `phase`. Raises ConfigError with advice."""
        key = tensor, phase
        if key not in self._homes:
            self._homes[key] = required_memory(self.chip, tensor, self.chip.array_of(phase), phase)
        return self._homes[key]

    def sums_home(self, phase: Phase) -> Memory | None:
        """Where partial sums of `phase` can wait; None where its array reaches no such memory."""
        memory = self.chip.home("psum")
        return memory if memory is not None and memory.name in self.array(phase).memories else None

    def fixed_home(self, phase: Phase) -> Memory:
        """The memory that a rule's own, fixed feedback weights come from. Raises ConfigError with advice."""
        memory = self.chip.fixed_home
        if memory is None:
            return self.home("feedback", phase)
        return wired_memory(self.chip, memory, self.chip.array_of(phase), "feedback", phase)
