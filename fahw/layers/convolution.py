"""Two-dimensional convolutions."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Literal, Self

from fahw.layers.layer import Entry, Misfit, Pair, Shape, TorchCall, TorchOperation
from fahw.layers.schema import Named, Padding, Size, Span, WithParameters
from fahw.layers.schema import Pair as PairSpec
from fahw.layers.weighted import Weighted
from fahw.layers.windows import as_pair, output_sizes, padding_share, torch_pair, windows_overlap


class Conv2dSpec(WithParameters):
    """A two-dimensional convolution."""

    kind: Literal["conv2d"]
    out: Size
    kernel: PairSpec
    stride: PairSpec = 1
    padding: Padding | Literal["same"] = 0
    """Zeros on both sides of an axis; `same` keeps the image size (stride 1, padding even)."""
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    dilation: PairSpec = 1
    groups: Span = 1
    """Channels fall into this many groups that do not see each other; `out` and the input's channels divide by it."""
    bias: bool = True


def _from_torch(call: TorchCall) -> tuple[Entry, ...]:
    options = call.options
    padding = 0 if options["padding"] == "valid" else options["padding"]
    entry: Entry = {"out": int(options["out_channels"]), "groups": int(options["groups"])}
    entry |= {"padding": padding if padding == "same" else torch_pair(padding), "padding_mode": options["padding_mode"]}
    entry |= {"kernel": torch_pair(options["kernel_size"]), "stride": torch_pair(options["stride"])}
    return (entry | {"dilation": torch_pair(options["dilation"]), "bias": options["bias"] is not None},)


class Conv2d(Weighted):
    """The correlation of an image with kernels."""

    kind: ClassVar[str] = "conv2d"
    spec: ClassVar[type[Named]] = Conv2dSpec
    axes: ClassVar[int | None] = 3
    convolutional: ClassVar[bool] = True
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _from_torch,
            modules=("Conv2d",),
            options=(
                "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
            ),
        ),
    )  # fmt: skip

    @classmethod
    def make(cls, spec: Conv2dSpec, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The convolution on images. Raises Misfit for groups, padding or a kernel that do not fit them."""
        shape, kernel, stride, dilation = shapes[0], as_pair(spec.kernel), as_pair(spec.stride), as_pair(spec.dilation)
        padding = _same_padding(kernel, stride, dilation) if spec.padding == "same" else as_pair(spec.padding)
        for what, channels in (("input", shape[0]), ("output", spec.out)):
            if channels % spec.groups:
                raise Misfit(f"groups of {spec.groups} do not divide its {channels} {what} channels")
        # Padding can repeat only pixels that the image has: these are torch's own limits.
        limits = {"reflect": [size - 1 for size in shape[1:]], "circular": list(shape[1:])}.get(spec.padding_mode)
        if limits and any(pad > limit for pad, limit in zip(padding, limits, strict=True)):
            message = f"padding {list(padding)} is too large for {spec.padding_mode} on an input of {list(shape)}"
            raise Misfit(message)
        sizes = output_sizes("conv2d", shape, kernel, stride, padding, dilation)
        return cls(
            name, shapes, (spec.out, *sizes), sources, spec.bias, kernel, stride, padding, spec.groups, dilation,
            spec.padding_mode,
        )  # fmt: skip

    @property
    def weight_shape(self) -> Shape:
        """`(out, in / groups, kernel height, kernel width)`."""
        return (self.out_shape[0], self.in_shape[0] // self.groups, *self.kernel)

    @cached_property
    def overlapping(self) -> bool:
        """Whether windows share inputs, so that the error path adds into them."""
        return windows_overlap(self)

    @cached_property
    def padding_share(self) -> float:
        """The share of its multiply-accumulates that take a zero of the padding."""
        return padding_share(self)


def _same_padding(kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """The padding on each side that keeps the image size."""
    total = [size * (taps - 1) for size, taps in zip(dilation, kernel, strict=True)]
    if stride != (1, 1):
        raise Misfit(f"padding 'same' goes with stride 1 only (stride is {list(stride)})")
    if any(size % 2 for size in total):
        raise Misfit(f"pads unevenly (padding 'same' with kernel {kernel}); supported: the same on both sides")
    return total[0] // 2, total[1] // 2
