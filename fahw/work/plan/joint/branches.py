"""Branch and bound over the choices of products: the best of the joint programme, or near it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

from fahw.work.plan.joint.columns import Choice
from fahw.work.plan.joint.programme import JointProgramme, Mixed

MOST_PROGRAMMES = 100
"""Linear programmes that are solved at most."""
NEAR = 5e-3
"""By what share of its energy a plan must be cheaper to be looked for."""
_SURE = 1 - 1e-6
"""The share of a choice that counts as all."""
_BRANCHES = 4
"""Choices of a product that are tried at a time."""


class Chosen(NamedTuple):
    """A choice for every product, the pJ, and the share of each way to keep a tensor."""

    energy: float
    choices: Mapping[int, Choice]
    ways: tuple[float, ...]


class _Node(NamedTuple):
    """A programme with some choices made and mappings excluded: a bound of its pJ, a number that tells equals apart,
    and its best, None where it is not solved yet."""

    bound: float
    number: int
    chosen: Mapping[int, Choice]
    excluded: Mapping[int, frozenset[int]]
    mixed: Mixed | None

    def undecided(self) -> dict[int, Sequence[tuple[float, Choice]]]:
        """The choices of the products that are mixed."""
        assert self.mixed is not None
        return {number: own for number, own in enumerate(self.mixed.choices) if own[0][0] < _SURE}


class Branches:
    """The search: from the node with the least bound down, at each one the best of its branches first, to a whole
    choice; then from the next. A product's first branches are by what is there, those below by its mapping."""

    def __init__(self, programme: JointProgramme, limit: float) -> None:
        """`limit`: pJ of a plan that is known."""
        self._programme, self._limit, self._left, self._numbers = programme, limit, MOST_PROGRAMMES, count()
        self._open: list[_Node] = []
        self._is_impossible = False
        self.best: Chosen | None = None

    def search(self) -> Chosen | None:
        """The best choices found, None where none is cheaper by what counts."""
        self._open.append(_Node(-inf, next(self._numbers), {}, {}, None))
        while self._open and self._left > 0:
            node = self._solved(heappop(self._open))
            while node is not None:
                node = self._below(node)
        return self.best

    def _solved(self, node: _Node) -> _Node | None:
        """The node with its best; None where it cannot be, or is not cheaper by what counts."""
        self._is_impossible = False
        if self._is_worse(node.bound) or self._left <= 0:
            return None
        if node.mixed is not None:
            return node
        self._left -= 1
        mixed = self._programme.mixed(node.chosen, node.excluded)
        self._is_impossible = not mixed.is_possible
        if self._is_impossible or self._is_worse(mixed.energy):
            return None
        return node._replace(bound=mixed.energy, mixed=mixed)

    def _is_worse(self, energy: float) -> bool:
        return energy > self._limit * (1 - NEAR)

    def _below(self, node: _Node) -> _Node | None:
        """The best branch of a node; the others wait. None at a whole choice."""
        undecided = node.undecided()
        if not undecided:
            self._note(node)
            return None
        product = max(undecided, key=lambda number: undecided[number][0][0])
        mixed = [choice for _, choice in undecided[product]][:_BRANCHES]
        tried, left = (self._by_mapping if product in node.chosen else self._by_place)(node, product, mixed)
        found = sorted(tried, key=lambda branch: branch[:2])
        while left and not found:
            found = [branch for branch in (self._solved(left.pop(0)),) if branch is not None]
        for branch in (*found[1:], *left):
            heappush(self._open, branch)
        return found[0] if found else None

    def _note(self, node: _Node) -> None:
        assert node.mixed is not None
        self._limit, choices = node.bound, {number: own[0][1] for number, own in enumerate(node.mixed.choices)}
        self.best = Chosen(node.bound, choices, tuple(node.mixed.ways.tolist()))

    def _by_place(self, node: _Node, product: int, mixed: Sequence[Choice]) -> tuple[list[_Node], list[_Node]]:
        """The branches by what is there of a product's operands: those of choices that are mixed, and the others, not
        solved yet."""
        tried = list(dict.fromkeys(choice.there for choice in mixed))
        others = [there for there in self._programme.products[product].corners if there not in tried]
        first, rest = (
            [self._branch(node, {**node.chosen, product: Choice(there)}, node.excluded) for there in places]
            for places in (tried, others)
        )
        return [branch for branch in map(self._solved, first) if branch is not None], rest

    def _by_mapping(self, node: _Node, product: int, mixed: Sequence[Choice]) -> tuple[list[_Node], list[_Node]]:
        """The branches of mappings that are mixed, and one of all others, not solved yet."""
        excluded, found = node.excluded.get(product, frozenset()), list[_Node]()
        for there, mapping in mixed:
            choice = Choice(there, mapping)
            branch = self._solved(self._branch(node, {**node.chosen, product: choice}, node.excluded))
            found += [branch] if branch is not None else []
            if mapping is not None:
                is_large = self._is_impossible
                excluded |= self._programme.products[product].as_large(there, mapping) if is_large else {mapping}
        return found, [self._branch(node, node.chosen, {**node.excluded, product: excluded})]

    def _branch(self, node: _Node, chosen: Mapping[int, Choice], excluded: Mapping[int, frozenset[int]]) -> _Node:
        return _Node(node.bound, next(self._numbers), chosen, excluded, None)
