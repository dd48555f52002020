"""The matrices that send errors back under a rule: their shapes, how many of their entries there are, and where.

Usually a layer has one. A sparse one keeps the same number of entries in every column (Crafton et al. 2019): the rows
are cut into as many blocks, and the column has one entry in each, in a row that the chip's generator draws once and
that is stored beside the entry as its place in the block. Under low rank a layer has two, whose product stands for the
one: the first narrows the error to `rank` values, the second sends these to the input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from fahw.layers.layer import Shape
from fahw.layers.weighted import Linear, Weighted
from fahw.network.error_path import feedback_shape
from fahw.network.graph import Network
from fahw.prng import derive, row_codes, row_seeds
from fahw.rules.rule import Rule

POSITION_BITS = 16
"""Width of the random code that picks a row of a block; its share of all codes that the row gets is as even as that."""


@dataclass(frozen=True)
class FeedbackMatrix:
    """One matrix that an error goes through.

    `shape`: rows, one per value of the error, then the columns, which may have several axes. Rows lie in `groups`, each
    of which has columns of its own. `fan_in`: entries that a column has. `fans`: inputs and outputs of an entry, from
    which Xavier's deviation follows; with `has_gain` the recipe's gain multiplies it.
    """

    name: str
    shape: Shape
    groups: int
    fan_in: int
    fans: float
    has_gain: bool = True

    @property
    def rows(self) -> int:
        """Rows of one group."""
        return self.shape[0] // self.groups

    @property
    def stored_shape(self) -> Shape:
        """The shape of the entries that there are, column by column as they are stored."""
        return (self.groups * self.fan_in, *self.shape[1:])

    @property
    def words(self) -> int:
        """Number of entries that there are."""
        return prod(self.stored_shape)

    @property
    def is_sparse(self) -> bool:
        """Whether rows are missing in the columns."""
        return self.fan_in < self.rows

    @property
    def index_bits(self) -> int:
        """Bits that say in which row of its block an entry lies; none where all entries are there."""
        return (ceil(self.rows / self.fan_in) - 1).bit_length()

    @property
    def std(self) -> float:
        """Xavier's standard deviation of an entry, before the gain."""
        return sqrt(2 / self.fans)


def feedback_matrices(
    name: str, shape: Shape, fans: int, rule: Rule, groups: int = 1
) -> tuple[FeedbackMatrix, ...]:  # fmt: skip
    """The matrix of `shape` that a layer sends its error through under `rule`, or the two whose product it is. `fans`:
    of an entry of the whole matrix.

    The deviations are such that an error keeps the size that the whole matrix would give it.
    """
    rows = shape[0] // groups
    if rule.rank is None:
        fan_in = max(1, round(rule.density * rows))
        return (FeedbackMatrix(name, shape, groups, fan_in, fans if fan_in == rows else fans * fan_in / rows),)
    rank, narrow_fans = rule.rank, rows + rule.rank
    narrow = FeedbackMatrix(f"{name}/narrow", (shape[0], rank), groups, rows, narrow_fans, has_gain=False)
    wide_shape = (groups * rank, *shape[1:])
    return narrow, FeedbackMatrix(f"{name}/wide", wide_shape, groups, rank, 2 * rank * fans / narrow_fans)


def layer_matrices(network: Network, layer: Weighted, rule: Rule) -> tuple[FeedbackMatrix, ...]:
    """The matrices that the error goes through to the input of a weighted layer, first to last."""
    return _matrices(layer, network.classes, network.dfa_feedback == "tiled", rule)


@lru_cache(maxsize=4096)
def _matrices(layer: Weighted, classes: int, tiled: bool, rule: Rule) -> tuple[FeedbackMatrix, ...]:
    direct = rule.path == "direct"
    shape = feedback_shape(layer, classes, direct, tiled)
    if not direct:
        return feedback_matrices(layer.name, shape, sum(layer.fans), rule, layer.groups)
    return feedback_matrices(layer.name, shape, (shape[0] + shape[1]) * prod(shape[2:]), rule)


def layer_stages(network: Network, layer: Weighted, rule: Rule) -> tuple[Weighted, ...]:
    """The layers that send the error, one for each matrix: `layer` itself, or the two that stand for it under low
    rank."""
    if rule.rank is None:
        return (layer,)
    narrow, wide = (matrix.name for matrix in layer_matrices(network, layer, rule))
    if rule.path == "direct":
        narrowing = Linear(narrow, ((rule.rank,),), (network.classes,), bias=False)
        return narrowing, replace(layer, name=wide, bias=False)
    between = (layer.groups * rule.rank, *layer.out_shape[1:])
    place_by_place = replace(
        layer, name=narrow, in_shapes=(between,), bias=False, kernel=(1, 1), stride=(1, 1), padding=(0, 0),
        dilation=(1, 1), padding_mode="zeros",
    )  # fmt: skip
    return place_by_place, replace(layer, name=wide, out_shape=between, bias=False)


class NetworkMatrices:
    """The matrices of all weighted layers of a network under a rule, by their names; and by the names of the layers,
    the layers that send their errors (`layer_stages`)."""

    def __init__(self, network: Network, rule: Rule) -> None:
        self.stages = {layer.name: layer_stages(network, layer, rule) for layer in network.weighted}
        by_layer = [layer_matrices(network, layer, rule) for layer in network.weighted]
        self.named = {matrix.name: matrix for matrices in by_layer for matrix in matrices}


def kept_rows(matrix: FeedbackMatrix, seed: int) -> NDArray[np.int64]:
    """The row of every entry that there is, shaped as `stored_shape`: block after block, group after group."""
    blocks = matrix.groups * matrix.fan_in
    codes = row_codes(row_seeds(derive(seed, "positions", matrix.name), blocks), prod(matrix.shape[1:]), POSITION_BITS)
    edges = np.arange(matrix.fan_in + 1) * matrix.rows // matrix.fan_in
    sizes, starts = np.tile(np.diff(edges), matrix.groups), np.tile(edges[:-1], matrix.groups)
    starts = starts + np.repeat(np.arange(matrix.groups) * matrix.rows, matrix.fan_in)
    rows: NDArray[np.int64] = starts[:, None] + (codes.astype(np.int64) * sizes[:, None] >> POSITION_BITS)
    return rows.reshape(matrix.stored_shape)
