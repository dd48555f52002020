"""Products whose operands are on the chip already: where all of one fits at once, no tiles are better, and none are
searched.

With a single dataflow and no accumulators, tiles only add folds, loads and sums left incomplete. Of mappings that are
equal the search takes the first order of loops, nothing held and the largest tile: a single one, as here.
"""

from __future__ import annotations

from functools import lru_cache

from fahw.errors import ConfigError
from fahw.mapping.mapper import MappedProduct, Tiling, best_mapping, mapped_as
from fahw.mapping.nest import nests
from fahw.mapping.problem import MappedArray, TiledProduct


def is_best_whole(array: MappedArray) -> bool:
    """Whether tiles gain nothing on the array where operands are there."""
    return len(array.dataflows) == 1 and (array.dataflows[0].stays is None or not array.accumulators)


@lru_cache(maxsize=8192)
def best_of(product: TiledProduct) -> MappedProduct:
    """The best mapping of a product, searched only where it may have to be cut into tiles.

    Raises ConfigError where no tile fits its memory.
    """
    flow = product.array.dataflows[0]
    if is_best_whole(product.array) and all(operand.resident >= 1 for operand in product.operands):
        try:
            return mapped_as(product, Tiling(flow.name, (product.m, product.n, product.k), nests(product, flow)[0]))
        except ConfigError:
            pass  # sums do not fit
    return best_mapping(product)
