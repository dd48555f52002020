"""Windows over images: sizes of what a convolution or pooling yields, and why one does not fit its input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd, prod
from typing import Any, NamedTuple, Protocol

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


class _Axis(NamedTuple):
    """One axis of a layer's windows: pixels of the image, number of windows, and what a window is like."""

    size: int
    windows: int
    taps: int
    stride: int
    padding: int
    dilation: int
    mode: str


def windows_overlap(layer: Windowed) -> bool:
    """Whether any pixel of the image lies in two windows, or twice in one, so that errors there are added up."""
    return prod(map(_most_uses, _axes(layer))) > 1


def padding_share(layer: Windowed) -> float:
    """The share of the places of all windows that hold zeros of the padding."""
    if layer.padding_mode != "zeros" or not any(layer.padding):
        return 0.0
    real = prod(sum(map(len, _pixels(axis))) for axis in _axes(layer))
    return 1 - real / prod((*layer.out_shape[1:], *layer.kernel))


def _axes(layer: Windowed) -> list[_Axis]:
    """Both axes of the layer's windows."""
    sizes, windows = layer.in_shape[1:], layer.out_shape[1:]
    return [
        _Axis(
            sizes[axis], windows[axis], layer.kernel[axis], layer.stride[axis], layer.padding[axis],
            layer.dilation[axis], layer.padding_mode,
        )
        for axis in range(2)
    ]  # fmt: skip


def _most_uses(axis: _Axis) -> int:
    """How often the windows along an axis use the pixel that they use most: never (0), once, or more often (2)."""
    copies = axis.padding and axis.mode != "zeros"  # the padding holds pixels of the image
    step = gcd(axis.stride, axis.dilation)
    places_meet = axis.dilation // step < axis.windows and axis.stride // step < axis.taps  # those of two windows
    if not (places_meet or copies):
        return int(any(map(len, _pixels(axis))))
    seen = set[int]()
    for pixels in _pixels(axis):
        if not seen.isdisjoint(pixels) or len(set(pixels)) < len(pixels):
            return 2
        seen.update(pixels)
    return int(bool(seen))


def _pixels(axis: _Axis) -> Iterator[Sequence[int]]:
    """Yield the pixels of every window along an axis, one window after the other."""
    for start in range(-axis.padding, axis.stride * axis.windows - axis.padding, axis.stride):
        if axis.mode == "zeros":
            first, end = max(0, -(start // axis.dilation)), start + axis.dilation * axis.taps
            yield range(start + axis.dilation * first, min(axis.size, end), axis.dilation)
        else:
            yield [_copied_pixel(start + axis.dilation * tap, axis.size, axis.mode) for tap in range(axis.taps)]


def _copied_pixel(place: int, size: int, mode: str) -> int:
    """The pixel that lies at a place of the padded axis, counted from the image's first."""
    if mode == "circular":
        return place % size
    if mode == "reflect":
        place = abs(place)
        return place if place < size else 2 * (size - 1) - place
    return min(max(place, 0), size - 1)


def as_pair(value: int | tuple[int, int]) -> Pair:
    """The value for both axes, where a single number stands for both."""
    return (value, value) if isinstance(value, int) else value


def torch_pair(value: Any) -> Pair:
    """A size option of torch, one number or a sequence of one or two, for both axes."""
    if isinstance(value, int):
        return value, value
    first, *others = value
    return int(first), int(others[0] if others else first)
