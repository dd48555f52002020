"""Layers with weights: what all have in common, the window that each output is a sum over, and fully connected ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt
from typing import Any, ClassVar, Literal, Self

from fahw.layers.layer import Entry, Layer, Pair, Shape, TorchCall, TorchOperation
from fahw.layers.schema import Named, Size, WithParameters
from fahw.layers.unit import Array, Unit

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


@dataclass(frozen=True)
class Weighted(Layer):
    """A layer with weights and biases: each output is a sum over a window of inputs.

    A linear layer's window is its whole input, at one place.
    """

    bias: bool = True

    weighted: ClassVar[bool] = True
    in_golden_vectors: ClassVar[bool] = True
    convolutional: ClassVar[bool] = False
    """Whether the weights are applied at many places of an image."""
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    dilation: Pair = (1, 1)
    padding_mode: PaddingMode = "zeros"

    @cached_property
    def positions(self) -> int:
        """Number of places where the weights are applied to one sample: output pixels of a convolution, else 1."""
        return prod(self.out_shape[1:])

    @cached_property
    def window(self) -> int:
        """Number of inputs of one output: channels of a group x kernel."""
        return self.in_shape[0] // self.groups * prod(self.kernel)

    @property
    def weight_shape(self) -> Shape:
        """`(out, in)`, or `(out, in / groups, kernel height, kernel width)` of a convolution."""
        return (self.out_shape[0], self.in_shape[0] // self.groups)

    @cached_property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return prod(self.weight_shape)

    @property
    def biases(self) -> int:
        """Number of biases."""
        return self.out_shape[0] if self.bias else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's forward pass, biases not counted."""
        return self.weights * self.positions

    @property
    def overlapping(self) -> bool:
        """Whether windows share inputs, so that the error path adds into them."""
        return False

    @property
    def padding_share(self) -> float:
        """The share of its multiply-accumulates that take a zero of the padding."""
        return 0.0

    @property
    def fans(self) -> Pair:
        """The (fan in, fan out) of the weights, the kernel's area included; a group's fan out counts all outputs, as
        torch's initialisers do."""
        return self.window, self.out_shape[0] * prod(self.kernel)

    @property
    def xavier_bound(self) -> float:
        """Bound of the uniform initial draw. Source: Glorot and Bengio 2010, equation 16."""
        return sqrt(6 / sum(self.fans))

    @property
    def xavier_std(self) -> float:
        """Standard deviation of the uniform initial draw."""
        return sqrt(2 / sum(self.fans))

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, Array]:
        """The outputs; the input as products read it is saved for the gradient.

        The way back is the step's: the rule decides what the error goes through.
        """
        operand = unit.operand(self, inputs[0])
        return unit.weighted(self, parameters, operand), operand


class LinearSpec(WithParameters):
    """A fully connected layer."""

    kind: Literal["linear"]
    out: Size
    bias: bool = True


def _from_torch(call: TorchCall) -> tuple[Entry, ...]:
    return ({"out": int(call.options["out_features"]), "bias": call.options["bias"] is not None},)


class Linear(Weighted):
    """y = W x + b."""

    kind: ClassVar[str] = "linear"
    spec: ClassVar[type[Named]] = LinearSpec
    axes: ClassVar[int | None] = 1
    axes_advice: ClassVar[str] = "put a flatten before it"
    ends_network: ClassVar[bool] = True
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(_from_torch, modules=("Linear",), options=("out_features", "bias")),
    )

    @classmethod
    def make(cls, spec: LinearSpec, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The layer of `spec.out` outputs."""
        return cls(name, shapes, (spec.out,), sources, bias=spec.bias)
