"""Measures the activity of a training on a few steps of each epoch, without changing a bit of it."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from fahw.activity import Activity, LayerActivity
from fahw.layers.weighted import Weighted
from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.model import Model
from fahw.learn.state.parameters import Gradient
from fahw.learn.state.rounding_losses import LostShares, RoundingLosses
from fahw.learn.step import step

_STEPS_PER_EPOCH = 4

Shares = dict[str, list[float]]


class _MonitoredArithmetic:
    """An arithmetic that notes the share of zeros in what passes by, and is otherwise the one that it wraps."""

    def __init__(self, inner: Arithmetic, activations: Shares, errors: Shares) -> None:
        self._inner, self._activations, self._errors = inner, activations, errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def operand(self, layer: Weighted, x: Tensor) -> Tensor:
        """The layer's input as its products read it; notes the input's share of zeros."""
        self._activations[layer.name].append(_zeros(x))
        operand: Tensor = self._inner.operand(layer, x)
        return operand

    def gradient(self, layer: Weighted, delta: Tensor, operand: Tensor) -> Gradient:
        """The layer's gradient; notes the share of zeros of the error at its output."""
        self._errors[layer.name].append(_zeros(delta))
        gradient: Gradient = self._inner.gradient(layer, delta, operand)
        return gradient


class ActivityMonitor:
    """Runs an epoch's steps and measures the activity of a few of them; `steps`: how many the epoch has."""

    def __init__(self, model: Model, steps: int) -> None:
        names = [layer.name for layer in model.network.weighted]
        kinds: list[Shares] = [{name: [] for name in names} for _ in range(4)]
        self._activations, self._errors, self._flips, self._changes = kinds
        monitored = _MonitoredArithmetic(model.arithmetic, self._activations, self._errors)
        self._model = model
        self._monitored_model = Model(
            model.network, cast(Arithmetic, monitored), model.parameters, model.feedback, model.pending
        )
        count = min(_STEPS_PER_EPOCH, steps)
        self._monitored_steps = {(2 * index + 1) * steps // (2 * count) for index in range(count)}
        self._next, self._last = 0, steps - 1
        self.lost: dict[str, dict[str, LostShares]] = {}
        """The shares that rounding lost in the epoch's last step, by layer and tensor."""

    def step(self, x: Tensor, labels: Tensor, rate: float, draw: int) -> float:
        """Run the epoch's next step, number `draw` of the training; the summed loss before its update, in nats."""
        step_number, self._next = self._next, self._next + 1
        if step_number != self._last:
            return self._step(step_number, x, labels, rate, draw)
        rounding_losses = RoundingLosses()
        self._model.arithmetic.watch(rounding_losses)
        loss = self._step(step_number, x, labels, rate, draw)
        self._model.arithmetic.watch(None)
        self.lost = rounding_losses.lost
        return loss

    def _step(self, step_number: int, x: Tensor, labels: Tensor, rate: float, draw: int) -> float:
        if step_number not in self._monitored_steps:
            return step(self._model, x, labels, rate, draw)
        before = {name: p.weight.clone() for name, p in self._model.parameters.items() if name in self._flips}
        loss = step(self._monitored_model, x, labels, rate, draw)
        for name, old_weight in before.items():
            new_weight = self._model.parameters[name].weight
            self._changes[name].append(_share(new_weight != old_weight))
            self._flips[name].append(_share((new_weight < 0) != (old_weight < 0)))
        return loss

    def activity(self) -> Activity:
        """The activity of the epoch so far: means over the steps that were measured."""
        kinds = (self._activations, self._errors, self._flips, self._changes)
        layers = {
            name: LayerActivity(*(sum(kind[name]) / max(1, len(kind[name])) for kind in kinds)) for name in self._flips
        }
        return Activity(layers, min(self._next, len(self._monitored_steps)))


def _zeros(x: Tensor) -> float:
    return _share(x == 0)


def _share(mask: Tensor) -> float:
    return int(mask.count_nonzero()) / mask.numel()
