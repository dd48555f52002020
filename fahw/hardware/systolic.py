"""Closed forms of a systolic array: folds, cycles and operand accesses of one matrix product.

An (M x K) by (K x N) product runs as folds of at most rows x cols. `os` keeps the output in place and streams K; `ws`
keeps the (K x N) operand and streams M; `is` keeps the (M x K) operand and streams N. Every fold pays its fill and
drain. Source: the fold schedule of SCALE-Sim (Samajdar et al. 2018), counting true cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from fahw.errors import ConfigError, Problem, suggestion

DATAFLOWS = ("os", "ws", "is")
"""Systolic dataflows; a `Mapping` also knows `broadcast`, which lays out work as `os` does without fill and drain."""


@dataclass(frozen=True)
class FoldShape:
    """`count` folds that use `rows` x `cols` of the array."""

    count: int
    rows: int
    cols: int


@dataclass(frozen=True)
class Mapping:
    """A matrix product on an array.

    `trimmed`: folds that use less of the array take only what their rows and columns need. `double_buffered`: `ws` and
    `is` load the operand that stays while the fold before computes, so that only the first load shows.
    """

    m: int
    n: int
    k: int
    rows: int
    cols: int
    dataflow: str
    trimmed: bool = False
    double_buffered: bool = False

    @property
    def spans(self) -> tuple[int, int, int]:
        """The dimensions that are laid on the rows, on the columns, and streamed, as their sizes."""
        by_dataflow = {"ws": (self.k, self.n, self.m), "is": (self.k, self.m, self.n)}
        return by_dataflow.get(self.dataflow, (self.m, self.n, self.k))

    @property
    def row_folds(self) -> int:
        """Number of folds along the rows."""
        return ceil(self.spans[0] / self.rows)

    @property
    def col_folds(self) -> int:
        """Number of folds along the columns."""
        return ceil(self.spans[1] / self.cols)

    @property
    def folds(self) -> int:
        """Number of folds in all."""
        return self.row_folds * self.col_folds

    @property
    def stationary(self) -> bool:
        """Whether an operand stays in the array and partial sums move (`ws`, `is`)."""
        return self.dataflow in ("ws", "is")

    @property
    def fold_cycles(self) -> int:
        """Cycles of one full fold: stream, fill and drain; `ws` and `is` load the operand that stays first."""
        return self._cycles_of(self.rows, self.cols)

    @property
    def cycles(self) -> int:
        """Cycles of the whole product, folds one after the other."""
        first_load = self.rows if self.stationary and self.double_buffered else 0
        if not self.trimmed:
            return self.folds * self.fold_cycles + first_load
        return sum(shape.count * self._cycles_of(shape.rows, shape.cols) for shape in self.fold_shapes) + first_load

    def _cycles_of(self, rows: int, cols: int) -> int:
        if self.dataflow == "broadcast":
            return self.spans[2]
        loading = rows if self.stationary and not self.double_buffered else 0
        return self.spans[2] + loading + rows + cols - 2

    @property
    def fold_shapes(self) -> tuple[FoldShape, ...]:
        """The shapes of full folds and of edge ones, by the part of the array that they use."""
        row_sizes, col_sizes = _fold_sizes(self.spans[0], self.rows), _fold_sizes(self.spans[1], self.cols)
        return tuple(
            FoldShape(row_count * col_count, rows, cols)
            for rows, row_count in row_sizes
            for cols, col_count in col_sizes
        )


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
    if dataflow not in DATAFLOWS:
        message = f"must be one of {', '.join(DATAFLOWS)} (got {dataflow!r}){suggestion(dataflow, DATAFLOWS)}"
        problems.append(Problem("dataflow", message))
    if problems:
        raise ConfigError(problems)
    return Mapping(m, n, k, rows, cols, dataflow).cycles
