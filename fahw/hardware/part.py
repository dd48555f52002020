"""What all parts of a chip share: names of phases and tensors, kinds of numbers, and where the numbers come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fahw.config.schema import MOST_NAME_CHARACTERS, Frozen

Phase = Literal["forward", "error", "gradient", "update", "transport"]
PHASES: tuple[Phase, ...] = ("forward", "error", "gradient", "update", "transport")
Tensor = Literal[
    "weight", "master", "feedback", "activation", "error", "gradient", "optimizer", "psum", "mask", "param", "io"
]
Form = Literal["copy", "write_through", "transposable", "accumulate", "column"]
Device = Literal["hp", "lop", "lstp"]

STATIC = "static"
"""The action of leakage, by the cycle."""

Positive = Annotated[float, Field(ge=1e-9, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=1, le=1e6)]
CoreIndex = Annotated[int, Field(ge=0, le=4095)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=MOST_NAME_CHARACTERS)]


class Sourced(Frozen):
    """A part of the chip. Its numbers come from somewhere: a `source`, or openly `assumed`."""

    source: str | None = None
    """Where the numbers of this part come from: paper, table, page; or the estimate that fahw makes."""
    assumed: str | None = None
    """What is assumed without a source, and why."""
