"""One training step for every rule and arithmetic: forward, error, gradient, update.

The step knows the rule only through the feedback words it asks for and whether the error goes `direct` to a layer; it
knows numbers only through an `Arithmetic`, which also chooses the order of the axes: tensors are `(n, features)` or
`(n, channels, height, width)` in floating point, and have the samples last in integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from fahw.layers import INPUT, NORMS
from fahw.learn.delays import Pending, copied
from fahw.learn.feedback import Feedback
from fahw.learn.images import Pixels
from fahw.network import ErrorPath, Layer, Network, error_path
from fahw.rules import MIRROR_RATE, Rule

if TYPE_CHECKING:
    from fahw.learn.tally import Tally


@dataclass(eq=False)
class Parameters:
    """What one weighted layer or batch norm stores; an update changes the tensors in place.

    `weight`: the forward words that the products read, `master` the wide copy that the update works on (the same
    tensor in float). All shaped as the weight or, for biases, `(out,)`; no bias, no bias tensors. A batch norm's weight
    is its scale and its bias its shift, both `(channels,)` in floating point; its `statistics` are the running means
    and variances, `(2, channels)`, that evaluation uses. `velocity` is the optimizer's first state, `square` its
    second, where it has one.
    """

    weight: Tensor
    master: Tensor
    velocity: Tensor
    bias: Tensor | None
    bias_velocity: Tensor | None
    statistics: Tensor | None = None
    square: Tensor | None = None
    bias_square: Tensor | None = None


def placed(p: Parameters, device: torch.device) -> Parameters:
    """On the device; what is one tensor stays one."""
    moved, there = replace(p), dict[int, Tensor]()
    for name in (each.name for each in fields(p)):
        x = getattr(p, name)
        setattr(moved, name, None if x is None else there.setdefault(id(x), x.to(device)))
    return moved


class Gradient(NamedTuple):
    """Sums over the batch and all positions, not yet rounded and not divided by the batch size."""

    weight: Tensor
    bias: Tensor | None


class Arithmetic(Protocol):
    """The numbers of a step. Layers are the network's own; errors and words are scaled as the arithmetic likes."""

    def initial(self, layer: Layer, seed: int) -> Parameters:
        """Xavier-uniform weights drawn for `layer`, zero biases and velocities; scale 1 and shift 0 of a batch norm."""

    def encode(self, pixels: Pixels, maximum: int) -> Tensor:
        """Images as network inputs, `pixels / maximum`."""

    def arranged(self, x: Tensor) -> Tensor:
        """Network inputs `(n, ...)` with their axes in the arithmetic's order."""

    def by_sample(self, logits: Tensor) -> Tensor:
        """Logits as `(n, classes)`."""

    def operand(self, layer: Layer, x: Tensor) -> Tensor:
        """A weighted layer's input as its products read it (a convolution's windows as rows)."""

    def weighted(self, layer: Layer, parameters: Parameters, operand: Tensor) -> Tensor:
        """Outputs of a linear or conv2d layer."""

    def local(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of a layer without weights, and what its `local_error` needs."""

    def added(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        """The sum of several layers' outputs."""

    def normalised(self, layer: Layer, parameters: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of a batch norm, and what `norm_error` needs; in training, with the batch's statistics."""

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error, softmax - one-hot per sample, and the summed cross-entropy."""

    def error(self, layer: Layer, delta: Tensor, feedback: Tensor) -> Tensor:
        """The error at the layer's output sent to its input."""

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """What a direct rule sends back from the output: the error, its ternary form, or the labels."""

    def direct_error(self, layer: Layer, signal: Tensor, feedback: Tensor) -> Tensor:
        """What is sent back from the output (`signal`), at the layer's input."""

    def pruned(self, layer: Layer, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """The error at a hidden layer's output with small ones rounded at random to zero or to the threshold."""

    def local_error(self, layer: Layer, saved: Tensor, error: Tensor) -> Tensor:
        """The error at the output of a layer without weights, sent to its input; may change `error`."""

    def norm_error(self, layer: Layer, parameters: Parameters, saved: Tensor, error: Tensor) -> tuple[Tensor, Gradient]:
        """The error at a batch norm's output sent to its input, and the gradient sums of its scale and shift."""

    def summed(self, errors: list[Tensor]) -> Tensor:
        """Errors that come back to one layer's output from several that read it."""

    def gradient(self, layer: Layer, delta: Tensor, operand: Tensor) -> Gradient:
        """Sums over the batch."""

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Of all layers by the recipe's optimizer, in place; `step` counts the training's steps from 0."""

    def evaluator(self, seed: int, batch_statistics: bool = False) -> Arithmetic:
        """The same arithmetic outside the training, with a random stream of its own and nothing dropped.

        Batch norms use their running statistics, in forward passes only; with `batch_statistics` those of the batch, in
        backward passes too. The running ones stay as they are.
        """

    def plain(self, layer: Layer, parameters: Parameters) -> tuple[Tensor, Tensor | None]:
        """The values of weight and bias, shaped as they are, in floating point."""

    def watch(self, tally: Tally | None) -> None:
        """From now on note in `tally` what rounding loses; None: no longer."""

    def unit_ratio(self, layer: Layer) -> float:
        """Value of one step of the layer's feedback words over one of its weight words."""

    def saturated(self, parameters: dict[str, Parameters]) -> dict[str, float]:
        """Share of the stored numbers that lie at an end of their range, by kind of tensor; empty if none can."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, the arithmetic that computes it, the feedback words of its rule, and the updates that
    are still to come."""

    network: Network
    arithmetic: Arithmetic
    parameters: dict[str, Parameters]
    feedback: Feedback
    pending: Pending = field(default_factory=Pending)

    @cached_property
    def path(self) -> ErrorPath:
        """Where errors go under the rule."""
        return error_path(self.network, self.feedback.rule)


@dataclass(eq=False)
class Trace:
    """What the forward pass leaves for the backward pass: operands of weighted layers, `saved` of the others, and the
    last layer's `output`. `logits` are the same numbers as `(n, classes)`."""

    operands: dict[str, Tensor]
    saved: dict[str, Tensor]
    output: Tensor
    logits: Tensor


def forward(network: Network, arithmetic: Arithmetic, parameters: dict[str, Parameters], x: Tensor) -> Trace:
    """All layers, first to last."""
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
            words = model.feedback.words(layer, model.parameters[layer.name].weight, draw)
            if direct:
                yield layer.sources[0], model.arithmetic.direct_error(layer, signal, words)
            else:
                yield layer.sources[0], model.arithmetic.error(layer, error, words)
        return
    # A direct rule's own error replaces what comes back through a shortcut.
    closed = path.tapped if direct and model.network.dfa_residual == "blocked" else frozenset()
    for number, source in enumerate(layer.sources):
        if source not in path.wants or source in closed:
            continue
        if layer.kind in NORMS or len(layer.sources) > 1:
            yield source, error.clone() if number else error  # the receiver may change it
        else:
            yield source, model.arithmetic.local_error(layer, trace.saved[layer.name], error)


def gradients(model: Model, x: Tensor, labels: Tensor, draw: int = 0) -> dict[str, Gradient]:
    """The gradient sums of every layer and batch norm that learns; no update."""
    return copied(_backward(model, x, labels, draw)[0])


def step(model: Model, x: Tensor, labels: Tensor, rate: float, draw: int) -> float:
    """One batch: forward, error, gradient and update of every layer. Returns the summed loss before the update."""
    found, loss = _backward(model, x, labels, draw)
    due = model.pending.next(found, rate)
    if due:
        _update(model, *due, draw - model.pending.delay)
    if model.feedback.rule.learned == "mirror":
        _mirror(model, draw)
    return loss


def _senders(model: Model) -> list[Layer]:
    return [layer for layer in model.network.weighted if layer.name in model.path.roles.sends]


def _update(model: Model, found: dict[str, Gradient], rate: float, number: int) -> None:
    """Of all layers; where feedback weights follow the gradient, W and B of every layer that sends an error lose the
    same share of themselves, the rule's and then the recipe's, and take the same step."""
    rule, before = model.feedback.rule, {}
    for layer in _senders(model) if rule.learned == "gradient" else ():
        weight = model.parameters[layer.name].master.mul_(1 - rule.decay)
        model.feedback.kept(layer).mul_(1 - rule.decay)
        before[layer] = weight.clone()
    model.arithmetic.update(model.parameters, found, rate, number)
    for layer, weight in before.items():
        keep = 1 - rate * model.feedback.weight_decay
        model.feedback.kept(layer).mul_(keep).add_(model.parameters[layer.name].master - keep * weight)


def _mirror(model: Model, draw: int) -> None:
    """B goes towards the mean outer product of noise and what the layer answers to it, without bias and activation.

    Of a convolution with padding, taps at the kernel's rim meet zeros now and then, and their share of W is smaller.
    """
    for layer in _senders(model):
        noise = model.feedback.noise(layer, draw)
        operand = model.arithmetic.operand(layer, noise)
        answer = model.arithmetic.weighted(layer, replace(model.parameters[layer.name], bias=None), operand)
        estimate = model.arithmetic.gradient(layer, answer, operand).weight / (len(noise) * layer.positions)
        model.feedback.kept(layer).lerp_(estimate, MIRROR_RATE)


def _backward(model: Model, x: Tensor, labels: Tensor, draw: int) -> tuple[dict[str, Gradient], float]:
    """Gradient sums by layer, and the summed loss."""
    arithmetic = model.arithmetic
    trace = forward(model.network, arithmetic, model.parameters, x)
    output_error, loss = arithmetic.loss(trace.output, labels)
    signal = arithmetic.signal(model.feedback.rule, output_error, labels)
    deltas, norms = errors(model, trace, output_error, signal, draw)
    found = {
        layer.name: arithmetic.gradient(layer, deltas[layer.name], trace.operands[layer.name])
        for layer in model.network.weighted
        if layer.name in model.path.roles.learns
    }
    return found | norms, loss
