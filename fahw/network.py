"""Networks as geometry: layers with their shapes, parameters and multiply-accumulates; no weights, no arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod, sqrt
from pathlib import Path
from typing import Literal

from fahw.config.load import Overrides, Place, load_model_file
from fahw.config.model import Conv2dSpec, LayerSpec, LinearSpec, Model, PlainSpec, PoolSpec
from fahw.config.precision import Precision
from fahw.config.recipe import Recipe
from fahw.errors import ConfigError, Problem

Kind = Literal["linear", "conv2d", "maxpool2d", "avgpool2d", "flatten", "relu", "tanh"]
Shape = tuple[int, ...]
WEIGHTED: frozenset[str] = frozenset({"linear", "conv2d"})
_TAKEN = ("input", "loss")


@dataclass(frozen=True)
class Layer:
    """One layer. Shapes are per sample: `(features,)` or `(channels, height, width)`."""

    name: str
    kind: Kind
    in_shape: Shape
    out_shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    bias: bool = True

    @property
    def weighted(self) -> bool:
        """Whether the layer has weights (linear, conv2d)."""
        return self.kind in WEIGHTED

    @property
    def inputs(self) -> int:
        """Values in one sample's input."""
        return prod(self.in_shape)

    @property
    def outputs(self) -> int:
        """Values in one sample's output."""
        return prod(self.out_shape)

    @property
    def positions(self) -> int:
        """Places where the weights are applied to one sample: output pixels of a conv2d, 1 for linear."""
        return prod(self.out_shape[1:])

    @property
    def window(self) -> int:
        """Inputs of one output: in_features of a linear layer, channels x kernel of a conv2d."""
        return self.in_shape[0] * prod(self.kernel)

    @property
    def weight_shape(self) -> Shape:
        """`(out, in)` or `(out, in, kernel height, kernel width)`; empty for a layer without weights."""
        if not self.weighted:
            return ()
        return (self.out_shape[0], self.in_shape[0], *(self.kernel if self.kind == "conv2d" else ()))

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return prod(self.weight_shape) if self.weighted else 0

    @property
    def biases(self) -> int:
        """Number of biases."""
        return self.out_shape[0] if self.weighted and self.bias else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's forward pass, biases not counted."""
        return self.weights * self.positions

    @property
    def fans(self) -> tuple[int, int]:
        """Fan in and fan out of the weights, the kernel's area included."""
        area = prod(self.kernel)
        return self.in_shape[0] * area, self.out_shape[0] * area

    @property
    def xavier_bound(self) -> float:
        """Bound of the uniform initial draw. Source: Glorot and Bengio 2010, equation 16."""
        return sqrt(6 / sum(self.fans))

    @property
    def xavier_std(self) -> float:
        """Standard deviation of the uniform initial draw."""
        return sqrt(2 / sum(self.fans))


@dataclass(frozen=True)
class Network:
    """A chain of layers. `input_shape` is one sample's; the last layer is linear and yields one logit per class.

    `recipe` and `precision` are what the model file recommends for training; geometry does not depend on them.
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    recipe: Recipe = field(default_factory=Recipe)
    precision: Precision | None = None

    @property
    def weighted(self) -> tuple[Layer, ...]:
        """The layers with weights, first to last."""
        return tuple(layer for layer in self.layers if layer.weighted)

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.layers[-1].outputs

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(layer.weights + layer.biases for layer in self.layers)

    def between(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers without weights that lie directly below `layer`, first to last."""
        end = self.layers.index(layer)
        start = end
        while start > 0 and not self.layers[start - 1].weighted:
            start -= 1
        return self.layers[start:end]


def spatial(in_size: int, kernel: int, stride: int, padding: int) -> int:
    """Output size of a convolution or pooling along one axis."""
    return (in_size + 2 * padding - kernel) // stride + 1


def feedback_shape(layer: Layer, outputs: int, direct: bool) -> Shape:
    """Shape of the matrix that sends the error to the input of `layer`.

    As its weight where the error goes layer by layer; `(outputs, values of one input sample)` where it comes straight
    from the output (Nøkland 2016, the `dense` form).
    """
    return (outputs, layer.inputs) if direct else layer.weight_shape


def load_model(name: str | Path, overrides: Overrides | None = None) -> Network:
    """The network of a model file or of a shipped model, `overrides` (dotted key: YAML text) applied first.

    Raises ConfigError with every problem as file:line:col, shapes that do not fit included.
    """
    model = load_model_file(name, overrides, _shape_problems)
    layers = tuple(item for item in _layers(model) if isinstance(item, Layer))
    return Network(model.name, model.input, layers, model.recipe, model.precision)


def _shape_problems(model: Model, place: Place) -> Iterator[Problem]:
    layers: list[Layer] = []
    for index, item in enumerate(_layers(model)):
        if not isinstance(item, Layer):
            yield Problem(place(("layers", index)), item, f"layers.{index}")
            return
        if item.name in _TAKEN:
            message = f"no layer can be called '{item.name}': reports use it for what belongs to no layer"
            yield Problem(place(("layers", index)), message, f"layers.{index}.name")
        if item.name in {layer.name for layer in layers}:
            yield Problem(place(("layers", index)), f"the name '{item.name}' is taken", f"layers.{index}.name")
        layers.append(item)
    if layers[-1].kind != "linear":
        message = f"the last layer must be linear, one output per class (got {layers[-1].kind})"
        yield Problem(place(("layers", len(layers) - 1)), message)


def _layers(model: Model) -> Iterator[Layer | str]:
    """The layers in order; in the place of the first that does not fit its input, what is wrong with it."""
    shape: Shape = model.input
    counts: dict[str, int] = {}
    for spec in model.layers:
        counts[spec.kind] = counts.get(spec.kind, 0) + 1
        try:
            layer = make_layer(spec, spec.name or f"{spec.kind}{counts[spec.kind]}", shape)
        except ConfigError as error:
            yield error.problems[0].message
            return
        yield layer
        shape = layer.out_shape


def make_layer(spec: LayerSpec, name: str, shape: Shape) -> Layer:
    """The layer that `spec` describes, on an input of `shape`. Raises ConfigError where the input does not fit."""
    if isinstance(spec, PlainSpec):
        return Layer(name, spec.kind, shape, (prod(shape),) if spec.kind == "flatten" else shape)
    if isinstance(spec, LinearSpec):
        if len(shape) != 1:
            raise ConfigError(Problem(name, f"linear needs a flat input, gets {list(shape)}: put a flatten before it"))
        return Layer(name, "linear", shape, (spec.out,), bias=spec.bias)
    if len(shape) != 3:
        message = f"{spec.kind} needs an input of [channels, height, width], gets {list(shape)}"
        raise ConfigError(Problem(name, message))
    return _spatial_layer(spec, name, shape)


def _spatial_layer(spec: Conv2dSpec | PoolSpec, name: str, shape: Shape) -> Layer:
    kernel = _pair(spec.kernel)
    stride = _pair(spec.stride or kernel)
    padding = _pair(spec.padding) if isinstance(spec, Conv2dSpec) else (0, 0)
    sizes = tuple(spatial(*axis) for axis in zip(shape[1:], kernel, stride, padding, strict=True))
    if min(sizes) < 1:
        message = f"{spec.kind} with kernel {list(kernel)} does not fit its input of {list(shape)}"
        raise ConfigError(Problem(name, message))
    channels, bias = (spec.out, spec.bias) if isinstance(spec, Conv2dSpec) else (shape[0], False)
    return Layer(name, spec.kind, shape, (channels, *sizes), kernel, stride, padding, bias)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
