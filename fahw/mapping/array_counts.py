"""What the array does in a product that is cut into tiles: operand reads, sums left incomplete, cycles.

docs/model.md, "Tiles", has every equation. `tests/reference/loop_nest.py` counts the same by walking the loops.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fahw.mapping.grid import Grid, Insides
from fahw.mapping.nest import CONCERNED, IRRELEVANT, LEFT_OPERAND, RESULTS, RIGHT_OPERAND, Nest, Reuse
from fahw.mapping.problem import Dimension
from fahw.mapping.sizes import Values


class ArrayCounts(NamedTuple):
    """What the array does: values of both operands that it reads, how often each sum is left incomplete, values that
    pass the accumulators at its edge, cycles; values of the operand that stays which folds begin to run with."""

    reads: tuple[Values, Values]
    breaks: Values
    accumulated: Values
    cycles: Values
    begun: Values


class ArrayNest(NamedTuple):
    """What of a nest the array notices: blocks, and what turns between two uses of the operand that stays and of
    sums."""

    blocks: bool
    staying: Reuse
    sums: Reuse


def array_nest(stays: int | None, nest: Nest) -> ArrayNest:
    """What an array in which this part stays notices of the nest. Holds are the memories' concern."""
    staying = nest.reuses[RESULTS if stays is None else stays]
    sums_matter = nest.blocks or stays is None
    inside = nest.reuses[RESULTS].inside if sums_matter else (False, False)
    return ArrayNest(nest.blocks, Reuse(staying.inside, False), Reuse(inside, False))


def array_counts(grid: Grid, nest: ArrayNest) -> ArrayCounts:
    """The array's counts under the nest, for all tile sizes."""
    if grid.flow.stays is None:
        return _results_stay(grid, grid.visits(RESULTS, nest.sums))
    visits = grid.visits(grid.flow.stays, nest.staying)
    sums = grid.visits(RESULTS, nest.sums) if nest.blocks else None
    return _operand_stays(grid, visits, sums, grid.flow.stays)


def breaks_of(grid: Grid, nest: ArrayNest) -> Values:
    """How often each sum is left incomplete under the nest, for all tile sizes."""
    if grid.flow.stays is None:
        return _result_breaks(grid, grid.visits(RESULTS, nest.sums))
    return _incomplete_sums(grid, grid.visits(RESULTS, nest.sums) if nest.blocks else None)[0]


def counts_of_ways(grid: Grid, staying: Insides, sums: Insides, plain: int) -> ArrayCounts:
    """The array's counts in several ways, the first axis, for tile sizes along one axis. By way, the loops that lie
    inside the irrelevant one of the operand that stays, and of sums; those after the first `plain` have blocks."""
    ways = staying[0].shape[0]
    counts = np.empty((len(ArrayCounts._fields) + 1, ways, *grid.shape))
    if grid.flow.stays is None:
        _fill(counts, _results_stay(grid, grid.visits_inside(RESULTS, sums)))
        return ArrayCounts((counts[0], counts[1]), *counts[2:])
    visits, stays = grid.visits_inside(grid.flow.stays, staying), grid.flow.stays
    _fill(counts[:, :plain], _operand_stays(grid, visits[:plain], None, stays))
    if plain < ways:
        sum_visits = grid.visits_inside(RESULTS, (sums[0][plain:], sums[1][plain:]))
        _fill(counts[:, plain:], _operand_stays(grid, visits[plain:], sum_visits, stays))
    return ArrayCounts((counts[0], counts[1]), *counts[2:])


def _fill(places: Values, counts: ArrayCounts) -> None:
    for place, values in zip(places, (*counts.reads, *counts[1:]), strict=True):
        place[...] = values


def _operand_reads(grid: Grid, part: int) -> Values:
    """Values of an operand that moves: all of it at every fold of the dimension that does not concern it."""
    folds = grid.row_folds if IRRELEVANT[part] == grid.flow.rows else grid.col_folds
    return _values(grid, CONCERNED[part]) * folds


def _values(grid: Grid, dimensions: tuple[Dimension, Dimension]) -> float:
    return grid.sizes[dimensions[0]].length * grid.sizes[dimensions[1]].length


def _results_stay(grid: Grid, visits: Values) -> ArrayCounts:
    """`os`: a fold sums up in the elements; it is left for each tile of K, unless nothing else comes between."""
    breaks = _result_breaks(grid, visits)
    cycles = grid.row_folds * grid.col_folds * grid.sizes["k"].length + (breaks + 1) * grid.fills
    reads = _operand_reads(grid, LEFT_OPERAND), _operand_reads(grid, RIGHT_OPERAND)
    return ArrayCounts(reads, breaks, np.zeros(1), cycles, np.zeros(1))


def _result_breaks(grid: Grid, visits: Values) -> Values:
    one_fold = (grid.tile_row_folds == 1) & (grid.tile_col_folds == 1)
    return np.where(one_fold, visits, grid.sizes["k"].trips) - 1


def _operand_stays(grid: Grid, visits: Values, sum_visits: Values | None, stays: int) -> ArrayCounts:
    """`ws` and `is`: folds are loaded and stream; sums of several folds of K meet in memory or at the array's edge.
    Tiles of the operand that stays, and of sums if there are blocks, come so often."""
    runs, loads = _runs_and_loads(grid, visits, sum_visits is not None)
    breaks, accumulated = _incomplete_sums(grid, sum_visits)
    reads = [_operand_reads(grid, LEFT_OPERAND), _operand_reads(grid, RIGHT_OPERAND)]
    reads[stays] = _values(grid, CONCERNED[stays]) * loads
    cycles = grid.row_folds * grid.col_folds * grid.sizes[grid.flow.streamed].length + runs * grid.fills
    if grid.problem.array.double_buffered:
        cycles = np.maximum(cycles, loads * grid.loads) + grid.problem.array.rows
    else:
        cycles = cycles + loads * grid.loads
    begun = _values(grid, CONCERNED[stays]) * runs
    return ArrayCounts((reads[0], reads[1]), breaks, accumulated, cycles, begun)


def _runs_and_loads(grid: Grid, visits: Values, has_blocks: bool) -> tuple[Values, Values]:
    """How often a fold runs, each run being filled and drained, and how often it is loaded."""
    array, streamed = grid.problem.array, grid.sizes[grid.flow.streamed]
    folds = grid.tile_row_folds * grid.tile_col_folds
    runs = loads = streamed.trips
    if has_blocks:
        blocks = streamed.pieces(array.accumulators)
        runs = np.where(grid.tile_row_folds == 1, runs, blocks)
        loads = np.where(grid.tile_row_folds <= array.held_folds, loads, blocks)
    return np.where(folds == 1, visits, runs), np.where(folds <= array.held_folds, visits, loads)


def _incomplete_sums(grid: Grid, sum_visits: Values | None) -> tuple[Values, Values]:
    """How often each sum is left incomplete, and values that pass the accumulators."""
    if sum_visits is None:
        return grid.row_folds - 1, np.zeros(1)
    tile_sums = grid.sizes[grid.flow.streamed].size * grid.tile_col_folds
    fits = tile_sums <= grid.problem.array.accumulators
    visits = np.where(fits, sum_visits, grid.sizes["k"].trips)
    return visits - 1, grid.results * grid.row_folds
