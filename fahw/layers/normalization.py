"""Batch norms: a unit that computes in floating point, declared so, between words of the chip's formats."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from fahw.layers.layer import Entry, LaneOperation, Layer, TorchCall, TorchOperation
from fahw.layers.schema import Named, WithParameters
from fahw.layers.unit import Array, Unit
from fahw.optimizers import FLOAT_BITS

EPS = 1e-5
"""Added to a variance."""
MOMENTUM = 0.1
"""Share of a batch's statistics in the running ones."""


class BatchNorm1dSpec(WithParameters):
    """A batch norm over features, with a scale and a shift each."""

    kind: Literal["batchnorm1d"]


class BatchNorm2dSpec(WithParameters):
    """A batch norm over the channels of images, with a scale and a shift each."""

    kind: Literal["batchnorm2d"]


def _from_torch(call: TorchCall) -> tuple[Entry, ...]:
    call.check({"affine": True, "track_running_stats": True})
    return ({},)


def _batch_norm(module: str) -> tuple[TorchOperation, ...]:
    """A module of torch.nn; its eps and momentum are not read."""
    return (TorchOperation(_from_torch, modules=(module,), options=("affine", "track_running_stats")),)


class BatchNorm(Layer):
    """Every channel less the batch's mean, over its deviation, times a scale, plus a shift."""

    saves: ClassVar[Literal["nothing", "output", "inputs"]] = "inputs"
    rereads_input: ClassVar[bool] = True

    @property
    def params(self) -> int:
        """A scale and a shift per channel."""
        return 2 * self.in_shape[0]

    @property
    def scales(self) -> int:
        """The scale of every channel."""
        return self.in_shape[0]

    @property
    def statistics(self) -> int:
        """Mean and inverse deviation of every channel."""
        return 2 * self.in_shape[0]

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """Sums of values and of squares; then a product and a sum per value, by the channel's constants."""
        return _float(multiply=2 * self.outputs, add=3 * self.outputs)

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """Sums of errors and of errors times values; then two products and two sums per value."""
        return _float(multiply=3 * self.outputs, add=4 * self.outputs)

    def forward_constants(self) -> tuple[LaneOperation, ...]:
        """Per channel: mean, variance and inverse deviation, the two constants, the running statistics."""
        channels = self.in_shape[0]
        return _float(multiply=10 * channels, add=5 * channels, root=channels, divide=channels)

    def error_constants(self) -> tuple[LaneOperation, ...]:
        """Per channel: the gradient of the scale, and three constants."""
        return _float(multiply=9 * self.in_shape[0], add=2 * self.in_shape[0])

    def repeated_operations(self) -> tuple[LaneOperation, ...]:
        """A product and a sum per value, by the channel's constants."""
        return _float(multiply=self.outputs, add=self.outputs)

    def repeated_constants(self) -> tuple[LaneOperation, ...]:
        """Per channel: the two constants, from mean, inverse deviation, scale and shift."""
        return _float(multiply=2 * self.in_shape[0], add=self.in_shape[0])

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, Array]:
        """The normalised values; the input is saved."""
        return unit.normalised(self, parameters, inputs[0]), inputs[0]

    def backward(self, unit: Unit, parameters: Any, saved: Array, error: Array) -> tuple[list[Array], Any]:
        """The error through the batch's statistics, and the gradient sums of scale and shift."""
        below, gradient = unit.normalised_error(self, parameters, saved, error)
        return [below], gradient


class BatchNorm1d(BatchNorm):
    """A batch norm over features."""

    kind: ClassVar[str] = "batchnorm1d"
    spec: ClassVar[type[Named]] = BatchNorm1dSpec
    axes: ClassVar[int | None] = 1
    axes_advice: ClassVar[str] = "use batchnorm2d"
    torch: ClassVar[tuple[TorchOperation, ...]] = _batch_norm("BatchNorm1d")


class BatchNorm2d(BatchNorm):
    """A batch norm over the channels of images."""

    kind: ClassVar[str] = "batchnorm2d"
    spec: ClassVar[type[Named]] = BatchNorm2dSpec
    axes: ClassVar[int | None] = 3
    torch: ClassVar[tuple[TorchOperation, ...]] = _batch_norm("BatchNorm2d")


def _float(**counts: int) -> tuple[LaneOperation, ...]:
    """Operations of the float unit, by their names."""
    return tuple(LaneOperation(f"float_{name}", count, (FLOAT_BITS,)) for name, count in counts.items())
