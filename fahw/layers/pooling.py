"""Maximum and average pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal, Self

from fahw.layers.layer import (
    VALUE,
    Entry,
    LaneOperation,
    Layer,
    Misfit,
    Pair,
    Shape,
    TorchCall,
    TorchOperation,
)
from fahw.layers.schema import Named, Padding
from fahw.layers.schema import Pair as PairSpec
from fahw.layers.unit import Array, Unit
from fahw.layers.windows import as_pair, output_size, output_sizes, torch_pair


class PoolSpec(Named):
    """A pooling over windows; the stride is the kernel where not given. Sums and means count the padding's zeros."""

    kernel: PairSpec | Literal["all"]
    """`all`: the whole image, which leaves one value per channel."""
    stride: PairSpec | None = None
    padding: Padding = 0
    """At most half the kernel."""


class MaxPool2dSpec(PoolSpec):
    """The largest value of every window."""

    kind: Literal["maxpool2d"]


class AvgPool2dSpec(PoolSpec):
    """The mean of every window."""

    kind: Literal["avgpool2d"]


class SumPool2dSpec(PoolSpec):
    """The sum of every window."""

    kind: Literal["sumpool2d"]


@dataclass(frozen=True)
class Pooling(Layer):
    """One value per channel for every window."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    axes: ClassVar[int | None] = 3
    in_golden_vectors: ClassVar[bool] = True
    dilation: ClassVar[Pair] = (1, 1)
    padding_mode: ClassVar[str] = "zeros"

    @classmethod
    def make(cls, spec: PoolSpec, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The pooling of images. Raises Misfit for a padding or a kernel that does not fit them."""
        shape, covers_image = shapes[0], spec.kernel == "all"
        kernel = (shape[1], shape[2]) if spec.kernel == "all" else as_pair(spec.kernel)
        stride, padding = as_pair(spec.stride or kernel), as_pair(spec.padding)
        if covers_image and (spec.stride is not None or padding != (0, 0)):
            raise Misfit("kernel 'all' takes neither stride nor padding: one window covers the image")
        if any(2 * pad > size for pad, size in zip(padding, kernel, strict=True)):
            raise Misfit(f"padding {list(padding)} is more than half the kernel {list(kernel)}")
        sizes = output_sizes(cls.kind, shape, kernel, stride, padding)
        return cls(name, shapes, (shape[0], *sizes), sources, kernel, stride, padding)

    @property
    def area(self) -> int:
        """Number of values in a window."""
        return prod(self.kernel)

    @property
    def overlaps(self) -> int:
        """How many values of a sample's windows lie on a pixel that an earlier window has too."""
        axes = zip(self.in_shape[1:], self.out_shape[1:], self.kernel, self.stride, self.padding, strict=True)
        places = [_places(*axis) for axis in axes]
        values, pixels = prod(map(len, places)), prod(len(set(axis)) for axis in places)
        return self.in_shape[0] * (values - pixels)


def _places(in_size: int, out_size: int, kernel: int, stride: int, padding: int) -> list[int]:
    """The pixels of all windows along one axis, window by window, the padding left out."""
    starts = (stride * number - padding for number in range(out_size))
    return [place for start in starts for place in range(max(0, start), min(in_size, start + kernel))]


def _windows_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    """A pooling over windows whose number is rounded down and whose means count the padding's zeros."""
    kernel = torch_pair(call.options["kernel_size"])
    stride, padding = torch_pair(call.options.get("stride") or kernel), torch_pair(call.options.get("padding", 0))
    dilation = torch_pair(call.options.get("dilation", 1))
    with_pairs = call._replace(options=call.options | {"dilation": dilation})
    counts_zeros = {"count_include_pad": True} if padding != (0, 0) else {}
    with_pairs.check({"dilation": (1, 1), "return_indices": False, "divisor_override": None} | counts_zeros)
    sizes = tuple(output_size(*axis) for axis in zip(call.image[1:], kernel, stride, padding, strict=True))
    if call.out_shape[1:] != sizes:
        raise Misfit(f"yields {call.out_shape[1:]} pixels, not {sizes}; ceil_mode is not supported")
    return ({"kernel": kernel, "stride": stride, "padding": padding},)


