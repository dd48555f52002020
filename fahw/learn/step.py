"""One training step for every rule and arithmetic: forward, error, gradient, update.

The step knows the rule only through the feedback words it asks for and whether the error goes `direct` to a layer; it
knows numbers only through an `Arithmetic`, which also chooses the order of the axes: tensors are `(n, features)` or
`(n, channels, height, width)` in floating point, and have the samples last in integers.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import compress
from typing import Any

from torch import Tensor

from fahw.layers.layer import INPUT
from fahw.layers.weighted import Weighted
from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.model import Model, Trace
from fahw.learn.state.delays import cloned_gradients
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.network.graph import Network
from fahw.rules.rule import MIRROR_RATE


def forward(network: Network, arithmetic: Arithmetic, parameters: dict[str, Parameters], x: Tensor) -> Trace:
    """The outputs of all layers, computed first to last."""
    saved: dict[str, Any] = {}
    values = {INPUT: arithmetic.arranged(x)}
    for layer in network.layers:
        name, inputs = layer.name, [values[source] for source in layer.sources]
        values[name], saved[name] = layer.forward(arithmetic, parameters.get(name), inputs)
        for source in layer.sources:  # what no later layer reads is not kept
            if network.last_reader[source] == name:
                values.pop(source, None)
    output = values[network.layers[-1].name]
    return Trace(saved, output, arithmetic.by_sample(output))


def errors(
    model: Model, trace: Trace, output_error: Tensor, signal: Tensor, draw: int
) -> tuple[dict[str, Tensor], dict[str, Gradient]]:
    """The error at the output of every weighted layer that needs one, and the gradient sums of the other parameters.

    `signal`: what a direct rule sends back. `draw` counts the training's steps: redrawn feedback follows it.
    """
    network, rule = model.network, model.feedback.rule
    waiting: dict[str, list[Tensor]] = {network.layers[-1].name: [output_error]}
    deltas: dict[str, Tensor] = {}
    others: dict[str, Gradient] = {}
    for layer in reversed(network.layers):
        parts = waiting.pop(layer.name, [])
        error = parts[0] if len(parts) == 1 else model.arithmetic.summed(parts) if parts else None
        if isinstance(layer, Weighted):
            if error is not None and rule.pruned and layer is not network.layers[-1]:
                error = model.arithmetic.pruned(layer, error, rule, draw)
            if error is not None:
                deltas[layer.name] = error
            if layer.name in model.path.roles.sends:  # directly also without an error of its own, where it is frozen
                below = _sent_down(model, layer, error, signal, draw)
                waiting.setdefault(layer.sources[0], []).append(below)
            continue
        wanted = model.passes.get(layer.name)
        if wanted is not None and error is not None:
            saved, parameters = trace.saved[layer.name], model.parameters.get(layer.name)
            errors_below, gradient = layer.backward(model.arithmetic, parameters, saved, error)
            if gradient is not None and not layer.frozen:
                others[layer.name] = gradient
            for source, below in compress(zip(layer.sources, errors_below, strict=True), wanted):
                waiting.setdefault(source, []).append(below)
    return deltas, others


def _sent_down(model: Model, layer: Weighted, error: Tensor | None, signal: Tensor, draw: int) -> Tensor:
    """What a weighted layer sends to the output that it reads, through the rule's feedback words."""
    direct, below = model.feedback.direct, signal if model.feedback.direct else error
    assert below is not None, "an error that goes layer by layer comes from above"
    send = model.arithmetic.direct_error if direct else model.arithmetic.error
    for stage, words in model.feedback.stages(layer, model.parameters[layer.name].weight, draw):
        below = send(stage, below, words)
    return below


def gradients(model: Model, x: Tensor, labels: Tensor, draw: int = 0) -> dict[str, Gradient]:
    """The gradient sums of every layer and batch norm that learns; no update."""
    return cloned_gradients(_backward(model, x, labels, draw)[0])


def step(model: Model, x: Tensor, labels: Tensor, rate: float, draw: int) -> float:
    """Train on one batch: forward, error, gradient and update of every layer. Returns the summed loss before the
    update."""
    computed, loss = _backward(model, x, labels, draw)
    due = model.pending.next(computed, rate)
    if due:
        _update(model, *due, draw - model.pending.delay)
    if model.feedback.rule.learned == "mirror":
        _mirror(model, draw)
    return loss


def _learning_senders(model: Model) -> list[Weighted]:
    """The layers that learn and send an error: those whose feedback weights may learn with them."""
    roles = model.path.roles
    return [layer for layer in model.network.weighted if layer.name in roles.sends & roles.learns]


def _update(model: Model, gradients: dict[str, Gradient], rate: float, number: int) -> None:
    """Update all layers; where feedback weights learn from the gradient, W and B of every layer that sends an error
    lose the same share of themselves, the rule's and then the recipe's, and take the same step."""
    rule, before = model.feedback.rule, {}
    for layer in _learning_senders(model) if rule.learned == "gradient" else ():
        weight = model.parameters[layer.name].master.mul_(1 - rule.decay)
        model.feedback.stored_matrix(layer).mul_(1 - rule.decay)
        before[layer] = weight.clone()
    model.arithmetic.update(model.parameters, gradients, rate, number)
    for layer, weight in before.items():
        keep = 1 - rate * model.feedback.weight_decay
        model.feedback.stored_matrix(layer).mul_(keep).add_(model.parameters[layer.name].master - keep * weight)


def _mirror(model: Model, draw: int) -> None:
    """Move B towards the mean outer product of noise and what the layer answers to it, without bias and activation.

    Of a convolution with padding, taps at the kernel's rim meet zeros now and then, and their share of W is smaller.
    """
    for layer in _learning_senders(model):
        noise = model.feedback.noise(layer, draw)
        operand = model.arithmetic.operand(layer, noise)
        answer = model.arithmetic.weighted(layer, replace(model.parameters[layer.name], bias=None), operand)
        estimate = model.arithmetic.gradient(layer, answer, operand).weight / (len(noise) * layer.positions)
        model.feedback.stored_matrix(layer).lerp_(estimate, MIRROR_RATE)


def _backward(model: Model, x: Tensor, labels: Tensor, draw: int) -> tuple[dict[str, Gradient], float]:
    """The gradient sums by layer, and the summed loss."""
    arithmetic = model.arithmetic
    trace = forward(model.network, arithmetic, model.parameters, x)
    output_error, loss = arithmetic.loss(trace.output, labels)
    signal = arithmetic.signal(model.feedback.rule, output_error, labels)
    deltas, others = errors(model, trace, output_error, signal, draw)
    sums = {
        layer.name: arithmetic.gradient(layer, deltas[layer.name], trace.saved[layer.name])
        for layer in model.network.weighted
        if layer.name in model.path.roles.learns
    }
    return sums | others, loss
