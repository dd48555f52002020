"""What a training changes: the weights of every layer, the states of their optimizer, and gradients."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(eq=False)
class Parameters:
    """What one weighted layer or batch norm stores; an update changes the tensors in place.

    `weight`: the forward words that the products read, `master` the wide copy that the update works on (the same
    tensor in float). A batch norm's weight is its scale and its bias its shift, both `(channels,)` in floating point;
    its `statistics` are the running means and variances, `(2, channels)`, that evaluation uses. `states` are the
    optimizer's of the weight, `bias_states` those of the bias, in the optimizer's order, shaped as what they are of.
    """

    weight: Tensor
    master: Tensor
    bias: Tensor | None
    states: tuple[Tensor, ...] = ()
    bias_states: tuple[Tensor, ...] = ()
    statistics: Tensor | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of them by name; the weight only where it is not the master."""
        named = {"master": self.master, "weight": None if self.weight is self.master else self.weight}
        named |= {"bias": self.bias, "statistics": self.statistics}
        named |= {f"state{index}": state for index, state in enumerate(self.states)}
        named |= {f"bias_state{index}": state for index, state in enumerate(self.bias_states)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def placed(p: Parameters, device: torch.device) -> Parameters:
    """The parameters on the device; weight and master stay one tensor where they are one."""
    master = p.master.to(device)
    return Parameters(
        master if p.weight is p.master else p.weight.to(device),
        master,
        None if p.bias is None else p.bias.to(device),
        tuple(state.to(device) for state in p.states),
        tuple(state.to(device) for state in p.bias_states),
        None if p.statistics is None else p.statistics.to(device),
    )


class Gradient(NamedTuple):
    """Sums over the batch and all positions, not yet rounded and not divided by the batch size."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Slice:
    """Where elements of one tensor lie in flat arrays: from `start` to before `stop`, the tensor's `first` element
    onwards."""

    layer: str
    is_bias: bool
    start: int
    stop: int
    first: int = 0

    @property
    def part(self) -> slice:
        """The places of the elements in the arrays."""
        return slice(self.start, self.stop)

    def gradient(self, gradients: Mapping[str, Gradient]) -> Tensor:
        """The gradient sums of the whole tensor, from those of all layers."""
        sums = gradients[self.layer].bias if self.is_bias else gradients[self.layer].weight
        assert sums is not None, "a layer with biases has their gradient"
        return sums

    def within(self, start: int, stop: int) -> Slice:
        """The slice of those elements that lie from `start` to `stop`, in the arrays cut to these; it stops before it
        starts where there are none."""
        low, high = max(self.start, start), min(self.stop, stop)
        return replace(self, start=low - start, stop=high - start, first=self.first + low - self.start)


@dataclass(frozen=True, eq=False)
class FlatArrays:
    """The numbers of many tensors one behind the other, `(elements,)`: the masters (of biases what is stored of them),
    the forward words of the weights, and every state of the optimizer. `slices` say where which tensor lies."""

    master: Tensor
    words: Tensor
    states: tuple[Tensor, ...]
    slices: tuple[Slice, ...]

    def cut(self, size: int) -> Iterator[tuple[int, FlatArrays]]:
        """The arrays as views of at most `size` elements each, and where they start."""
        if len(self.master) <= size:
            yield 0, self
            return
        for start in range(0, len(self.master), size):
            cut, stop = slice(start, start + size), min(start + size, len(self.master))
            slices = (each.within(start, stop) for each in self.slices)
            states = tuple(state[cut] for state in self.states)
            inside = tuple(each for each in slices if each.start < each.stop)
            yield start, FlatArrays(self.master[cut], self.words[cut], states, inside)


class FlatParameters(dict[str, Parameters]):
    """The parameters of a network by layer; the tensors of those that learn are views of `arrays`, in their order."""

    def __init__(self, layers: Mapping[str, Parameters], learning: Collection[str], device: torch.device) -> None:
        super().__init__((name, placed(p, device)) for name, p in layers.items())
        slices = tuple(_slices({name: p for name, p in self.items() if name in learning}))
        size, some = slices[-1].stop, self[slices[0].layer]
        states = tuple(state.new_empty(size) for state in some.states)
        self.arrays = FlatArrays(some.master.new_empty(size), some.weight.new_zeros(size), states, slices)
        for each in slices:
            self._move(each)

    def _move(self, each: Slice) -> None:
        """Move one tensor and what belongs to it into the arrays."""
        p, arrays = self[each.layer], self.arrays
        if each.is_bias:
            assert p.bias is not None
            p.bias = _moved(p.bias, arrays.master[each.part])
            p.bias_states = tuple(map(_moved, p.bias_states, (state[each.part] for state in arrays.states)))
        else:
            p.weight = _moved(p.weight, arrays.words[each.part])
            p.master = _moved(p.master, arrays.master[each.part])
            p.states = tuple(map(_moved, p.states, (state[each.part] for state in arrays.states)))


def _slices(layers: Mapping[str, Parameters]) -> Iterator[Slice]:
    """The masters layer by layer, each layer's weights before its biases."""
    start = 0
    for name, p in layers.items():
        for is_bias, tensor in ((False, p.master), (True, p.bias)):
            if tensor is not None:
                yield Slice(name, is_bias, start, start + tensor.numel())
                start += tensor.numel()


def _moved(x: Tensor, into: Tensor) -> Tensor:
    """The numbers of `x` in the memory of `into`, shaped as they were."""
    return into.view(x.shape).copy_(x)
