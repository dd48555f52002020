"""Layers that move values and change none: flatten, and the residual shortcut without weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Literal, Self

from fahw.layers.layer import Entry, Layer, Misfit, Pair, Shape, TorchCall, TorchOperation
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


def _row_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    shape = call.in_shapes[0]
    if call.out_shape != (prod(shape),):
        raise Misfit(f"turns {shape} into {call.out_shape}; supported: one row of {prod(shape)} values")
    return ({},)


def _pixels_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    """Every s-th pixel, by an index."""
    index, axes = call.options["index"], 1 + len(call.in_shapes[0])
    parts = list(index) if isinstance(index, tuple) else [index]
    if parts.count(...) == 1:
        at = parts.index(...)
        parts[at : at + 1] = [slice(None)] * (axes + 1 - len(parts))
    parts += [slice(None)] * (axes - len(parts))
    whole = all(isinstance(part, slice) and part.start in (None, 0) and part.stop is None for part in parts)
    steps = [part.step or 1 for part in parts] if whole else []
    if len(steps) != 4 or steps[:2] != [1, 1]:
        raise Misfit("is an index other than [:, :, ::s, ::s], every s-th pixel")
    return ({"out": call.out_shape[0], "stride": (steps[2], steps[3])},)


def _zeros_of_torch(call: TorchCall) -> tuple[Entry, ...]:
    """Channels of zeros on both sides, by a padding."""
    pad = list(call.options["pad"])
    even = len(call.in_shapes[0]) == 3 and len(pad) == 6 and not any(pad[:4]) and pad[4] == sum(pad[4:]) // 2
    if not even or call.options.get("mode", "constant") != "constant" or call.options.get("value"):
        raise Misfit("pads otherwise than with channels of zeros, half before and half behind")
    return ({"out": call.out_shape[0]},)


class Flatten(Layer):
    """All values of a sample in one row."""

    kind: ClassVar[str] = "flatten"
    spec: ClassVar[type[Named]] = FlattenSpec
    in_golden_vectors: ClassVar[bool] = True
    same_values: ClassVar[bool] = True
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(
            _row_of_torch,
            modules=("Flatten",),
            functions=("torch.flatten",),
            methods=("flatten", "view", "reshape"),
            note="to one row per sample",
        ),
    )

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
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(_pixels_of_torch, functions=("operator.getitem",), options=("index",), note="x[:, :, ::s, ::s]"),
        TorchOperation(
            _zeros_of_torch,
            functions=("torch.nn.functional.pad",),
            options=("pad", "mode", "value"),
            note="with channels of zeros",
        ),
    )

    @classmethod
    def make(cls, spec: ShortcutSpec, name: str, shapes: tuple[Shape, ...], sources: tuple[str, ...]) -> Self:
        """The shortcut from images. Raises Misfit for fewer output channels than they have."""
        shape, stride = shapes[0], as_pair(spec.stride)
        if spec.out < shape[0]:
            raise Misfit(f"a shortcut adds channels, it cannot turn {shape[0]} into {spec.out}")
        sizes = output_sizes("shortcut", shape, (1, 1), stride, (0, 0))
        return cls(name, shapes, (spec.out, *sizes), sources, stride)

    def fused_with(self, below: Layer) -> Layer | None:
        """The shortcut that picks the pixels that `below` picks and adds the zeros that this one adds."""
        adds_only = self.stride == (1, 1) and self.in_shape[0] < self.out_shape[0]
        picks_only = isinstance(below, Shortcut) and below.in_shape[0] == below.out_shape[0]
        return replace(below, out_shape=self.out_shape) if adds_only and picks_only else None

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
