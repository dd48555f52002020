"""Nests of the three loops over tiles: their order, what is held while another loop turns, and blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations, product
from typing import NamedTuple

from fahw.mapping.problem import Dataflow, Dimension, TiledProduct

LEFT_OPERAND, RIGHT_OPERAND, RESULTS = 0, 1, 2
PARTS: tuple[str, str, str] = ("left", "right", "results")
"""What tiles are of, in the order of the tuples here."""
IRRELEVANT: tuple[Dimension, Dimension, Dimension] = ("n", "m", "k")
"""The dimension that does not concern each: its loop brings the same tiles again."""
CONCERNED: tuple[tuple[Dimension, Dimension], ...] = (("m", "k"), ("k", "n"), ("m", "n"))
"""The dimensions of each."""
ORDERS: tuple[tuple[Dimension, ...], ...] = tuple(permutations(("m", "n", "k")))


class Reuse(NamedTuple):
    """How a nest uses the tiles of one part again: which loops of its own two dimensions lie inside the irrelevant one,
    and whether all tiles that they run over are held."""

    inside: tuple[bool, bool]
    holds: bool

    @property
    def held(self) -> tuple[bool, bool]:
        """Along which of its two dimensions all tiles are held at once."""
        return self.holds and self.inside[0], self.holds and self.inside[1]


@dataclass(frozen=True)
class Nest:
    """The loops over tiles. `order`: outermost first. `holds`: for left, right and results, whether the local memory
    keeps all tiles over which the loops inside the irrelevant one run, or the tile in use alone. `blocks`: whether the
    streamed dimension is cut into blocks whose sums the accumulators at the array's edge can keep."""

    order: tuple[Dimension, ...]
    holds: tuple[bool, bool, bool] = (False, False, False)
    blocks: bool = False

    @cached_property
    def reuses(self) -> tuple[Reuse, Reuse, Reuse]:
        """How tiles of the left operand, the right one and the results are used again."""
        return self._reuse(LEFT_OPERAND), self._reuse(RIGHT_OPERAND), self._reuse(RESULTS)

    def _reuse(self, part: int) -> Reuse:
        outer, (first, second) = self.order.index(IRRELEVANT[part]), CONCERNED[part]
        return Reuse((self.order.index(first) > outer, self.order.index(second) > outer), self.holds[part])


def nests(problem: TiledProduct, flow: Dataflow) -> tuple[Nest, ...]:
    """Every nest that is tried under a dataflow. A part to which the innermost loop is irrelevant holds nothing."""
    return nests_of_orders(flow.stays is not None and problem.array.accumulators > 0)


@lru_cache(maxsize=2)
def nests_of_orders(has_accumulators: bool) -> tuple[Nest, ...]:
    """Every order with all that may be held, without blocks, and with them where there are accumulators."""
    found = []
    for blocks, order in product((False, True) if has_accumulators else (False,), ORDERS):
        choices = [(False,) if order[2] == dimension else (False, True) for dimension in IRRELEVANT]
        for left, right, results in product(*choices):
            found.append(Nest(order, (left, right, results), blocks))
    return tuple(found)
