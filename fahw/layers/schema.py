"""What the schemas of all layers in a model file have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fahw.config.schema import MOST_NAME_CHARACTERS, Frozen

Size = Annotated[int, Field(ge=1, le=10_000_000)]
Span = Annotated[int, Field(ge=1, le=10_000)]
Pair = Span | tuple[Span, Span]
Pad = Annotated[int, Field(ge=0, le=10_000)]
Padding = Pad | tuple[Pad, Pad]


LayerName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.]*$", max_length=MOST_NAME_CHARACTERS)]


class Named(Frozen):
    """What every layer can have."""

    kind: str
    name: LayerName | None = None
    """Kind and number (`linear1`, `conv2`) where not given."""
    from_: LayerName | Annotated[tuple[LayerName, ...], Field(min_length=1, max_length=64)] | None = Field(
        default=None, alias="from"
    )
    """The layer that it reads, `input` for the sample itself; the layer before where not given. A list for a layer that
    joins several."""
