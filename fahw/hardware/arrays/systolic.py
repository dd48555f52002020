"""Systolic arrays: folds, cycles and operand accesses of one matrix product in closed form.

An (M x K) by (K x N) product runs as folds of at most rows x cols. `os` keeps the output in place and streams K; `ws`
keeps the (K x N) operand and streams M; `is` keeps the (M x K) operand and streams N. Every fold pays its fill and
drain. Source: the fold schedule of SCALE-Sim (Samajdar et al. 2018), counting true cycles.

Operand values of one fold that uses r x c of the array:

    dataflow  left operand  right operand  results
    os        r * K         K * c          r * c
    ws        M * r         r * c          M * c
    is        r * c         r * N          c * N

`ws` and `is` fold K over the rows: all but the last of these folds write their partial sums at accumulator width, all
but the first read them back.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil
from typing import ClassVar

from fahw.errors import ConfigError, Problem, suggestion
from fahw.hardware.arrays.mapping import (
    LEFT,
    ONCE,
    RIGHT,
    Burst,
    ElementAction,
    Elements,
    Fetches,
    Mapping,
    Product,
)


@dataclass(frozen=True)
class FoldShape:
    """`count` folds that use `rows` x `cols` of the array."""

    count: int
    rows: int
    cols: int


@dataclass(frozen=True)
class Folded(Mapping):
    """A matrix product in folds of an array.

    `trimmed`: folds that use less of the array take only what their rows and columns need. `double_buffered`: `ws` and
    `is` load the operand that stays while the fold before computes, so that only the first load shows.
    """

    stationary: ClassVar[bool] = False
    """Whether an operand stays in the array and partial sums move (`ws`, `is`)."""

    m: int
    n: int
    k: int
    rows: int
    cols: int
    trimmed: bool = False
    double_buffered: bool = False

    @classmethod
    def laid_out(cls, product: Product, array: Elements) -> Folded | None:
        """The product in folds, of which any number fits."""
        sizes = product.m, product.n, product.k, array.rows, array.cols
        return _folded(cls, sizes, array.edge_tiles == "trimmed", array.double_buffered)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, N and K."""
        return self.m, self.n, self.k

    @property
    @abstractmethod
    def spans(self) -> tuple[int, int, int]:
        """The dimensions that are laid on the rows, on the columns, and streamed, as their sizes."""

    @abstractmethod
    def _operand_values(self, shape: FoldShape) -> tuple[int, int]:
        """Values of the left and the right operand that a fold reads."""

    @abstractmethod
    def moved_bits(self, left_bits: int, right_bits: int) -> int:
        """Bits of operands that move on from one element to the next."""

    @cached_property
    def row_folds(self) -> int:
        """Number of folds along the rows."""
        return ceil(self.spans[0] / self.rows)

    @cached_property
    def col_folds(self) -> int:
        """Number of folds along the columns."""
        return ceil(self.spans[1] / self.cols)

    @property
    def folds(self) -> int:
        """Number of folds in all."""
        return self.row_folds * self.col_folds

    @property
    def fold_cycles(self) -> int:
        """Cycles of one full fold: stream, fill and drain; `ws` and `is` load the operand that stays first."""
        return self._cycles_of(self.rows, self.cols)

    @cached_property
    def cycles(self) -> int:
        """Cycles of the whole product, folds one after the other."""
        first_load = self.rows if self.stationary and self.double_buffered else 0
        if not self.trimmed:
            return self.folds * self.fold_cycles + first_load
        return sum(shape.count * self._cycles_of(shape.rows, shape.cols) for shape in self.fold_shapes) + first_load

    def _cycles_of(self, rows: int, cols: int) -> int:
        loading = rows if self.stationary and not self.double_buffered else 0
        return self.spans[2] + loading + rows + cols - 2

    @cached_property
    def fold_shapes(self) -> tuple[FoldShape, ...]:
        """The shapes of full folds and of edge ones, by the part of the array that they use."""
        row_sizes, col_sizes = _fold_sizes(self.spans[0], self.rows), _fold_sizes(self.spans[1], self.cols)
        return tuple(
            FoldShape(row_count * col_count, rows, cols)
            for rows, row_count in row_sizes
            for cols, col_count in col_sizes
        )

    @property
    def operand_bursts(self) -> tuple[tuple[int, list[Burst]], ...]:
        """A burst per fold of either operand."""
        values = [(shape.count, *self._operand_values(shape)) for shape in self.fold_shapes]
        return (
            (LEFT, [(count, left) for count, left, _ in values]),
            (RIGHT, [(count, right) for count, _, right in values]),
        )

    def unskipped_bursts(self, zeros: tuple[float, float]) -> tuple[tuple[int, list[Burst]], ...]:
        """The bursts without the values that meet nothing but skipped zeros: all rows, or columns, of a fold at
        once."""
        return tuple(
            (
                side,
                [
                    self._unskipped(burst, zeros[1 - side], shape.cols if side == LEFT else shape.rows)
                    for burst, shape in zip(bursts, self.fold_shapes, strict=True)
                ],
            )
            for side, bursts in self.operand_bursts
        )

    def _unskipped(self, burst: Burst, zeros: float, partners: int) -> Burst:
        """Fewer values in each burst, and fewer bursts, as one is left out where all of it meets zeros. Each value
        meets `partners` of the other operand, of which the share `zeros` is skipped."""
        skipped = zeros**partners
        if not skipped:
            return burst
        count, values = burst
        remaining = ceil(count * (1 - skipped ** self.spans[2]))
        return remaining, ceil(count * values * (1 - skipped) / remaining) if remaining else 0

    @cached_property
    def partial_sum_bursts(self) -> list[Burst]:
        """Bursts of partial sums that are written, and read back, between the folds of K."""
        inner_folds = self.row_folds - 1 if self.stationary else 0
        return [(count * inner_folds, values) for count, values in self.result_bursts] if inner_folds else []

    @cached_property
    def result_bursts(self) -> list[Burst]:
        """All results once, in the bursts in which folds yield them."""
        if not self.stationary:
            return [(shape.count, shape.rows * shape.cols) for shape in self.fold_shapes]
        folds_by_width = {shape.cols: 0 for shape in self.fold_shapes}
        for shape in self.fold_shapes:
            folds_by_width[shape.cols] += shape.count
        return [(count // self.row_folds, self.spans[2] * cols) for cols, count in folds_by_width.items()]

    def waiting_sums(self, repeats: int) -> int:
        """All results, where there are partial sums."""
        return self.m * self.n * repeats if self.partial_sum_bursts else 0

    def element_actions(
        self, result: str, widths: tuple[int, int, int], moved: tuple[int, int], useful_macs: int, idle: int,
        repeats: int,
    ) -> list[ElementAction]:  # fmt: skip
        """Active PE-cycles, what moves on in them, and idle ones (filling, draining, unused rows and columns, gated
        zeros)."""
        accumulator_bits, moved_bits = widths[-1], self.moved_bits(*moved)
        actions = [ElementAction("mac", result, useful_macs, widths)]
        if moved_bits:
            actions.append(ElementAction("shift_operand", result, useful_macs, (moved_bits,)))
        return [
            *actions,
            ElementAction("shift_psum", result, useful_macs, (accumulator_bits,)),
            ElementAction("clock", result, useful_macs, (*widths, moved_bits)),
            ElementAction("idle", result, idle, (*widths, moved_bits)),
        ]


@dataclass(frozen=True)
class OutputStationary(Folded):
    """`os`: every element sums up one output; both operands stream through the array."""

    name: ClassVar[str] = "os"

    @property
    def spans(self) -> tuple[int, int, int]:
        """M on the rows, N on the columns, K streams."""
        return self.m, self.n, self.k

    @property
    def fetches(self) -> tuple[tuple[Fetches, Fetches], ...]:
        """A block of rows of the left operand, or of columns of the right one, is kept while the other loop runs."""
        rows, cols = self.row_folds, self.col_folds
        return (
            (Fetches(cols, self.k * self.rows), Fetches(rows)),
            (Fetches(cols), Fetches(rows, self.k * self.cols)),
        )

    def _operand_values(self, shape: FoldShape) -> tuple[int, int]:
        return shape.rows * self.k, self.k * shape.cols

    def moved_bits(self, left_bits: int, right_bits: int) -> int:
        return left_bits + right_bits


@dataclass(frozen=True)
class WeightStationary(Folded):
    """`ws`: a block of the right operand stays; the left one streams, and sums move."""

    name: ClassVar[str] = "ws"
    stationary: ClassVar[bool] = True

    @property
    def spans(self) -> tuple[int, int, int]:
        """K on the rows, N on the columns, M streams."""
        return self.k, self.n, self.m

    @property
    def fetches(self) -> tuple[tuple[Fetches, Fetches], ...]:
        """The right operand once; of the left one a block can be kept."""
        return (Fetches(self.col_folds, self.m * self.rows), ONCE), (Fetches(self.col_folds), ONCE)

    @property
    def held(self) -> tuple[int, int, int]:
        """The right operand: each value comes once, and its fold runs once."""
        return RIGHT, self.k * self.n, self.k * self.n

    def _operand_values(self, shape: FoldShape) -> tuple[int, int]:
        return self.m * shape.rows, shape.rows * shape.cols

    def moved_bits(self, left_bits: int, right_bits: int) -> int:
        return left_bits


@dataclass(frozen=True)
class InputStationary(Folded):
    """`is`: a block of the left operand stays; the right one streams, and sums move."""

    name: ClassVar[str] = "is"
    stationary: ClassVar[bool] = True

    @property
    def spans(self) -> tuple[int, int, int]:
        """K on the rows, M on the columns, N streams."""
        return self.k, self.m, self.n

    @property
    def fetches(self) -> tuple[tuple[Fetches, Fetches], ...]:
        """The left operand once; of the right one a block can be kept."""
        return (ONCE, Fetches(self.col_folds, self.n * self.rows)), (ONCE, Fetches(self.col_folds))

    @property
    def held(self) -> tuple[int, int, int]:
        """The left operand: each value comes once, and its fold runs once."""
        return LEFT, self.k * self.m, self.k * self.m

    def _operand_values(self, shape: FoldShape) -> tuple[int, int]:
        return shape.rows * shape.cols, shape.rows * self.n

    def moved_bits(self, left_bits: int, right_bits: int) -> int:
        return right_bits


SYSTOLIC: dict[str, type[Folded]] = {kind.name: kind for kind in (OutputStationary, WeightStationary, InputStationary)}
"""The systolic dataflows by their names."""


@lru_cache(maxsize=4096)
def _folded(kind: type[Folded], sizes: tuple[int, int, int, int, int], trimmed: bool, double_buffered: bool) -> Folded:
    """A product in folds, kept with all that follows from it: layers of one size are many, and each is asked twice."""
    return kind(*sizes, trimmed, double_buffered)


def _fold_sizes(span: int, axis_size: int) -> tuple[tuple[int, int], ...]:
    """(used size, number of folds) of the full and the last, partial fold along one axis."""
    full_folds, remainder = divmod(span, axis_size)
    return tuple(
        (used_size, count)
        for used_size, count in ((axis_size, full_folds), (remainder, 1 if remainder else 0))
        if count
    )


def systolic_cycles(m: int, n: int, k: int, rows: int, cols: int, dataflow: str) -> int:
    """Cycles of an (m x k) by (k x n) product on a rows x cols array, dataflow "os", "ws" or "is".

    The true count: one more than the index of the last cycle that SCALE-Sim reports.
    Raises ConfigError for sizes below 1 and an unknown dataflow.
    """
    sizes = {"m": m, "n": n, "k": k, "rows": rows, "cols": cols}
    problems = [
        Problem(name, f"must be a whole number, at least 1 (got {size!r})")
        for name, size in sizes.items()
        if not isinstance(size, int) or isinstance(size, bool) or size < 1
    ]
    if dataflow not in SYSTOLIC:
        message = f"must be one of {', '.join(SYSTOLIC)} (got {dataflow!r}){suggestion(dataflow, SYSTOLIC)}"
        problems.append(Problem("dataflow", message))
    if problems:
        raise ConfigError(problems)
    return SYSTOLIC[dataflow](m, n, k, rows, cols).cycles
