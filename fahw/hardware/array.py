"""Arrays of multiply-accumulators as a chip file describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fahw.config.schema import Frozen
from fahw.hardware.part import Count, Device, Fraction, Name, Sourced

Dataflow = Literal["os", "ws", "is", "broadcast"]
ForwardDataflow = Literal["os", "ws", "is", "broadcast", "rs"]
Skipping = Literal["none", "gate", "skip"]


class Phases(Frozen):
    """The phases that an array runs, each with its dataflow; `update` runs on the array's vector lanes."""

    forward: ForwardDataflow | None = None
    error: Dataflow | None = None
    gradient: Dataflow | None = None
    update: Literal["vector"] | None = None


class ZeroSkipping(Frozen):
    """What an array does with operands that are zero."""

    activation: Skipping = "none"
    """`gate`: the multiplier rests (energy only). `skip`: the cycle is saved too; not for systolic dataflows."""
    error: Skipping = "none"
    index_bits: Annotated[int, Field(ge=1, le=32)] = 4
    """Read with every value that is not zero, to say where it belongs, under `skip`."""
    imbalance: Fraction = 0.15
    """Cycles that lanes with fewer values wait for those with more, relative to the cycles left, under `skip`."""


class Scratchpads(Frozen):
    """What every element of a row-stationary array keeps: words of a filter, of an input and of partial sums.

    Each is a register file or an SRAM, whichever takes less energy.
    """

    filter_words: Count
    input_words: Count
    psum_words: Count
    device: Device = "lop"
    """Transistor type of those that are SRAMs."""
    clock_gated: bool = True
    """Registers take the clock only when they are accessed; false: all of a working element's in every cycle."""


class Array(Sourced):
    """An array of multiply-accumulators, with a row of vector lanes at its output edge.

    Dataflows `os`, `ws` and `is` are systolic; `broadcast` keeps outputs in place as `os` does, but sends operands
    to all elements at once: no fill and drain, wires instead of shift registers. `rs` (forward alone) keeps rows of
    filters and inputs in the elements' `scratchpads` (Eyeriss); a model of accesses, without fill, drain and stalls.
    """

    name: Name
    rows: Count
    cols: Count
    lanes: Count
    """Vector lanes: one value per lane and cycle (bias, rounding, activation, pooling, softmax, update)."""
    phases: Phases
    memories: tuple[str, ...] = Field(min_length=1)
    """Names of the memories that the array is wired to."""
    idle_pe_fraction: Fraction = 0.1
    """Energy of an idle, filling or draining PE, as a share of an active one's."""
    edge_tiles: Literal["full", "trimmed"] = "full"
    """Whether folds that use less of the array take as long as full ones, or only what their rows and columns need."""
    double_buffered: bool = False
    """`ws`, `is`: the operand that stays is loaded into shadow registers while the fold before computes."""
    zero_skipping: ZeroSkipping = ZeroSkipping()
    scratchpads: Scratchpads | None = None
    """Of `rs`, which needs them."""
