"""Number formats of a datapath: how many bits each kind of tensor has, and how values are rounded into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from fahw.config.schema import Frozen
from fahw.formats.catalogue import FORMATS, number_format
from fahw.formats.number import Number

if TYPE_CHECKING:
    FormatName: TypeAlias = str
    SumName: TypeAlias = str
else:
    FormatName = Literal[tuple(FORMATS)]
    SumName = Literal[tuple(name for name, form in FORMATS.items() if form.accumulates)]
Width = Annotated[
    Annotated[int, Field(ge=1, le=16)] | FormatName,
    AfterValidator(lambda width: 1 if width == "binary" else width),
]
Rounding = Literal["nearest", "floor", "stochastic"]
Scale = Annotated[int, Field(ge=-64, le=64)] | Literal["static", "per_tensor"]
ChannelScale = Scale | Literal["per_channel"]
TENSORS = ("weight", "feedback", "activation", "error", "gradient", "master", "optimizer", "accumulator")
"""The kinds of tensors, each of which has a format of its own."""
_OPERANDS = ("weight", "feedback", "activation", "error")
_SCALABLE = ("weight", "activation", "error")
"""Tensors whose scale can be a given number while the step still runs in integers."""


class Scaling(Frozen):
    """Where the power of two of a fixed-point tensor comes from.

    `static`: the recipe's ranges, once before training. A whole number: so many fraction bits in every layer.
    `per_tensor`: the leading one of the tensor's largest magnitude, found anew whenever the tensor is written (block
    floating point). `per_channel`: the same for every output of a layer (for feedback, every input) on its own.
    """

    weight: ChannelScale = "static"
    """A given one holds for the master too, which keeps the weight's range."""
    feedback: ChannelScale = "static"
    activation: Scale = "static"
    """Of the outputs of weighted layers."""
    error: Scale = "static"
    """Of the errors of hidden layers; a dynamic scale is the output error's too."""
    gradient: ChannelScale = "static"
    master: ChannelScale = "static"
    optimizer: ChannelScale = "static"

    def is_dynamic(self, tensor: str) -> bool:
        """Whether the scale of `tensor` is found anew from its values."""
        return getattr(self, tensor, "static") in ("per_tensor", "per_channel")

    def fraction_bits(self, tensor: str, default: int) -> int:
        """The fraction bits that are given for `tensor`, or `default` where its scale is not a number."""
        scale = getattr(self, tensor)
        return scale if isinstance(scale, int) else default


class Precision(Frozen):
    """A number format for each kind of tensor: a width of 1 to 16 bits for fixed point, or a name (`ternary`,
    `fp8_e4m3`, `bf16`, ...).

    With fixed point alone and scales that are not dynamic, training is bit-true and fast; all `fp32` is plain single
    precision; everything else is emulated, every operand and result rounded to its format.
    """

    weight: Width = 8
    """Forward weights as the array reads them."""
    feedback: Width = 8
    """Feedback weights: the transported copy, or the rule's own matrix."""
    activation: Width = 8
    error: Width = 8
    gradient: Width = 16
    """Weight gradient of a batch, rounded once from the accumulator."""
    master: Width = 16
    """The wide copy of a weight that the update works on; biases have this format too."""
    optimizer: Width = 16
    """Momentum (velocity)."""
    accumulator: Annotated[int, Field(ge=8, le=48)] | SumName = 32
    """Two's complement; wraps. A float where an operand is one."""
    scale: Scaling = Scaling()

    @property
    def is_float(self) -> bool:
        """Whether the whole datapath computes in fp32."""
        return all(getattr(self, tensor) == "fp32" for tensor in TENSORS)

    @property
    def is_integer(self) -> bool:
        """Whether every number is an integer times a power of two that is known before training."""
        scale = self.scale
        return all(isinstance(getattr(self, tensor), int) for tensor in TENSORS) and all(
            getattr(scale, tensor) == "static" or (tensor in _SCALABLE and not scale.is_dynamic(tensor))
            for tensor in Scaling.model_fields
        )

    def number(self, tensor: str) -> Number:
        """The number format of the kind `tensor`, one of `TENSORS`."""
        return number_format(getattr(self, tensor))

    def bits(self, tensor: str) -> int:
        """The stored width of one value of `tensor`, in bits."""
        return self.number(tensor).bits

    def is_dynamic(self, tensor: str) -> bool:
        """Whether the unit of `tensor` is found anew from its values whenever it is written."""
        return self.scale.is_dynamic(tensor) or (tensor in TENSORS and self.number(tensor).follows_values)

    def is_static(self, tensor: str) -> bool:
        """Whether `tensor` is in words whose unit is known before training."""
        return not self.number(tensor).has_exponent and not self.is_dynamic(tensor)

    @model_validator(mode="after")
    def _consistent(self) -> Precision:
        problems = list(_contradictions(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _contradictions(precision: Precision) -> Iterator[str]:
    """Yield every reason why the formats do not fit together."""
    floats = [tensor for tensor in _OPERANDS if precision.number(tensor).has_exponent]
    if floats and isinstance(precision.accumulator, int):
        formats = ", ".join(f"{tensor} {getattr(precision, tensor)}" for tensor in floats)
        yield (
            f"an accumulator of {precision.accumulator} bits of fixed point cannot add up floats ({formats}): "
            "make it fp32, or these fixed point"
        )
    master, weight = precision.number("master"), precision.number("weight")
    if master.has_exponent == weight.has_exponent and master.bits < weight.bits:
        yield f"master has {master.bits} bits, fewer than the weight's {weight.bits}"
    for tensor in Scaling.model_fields:
        form = precision.number(tensor)
        if form.own_scale and getattr(precision.scale, tensor) != "static":
            yield f"scale.{tensor}: {form.label} {form.own_scale} and takes no scale"


FP32 = Precision(
    weight="fp32",
    feedback="fp32",
    activation="fp32",
    error="fp32",
    gradient="fp32",
    master="fp32",
    optimizer="fp32",
    accumulator="fp32",
)


class RoundingModes(Frozen):
    """How values are rounded into their format. `stochastic` draws its bits from the chip's rounding LFSR."""

    activation: Rounding = "nearest"
    error: Rounding = "stochastic"
    output_error: Rounding | None = None
    """Of the softmax's quotients; as `error` where not given. Nearest drops what is less than half a unit: the errors
    of a sample no longer add up to zero, all logits drift together, and where they saturate training collapses."""
    gradient: Rounding = "nearest"
    update: Rounding = "stochastic"
    """Rounding of the velocity and of the master weight."""
    random_bits: Annotated[int, Field(ge=1, le=16)] = 8
    """Random bits of one stochastic rounding."""

    @property
    def of_output_error(self) -> Rounding:
        """The rounding of the output error: as `error` where none is given."""
        return self.output_error or self.error
