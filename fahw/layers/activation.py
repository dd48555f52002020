"""Activations: functions of one value each."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from fahw.formats.functions import Function, Functions
from fahw.layers.layer import VALUE, Entry, LaneOperation, Layer, TorchCall, TorchOperation
from fahw.layers.schema import Named
from fahw.layers.unit import Array, Unit


class ReluSpec(Named):
    """max(0, x)."""

    kind: Literal["relu"]


class HardtanhSpec(Named):
    """x between -1 and 1, and these outside."""

    kind: Literal["hardtanh"]


class Relu6Spec(Named):
    """x between 0 and 6, and these outside."""

    kind: Literal["relu6"]


class TanhSpec(Named):
    """The hyperbolic tangent."""

    kind: Literal["tanh"]


class SigmoidSpec(Named):
    """1 / (1 + exp(-x))."""

    kind: Literal["sigmoid"]


class Limited(Layer):
    """The identity between `low` and `high`: outside, the output stays and no error comes back."""

    low: ClassVar[int]
    high: ClassVar[int | None]
    """None: unlimited; words saturate at the top of their format, and the error sees that as a limit."""

    @property
    def mask_bits(self) -> int:
        """A bit per value: whether the error passes."""
        return self.outputs

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """A comparison with each limit."""
        return (LaneOperation("compare", self.outputs * (1 if self.high is None else 2)),)

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """A comparison with the stored bit."""
        return (LaneOperation("compare", self.outputs),)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, Array]:
        """The limited values, which are saved too."""
        output = unit.clamped(self, inputs[0], self.low, self.high)
        return output, output

    def backward(self, unit: Unit, parameters: Any, saved: Array, error: Array) -> tuple[list[Array], None]:
        """The errors of the values inside."""
        return [unit.passed(self, error, saved, self.low, self.high)], None


class Relu(Limited):
    """max(0, x)."""

    kind: ClassVar[str] = "relu"
    spec: ClassVar[type[Named]] = ReluSpec
    in_golden_vectors: ClassVar[bool] = True
    low: ClassVar[int] = 0
    high: ClassVar[int | None] = None
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            modules=("ReLU",),
            functions=("torch.nn.functional.relu", "torch.nn.functional.relu_", "torch.relu", "torch.relu_"),
            methods=("relu", "relu_"),
            options=("inplace",),
        ),
    )


def _between_one_and_one(call: TorchCall) -> tuple[Entry, ...]:
    call.check({"min_val": -1.0, "max_val": 1.0})
    return ({},)


class Hardtanh(Limited):
    """x between -1 and 1, and these outside."""

    kind: ClassVar[str] = "hardtanh"
    spec: ClassVar[type[Named]] = HardtanhSpec
    low: ClassVar[int] = -1
    high: ClassVar[int | None] = 1
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _between_one_and_one,
            modules=("Hardtanh",),
            functions=("torch.nn.functional.hardtanh",),
            options=("min_val", "max_val", "inplace"),
            note="from -1 to 1",
        ),
    )


class Relu6(Limited):
    """x between 0 and 6, and these outside."""

    kind: ClassVar[str] = "relu6"
    spec: ClassVar[type[Named]] = Relu6Spec
    low: ClassVar[int] = 0
    high: ClassVar[int | None] = 6
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(modules=("ReLU6",), functions=("torch.nn.functional.relu6",), options=("inplace",)),
    )

    def backward(self, unit: Unit, parameters: Any, saved: Array, error: Array) -> tuple[list[Array], None]:
        """The errors of the values inside; as with a ReLU not of the top word, where words end below 6."""
        below = unit.passed(self, error, saved, self.low, None)
        return [unit.passed(self, below, saved, self.low, self.high)], None


class Squashing(Layer):
    """A function whose values lie between -1 and 1 and whose derivative is a polynomial of them."""

    saves: ClassVar[Literal["nothing", "output", "inputs"]] = "output"

    @staticmethod
    def value(functions: Functions, x: Any) -> Any:
        """The function."""
        raise NotImplementedError

    @staticmethod
    def derivative(functions: Functions, output: Any) -> Any:
        """The derivative, from the function's value."""
        raise NotImplementedError

    @property
    def table(self) -> Function | None:
        """The function itself."""
        return self.value

    def fraction_bits(self, all_bits: int, sources: list[int]) -> int:
        """All bits lie behind the point: no value is larger than 1."""
        return all_bits

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """A table look-up."""
        return (LaneOperation("table", self.outputs),)

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """The derivative takes a product and a difference; the error is multiplied by it."""
        return (LaneOperation("multiply", 2 * self.outputs, (VALUE, VALUE)), LaneOperation("subtract", self.outputs))

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, Array]:
        """The values, which are saved too."""
        output = unit.function(self, inputs[0], self.value)
        return output, output

    def backward(self, unit: Unit, parameters: Any, saved: Array, error: Array) -> tuple[list[Array], None]:
        """The errors times the derivative."""
        return [unit.times_derivative(self, error, saved, self.derivative)], None