def _regions_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    """A pooling to a given number of pixels, which divides the image's."""
    pixels = call.image[1:]
    sizes = call.options["output_size"]
    counts = [sizes] * 2 if isinstance(sizes, int | None) else sizes
    wanted = tuple(count or size for count, size in zip(counts, pixels, strict=True))
    if any(size % count for size, count in zip(pixels, wanted, strict=True)):
        raise Misfit(f"pools {pixels} pixels to {wanted}; supported: sizes that divide")
    return ({"kernel": tuple(size // count for size, count in zip(pixels, wanted, strict=True))},)


def _mean_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    """A mean over the image: one window, and without `keepdim` a flatten to a row."""
    axes = call.options.get("dim")
    named = sorted(axis % 4 for axis in axes) if isinstance(axes, Sequence) else axes
    if len(call.in_shapes[0]) != 3 or named != [2, 3]:
        raise Misfit(f"averages over {axes}; supported: both axes of the image, (2, 3)")
    image: Entry = {"kernel": "all"}
    return (image,) if call.options.get("keepdim", False) else (image, {"kind": "flatten"})


class MaxPool2d(Pooling):
    """The largest value of every window; the error goes to the first of them."""

    kind: ClassVar[str] = "maxpool2d"
    spec: ClassVar[type[Named]] = MaxPool2dSpec
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _windows_of_torch,
            modules=("MaxPool2d",),
            functions=("torch.nn.functional.max_pool2d", "torch.max_pool2d"),
            options=("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        ),
    )

    @property
    def mask_bits(self) -> int:
        """The place of every maximum in its window."""
        return self.outputs * (self.area - 1).bit_length()

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """A comparison for every value but the first."""
        return (LaneOperation("compare", self.outputs * (self.area - 1)),)

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """A comparison per error, with the place that was stored; where windows overlap an addition too, as another
        window may have the same maximum."""
        added = self.outputs if self.overlaps else 0
        return LaneOperation("compare", self.outputs), LaneOperation("add", added)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, Array]:
        """The maxima, and where they lay."""
        return unit.window_maxima(self, inputs[0])

    def backward(self, unit: Unit, parameters: Any, saved: Array, error: Array) -> tuple[list[Array], None]:
        """Each error at the place of its maximum."""
        return [unit.error_at_maxima(self, error, saved)], None


class AvgPool2d(Pooling):
    """The mean of every window."""

    kind: ClassVar[str] = "avgpool2d"
    spec: ClassVar[type[Named]] = AvgPool2dSpec
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _windows_of_torch,
            modules=("AvgPool2d",),
            functions=("torch.nn.functional.avg_pool2d",),
            options=("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
        ),
        TorchOperation(
            _regions_of_torch,
            modules=("AdaptiveAvgPool2d",),
            functions=("torch.nn.functional.adaptive_avg_pool2d",),
            options=("output_size",),
        ),
        TorchOperation(
            _mean_of_torch,
            functions=("torch.mean",),
            methods=("mean",),
            options=("dim", "keepdim"),
            note="over the image",
        ),
    )

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """The sum of the window, and a product with the reciprocal of its area."""
        return (
            LaneOperation("add", self.outputs * (self.area - 1)),
            LaneOperation("multiply", self.outputs, (VALUE, VALUE)),
        )

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """A product with the reciprocal of the area; an addition for each value of a window at a pixel that has one."""
        return LaneOperation("multiply", self.outputs, (VALUE, VALUE)), LaneOperation("add", self.overlaps)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, None]:
        """The means; nothing is saved."""
        return unit.window_means(self, inputs[0]), None

    def backward(self, unit: Unit, parameters: Any, saved: None, error: Array) -> tuple[list[Array], None]:
        """The error over the area, at every pixel of its window."""
        return [unit.error_over_windows(self, unit.error_share(error, self.area))], None


def _powers_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    """A pooling of powers, of which the first is a sum."""
    call.check({"norm_type": 1, "ceil_mode": False})
    kernel = torch_pair(call.options["kernel_size"])
    return ({"kernel": kernel, "stride": torch_pair(call.options.get("stride") or kernel)},)


class SumPool2d(Pooling):
    """The sum of every window, saturated at the format of what is read: no product, as event-driven chips pool."""

    kind: ClassVar[str] = "sumpool2d"
    spec: ClassVar[type[Named]] = SumPool2dSpec
    in_golden_vectors: ClassVar[bool] = False
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _powers_of_torch,
            modules=("LPPool2d",),
            functions=("torch.nn.functional.lp_pool2d",),
            options=("norm_type", "kernel_size", "stride", "ceil_mode"),
            note="with norm_type 1",
        ),
    )

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """An addition for every value but the first."""
        return (LaneOperation("add", self.outputs * (self.area - 1)),)

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """An addition for each value of a window at a pixel that has one."""
        return (LaneOperation("add", self.overlaps),)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, None]:
        """The sums; nothing is saved."""
        return unit.window_sums(self, inputs[0]), None

    def backward(self, unit: Unit, parameters: Any, saved: None, error: Array) -> tuple[list[Array], None]:
        """The error at every pixel of its window."""
        return [unit.error_over_windows(self, error)], None
