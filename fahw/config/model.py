"""The schema of a model file: the layers of a network and how it is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from fahw.config.precision import Frozen, Precision
from fahw.config.recipe import Recipe

Size = Annotated[int, Field(ge=1, le=10_000_000)]
Span = Annotated[int, Field(ge=1, le=10_000)]
Pair = Span | tuple[Span, Span]
Pad = Annotated[int, Field(ge=0, le=10_000)]
Padding = Pad | tuple[Pad, Pad]


class Named(Frozen):
    """What every layer can have."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.]*$")] | None = None
    """Kind and number (`linear1`, `conv2`) where not given."""


class LinearSpec(Named):
    """A fully connected layer."""

    kind: Literal["linear"]
    out: Size
    bias: bool = True


class Conv2dSpec(Named):
    """A two-dimensional convolution, zero padded."""

    kind: Literal["conv2d"]
    out: Size
    kernel: Pair
    stride: Pair = 1
    padding: Padding = 0
    bias: bool = True


class PoolSpec(Named):
    """Maximum or average pooling; the stride is the kernel where not given."""

    kind: Literal["maxpool2d", "avgpool2d"]
    kernel: Pair
    stride: Pair | None = None


class PlainSpec(Named):
    """A layer without parameters of any kind."""

    kind: Literal["flatten", "relu", "tanh"]


LayerSpec = Annotated[LinearSpec | Conv2dSpec | PoolSpec | PlainSpec, Field(discriminator="kind")]


class Model(Frozen):
    """A network and its training recipe."""

    model_config = ConfigDict(title="Model")

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    description: str = ""
    source: str | None = None
    input: tuple[Size, ...] = Field(min_length=1, max_length=3)
    """Shape of one sample: `[features]` or `[channels, height, width]`."""
    layers: tuple[LayerSpec, ...] = Field(min_length=1, max_length=2000)
    precision: Precision | None = None
    """Formats for training without a chip; a chip's own formats win."""
    recipe: Recipe = Recipe()
