"""Layers that join several others: sums, products, one behind the other."""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import prod
from typing import Any, ClassVar, Literal, Self

from fahw.layers.layer import VALUE, Entry, LaneOperation, Layer, Misfit, Shape, TorchCall, TorchOperation
from fahw.layers.schema import Named
from fahw.layers.unit import Array, Unit


class AddSpec(Named):
    """The sum of two layers or more."""

    kind: Literal["add"]


class MulSpec(Named):
    """The product of two layers, value by value; one of them may have a single pixel per channel, as a gate."""

    kind: Literal["mul"]


class ConcatSpec(Named):
    """The channels (or features) of two layers or more, one behind the other."""

    kind: Literal["concat"]


class Joining(Layer):
    """A layer that reads several others."""

    most_sources: ClassVar[int] = 64


def _sum_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    call.check({"alpha": 1})
    if len(set(call.in_shapes)) > 1:
        raise Misfit(f"adds shapes {' and '.join(str(shape) for shape in call.in_shapes)}; one is needed")
    return ({},)


class Add(Joining):
    """The sum of several layers."""

    kind: ClassVar[str] = "add"
    spec: ClassVar[type[Named]] = AddSpec
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _sum_of_torch,
            functions=("operator.add", "operator.iadd", "torch.add"),
            methods=("add", "add_"),
            inputs=2,
            options=("alpha",),
            note="two tensors of one shape",
        ),
    )

    @classmethod
    def make(cls, spec: Named, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The sum of inputs of one shape. Raises Misfit for one input, and for several shapes."""
        if len(shapes) < 2:
            raise Misfit("add needs two layers or more: from: [a, b]")
        if len(set(shapes)) > 1:
            raise Misfit(f"add needs inputs of one shape, gets {' and '.join(str(list(shape)) for shape in shapes)}")
        return cls(name, shapes, shapes[0], sources)

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """An addition for every input but the first."""
        return (LaneOperation("add", self.outputs * (len(self.in_shapes) - 1)),)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, None]:
        """The sum."""
        return unit.added(self, inputs), None

    def backward(self, unit: Unit, parameters: Any, saved: None, error: Array) -> tuple[list[Array], None]:
        """The error, for every input."""
        return [error, *(unit.copied(error) for _ in self.in_shapes[1:])], None


class Mul(Joining):
    """The product of two layers, value by value. A gate has one pixel per channel, which multiplies the whole image."""

    kind: ClassVar[str] = "mul"
    spec: ClassVar[type[Named]] = MulSpec
    most_sources: ClassVar[int] = 2
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            functions=("operator.mul", "operator.imul", "torch.mul"),
            methods=("mul", "mul_"),
            inputs=2,
            note="two tensors of one shape, or one of them with a pixel per channel",
        ),
    )
    saves: ClassVar[Literal["nothing", "output", "inputs"]] = "inputs"

    @classmethod
    def make(cls, spec: Named, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The product of two inputs. Raises Misfit unless one has the other's shape, or one pixel per channel."""
        if len(shapes) != 2:
            raise Misfit("mul needs two layers: from: [a, b]")
        large, small = sorted(shapes, key=prod, reverse=True)
        if small != large and (len(large) != 3 or small != (large[0], 1, 1)):
            one_pixel = f", or one with a pixel per channel, [{large[0]}, 1, 1]" if len(large) == 3 else ""
            given = " and ".join(str(list(shape)) for shape in shapes)
            raise Misfit(f"mul needs two inputs of one shape{one_pixel}; gets {given}")
        return cls(name, shapes, large, sources)

    def fraction_bits(self, all_bits: int, sources: list[int]) -> int:
        """So many that the product of the largest words does not saturate: by a gate from 0 to 1, those of the
        other."""
        return sum(sources) - all_bits

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """A product per value."""
        return (LaneOperation("multiply", self.outputs, (VALUE, VALUE)),)

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """A product per value and input; sums over the image for a gate."""
        repeated = sum(self.outputs - prod(shape) for shape in self.in_shapes)
        return LaneOperation("multiply", 2 * self.outputs, (VALUE, VALUE)), LaneOperation("add", repeated)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, list[Array]]:
        """The product; both inputs are saved."""
        return unit.multiplied(self, inputs), inputs

    def backward(self, unit: Unit, parameters: Any, saved: list[Array], error: Array) -> tuple[list[Array], None]:
        """The error times the other input, for each."""
        return [unit.times_values(self, error, saved, number) for number in (0, 1)], None


def _concatenation_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    axes = len(call.out_shape) + 1
    if call.options.get("dim", 0) % axes != 1:
        raise Misfit(f"joins along axis {call.options.get('dim', 0)}; supported: 1, the channels or features")
    return ({},)


class Concat(Joining):
    """The channels (or features) of several layers, one behind the other, in the coarsest format of them."""

    kind: ClassVar[str] = "concat"
    spec: ClassVar[type[Named]] = ConcatSpec
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _concatenation_of_torch,
            functions=("torch.cat", "torch.concat", "torch.concatenate"),
            options=("dim",),
            note="along the channels or features",
        ),
    )

    @classmethod
    def make(cls, spec: Named, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The inputs joined. Raises Misfit for one input, and for images of several sizes."""
        if len(shapes) < 2:
            raise Misfit("concat needs two layers or more: from: [a, b]")
        if len({shape[1:] for shape in shapes}) > 1:
            given = " and ".join(str(list(shape)) for shape in shapes)
            raise Misfit(f"concat needs images of one size, gets {given}")
        return cls(name, shapes, (sum(shape[0] for shape in shapes), *shapes[0][1:]), sources)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, None]:
        """The joined values."""
        return unit.joined(self, inputs), None

    def backward(self, unit: Unit, parameters: Any, saved: None, error: Array) -> tuple[list[Array], None]:
        """Each input's part of the error, as an array of its own."""
        edges = [0, *accumulate(shape[0] for shape in self.in_shapes)]
        return [unit.copied(unit.channels(error, start, stop)) for start, stop in pairwise(edges)], None
