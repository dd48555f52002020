"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from fahw.layers.layer import VALUE, Entry, LaneOperation, Layer, Shape, TorchCall, TorchOperation
from fahw.layers.schema import Named
from fahw.layers.unit import Array, Unit

DRAW_BITS = 8
"""Random bits that decide whether a value is dropped."""


class DropoutSpec(Named):
    """Sets values to zero at random in training, and scales the others so that the mean stays."""

    kind: Literal["dropout"]
    p: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Probability that a value is set to zero."""


def _from_torch(call: TorchCall) -> tuple[Entry, ...]:
    return ({"p": float(call.options.get("p", 0.5))},)


@dataclass(frozen=True)
class Dropout(Layer):
    """Values set to zero at random in training."""

    probability: float = 0.0

    kind: ClassVar[str] = "dropout"
    spec: ClassVar[type[Named]] = DropoutSpec
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _from_torch,
            modules=("Dropout",),
            functions=("torch.nn.functional.dropout",),
            options=("p", "training", "inplace"),
        ),
    )

    @classmethod
    def make(cls, spec: DropoutSpec, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The layer that drops values with the probability `spec.p`."""
        return cls(name, shapes, shapes[0], sources, spec.p)

    @property
    def mask_bits(self) -> int:
        """A bit per value: whether it was dropped."""
        return self.outputs

    @property
    def draws(self) -> int:
        """Every value."""
        return self.outputs

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """The comparison of a random byte, and a product with the factor of those that stay."""
        return (
            LaneOperation("compare", self.outputs, (DRAW_BITS,)),
            LaneOperation("multiply", self.outputs, (VALUE, VALUE)),
        )

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """A comparison with the stored bit, and a product with the same factor."""
        return LaneOperation("compare", self.outputs), LaneOperation("multiply", self.outputs, (VALUE, VALUE))

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, Array | None]:
        """The values times their factors, which are saved."""
        factors = unit.drop_factors(self, inputs[0], self.probability)
        return (inputs[0] if factors is None else unit.scaled(self, inputs[0], factors)), factors

    def backward(self, unit: Unit, parameters: Any, saved: Array | None, error: Array) -> tuple[list[Array], None]:
        """The errors times the same factors."""
        return [error if saved is None else unit.scaled_error(error, saved)], None
