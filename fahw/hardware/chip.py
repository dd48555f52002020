"""The schema of a chip file: arrays wired to memories, links between memories, and what each of them costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from fahw.formats.precision import Precision, RoundingModes
from fahw.hardware.array import Array
from fahw.hardware.arrays.mapping import Objective
from fahw.hardware.dram import Dram
from fahw.hardware.generator import Generator
from fahw.hardware.interconnect import Link, Mesh
from fahw.hardware.memories.catalogue import AnyMemory
from fahw.hardware.memory import LEVELS, Memory, TransposedAccess
from fahw.hardware.options import Activity, TransportOptions, UpdateOptions
from fahw.hardware.part import Form, Name, Phase, Sourced, Tensor
from fahw.hardware.pinned_mapping import PINNED_LISTS, PinnedMapping, PinnedSharing, PinnedTensor, PinnedWaiting
from fahw.hardware.process import Technology, UnitEnergy


class Chip(Sourced):
    """A training chip: one core, or a mesh of equal ones. Its own `source` and `assumed` are about clock, widths and
    micro-batches."""

    model_config = ConfigDict(title="Chip")

    name: Name
    description: str = ""
    technology: Technology
    clock_mhz: Annotated[float, Field(ge=1e-3, le=1e5)]
    precision: Precision = Precision()
    rounding: RoundingModes = RoundingModes()
    arrays: tuple[Array, ...] = Field(min_length=1)
    memories: tuple[AnyMemory, ...] = Field(min_length=1)
    links: tuple[Link, ...] = ()
    dram: Dram | None = None
    feedback_generator: Generator | None = None
    """Yields the magnitudes that a rule redraws for every batch."""
    rounding_generator: Generator | None = None
    """LFSR of stochastic rounding, 8 bits per rounded value."""
    transport: tuple[Form, ...]
    """Forms of weight transport that the chip can do; the first is the default. `[]`: none, it is for rules that move
    nothing."""
    transposed_access: TransposedAccess
    transport_options: TransportOptions = TransportOptions()
    update_options: UpdateOptions = UpdateOptions()
    mesh: Mesh | None = None
    """Several cores; without it the chip is one."""
    activity: Activity | None = None
    """Shares of zeros and changes where training has not measured them (`simulate` alone)."""
    micro_batch: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["best"] | None = None
    """Samples that go through the phases together; the whole batch where absent. `best`: what makes `mapping_objective`
    least, of the batch, its half, a quarter and so on down to 1, for each rule and form of transport."""
    energy_table: str | None = None
    """An Accelergy energy reference table (YAML), relative to this file; its energies replace fahw's estimates."""
    energies: tuple[UnitEnergy, ...] = ()
    """Energies given outright, by component and action; they win over `energy_table`."""
    mapping: Literal["fixed", "best"] = "best"
    """How products are cut into tiles, and what stays on chip. `fixed`: one order of loops for each dataflow, one share
    for each kind of tensor. `best`: what makes `mapping_objective` least, for each product and tensor."""
    mapping_objective: Objective = "energy"
    """What `mapping: best` and `micro_batch: best` make least: energy with the static share, cycles, or their
    product."""
    error_form: Literal["best", "gather", "scatter"] = "best"
    """Under `mapping: best`, how the error of a convolution is computed. `gather`: a correlation with the mirrored
    kernel. `scatter`: window sums that are added up in a buffer. `best`: the better of both, for each layer."""
    pinned_mappings: str | None = None
    """A file of `layer_mappings`, `kept_tensors` and `waiting_tasks` (YAML), as `fahw simulate --save-mapping` writes
    it; relative to this file, or where `--set` gives it to the folder of the command."""
    layer_mappings: tuple[PinnedMapping, ...] = ()
    """Under `mapping: best`, mappings that are given and not searched, by layer and phase."""
    kept_tensors: tuple[PinnedTensor, ...] = ()
    """Under `mapping: best`, shares of tensors that stay on the chip, given and not searched."""
    shared_errors: tuple[PinnedSharing, ...] = ()
    """Under `mapping: best`, errors of which two tasks share the tiles, given and not searched."""
    waiting_tasks: tuple[PinnedWaiting, ...] = ()
    """Under `mapping: best`, whether tasks wait until there is room, given and not searched."""
    recompute: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Under `mapping: best`, of so many layers with weights one keeps its results for the way back; the others drop
    them and are computed again. 1: all keep them. As many as there are layers: none does but the input."""
    tiles_per_task: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """Bursts into which the engine splits a task at most."""
    steps_in_flight: Annotated[int, Field(ge=1, le=16)] = 2
    """Training steps that may overlap, each with its own activations."""
    update_delay: Annotated[int, Field(ge=0, le=64)] = 0
    """Steps that an update may come late: the forward of a step reads weights that lack the updates of so many steps
    before it, and does not wait for them. 0, or `steps_in_flight` - 1 and more."""

    def together(self, samples: int) -> int:
        """How many of a batch of `samples` go through the phases together. `micro_batch: best` has no answer: a cost
        decides it (`fahw.chip.cost`)."""
        assert self.micro_batch != "best", "the search for the best micro-batch comes first"
        return min(self.micro_batch or samples, samples)

    @property
    def pins_anything(self) -> bool:
        """Whether mappings or shares of tensors are given, and not searched."""
        return any(getattr(self, name) for name in PINNED_LISTS)

    def without_pins(self) -> Chip:
        """The same chip with everything searched."""
        return self.model_copy(update=dict.fromkeys(PINNED_LISTS, ())) if self.pins_anything else self

    def array_of(self, phase: Phase) -> Array | None:
        """The array that runs `phase`, or None."""
        return next((array for array in self.arrays if getattr(array.phases, phase, None)), None)

    def homes(self, tensor: Tensor) -> tuple[Memory, ...]:
        """The memories that hold `tensor` and that training can write, innermost level first."""
        memories = [memory for memory in self.memories if tensor in memory.holds and memory.writable]
        return tuple(sorted(memories, key=lambda memory: LEVELS.index(memory.level)))

    def home(self, tensor: Tensor) -> Memory | None:
        """The innermost memory that holds `tensor` and that training can write, or None."""
        memories = [memory for memory in self.memories if tensor in memory.holds and memory.writable]
        if len(memories) < 2:
            return memories[0] if memories else None
        return min(memories, key=lambda memory: LEVELS.index(memory.level))

    def outer_home(self, tensor: Tensor) -> Memory | None:
        """The memory behind the innermost home of `tensor` that holds it too, or None."""
        return (*self.homes(tensor), None, None)[1]

    @property
    def has_outer_homes(self) -> bool:
        """Whether any tensor has a home behind its innermost one."""
        return any(self.outer_home(tensor) is not None for memory in self.memories for tensor in memory.holds)

    @property
    def fixed_home(self) -> Memory | None:
        """The memory that a rule's own, fixed feedback weights come from: a rom or a generator if the chip has one."""
        fixed = (memory for memory in self.memories if "feedback" in memory.holds and not memory.writable)
        return next(fixed, None) or self.home("feedback")

    def memory(self, name: str) -> Memory:
        """The memory called `name`; raises StopIteration where there is none."""
        return next(memory for memory in self.memories if memory.name == name)

    @property
    def element_bits(self) -> tuple[int, int, int]:
        """Widths that a processing element is built for: the widest operands, and the accumulator."""
        bits = self.precision.bits
        left = max(bits("activation"), bits("error"))
        return left, max(bits("weight"), bits("feedback"), bits("activation")), bits("accumulator")

    @property
    def error_reaches_weights(self) -> bool:
        """Whether the array that sends the error back is wired to the memory of the forward weights."""
        array, home = self.array_of("error"), self.home("weight")
        return array is not None and home is not None and home.name in array.memories

    def transport_period(self, reads_weight: bool) -> int:
        """Steps between two transports, for a rule whose feedback weights follow the forward ones; 1 for others, and
        where the error array reads the forward weights themselves."""
        return self.transport_options.period if reads_weight and not self.error_reaches_weights else 1

    def skipping_array(self, tensor: Tensor) -> Array | None:
        """The first array that skips zeros of `tensor`, which therefore lies in memory without them; None where none
        does."""
        return next((array for array in self.arrays if getattr(array.zero_skipping, tensor, "") == "skip"), None)

    @property
    def uses_activity(self) -> bool:
        """Whether the chip's energy or time depends on how many values are zero or change."""
        options = self.transport_options
        if self.update_options.skip_zeros:
            return True
        zero_skipping = [array.zero_skipping for array in self.arrays]
        skipping = {way for modes in zero_skipping for way in (modes.activation, modes.error)}
        return options.changed_words_only or options.sign_flips_only or skipping != {"none"}

    def without_feedback_memory(self) -> Chip:
        """The same chip with one weight memory: no memory for feedback, and the error array wired to the weights.

        The fair baseline of backpropagation: it needs no second memory, and pays for reading the one it has transposed.
        """
        weights, feedback = self.home("weight"), self.fixed_home
        if weights is None or feedback is None or self.error_reaches_weights:
            return self
        memories = tuple(
            memory.model_copy(update={"holds": tuple(tensor for tensor in memory.holds if tensor != "feedback")})
            for memory in self.memories
            if memory.holds != ("feedback",)
        )
        memory_names = {memory.name for memory in memories}
        arrays = tuple(
            array.model_copy(update={"memories": _rewired(array, memory_names, weights.name)}) for array in self.arrays
        )
        links = tuple(link for link in self.links if {link.from_, link.to} <= memory_names)
        forms: tuple[Form, ...] = ("transposable", "accumulate")
        changes = {"memories": memories, "arrays": arrays, "links": links, "transport": forms}
        return self.model_copy(update=changes | {"name": f"{self.name}_shared"})


def _rewired(array: Array, names: set[str], weights: str) -> tuple[str, ...]:
    wires = tuple(name for name in array.memories if name in names)
    return wires if array.phases.error is None or weights in wires else (*wires, weights)
