"""Arrays of multiply-accumulators as a chip file describes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from fahw.config.schema import Frozen
from fahw.hardware.arrays.catalogue import DATAFLOWS, FOLDED, ArrayKeys, dataflows_of
from fahw.hardware.arrays.mapping import Mapping
from fahw.hardware.part import Fraction

if TYPE_CHECKING:
    ForwardDataflow: TypeAlias = str
    ErrorDataflow: TypeAlias = str
    GradientDataflow: TypeAlias = str
    FoldedDataflow: TypeAlias = str
else:
    ForwardDataflow = Literal[dataflows_of("forward")]
    ErrorDataflow = Literal[dataflows_of("error")]
    GradientDataflow = Literal[dataflows_of("gradient")]
    FoldedDataflow = Literal[FOLDED]
Skipping = Literal["none", "gate", "skip"]
PackedForm = Literal["coordinates", "run_length", "bitmap"]
ACCUMULATORS, WEIGHTS = "accumulators", "weights"
"""Stores of an array: partial sums of each column, and folds of the operand that stays, in each element."""


class Phases(Frozen):
    """The phases that an array runs, each with its dataflow; `update` runs on the array's vector lanes."""

    forward: ForwardDataflow | None = None
    error: ErrorDataflow | None = None
    gradient: GradientDataflow | None = None
    update: Literal["vector"] | None = None

    @property
    def dataflows(self) -> Iterator[tuple[str, type[Mapping]]]:
        """The phases that run in a dataflow, each with the kind of array that this is."""
        for phase in type(self).model_fields:
            dataflow = getattr(self, phase)
            if dataflow in DATAFLOWS:
                yield phase, DATAFLOWS[dataflow]


class ZeroSkipping(Frozen):
    """What an array does with operands that are zero."""

    activation: Skipping = "none"
    """`gate`: the multiplier rests (energy only). `skip`: the cycle is saved too; not for systolic dataflows."""
    error: Skipping = "none"
    form: PackedForm = "coordinates"
    """How a tensor lies in memory that is skipped. `coordinates`: the values that are not zero, each with its place.
    `run_length`: each with the number of zeros before it, and an entry more after too many. `bitmap`: a bit for every
    value, and those that are not zero."""
    index_bits: Annotated[int, Field(ge=1, le=32)] = 4
    """Stored with every value that is not zero, to say where it belongs, under `skip`; a bitmap has none."""
    imbalance: Fraction = 0.15
    """Cycles that lanes with fewer values wait for those with more, relative to the cycles left, under `skip`."""


class Array(ArrayKeys):
    """An array of multiply-accumulators, with a row of vector lanes at its output edge.

    Dataflows `os`, `ws` and `is` are systolic; `broadcast` keeps outputs in place as `os` does, but sends operands
    to all elements at once: no fill and drain, wires instead of shift registers. `rs` (forward alone) keeps rows of
    filters and inputs in the elements' `scratchpads` (Eyeriss); a model of accesses, with fill, drain and buses under
    `mapping: best`.
    """

    phases: Phases
    memories: tuple[str, ...] = Field(min_length=1)
    """Names of the memories that the array is wired to."""
    dataflows: tuple[FoldedDataflow, ...] = ()
    """Under `mapping: best`: further dataflows that the array can run a product of any of its phases in."""
    zero_skipping: ZeroSkipping = ZeroSkipping()

    @property
    def kinds(self) -> set[type[Mapping]]:
        """The kinds of array that this one can be in any phase."""
        return {kind for _, kind in self.phases.dataflows} | {DATAFLOWS[name] for name in self.dataflows}

    @property
    def stores(self) -> tuple[str, ...]:
        """The names in the ledger of what it keeps beside its elements' registers: accumulators, further weights."""
        kept = {ACCUMULATORS: self.accumulators > 0, WEIGHTS: self.weights_per_element > 1}
        return tuple(f"{self.name}.{store}" for store, is_there in kept.items() if is_there)
