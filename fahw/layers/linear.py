"""Fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from fahw.layers.layer import Entry, Shape, TorchCall, TorchOperation
from fahw.layers.schema import Named, Size
from fahw.layers.weighted import Weighted


class LinearSpec(Named):
    """A fully connected layer."""

    kind: Literal["linear"]
    out: Size
    bias: bool = True


def _from_torch(call: TorchCall) -> tuple[Entry, ...]:
    return ({"out": int(call.options["out_features"]), "bias": call.options["bias"] is not None},)


@dataclass(frozen=True)
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