class Tanh(Squashing):
    """The hyperbolic tangent."""

    kind: ClassVar[str] = "tanh"
    spec: ClassVar[type[Named]] = TanhSpec
    in_golden_vectors: ClassVar[bool] = True
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            modules=("Tanh",),
            functions=("torch.nn.functional.tanh", "torch.tanh"),
            methods=("tanh", "tanh_"),
        ),
    )

    @staticmethod
    def value(functions: Functions, x: Any) -> Any:
        """tanh x."""
        return functions.tanh(x)

    @staticmethod
    def derivative(functions: Functions, output: Any) -> Any:
        """1 - y^2."""
        return 1 - output * output


class Sigmoid(Squashing):
    """1 / (1 + exp(-x))."""

    kind: ClassVar[str] = "sigmoid"
    spec: ClassVar[type[Named]] = SigmoidSpec
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            modules=("Sigmoid",),
            functions=("torch.nn.functional.sigmoid", "torch.sigmoid"),
            methods=("sigmoid", "sigmoid_"),
        ),
    )

    @staticmethod
    def value(functions: Functions, x: Any) -> Any:
        """1 / (1 + exp(-x))."""
        return functions.sigmoid(x)

    @staticmethod
    def derivative(functions: Functions, output: Any) -> Any:
        """y (1 - y)."""
        return output * (1 - output)


class SiluSpec(Named):
    """x times its sigmoid (swish)."""

    kind: Literal["silu"]


class Silu(Layer):
    """x times its sigmoid; the derivative is looked up from the input, which is saved.

    Source: Elfwing, Uchibe and Doya 2018 (arXiv 1702.03118).
    """

    kind: ClassVar[str] = "silu"
    spec: ClassVar[type[Named]] = SiluSpec
    saves: ClassVar[Literal["nothing", "output", "inputs"]] = "inputs"
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(modules=("SiLU",), functions=("torch.nn.functional.silu",), options=("inplace",)),
    )

    @staticmethod
    def value(functions: Functions, x: Any) -> Any:
        """x s(x)."""
        return x * functions.sigmoid(x)

    @staticmethod
    def derivative(functions: Functions, x: Any) -> Any:
        """s (1 + x (1 - s))."""
        gate = functions.sigmoid(x)
        return gate * (1 + x * (1 - gate))

    @property
    def table(self) -> Function | None:
        """The function itself."""
        return self.value

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """A table look-up."""
        return (LaneOperation("table", self.outputs),)

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """A look-up of the derivative, and a product."""
        return LaneOperation("table", self.outputs), LaneOperation("multiply", self.outputs, (VALUE, VALUE))

    def forward(self, unit: Unit, parameters: Any, inputs: list[Array]) -> tuple[Array, Array]:
        """The values; the input is saved."""
        return unit.function(self, inputs[0], self.value), inputs[0]

    def backward(self, unit: Unit, parameters: Any, saved: Array, error: Array) -> tuple[list[Array], None]:
        """The errors times the derivative."""
        return [unit.times_function(self, error, saved, self.derivative)], None
