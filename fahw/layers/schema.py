"""The schema of a layer in a model file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fahw.config.schema import Frozen

Size = Annotated[int, Field(ge=1, le=10_000_000)]
Span = Annotated[int, Field(ge=1, le=10_000)]
Pair = Span | tuple[Span, Span]
Pad = Annotated[int, Field(ge=0, le=10_000)]
Padding = Pad | tuple[Pad, Pad]


LayerName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.]*$")]


class Named(Frozen):
    """What every layer can have."""

    name: LayerName | None = None
    """Kind and number (`linear1`, `conv2`) where not given."""
    from_: LayerName | Annotated[tuple[LayerName, ...], Field(min_length=1, max_length=64)] | None = Field(
        default=None, alias="from"
    )
    """The layer that it reads, `input` for the sample itself; the layer before where not given. A list for `add`."""


class LinearSpec(Named):
    """A fully connected layer."""

    kind: Literal["linear"]
    out: Size
    bias: bool = True


class Conv2dSpec(Named):
    """A two-dimensional convolution."""

    kind: Literal["conv2d"]
    out: Size
    kernel: Pair
    stride: Pair = 1
    padding: Padding | Literal["same"] = 0
    """Zeros on both sides of an axis; `same` keeps the image size (stride 1, padding even)."""
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    dilation: Pair = 1
    groups: Span = 1
    """Channels fall into this many groups that do not see each other; `out` and the input's channels divide by it."""
    bias: bool = True


class PoolSpec(Named):
    """Maximum or average pooling; the stride is the kernel where not given. Averages count the padding's zeros."""

    kind: Literal["maxpool2d", "avgpool2d"]
    kernel: Pair | Literal["all"]
    """`all`: the whole image, which leaves one value per channel."""
    stride: Pair | None = None
    padding: Padding = 0
    """At most half the kernel."""


class DropoutSpec(Named):
    """Sets values to zero at random in training, and scales the others so that the mean stays."""

    kind: Literal["dropout"]
    p: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Probability that a value is set to zero."""


class ShortcutSpec(Named):
    """The residual shortcut without weights: every `stride`-th pixel, with channels of zeros on both sides.

    Source: option A of He et al. 2016 (arXiv 1512.03385), section 4.2.
    """

    kind: Literal["shortcut"]
    out: Size
    stride: Pair = 1


class PlainSpec(Named):
    """A layer with nothing to choose; a batch norm has a scale and a shift per channel."""

    kind: Literal["flatten", "relu", "tanh", "sigmoid", "hardtanh", "batchnorm1d", "batchnorm2d", "add"]


LayerSpec = Annotated[
    LinearSpec | Conv2dSpec | PoolSpec | DropoutSpec | ShortcutSpec | PlainSpec, Field(discriminator="kind")
]
