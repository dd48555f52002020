"""What tiles take of the memories and move to and from DRAM, part by part: operands, and sums that wait."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fahw.mapping.grid import Grid
from fahw.mapping.nest import RESULTS, Reuse
from fahw.mapping.sizes import Places, Values


class OperandCounts(NamedTuple):
    """An operand: values that come from DRAM, what that takes in pJ, and bits of room that its tiles take."""

    fetched: Values
    energy: Values
    room: Values


class SumCounts(NamedTuple):
    """Sums: whether any go to DRAM and come back, and how many values, bits of room where they wait, and where the nest
    can be at all."""

    spills: bool
    spilled: Values
    room: Values
    possible: Places


def operand_counts(grid: Grid, part: int, reuse: Reuse) -> OperandCounts:
    """An operand's counts. Tiles that change have room several times; what is there already takes none."""
    operand, price = grid.problem.operands[part], grid.problem.prices.fetch[part] * grid.flow.costs.fetches[part]
    fetched = grid.fetched_once(part, reuse.held) * (1 - operand.resident) * grid.visits(part, reuse)
    if operand.resident >= 1:
        return OperandCounts(fetched, fetched * price, np.zeros(1))
    buffers = np.where(grid.is_whole(part, reuse.held), 1, operand.buffers)
    return OperandCounts(fetched, fetched * price, grid.tile_values(part, reuse.held) * buffers * operand.bits)


def sum_counts(grid: Grid, reuse: Reuse, breaks: Values) -> SumCounts:
    """Counts of sums. A tile of them that is left before K is complete goes to DRAM, unless it is held; sums of windows
    need K complete, and have room whether they wait or not."""
    room = grid.tile_values(RESULTS, reuse.held) * grid.problem.result.sum_bits
    visits = grid.visits(RESULTS, reuse)
    leaves = visits > 1
    if grid.problem.unfolded == "result":
        shared = grid.fetched_once(RESULTS, reuse.held) - grid.distinct(RESULTS)
        return SumCounts(bool(shared.any()), shared, room, ~leaves)
    return SumCounts(bool(leaves.any()), grid.results * (visits - 1), np.where(breaks > 0, room, 0.0), np.ones(1, bool))
