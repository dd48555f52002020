"""What the steps of a training change in its model, as named tensors and plain values, and how a model takes it over.

Everything else of a model follows from what the training is made from. What is taken over is checked before: the same
names, types and shapes, and only numbers that the arithmetic of the model can meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fahw.learn.arithmetic.floating import Floating
from fahw.learn.model import Model
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.prng import Lfsr

_MOST_EXACT = 2.0**53
"""The largest magnitude of what formats hold: integers above it would not be exact anywhere."""


@dataclass(frozen=True)
class Waiting:
    """An update that waits: the learning rate of its step, and the layers that it has gradients of."""

    rate: float
    layers: tuple[str, ...]


@dataclass(frozen=True)
class PlainState:
    """The plain values of a model's state: bytes that each random generator has made and not used, the number of every
    layer's last transport, and the updates that wait."""

    unused: tuple[int, ...]
    transported: dict[str, int]
    waiting: tuple[Waiting, ...]


def model_state(model: Model) -> tuple[PlainState, dict[str, Tensor]]:
    """The state of the model: plain values, and tensors by name, the model's own or copies."""
    generators = [generator.state() for generator in model.arithmetic.generators]
    transported, queue = model.feedback.transported, model.pending.waiting
    plain = PlainState(
        tuple(unused for _, unused in generators),
        {layer: number for layer, (number, _) in transported.items()},
        tuple(Waiting(rate, tuple(gradients)) for gradients, rate in queue),
    )
    tensors = _fixed_tensors(model)
    tensors |= {f"transported.{layer}": words for layer, (_, words) in transported.items()}
    for number, (gradients, _) in enumerate(queue):
        for layer, gradient in gradients.items():
            tensors |= {name: _real(x) for name, x in _of_gradient(number, layer, gradient)}
    return plain, tensors | {_random(i): torch.from_numpy(history) for i, (history, _) in enumerate(generators)}


def most_bytes(model: Model) -> int:
    """More bytes than the tensors of any state of this model have."""
    numbers = sum(tensor.numel() for tensor in _fixed_tensors(model).values())
    return 8 * numbers * (3 + model.pending.delay) + Lfsr.STATE_BYTES * len(model.arithmetic.generators)


def take_over(model: Model, plain: PlainState, tensors: Mapping[str, Tensor]) -> None:
    """Bring the model into a state; afterwards it computes as the model that had it. Raises ValueError where the state
    is not one of such a model, which then stays as it was."""
    _check_plain(model, plain)
    fixed = _fixed_tensors(model)
    transported = {name: torch.empty_like(model.parameters[name].weight) for name in plain.transported}
    queue = [
        ({layer: _like(model.parameters[layer], tensors, number, layer) for layer in each.layers}, each.rate)
        for number, each in enumerate(plain.waiting)
    ]
    targets = fixed | {f"transported.{name}": words for name, words in transported.items()}
    for number, (gradients, _) in enumerate(queue):
        for layer, gradient in gradients.items():
            targets |= dict(_of_gradient(number, layer, gradient))
    histories = [_random(index) for index in range(len(plain.unused))]
    targets |= {name: torch.empty(Lfsr.STATE_BYTES, dtype=torch.uint8) for name in histories}
    _check_tensors(targets, tensors, type(model.arithmetic) is Floating)
    for name, target in targets.items():
        target.copy_(tensors[name])
    model.feedback.transported = {name: (plain.transported[name], words) for name, words in transported.items()}
    model.pending.waiting = queue
    for generator, name, unused in zip(model.arithmetic.generators, histories, plain.unused, strict=True):
        generator.restore((targets[name].numpy(), unused))


def _fixed_tensors(model: Model) -> dict[str, Tensor]:
    """The tensors that every state of this model has: its parameters, and feedback weights where they learn."""
    layers = model.parameters.items()
    parameters = {f"parameters.{layer}.{name}": x for layer, p in layers for name, x in p.tensors.items()}
    sends = model.path.roles.sends if model.feedback.rule.learned else frozenset[str]()
    senders = (layer for layer in model.network.weighted if layer.name in sends)
    return parameters | {f"feedback.{layer.name}": model.feedback.stored_matrix(layer) for layer in senders}


def _random(index: int) -> str:
    return f"random.{index}"


def _of_gradient(number: int, layer: str, gradient: Gradient) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a gradient in an update that waits, by their names in a state."""
    yield f"waiting.{number}.{layer}.weight", gradient.weight
    if gradient.bias is not None:
        yield f"waiting.{number}.{layer}.bias", gradient.bias


def _real(x: Tensor) -> Tensor:
    """Sums of integers in a float type that holds them exactly."""
    return x if x.is_floating_point() else x.double()


def _like(p: Parameters, tensors: Mapping[str, Tensor], number: int, layer: str) -> Gradient:
    """Room for a gradient of the parameters, in the float types that it has in a state; on their device."""
    found = [tensors.get(f"waiting.{number}.{layer}.{part}", p.master) for part in ("weight", "bias")]
    types = [x.dtype if x.is_floating_point() else p.master.dtype for x in found]
    weight = torch.empty(_matrix(p.master, found[0]), dtype=types[0], device=p.master.device)
    return Gradient(weight, None if p.bias is None else torch.empty_like(p.bias, dtype=types[1]))


def _matrix(master: Tensor, found: Tensor) -> torch.Size:
    """The shape of a layer's gradient: its weights', which the products of a convolution have as a matrix."""
    flat = master.flatten(1).shape if master.dim() > 1 else master.shape
    return flat if found.shape == flat else master.shape


def _check_plain(model: Model, plain: PlainState) -> None:
    """Raise ValueError where the plain values are not those of a state of this model."""
    unused_fit = all(0 <= unused <= Lfsr.STATE_BYTES for unused in plain.unused)
    if len(plain.unused) != len(model.arithmetic.generators) or not unused_fit:
        raise ValueError("its random generators are not those of the training")
    weighted = {layer.name for layer in model.network.weighted}
    if not all(name in weighted for name in plain.transported):
        raise ValueError("it transports weights that the network does not have")
    learning = weighted & model.path.roles.learns
    all_known = all(learning <= set(each.layers) <= model.parameters.keys() for each in plain.waiting)
    if len(plain.waiting) > model.pending.delay or not all_known:
        raise ValueError("the updates that wait in it are not those of the training")


def _check_tensors(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor], any_float: bool) -> None:
    """Raise ValueError unless the tensors can be copied to the targets. `any_float`: NaN and infinities are numbers of
    the arithmetic."""
    if different := targets.keys() ^ tensors.keys():
        raise ValueError(f"its tensors are not those of the training: {min(different)[:60]!r} is in one only")
    for name, target in targets.items():
        x = tensors[name]
        if (x.dtype, x.shape) != (target.dtype, target.shape):
            raise ValueError(f"the type or shape of {name!r} in it is not that of the training")
        if not any_float and x.is_floating_point() and not _is_met(name, x):
            raise ValueError(f"{name!r} in it has numbers that the training cannot meet")


def _is_met(name: str, x: Tensor) -> bool:
    """Whether all are numbers that formats hold; of running statistics, the variances not below zero."""
    return bool((x.abs() <= _MOST_EXACT).all()) and not (name.endswith(".statistics") and bool((x[1] < 0).any()))
