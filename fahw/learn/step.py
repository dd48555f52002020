"""One training step for every rule and arithmetic: forward, error, gradient, update.

The step knows the rule only through the feedback words it asks for and whether the error goes `direct` to a layer; it
knows numbers only through an `Arithmetic`, which also chooses the order of the axes: tensors are `(n, features)` or
`(n, channels, height, width)` in floating point, and have the samples last in integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from fahw.layers.layer import INPUT, NORMS, Layer
from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.model import Model, Trace
from fahw.learn.state.delays import cloned_gradients
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.network.graph import Network
from fahw.rules.rule import MIRROR_RATE


def forward(network: Network, arithmetic: Arithmetic, parameters: dict[str, Parameters], x: Tensor) -> Trace:
    """The outputs of all layers, computed first to last."""
    operands: dict[str, Tensor] = {}
    saved: dict[str, Tensor] = {}
    values = {INPUT: arithmetic.arranged(x)}
    for layer in network.layers:
        name, inputs = layer.name, [values[source] for source in layer.sources]
        if layer.weighted:
            operands[name] = arithmetic.operand(layer, inputs[0])
            values[name] = arithmetic.weighted(layer, parameters[name], operands[name])
        elif layer.kind in NORMS:
            values[name], saved[name] = arithmetic.normalised(layer, parameters[name], inputs[0])
        elif len(inputs) > 1:
            values[name] = arithmetic.added(layer, inputs)
        else:
            values[name], saved[name] = arithmetic.local(layer, inputs[0])
        for source in layer.sources:  # what no later layer reads is not kept
            if network.last_reader[source] == name:
                values.pop(source, None)
    output = values[network.layers[-1].name]
    return Trace(operands, saved, output, arithmetic.by_sample(output))


def errors(
    model: Model, trace: Trace, output_error: Tensor, signal: Tensor, draw: int
) -> tuple[dict[str, Tensor], dict[str, Gradient]]:
    """The error at the output of every weighted layer that needs one, and the gradient sums of the batch norms there.

    `signal`: what a direct rule sends back. `draw` counts the training's steps: redrawn feedback follows it.
    """
    network, rule = model.network, model.feedback.rule
    waiting: dict[str, list[Tensor]] = {network.layers[-1].name: [output_error]}
    deltas: dict[str, Tensor] = {}
    norms: dict[str, Gradient] = {}
    for layer in reversed(network.layers):
        parts = waiting.pop(layer.name, None)
        if parts is None:
            continue
        error = parts[0] if len(parts) == 1 else model.arithmetic.summed(parts)
        if layer.weighted:
            if rule.pruned and layer is not network.layers[-1]:
                error = model.arithmetic.pruned(layer, error, rule, draw)
            deltas[layer.name] = error
        elif layer.kind in NORMS:
            parameters, saved = model.parameters[layer.name], trace.saved[layer.name]
            error, norms[layer.name] = model.arithmetic.norm_error(layer, parameters, saved, error)
        for source, below in _sent_down(model, trace, layer, error, signal, draw):
            waiting.setdefault(source, []).append(below)
    return deltas, norms


def _sent_down(
    model: Model, trace: Trace, layer: Layer, error: Tensor, signal: Tensor, draw: int
) -> Iterator[tuple[str, Tensor]]:
    """What a layer sends to the outputs that it reads, by their names; a batch norm's error is sent already."""
    path, direct = model.path, model.feedback.direct
    if layer.weighted:
        if layer.name in path.roles.sends:
            below = signal if direct else error
            send = model.arithmetic.direct_error if direct else model.arithmetic.error
            for stage, words in model.feedback.stages(layer, model.parameters[layer.name].weight, draw):
                below = send(stage, below, words)
            yield layer.sources[0], below
        return
    # A direct rule's own error replaces what comes back through a shortcut.
    closed = path.tapped if direct and model.network.dfa_residual == "blocked" else frozenset()
    for number, source in enumerate(layer.sources):
        if source not in path.wants_error or source in closed:
            continue
        if layer.kind in NORMS or len(layer.sources) > 1:
            yield source, error.clone() if number else error  # the receiver may change it
        else:
            yield source, model.arithmetic.local_error(layer, trace.saved[layer.name], error)


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


def _senders(model: Model) -> list[Layer]:
    return [layer for layer in model.network.weighted if layer.name in model.path.roles.sends]


def _update(model: Model, gradients: dict[str, Gradient], rate: float, number: int) -> None:
    """Update all layers; where feedback weights learn from the gradient, W and B of every layer that sends an error
    lose the same share of themselves, the rule's and then the recipe's, and take the same step."""
    rule, before = model.feedback.rule, {}
    for layer in _senders(model) if rule.learned == "gradient" else ():
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
    for layer in _senders(model):
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
    deltas, norms = errors(model, trace, output_error, signal, draw)
    sums = {
        layer.name: arithmetic.gradient(layer, deltas[layer.name], trace.operands[layer.name])
        for layer in model.network.weighted
        if layer.name in model.path.roles.learns
    }
    return sums | norms, loss
