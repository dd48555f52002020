"""What every kind of array must answer: how it lays out a product, what moves, what its elements do and cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from fahw.hardware.part import Count, Fraction, Name, Sourced
from fahw.hardware.process import Technology
from fahw.technology.constant import Constant
from fahw.technology.storage import Scratchpad

Burst = tuple[int, int]
"""(number of bursts, values in each)."""
Objective = Literal["energy", "latency", "edp"]
"""What a mapping is to make small: pJ, cycles, or their product."""
LEFT, RIGHT = 0, 1
"""The operands of a product."""


class Elements(Sourced):
    """The elements of an array and the vector lanes at its output edge, as a chip file describes them."""

    name: Name
    rows: Count
    cols: Count
    lanes: Count
    """Vector lanes: one value per lane and cycle (bias, rounding, activation, pooling, softmax, update)."""
    idle_pe_fraction: Fraction = 0.1
    """Energy of an idle, filling or draining PE, as a share of an active one's."""
    ungated_share: Fraction = 0.1
    """Operands narrower than the elements are built for leave part of them unused: the share of what that part would
    take in use that it takes all the same. Uncertain by 10: from nearly nothing to an element without any gating."""
    edge_tiles: Literal["full", "trimmed"] = "full"
    """Whether folds that use less of the array take as long as full ones, or only what their rows and columns need."""
    double_buffered: bool = False
    """`ws`, `is`: the operand that stays is loaded into shadow registers while the fold before computes."""
    accumulators: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """`ws`, `is`, under `mapping: best`: partial sums that every column keeps at the array's edge. 0: sums of several
    folds meet in the memory that holds psum."""
    weights_per_element: Count = 1
    """`ws`, `is`, under `mapping: best`: folds of the operand that stays which the elements hold at once."""


@dataclass(frozen=True)
class Convolution:
    """`samples` of a convolution of one group; a linear layer is one of a single pixel."""

    samples: int
    outputs: int
    inputs: int
    kernel: tuple[int, int]
    out: tuple[int, int]
    image: tuple[int, int]
    stride: int = 1

    @property
    def macs(self) -> int:
        """Number of multiply-accumulates."""
        return self.samples * self.weights * self.out[0] * self.out[1]

    @property
    def weights(self) -> int:
        """Number of weights of the convolution."""
        return self.outputs * self.inputs * self.kernel[0] * self.kernel[1]

    @property
    def results(self) -> int:
        """Number of output values over all samples."""
        return self.samples * self.outputs * self.out[0] * self.out[1]


class Product(NamedTuple):
    """What is laid out: an (M x K) by (K x N) product; of a layer, the `convolution` that it is, and the words of the
    memory in which partial sums wait. `objective`: of the search for mappings; None where nothing is searched for."""

    m: int
    n: int
    k: int
    convolution: Convolution | None = None
    buffer_words: int = 0
    objective: Objective | None = None


class Fetches(NamedTuple):
    """How often an operand comes from further out: `turns` times, or once where `block` values of it can be kept."""

    turns: int
    block: int | None = None


ONCE = Fetches(1)


@dataclass(slots=True, unsafe_hash=True)  # frozen ones take three times as long to make
class ElementAction:
    """Something that elements do: the tensor that it counts for, how often, and the widths that its energy depends
    on."""

    action: str
    tensor: str
    count: int
    widths: tuple[int, ...]


