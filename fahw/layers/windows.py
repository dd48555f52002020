"""Windows over images: sizes of what a convolution or pooling yields, and why one does not fit its input."""

from __future__ import annotations

from typing import Any, Protocol

from fahw.layers.layer import Misfit, Pair, Shape


class Windowed(Protocol):
    """A layer that goes over images by windows: a convolution, a pooling."""

    def __hash__(self) -> int:
        """Layers are values."""

    @property
    def in_shape(self) -> Shape:
        """The shape of the input, (channels, height, width)."""

    @property
    def out_shape(self) -> Shape:
        """The shape of the output, (channels, height, width)."""

    @property
    def kernel(self) -> Pair:
        """Height and width of a window."""

    @property
    def stride(self) -> Pair:
        """Pixels from one window to the next, along both axes."""

    @property
    def padding(self) -> Pair:
        """Pixels that are added on both sides of both axes."""

    @property
    def dilation(self) -> Pair:
        """Pixels from one tap of a window to the next."""

    @property
    def padding_mode(self) -> str:
        """What the padding holds: `zeros`, or the image's own pixels, `reflect`, `replicate`, `circular`."""


def output_size(in_size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """The output size of a convolution or pooling along one axis."""
    return (in_size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def output_sizes(
    kind: str, shape: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> Shape:  # fmt: skip
    """Height and width of the output. Raises Misfit where the kernel is larger than the padded input."""
    axes = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
    sizes = tuple(output_size(*axis) for axis in axes)
    if min(sizes) < 1:
        and_dilation = f" and dilation {list(dilation)}" if dilation != (1, 1) else ""
        raise Misfit(f"{kind} with kernel {list(kernel)}{and_dilation} does not fit its input of {list(shape)}")
    return sizes


def as_pair(value: int | tuple[int, int]) -> Pair:
    """The value for both axes, where a single number stands for both."""
    return (value, value) if isinstance(value, int) else value


def torch_pair(value: Any) -> Pair:
    """A size option of torch, one number or a sequence of one or two, for both axes."""
    if isinstance(value, int):
        return value, value
    first, *others = value
    return int(first), int(others[0] if others else first)
