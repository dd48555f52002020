"""One call of a weighted layer in autograd's graph: its three products, and where the error comes from and goes to.

`Local` is the node that such a call leaves in the graph. Its gradients of weights and bias are exact; what it hands to
its input is the rule's: its own error through the feedback weights (layer by layer), or the network's output error
through them (direct). The layer-to-layer product of a direct rule is not computed.

How the error of the output gets to all layers: every node carries a `LayerCall`, and a call finds those directly below
it by walking autograd's graph from its input down to the next such nodes. The call that no other found is the output's;
it runs first in the backward pass and leaves the error with all calls below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from fahw.errors import ConfigError, Problem
from fahw.learn.error_path.signals import pruned, ternary
from fahw.learn.torch_modules.weighted_products import ConvProducts, Layout, Products, layout_of, through_two
from fahw.prng import derive
from fahw.rules.rule import Rule


class WrappedNetwork:
    """The identity of one wrapped network, without content: the layers of one copy share it, so that networks may feed
    each other."""


@dataclass(eq=False)
class LayerState:
    """What a wrapped layer knows beside its parameters. `draws` counts its training-mode forward passes; `used` has the
    feedback matrices that the last backward pass used, none or one or two. `tiled`: a direct rule sends the error to
    convolutions through a kernel; `blocked`: only that error reaches the layer's input."""

    name: str
    rule: Rule
    seed: int
    network: WrappedNetwork
    tiled: bool = False
    blocked: bool = True
    draws: int = 0
    used: tuple[Tensor, ...] = ()

    def generator(self, use: str) -> torch.Generator:
        """A generator of the random numbers of the layer's last training-mode forward pass, for one use."""
        return torch.Generator().manual_seed(derive(self.seed, use, self.name, self.draws))


@dataclass(eq=False)
class LayerCall:
    """One use of a layer in one forward pass. `below`: the calls that its input depends on, without others between.

    `unpad`: takes an error from the padded input to the input. `inbox`: where a direct rule leaves the signal for the
    input, so that nothing else reaches it. `draw`: the layer's number of training-mode forward passes. `narrow`: the
    first of two feedback matrices, where the rule has two and sends errors layer by layer.
    """

    layer: FeedbackLayer
    products: Products
    below: tuple[LayerCall, ...]
    unpad: Callable[[Tensor], Tensor] | None = None
    inbox: SignalInbox | None = None
    draw: int = 0
    narrow: Tensor | None = None
    names: frozenset[str] = field(init=False)
    consumed: bool = False
    output: LayerCall | None = None
    output_error: Tensor | None = None

    def __post_init__(self) -> None:
        names: frozenset[str] = frozenset().union(*(call.names for call in self.below))
        if self.state.name in names:
            message = "is used twice in one forward pass; every use would need feedback weights of its own"
            raise ConfigError(Problem(f"layer '{self.state.name}'", message))
        self.names = names | {self.state.name}
        for call in self.below:
            call.consumed = True

    @property
    def state(self) -> LayerState:
        """The state of the call's layer."""
        return self.layer.fahw

    @cached_property
    def learns(self) -> bool:
        """Whether the rule gives the layer's parameters a gradient; known when all of the network has run."""
        trains = self.state.rule.trains_layer(isinstance(self.products, ConvProducts), not self.consumed)
        return trains and self.layer.weight.requires_grad

    @cached_property
    def sends(self) -> bool:
        """Whether a layer below needs the error that this one would send down."""
        if self.state.rule.trains == "all":
            return True
        return any(call.learns or (call.sends and self.state.rule.path == "layerwise") for call in self.below)

    @property
    def reads_weight(self) -> bool:
        """Whether sending the error down needs the weight. The first layer is a plain one."""
        return not self.below or self.state.rule.reads_weight

    def feedback(self, weight: Tensor | None, magnitude: Tensor | None) -> Tensor:
        """The feedback matrix of a layer-by-layer rule, shaped as the weight; stored in `LayerState.used`, save the
        first layer's."""
        if not self.below:
            assert weight is not None
            return weight
        rule = self.state.rule
        matrix: Tensor = rule.feedback.joined(_ForwardWeights(weight), magnitude)
        # the optimizer changes what it trains in place: keep it as it was used
        kept = matrix.detach().clone() if matrix is weight or rule.learned else matrix
        self.state.used = (kept,) if self.narrow is None else (self.narrow, kept)
        return matrix

    def narrowed(self, g: Tensor, wide: Tensor, x: Layout) -> Tensor | None:
        """The error at the layer's input, from `g` at its output, through the two matrices of a rule of low rank."""
        assert self.narrow is not None
        return through_two(self.products, g, self.narrow.to(g.dtype), wide, x)

    def hand_down(self, error: Tensor) -> None:
        """Leave the error of the output, (n, ...), with every call that the output depends on."""
        pending, visited = [self], {self}
        while pending:
            call = pending.pop()
            if call.output is not None and call.output is not self:
                message = f"and '{self.state.name}' are both outputs; a direct rule has the error of one output only"
                raise ConfigError(Problem(f"layer '{call.output.state.name}'", message))
            call.output, call.output_error = self, error
            unvisited = [lower_call for lower_call in call.below if lower_call not in visited]
            pending += unvisited
            visited.update(unvisited)

    def direct_signal(self, layout: Layout, padded: torch.Size, out: torch.Size) -> Tensor:
        """The signal of a direct rule: the output's error through the layer's feedback matrix, as an error at the
        layer's input, (n, ...), in the input's layout. Raises ConfigError where the output has no error, or another
        batch size."""
        shape, strides = layout
        error, self.output_error = self.output_error, None
        place = f"layer '{self.state.name}'"
        if error is None:
            raise ConfigError(Problem(place, "the loss does not depend on the network's last weighted layer"))
        rows = error.flatten(1)
        if len(rows) != shape[0]:
            message = f"has a batch of {shape[0]} at its input but {len(rows)} at the network's output"
            raise ConfigError(Problem(place, message))
        tiled = self.state.tiled and isinstance(self.products, ConvProducts)
        matrices = self.layer.direct_matrices(rows.shape[1], shape, tiled, self.draw)
        self.state.used = matrices
        *narrow, words = (matrix.to(rows.dtype) for matrix in matrices)
        for matrix in narrow:
            rows = rows @ matrix
        if tiled:
            assert isinstance(self.products, ConvProducts)
            signal_below = self.products.tiled(rows, words, padded, out)
            signal = signal_below if self.unpad is None else self.unpad(signal_below)
        else:
            signal = _signal_shaped(rows, words, shape, strides)
        if self.inbox is not None:
            self.inbox.append((_backward_pass(), signal))
        return signal