class Mapping(ABC):
    """A product laid out on an array; its class is the kind of the array, and answers for what the kind can do."""

    name: ClassVar[str]
    """The dataflow's name in a chip file."""
    phases: ClassVar[tuple[str, ...]] = ("forward", "error", "gradient")
    """The phases that can run in it."""
    skips_zeros: ClassVar[bool] = False
    """Whether lanes can go on to the next value where one is zero."""
    keeps_sums: ClassVar[bool] = False
    """Whether a product is laid out so that its partial sums fit their memory."""

    @classmethod
    @abstractmethod
    def laid_out(cls, product: Product, array: Elements) -> Mapping | None:
        """The product on the array; None where it does not fit."""

    @classmethod
    def problems(cls, array: Elements) -> Iterator[tuple[str, str]]:
        """What the array lacks to run in this dataflow: (key, message) of each."""
        yield from ()

    @classmethod
    def limits(cls, array: Elements) -> str:
        """What limits the products that fit, in words."""
        return f"{array.rows} rows, {array.cols} columns"

    @classmethod
    def own_actions(cls, array: Elements) -> tuple[str, ...]:
        """The actions that its elements have beside those of every array."""
        return ()

    @classmethod
    def action_price(cls, action: str, widths: tuple[int, ...], array: Elements, process: Technology) -> Constant:
        """Energy of one of `own_actions`."""
        raise KeyError(action)

    @classmethod
    def element_storage(cls, array: Elements, bits: Callable[[str], int], process: Technology) -> Sequence[Scratchpad]:
        """What every element stores beside its registers, for leakage and area. `bits`: the width of a tensor."""
        return ()

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, int, int]:
        """M, N and K."""

    @property
    @abstractmethod
    def folds(self) -> int:
        """Number of pieces that the array computes one after the other."""

    @property
    @abstractmethod
    def fold_cycles(self) -> int:
        """Cycles of one full fold."""

    @property
    @abstractmethod
    def cycles(self) -> int:
        """Cycles of the whole product."""

    @property
    @abstractmethod
    def operand_bursts(self) -> tuple[tuple[int, list[Burst]], ...]:
        """The reads of either operand by the array, `LEFT` or `RIGHT` with its bursts, in the order of the ledger."""

    def unskipped_bursts(self, zeros: tuple[float, float]) -> tuple[tuple[int, list[Burst]], ...]:
        """The `operand_bursts` without what meets nothing but skipped zeros. `zeros`: the shares of zeros in the left
        and the right operand that lanes skip."""
        return self.operand_bursts

    @property
    @abstractmethod
    def partial_sum_bursts(self) -> list[Burst]:
        """Bursts of partial sums that are written and read back."""

    @abstractmethod
    def waiting_sums(self, repeats: int) -> int:
        """Partial sums of `repeats` such products that wait in a memory at a time."""

    @property
    @abstractmethod
    def fetches(self) -> tuple[tuple[Fetches, Fetches], ...]:
        """How often the left and the right operand come from further out, under every order of the loops."""

    @property
    def fetched(self) -> tuple[int, int] | None:
        """Values of the left and the right operand that come from further out, where the mapping itself fixes them."""
        return None

    @property
    def through_outer(self) -> tuple[int | None, int | None]:
        """Values of both operands that come from DRAM to their outer homes if none is on the chip, where all that is
        fetched goes through these; None where it does not."""
        return None, None

    @property
    def sums_in_outer(self) -> bool:
        """Whether sums that go on from their memory go to their outer home."""
        return False

    @property
    def sums_beyond(self) -> int:
        """Those that go on from there to DRAM, each sent and brought back."""
        return 0

    @property
    def spilled_share(self) -> float | None:
        """The share of partial sums that goes on from their memory, to DRAM or their outer home, where the mapping
        itself fixes it."""
        return 0.0 if self.keeps_sums else None

    @property
    def left_windows(self) -> int:
        """Sums of overlapping windows that one tile leaves to another, each sent on and brought back."""
        return 0

    @property
    def accumulated(self) -> int:
        """Partial sums that are kept at the array's edge, each written and read."""
        return 0

    @property
    def held(self) -> tuple[int, int, int] | None:
        """The operand that stays in the elements, `LEFT` or `RIGHT`; its values that are brought to them, and those
        that folds begin to run with. None where none stays."""
        return None

    def gated_share(self, zeros: Sequence[float]) -> float:
        """Share of the multiply-accumulates that are left out, from the shares of zeros of the operands that the array
        gates or skips."""
        return 1 - prod(1 - share for share in zeros)

    def moved_bits(self, left_bits: int, right_bits: int) -> int:
        """Bits of the operands that move on from element to element with every multiply-accumulate."""
        return 0

    @abstractmethod
    def element_actions(
        self, result: str, widths: tuple[int, int, int], moved: tuple[int, int], useful_macs: int, idle: int,
        repeats: int,
    ) -> list[ElementAction]:  # fmt: skip
        """What the elements do in `repeats` such products.

        `widths`: of the left and right operand and the accumulator. `moved`: bits of both operands that pass an element
        for each multiply-accumulate. `idle`: PE-cycles without one.
        """
