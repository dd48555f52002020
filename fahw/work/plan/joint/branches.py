"""Branch and bound over the choices of products: the best of the joint programme, or near it."""

from __future__ import annotations

from collections.abc import Mapping
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
    """A programme with some choices made and others excluded: a bound of its pJ, a number that tells equals apart, and
    its best, None where it is not solved yet."""

    bound: float
    number: int
    chosen: Mapping[int, Choice]
    excluded: Mapping[int, frozenset[Choice]]
    mixed: Mixed | None


class Branches:
    """The search: from the node with the least bound down, at each one the best of its branches first, to a whole
    choice; then from the next."""

    def __init__(self, programme: JointProgramme, limit: float) -> None:
        """`limit`: pJ of a plan that is known."""
        self._programme, self._limit, self._left, self._numbers = programme, limit, MOST_PROGRAMMES, count()
        self._open: list[_Node] = []
        self._is_impossible = False
        self.best: Chosen | None = None

    def search(self) -> Chosen | None:
        """The best choices found, None where none is cheaper by what counts."""
        self._open.append(self._node(-inf, {}, {}))
        while self._open and self._left > 0:
            node = self._solved(heappop(self._open))
            while node is not None:
                node = self._below(node)
        return self.best

    def _node(self, bound: float, chosen: Mapping[int, Choice], excluded: Mapping[int, frozenset[Choice]]) -> _Node:
        return _Node(bound, next(self._numbers), chosen, excluded, None)

    def _is_worse(self, energy: float) -> bool:
        return energy > self._limit * (1 - NEAR)

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

    def _below(self, node: _Node) -> _Node | None:
        """The best branch of a node; the others, and what is left if none of them is taken, wait. None at a whole
        choice."""
        assert node.mixed is not None
        choices = {n: own for n, own in enumerate(node.mixed.choices) if n not in node.chosen}
        open_choices = {n: own for n, own in choices.items() if own[0][0] < _SURE}
        if not open_choices:
            whole = {n: own[0][1] for n, own in choices.items()} | dict(node.chosen)
            self.best = Chosen(node.mixed.energy, whole, tuple(node.mixed.ways.tolist()))
            self._limit = node.mixed.energy
            return None
        product = max(open_choices, key=lambda n: open_choices[n][0][0])
        tried = [choice for _, choice in open_choices[product][:_BRANCHES]]
        branches, excluded = list[_Node](), node.excluded.get(product, frozenset()).union(tried)
        for choice in tried:
            branch = self._solved(self._node(node.bound, {**node.chosen, product: choice}, node.excluded))
            if branch is None and self._is_impossible:
                excluded |= self._programme.products[product].as_large(choice)
            branches += [branch] if branch is not None else []
        rest = self._node(node.bound, node.chosen, {**node.excluded, product: excluded})
        if not branches:
            return self._solved(rest)
        branches.sort(key=lambda branch: branch[:2])
        for other in (rest, *branches[1:]):
            heappush(self._open, other)
        return branches[0]