class FeedbackLayer(Protocol):
    """A layer with feedback weights, as its calls need it."""

    fahw: LayerState
    weight: Tensor

    def direct_matrices(self, outputs: int, x_shape: torch.Size, tiled: bool, draw: int) -> tuple[Tensor, ...]:
        """The feedback matrices of a direct rule from `outputs` network outputs to an input of shape `x_shape`, in
        training-mode forward pass number `draw`."""


@dataclass(frozen=True)
class _ForwardWeights:
    """The `fahw.rules.sources.ForwardWeights` of a layer, which may be None where the rule needs none."""

    weight: Tensor | None

    def copied(self) -> Tensor | None:
        return self.weight

    def with_weight_signs(self, magnitudes: Tensor) -> Tensor:
        assert self.weight is not None
        return torch.where(self.weight < 0, -magnitudes, magnitudes)


class Local(Function):
    """A weighted layer with exact gradients of its parameters.

    Inputs: `signal_input`, the layer's input where a direct rule sends it the output's error (else None); `x`, the
    input, padded, and cut off from the graph where there is a `signal_input`; weight; bias or None; the magnitude that
    the feedback weights have (or the matrix itself); the call.
    """

    @staticmethod
    def forward(
        ctx: Any,
        signal_input: Tensor | None,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        magnitude: Tensor | None,
        call: LayerCall,
    ) -> Tensor:
        """The layer's output; keeps for the backward pass what the rule needs there, and no more."""
        _, sends, learns, *_ = ctx.needs_input_grad
        ctx.set_materialize_grads(False)
        ctx.fahw_call = call
        ctx.signal_layout = None if signal_input is None else layout_of(signal_input)
        ctx.layouts = layout_of(x), layout_of(weight)
        ctx.save_for_backward(x if learns else None, weight if sends and call.reads_weight else None, magnitude)
        return call.products.forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of the six inputs of `forward`, given the error `g` at the output; None where there is none."""
        if g is None:  # nothing above sends an error
            return (None,) * 6
        # Gradients are recorded only where a second derivative is wanted; the check costs as much as a small layer.
        return (_refusing if torch.is_grad_enabled() else _backward)(ctx, g)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    call: LayerCall = ctx.fahw_call
    x, weight, magnitude = ctx.saved_tensors
    takes_signal, sends, learns, biased, follows, _ = ctx.needs_input_grad
    x_layout, weight_layout = ctx.layouts
    rule = call.state.rule
    if rule.path == "direct" and not call.consumed:
        call.hand_down(rule.sent.made(_GradientSignals(g)))
    if rule.pruned and call.consumed:
        g = pruned(g, rule, call.state.generator("pruning"))
    if call.below and not call.sends:
        takes_signal = sends = False
    learns, biased = learns and call.learns, biased and call.learns
    signal = call.direct_signal(ctx.signal_layout, x_layout[0], g.shape) if takes_signal else None
    # Under autocast the error is narrower than what was saved.
    feedback = call.feedback(weight, magnitude).to(g.dtype) if sends else weight_layout
    through_two_matrices = sends and call.narrow is not None and bool(call.below)
    at_once = weight_layout if through_two_matrices else feedback
    down, *gradients = call.products.backward(g, x.to(g.dtype) if learns else x_layout, at_once, biased)
    if through_two_matrices:
        down = call.narrowed(g, feedback, x_layout)
    return signal, down, *gradients, gradients[0] if follows else None, None


@dataclass(frozen=True)
class _GradientSignals:
    """The `fahw.rules.signals.Signals`, given the gradient at the output of a loss that is a mean over the batch."""

    gradient: Tensor

    def error(self) -> Tensor:
        return self.gradient

    def ternary(self) -> Tensor:
        return ternary(self.gradient, self._unit)

    def targets(self) -> Tensor:
        """Where the gradient is negative, as under a cross-entropy: one-hot over the size of the batch."""
        return (self.gradient < 0).to(self.gradient.dtype).mul_(self._unit)

    @property
    def _unit(self) -> float:
        return 1 / max(1, len(self.gradient))


def _signal_shaped(rows: Tensor, words: Tensor, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """The product rows @ words in the given shape. Where the channels of an image lie innermost, so do the signal's: to
    permute the words is cheaper than to permute the result, or to let every layer below mix two memory formats."""
    if len(shape) != 4 or strides[1] != 1 or shape[1] == 1:
        return (rows @ words).reshape(shape)
    channels_last_words = words.view(-1, *shape[1:]).permute(0, 2, 3, 1).flatten(1)
    return (rows @ channels_last_words).view(-1, *shape[2:], shape[1]).permute(0, 3, 1, 2)


_refusing = once_differentiable(_backward)


def calls_below(x: Tensor, network: WrappedNetwork) -> tuple[LayerCall, ...]:
    """The calls of this network's layers that `x` depends on with none of them between, by way of autograd's graph."""
    calls: list[LayerCall] = []
    visited: set[Any] = set()  # holds the nodes alive: their identity is only then stable
    pending: list[Any] = [x.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        call = getattr(node, "fahw_call", None)
        if call is not None and call.state.network is network:
            calls.append(call)
        else:
            pending += [lower_node for lower_node, _ in node.next_functions]
    return tuple(calls)


SignalInbox = list[tuple[int, Tensor]]
"""Direct signals, each with the backward pass that it belongs to: a pass that is not asked for `x` leaves its own."""


def _backward_pass() -> int:
    """The number of the backward pass that is running."""
    return int(torch._C._current_graph_task_id())


def signal_inbox(x: Tensor) -> SignalInbox:
    """The inbox in which the direct signals for `x` are left; what else comes back to `x`, through shortcuts, is then
    dropped."""
    inbox: SignalInbox | None = getattr(x, "fahw_inbox", None)
    if inbox is None:
        inbox = []
        x.fahw_inbox = inbox  # type: ignore[attr-defined]
        x.register_hook(partial(_collected, inbox))  # type: ignore[no-untyped-call]
    return inbox


def _collected(inbox: SignalInbox, gradient: Tensor) -> Tensor:
    """The sum of the signals of the running backward pass in place of the gradient, or the gradient where there are
    none; empties the inbox."""
    current_pass = _backward_pass()
    total = sum(signal.reshape(gradient.shape) for backward_pass, signal in inbox if backward_pass == current_pass)
    inbox.clear()
    return total.to(gradient.dtype) if isinstance(total, Tensor) else gradient
