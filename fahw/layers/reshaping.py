"""Layers that move values and change none: flatten, and the residual shortcut without weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal, Self

from fahw.layers.layer import Layer, Misfit, Pair, Shape
from fahw.layers.schema import Named, Size
from fahw.layers.schema import Pair as PairSpec
from fahw.layers.unit import Array, Unit
from fahw.layers.windows import as_pair, output_sizes


class FlattenSpec(Named):
    """All values of a sample in one row."""

    kind: Literal["flatten"]


class ShortcutSpec(Named):
    """The residual shortcut without weights: every `stride`-th pixel, with channels of zeros on both sides.

    Source: option A of He et al. 2016 (arXiv 1512.03385), section 4.2.
    """

    kind: Literal["shortcut"]
    out: Size
    stride: PairSpec = 1


@dataclass(frozen=True)
class Flatten(Layer):
    """All values of a sample in one row."""

    kind: ClassVar[str] = "flatten"
    spec: ClassVar[type[Named]] = FlattenSpec
    in_golden_vectors: ClassVar[bool] = True
    same_values: ClassVar[bool] = True

    @classmethod
    def make(cls, spec: Named, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The layer on any input."""
        return cls(name, shapes, (prod(shapes[0]),), sources)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, None]:
        """The same values."""
        return unit.reshaped(inputs[0], self.out_shape), None

    def backward(self, unit: Unit, parameters: Any, saved: None, error: Array) -> tuple[list[Array], None]:
        """The same errors."""
        return [unit.reshaped(error, self.in_shape)], None


@dataclass(frozen=True)
class Shortcut(Layer):
    """Every `stride`-th pixel, with channels of zeros on both sides."""

    stride: Pair = (1, 1)

    kind: ClassVar[str] = "shortcut"
    spec: ClassVar[type[Named]] = ShortcutSpec
    axes: ClassVar[int | None] = 3

    @classmethod
    def make(cls, spec: ShortcutSpec, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The shortcut from images. Raises Misfit for fewer output channels than they have."""
        shape, stride = shapes[0], as_pair(spec.stride)
        if spec.out < shape[0]:
            raise Misfit(f"a shortcut adds channels, it cannot turn {shape[0]} into {spec.out}")
        sizes = output_sizes("shortcut", shape, (1, 1), stride, (0, 0))
        return cls(name, shapes, (spec.out, *sizes), sources, stride)

    @property
    def zero_channels(self) -> Pair:
        """How many channels of zeros lie before and behind those that are read."""
        added = self.out_shape[0] - self.in_shape[0]
        return added // 2, added - added // 2

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, None]:
        """The picked pixels and the zeros."""
        return unit.with_zero_channels(unit.subsampled(inputs[0], self.stride), *self.zero_channels), None

    def backward(self, unit: Unit, parameters: Any, saved: None, error: Array) -> tuple[list[Array], None]:
        """The errors of the picked pixels; those of the zeros go nowhere."""
        before, _ = self.zero_channels
        picked = unit.channels(error, before, before + self.in_shape[0])
        return [unit.spread_out(picked, self.stride, self.in_shape)], None
