"""A layer of a network: its geometry, what it costs on the lanes, and what it computes in the operations of a `Unit`.

Each kind is a subclass, in a module of its family. Shapes are per sample: `(features,)` or `(channels, height, width)`.
No weights, no arithmetic: these are the `Unit`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple, Self

from fahw.formats.functions import Function
from fahw.layers.schema import Named
from fahw.layers.unit import Unit

Shape = tuple[int, ...]
Pair = tuple[int, int]
INPUT = "input"
"""The source of a layer that reads the sample itself."""
VALUE = "value"
"""The width of a lane operation on words of the format that is at hand: activations forward, errors back."""


class LaneOperation(NamedTuple):
    """How often the lanes do something: the action as the ledger names it, the count, and the operands' widths in bits
    (`VALUE`: the format's at hand)."""

    action: str
    times: int
    widths: tuple[int | str, ...] = (VALUE,)


class Misfit(Exception):  # noqa: N818
    """A layer does not fit its inputs; the text says why."""


Entry = dict[str, Any]
"""What a model file says of a layer."""


class TorchCall(NamedTuple):
    """One use of a torch operation: its options by name, and the shapes of its inputs and its result, per sample."""

    options: dict[str, Any]
    in_shapes: tuple[Shape, ...]
    out_shape: Shape

    @property
    def image(self) -> Shape:
        """The shape of the first input, (channels, height, width). Raises Misfit where that is no image."""
        if len(self.in_shapes[0]) != 3:
            raise Misfit(f"takes images of 3 axes per sample, here it gets {self.in_shapes[0]}")
        return self.in_shapes[0]

    def check(self, supported: dict[str, Any]) -> None:
        """Raise Misfit with every option that is given and has not the value of `supported`."""
        unsupported = [
            f"{name}={self.options[name]} (supported: {value})"
            for name, value in supported.items()
            if self.options.get(name, value) != value
        ]
        if unsupported:
            raise Misfit(f"has {', '.join(unsupported)}")


def _without_options(call: TorchCall) -> tuple[Entry, ...]:
    """One layer, of which a model file says nothing but its kind."""
    return ({},)


@dataclass(frozen=True)
class TorchOperation:
    """Modules, functions and methods of torch that a layer stands for, alike in their options. All are named by text,
    so that layers load no torch."""

    entries: Callable[[TorchCall], tuple[Entry, ...]] = _without_options
    """What a model file says of the layers that do the same, first to last, mostly one; of the kind that has the
    operation where an entry has no `kind`. Raises Misfit with the reason where there are none."""
    modules: tuple[str, ...] = ()
    """Names in `torch.nn`."""
    functions: tuple[str, ...] = ()
    """Names with their package: `torch.relu`, `operator.add`."""
    methods: tuple[str, ...] = ()
    """Names of a tensor's methods."""
    inputs: int = 1
    """Number of leading arguments that hold the tensors; a list of tensors is one."""
    options: tuple[str, ...] = ()
    """Names of the arguments behind them, in order, and of a module's attributes. What is not named is not read."""
    note: str = ""
    """What of the functions and methods is supported, where not all is."""


@dataclass(frozen=True)
class Layer:
    """One layer; `in_shapes` has one shape per source.

    `sources` names the layers it reads, `("input",)` for the sample itself; empty in a layer made by hand, which stands
    for the layer before. What a kind does not say is as here: no parameters, nothing kept for the way back, no
    operations.
    """

    name: str
    in_shapes: tuple[Shape, ...]
    out_shape: Shape
    sources: tuple[str, ...] = ()
    frozen: bool = field(default=False, kw_only=True)
    """Whether its parameters, if it has any, stay as they are drawn."""

    kind: ClassVar[str]
    """The name in model files and reports."""
    spec: ClassVar[type[Named]]
    """The schema in model files."""
    most_sources: ClassVar[int] = 1
    """The largest number of layers that one of this kind reads; several where it joins them."""
    axes: ClassVar[int | None] = None
    """Number of axes of a sample that it takes; None: any."""
    axes_advice: ClassVar[str] = ""
    """What to do about an input with other axes."""
    weighted: ClassVar[bool] = False
    """Whether it has weights, through which a rule sends the error back; see `fahw.layers.weighted`."""
    ends_network: ClassVar[bool] = False
    """Whether it can be a network's last, whose outputs are the logits."""
    saves: ClassVar[Literal["nothing", "output", "inputs"]] = "nothing"
    """What its way back reads again besides mask bits."""
    rereads_input: ClassVar[bool] = False
    """Whether it goes over its input twice on the way forward, so that the input goes to memory in any case."""
    same_values: ClassVar[bool] = False
    """Whether its output is its input, in another shape."""
    in_golden_vectors: ClassVar[bool] = False
    """Whether golden vectors describe it."""
    torch: ClassVar[tuple[TorchOperation, ...]] = ()
    """The torch operations that it is captured from."""

    @classmethod
    def make(cls, spec: Any, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The layer that `spec` describes, on inputs of `shapes`. Raises Misfit where they do not fit."""
        return cls(name, shapes, shapes[0], sources)

    def fused_with(self, below: Layer) -> Layer | None:
        """One layer that does what `below` and then this one do, None where there is none."""
        return None

    @property
    def in_shape(self) -> Shape:
        """The shape of the first input."""
        return self.in_shapes[0]

    @cached_property
    def inputs(self) -> int:
        """Number of values in one sample's input, from the first source."""
        return prod(self.in_shape)

    @cached_property
    def outputs(self) -> int:
        """Number of values in one sample's output."""
        return prod(self.out_shape)

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return 0

    @property
    def biases(self) -> int:
        """Number of biases."""
        return 0

    @property
    def params(self) -> int:
        """Number of other trained parameters: a scale and a shift per channel of a batch norm."""
        return 0

    @property
    def scales(self) -> int:
        """Number of those parameters that the error is multiplied by on its way back."""
        return 0

    @property
    def statistics(self) -> int:
        """Number of values of the whole batch, 32-bit floats, that the way back reads again."""
        return 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's forward pass, biases not counted."""
        return 0

    @property
    def trained(self) -> bool:
        """Whether the layer has parameters, which a training changes unless it is frozen."""
        return self.weighted or self.params > 0

    @property
    def table(self) -> Function | None:
        """The function that the lanes look up in a table, None where they look up none."""
        return None

    @property
    def saved_inputs(self) -> tuple[int, ...]:
        """Values per sample of the inputs that the way back reads again, by source; 0 for those that it does not."""
        return tuple(prod(shape) if self.saves == "inputs" else 0 for shape in self.in_shapes)

    @property
    def saved_outputs(self) -> int:
        """Values per sample of the output that the way back reads again."""
        return self.outputs if self.saves == "output" else 0

    @property
    def mask_bits(self) -> int:
        """Bits per sample that the way back needs beside values: signs, choices of a pooling, dropped values."""
        return 0

    @property
    def draws(self) -> int:
        """Values per sample about which a random number decides in training."""
        return 0

    def forward_operations(self) -> tuple[LaneOperation, ...]:
        """What the lanes do per sample on the way forward."""
        return ()

    def error_operations(self) -> tuple[LaneOperation, ...]:
        """What the lanes do per sample on the way back."""
        return ()

    def forward_constants(self) -> tuple[LaneOperation, ...]:
        """What the lanes do once per batch on the way forward, per channel."""
        return ()

    def error_constants(self) -> tuple[LaneOperation, ...]:
        """What the lanes do once per batch on the way back, per channel."""
        return ()

    def repeated_operations(self) -> tuple[LaneOperation, ...]:
        """What the lanes do per sample where the layer is computed again, by the statistics of the same batch."""
        return self.forward_operations()

    def repeated_constants(self) -> tuple[LaneOperation, ...]:
        """What the lanes do once per batch where the layer is computed again."""
        return self.forward_constants()

    def fraction_bits(self, all_bits: int, sources: list[int]) -> int:
        """Fraction bits of the output's words, from those of a format with all its bits behind the point and from those
        of what the layer reads."""
        return min(sources)

    def forward(self, unit: Unit, parameters: Any, inputs: list[Any]) -> tuple[Any, Any]:
        """The output, and what `backward` needs besides."""
        raise NotImplementedError

    def backward(self, unit: Unit, parameters: Any, saved: Any, error: Any) -> tuple[list[Any], Any]:
        """The errors at the inputs, given that at the output, which may be changed; and the gradient sums of the
        parameters, None where there are none."""
        raise NotImplementedError

    def description(self) -> dict[str, Any]:
        """All that defines the layer, as plain values by name."""
        own = {key.name: getattr(self, key.name) for key in fields(self) if key.name != "frozen" or self.frozen}
        first = {"name": own.pop("name"), "kind": self.kind, "in_shape": self.in_shape}
        return first | own | {"weights": self.weights}
