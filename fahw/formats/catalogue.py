"""The number formats that have a name: a new one is its module and its line here, or a line of `FLOATS`."""

from __future__ import annotations

from functools import cache

from fahw.formats.affine import Affine
from fahw.formats.number import FLOATS, TERNARY, Number, fixed_format

FORMATS: dict[str, Number] = {
    "binary": fixed_format(1),
    "ternary": TERNARY,
    **FLOATS,
    "affine6": Affine(6),
}


@cache
def number_format(width: int | str) -> Number:
    """The format that a file writes as a width in bits or as a name. Raises KeyError for an unknown name."""
    return fixed_format(width) if isinstance(width, int) else FORMATS[width]
