"""What a search decided for a step, as records to show and to store: how each product is mapped, what stays on chip."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProductRecord:
    """One product of a step and its mapping. Counts are of one run: of all its equal products, in one micro-batch."""

    layer: str
    phase: str
    product: int
    """Its number among the products of the layer and phase."""
    form: str | None
    """Form of the error, `gather` or `scatter`; None where there is no choice."""
    sizes: tuple[int, int, int]
    """M, N and K."""
    repeats: int
    """How many equal products there are: groups, of every sub-batch."""
    times: int
    """How often it runs in a step."""
    dataflow: str
    tile: tuple[int, int, int]
    """Tile sizes along M, N and K."""
    order: str
    """The loops over tiles, outermost first."""
    hold: tuple[str, ...]
    """Of what all tiles over which the inner loops run stay in memory."""
    blocks: bool
    """Whether what streams is cut into blocks for the accumulators at the array's edge."""
    reads: tuple[int, int]
    """Values of the left and the right operand that the array reads."""
    fetched: tuple[float, float]
    """Values of both operands that come from DRAM."""
    partial_sums: int
    """Sums left incomplete, each written and read back."""
    spilled_sums: int
    """Those that go on to DRAM and come back."""
    accumulated: int
    """Sums at the array's edge, each written and read."""
    cycles: int
    """Cycles of the array."""
    energy_pj: float
    """Energy as the search sees it: of elements, operands, sums and the static share of its time."""
    room_bits: dict[str, int]
    """Bits that tiles take, by memory."""
    outer: OuterRecord | None = None
    """Of tiles in outer ones: these. Values are `fetched` from there then, and sums go on there."""


@dataclass(frozen=True)
class OuterRecord:
    """Tiles in the memories behind the local ones, and the loops over them."""

    tile: tuple[int, int, int]
    order: str
    hold: tuple[str, ...]
    fetched: tuple[float, float]
    """Values of both operands that come from DRAM."""
    spilled_sums: int
    """Sums that go on to DRAM and come back."""


@dataclass(frozen=True)
class TensorRecord:
    """A tensor that a step keeps, and which share of it stays in its memory."""

    name: str
    tensor: str
    core: int
    memory: str
    bits: int
    read_by: tuple[str, ...]
    """The tasks that read it."""
    shares: tuple[float, ...]
    """The share that is there at each read; one share where nothing reads it."""
    outer_memory: str | None = None
    """The memory behind, where the tensor has a second home."""
    outer_shares: tuple[float, ...] = ()
    """The share that is in that one at each read."""


@dataclass(frozen=True)
class FusedRecord:
    """An error at a layer's output that two tasks share tile by tile, in sub-batches of so many samples."""

    name: str
    """That of the tensor."""
    core: int
    tasks: tuple[str, str]
    """The error task that reads or makes it, and the gradient task that reads it."""
    samples: int


@dataclass(frozen=True)
class PlanRecord:
    """What a search decided for a step. `objective`: what it makes least; `waits`: whether tasks wait for room."""

    objective: str
    waits: bool
    products: tuple[ProductRecord, ...]
    tensors: tuple[TensorRecord, ...]
    fused: tuple[FusedRecord, ...] = ()

    @property
    def errors(self) -> dict[str, str]:
        """The form of the error, by layer, where it has a choice."""
        return {record.layer: record.form for record in self.products if record.form is not None}
