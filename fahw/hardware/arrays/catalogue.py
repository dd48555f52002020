"""The kinds of arrays, by dataflow: a new kind is a module and its line here (its keys: a base of `ArrayKeys`)."""

from __future__ import annotations

from fahw.hardware.arrays.broadcast import Broadcast
from fahw.hardware.arrays.mapping import Mapping
from fahw.hardware.arrays.row_stationary import PaddedElements, RowStationary
from fahw.hardware.arrays.systolic import SYSTOLIC, Folded

DATAFLOWS: dict[str, type[Mapping]] = {
    **SYSTOLIC,
    Broadcast.name: Broadcast,
    RowStationary.name: RowStationary,
}

FOLDED = tuple(name for name, kind in DATAFLOWS.items() if issubclass(kind, Folded))
"""The dataflows of products in folds, which any phase can run in, in any order of loops."""


class ArrayKeys(PaddedElements):
    """The elements of an array, with the keys of every kind."""


def dataflows_of(phase: str) -> tuple[str, ...]:
    """The dataflows that a phase can run in."""
    return tuple(name for name, kind in DATAFLOWS.items() if phase in kind.phases)
