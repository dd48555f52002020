"""Fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from fahw.layers.layer import Shape
from fahw.layers.schema import Named, Size
from fahw.layers.weighted import Weighted


class LinearSpec(Named):
    """A fully connected layer."""

    kind: Literal["linear"]
    out: Size
    bias: bool = True


@dataclass(frozen=True)
class Linear(Weighted):
    """y = W x + b."""

    kind: ClassVar[str] = "linear"
    spec: ClassVar[type[Named]] = LinearSpec
    axes: ClassVar[int | None] = 1
    axes_advice: ClassVar[str] = "put a flatten before it"
    ends_network: ClassVar[bool] = True

    @classmethod
    def make(cls, spec: LinearSpec, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The layer of `spec.out` outputs."""
        return cls(name, shapes, (spec.out,), sources, bias=spec.bias)
