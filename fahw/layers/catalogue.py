"""The kinds of layers by name, and layers made from the specifications of a model file. A new kind is a line here."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fahw.errors import ConfigError, Problem
from fahw.layers.activation import Hardtanh, Relu, Relu6, Sigmoid, Silu, Tanh
from fahw.layers.convolution import Conv2d
from fahw.layers.dropout import Dropout
from fahw.layers.joining import Add, Concat, Mul
from fahw.layers.layer import Layer, Misfit, Shape
from fahw.layers.normalization import BatchNorm1d, BatchNorm2d
from fahw.layers.pooling import AvgPool2d, MaxPool2d, SumPool2d
from fahw.layers.reshaping import Flatten, Shortcut
from fahw.layers.schema import Named, WithParameters
from fahw.layers.weighted import Linear

KINDS: dict[str, type[Layer]] = {
    kind.kind: kind
    for kind in (
        Linear, Conv2d,
        MaxPool2d, AvgPool2d, SumPool2d,
        Flatten, Shortcut,
        Relu, Tanh, Sigmoid, Hardtanh, Relu6, Silu,
        Dropout,
        BatchNorm1d, BatchNorm2d,
        Add, Mul, Concat,
    )
}  # fmt: skip

if TYPE_CHECKING:
    LayerSpec = Named
else:
    LayerSpec = Annotated[reduce(or_, (kind.spec for kind in KINDS.values())), Field(discriminator="kind")]


def make_layer(spec: LayerSpec, name: str, *shapes: Shape, sources: tuple[str, ...] = ()) -> Layer:
    """The layer that `spec` describes, on inputs of `shapes`, one per source.

    Raises ConfigError with what is wrong where the inputs do not fit.
    """
    kind = KINDS[spec.kind]
    try:
        _check_inputs(kind, shapes)
        layer = kind.make(spec, name, shapes, sources)
    except Misfit as misfit:
        raise ConfigError(Problem(name, str(misfit))) from None
    return replace(layer, frozen=True) if isinstance(spec, WithParameters) and spec.frozen else layer


def examples() -> tuple[Layer, ...]:
    """A small layer of every kind, on 4 features or an image of 2 channels and 4 x 4 pixels; two of them where the kind
    joins layers. The keys that its schema requires are 2."""
    return tuple(_example(kind) for kind in KINDS.values())


def _example(kind: type[Layer]) -> Layer:
    required = {name: 2 for name, key in kind.spec.model_fields.items() if key.is_required() and name != "kind"}
    shape = (4,) if kind.axes == 1 else (2, 4, 4)
    spec = kind.spec.model_validate({"kind": kind.kind} | required)
    return make_layer(spec, kind.kind, *[shape] * min(2, kind.most_sources))


def _check_inputs(kind: type[Layer], shapes: tuple[Shape, ...]) -> None:
    """Raise Misfit unless a layer of this kind takes inputs of this number and of so many axes."""
    if len(shapes) > kind.most_sources:
        joining = [other.kind for other in KINDS.values() if other.most_sources >= len(shapes)]
        advice = f"; an {' or '.join(joining)} joins several" if kind.most_sources == 1 else ""
        count = "one layer" if kind.most_sources == 1 else f"at most {kind.most_sources} layers"
        raise Misfit(f"{kind.kind} reads {count}, not {len(shapes)}{advice}")
    if kind.axes is not None and any(len(shape) != kind.axes for shape in shapes):
        needed = "a flat input" if kind.axes == 1 else "an input of [channels, height, width]"
        advice = f": {kind.axes_advice}" if kind.axes_advice else ""
        raise Misfit(f"{kind.kind} needs {needed}, gets {list(shapes[0])}{advice}")
