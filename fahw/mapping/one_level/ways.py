"""In which ways nests use tiles again: an operand's tiles in seven, and the array sees few differences."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fahw.mapping.array_counts import array_nest
from fahw.mapping.grid import Insides
from fahw.mapping.nest import LEFT_OPERAND, RESULTS, RIGHT_OPERAND, Nest, Reuse, nests_of_orders
from fahw.mapping.sizes import Places

Numbers = npt.NDArray[np.intp]
Key = TypeVar("Key", bound=Hashable)


class PartWays(NamedTuple):
    """The ways of a part. `of_nest`: the number of each nest's own; by way, the loops inside the irrelevant one, along
    which dimensions all tiles are held, and whether any may be."""

    of_nest: Numbers
    inside: Insides
    held: Insides
    holds: Places


class NestWays(NamedTuple):
    """Nests, with their ways: those that the array notices, `plain` of them without blocks, which come first; those of
    left, right and results."""

    nests: tuple[Nest, ...]
    of_nest: Numbers
    staying: Insides
    sums: Insides
    plain: int
    parts: tuple[PartWays, PartWays, PartWays]


@lru_cache(maxsize=64)
def nest_ways(stays: int | None, has_accumulators: bool, given: Nest | None = None) -> NestWays:
    """Those of all nests under a dataflow in which this operand stays, or of a given one."""
    found = nests_of_orders(has_accumulators) if given is None else (given,)
    seen, of_nest = _numbered(array_nest(stays, nest) for nest in found)
    left, right, results = (_part_ways(found, part) for part in (LEFT_OPERAND, RIGHT_OPERAND, RESULTS))
    staying, sums = _flags([way.staying.inside for way in seen]), _flags([way.sums.inside for way in seen])
    plain = sum(not way.blocks for way in seen)
    return NestWays(found, of_nest, staying, sums, plain, (left, right, results))


def _part_ways(found: Iterable[Nest], part: int) -> PartWays:
    ways, of_nest = _numbered(nest.reuses[part] for nest in found)
    return PartWays(of_nest, _flags([way.inside for way in ways]), _flags([way.held for way in ways]), _holds(ways))


def _holds(ways: Sequence[Reuse]) -> Places:
    return np.array([[way.holds] for way in ways])


def _flags(pairs: Sequence[tuple[bool, bool]]) -> Insides:
    first, second = np.array(pairs).T.copy()
    return first[:, None], second[:, None]


def _numbered(keys: Iterable[Key]) -> tuple[list[Key], Numbers]:
    """The different ones of these keys, and the number of each one's own among them."""
    numbers: dict[Key, int] = {}
    of_each = [numbers.setdefault(key, len(numbers)) for key in keys]
    return list(numbers), np.array(of_each)
