"""Layers as geometry: shapes, parameters and multiply-accumulates; no weights, no arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

Kind = Literal[
    "linear", "conv2d", "maxpool2d", "avgpool2d", "flatten", "relu", "tanh", "sigmoid", "hardtanh", "dropout",
    "batchnorm1d", "batchnorm2d", "add", "shortcut",
]  # fmt: skip
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Shape = tuple[int, ...]
Pair = tuple[int, int]
WEIGHTED: frozenset[str] = frozenset({"linear", "conv2d"})
"""Kinds that have weights."""
NORMS: frozenset[str] = frozenset({"batchnorm1d", "batchnorm2d"})
"""Kinds that are batch norms."""
IMAGES: frozenset[str] = frozenset({"conv2d", "maxpool2d", "avgpool2d", "batchnorm2d", "shortcut"})
"""Kinds that take `(channels, height, width)`."""
ROWS: frozenset[str] = frozenset({"linear", "batchnorm1d"})
"""Kinds that take `(features,)`."""
INPUT = "input"
"""The source of a layer that reads the sample itself."""


@dataclass(frozen=True)
class Layer:
    """One layer. Shapes are per sample: `(features,)` or `(channels, height, width)`.

    `in_shape` is that of one source; those of an `add` are all alike. `sources` names the layers it reads, `("input",)`
    for the sample itself; empty in a layer made by hand, which stands for the layer before. `dropout`: probability that
    a value is set to zero. `kernel` of a `shortcut` is (1, 1): it reads every `stride`-th pixel.
    """

    name: str
    kind: Kind
    in_shape: Shape
    out_shape: Shape
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    bias: bool = True
    groups: int = 1
    dilation: Pair = (1, 1)
    padding_mode: PaddingMode = "zeros"
    dropout: float = 0.0
    sources: tuple[str, ...] = ()

    @property
    def weighted(self) -> bool:
        """Whether the layer has weights (linear, conv2d)."""
        return self.kind in WEIGHTED

    @property
    def inputs(self) -> int:
        """Number of values in one sample's input, from one source."""
        return prod(self.in_shape)

    @property
    def outputs(self) -> int:
        """Number of values in one sample's output."""
        return prod(self.out_shape)

    @property
    def positions(self) -> int:
        """Number of places where the weights are applied to one sample: output pixels of a conv2d, 1 for linear."""
        return prod(self.out_shape[1:])

    @property
    def window(self) -> int:
        """Number of inputs of one output: in_features of a linear layer, channels of a group x kernel of a conv2d."""
        return self.in_shape[0] // self.groups * prod(self.kernel)

    @property
    def weight_shape(self) -> Shape:
        """`(out, in)` or `(out, in / groups, kernel height, kernel width)`; empty for a layer without weights."""
        if not self.weighted:
            return ()
        kernel = self.kernel if self.kind == "conv2d" else ()
        return (self.out_shape[0], self.in_shape[0] // self.groups, *kernel)

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return prod(self.weight_shape) if self.weighted else 0

    @property
    def biases(self) -> int:
        """Number of biases."""
        return self.out_shape[0] if self.weighted and self.bias else 0

    @property
    def params(self) -> int:
        """Number of trained parameters of a batch norm, a scale and a shift per channel; 0 for other layers."""
        return 2 * self.in_shape[0] if self.kind in NORMS else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's forward pass, biases not counted."""
        return self.weights * self.positions

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


def output_size(in_size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """The output size of a convolution or pooling along one axis."""
    return (in_size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
