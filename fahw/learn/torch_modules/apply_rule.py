"""A learning rule on any torch module whose weights are in linear and two-dimensional convolution layers, in float.

    net = apply_rule(torch.nn.Sequential(...), "dfa")
    loss(net(x), y).backward()          # .grad of every parameter is the rule's
    feedback_weights(net)               # what carried the error

What lies between the weighted layers (activations, pooling, batch norms with their parameters, residual adds,
reshaping) is left to autograd and is exact, so the error path sees the true scale of a batch norm under every rule. The
layers whose input depends on no other weighted layer send no error down, so that no rule has feedback weights for them;
the gradient of an input that asks for one goes through their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from math import prod
from typing import TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from fahw.errors import ConfigError, Problem, check_integer, check_kind, suggestion
from fahw.learn.error_path.feedback import matrix_product
from fahw.learn.torch_modules.autograd_call import (
    LayerCall,
    LayerState,
    Local,
    WrappedNetwork,
    calls_below,
    signal_inbox,
)
from fahw.learn.torch_modules.copies import module_copy
from fahw.learn.torch_modules.module_words import ModuleWords
from fahw.learn.torch_modules.weighted_products import (
    ConvProducts,
    LinearProducts,
    Pair,
    Products,
    layout_of,
)
from fahw.network.feedback_matrices import FeedbackMatrix, feedback_matrices
from fahw.network.model_file import DirectFeedback, DirectResidual
from fahw.rules.catalogue import RULES
from fahw.rules.rule import MIRROR_RATE, MIRROR_SAMPLES, Rule

M = TypeVar("M", bound=nn.Module)


class _WrappedLayer(nn.Module):
    """The part that all wrapped layers have in common; the layer's own class supplies the parameters."""

    fahw: LayerState
    fahw_feedback: Tensor | None
    fahw_narrow: Tensor | None
    weight: Tensor
    training: bool

    def run(
        self, module_input: Tensor, x: Tensor, padded: Tensor, bias: Tensor | None, products: Products,
        unpad: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """The layer's output. `x` is the `module_input` with a batch axis; `padded` is computed from `x` and differs
        where the layer pads other than with zeros, and `unpad` takes an error back from its shape to that of `x`."""
        rule = self.fahw.rule
        calls_below_input = calls_below(x, self.fahw.network) if torch.is_grad_enabled() and x.requires_grad else ()
        direct = rule.path == "direct" and bool(calls_below_input)
        if self.training:
            self.fahw.draws += 1
            if calls_below_input and rule.learned == "mirror" and self.weight.requires_grad:
                self._mirror(padded, products)
        parts = self._layerwise_parts() if calls_below_input and not direct else (None,)
        inbox = signal_inbox(module_input) if direct and self.fahw.blocked else None
        call = LayerCall(
            self, products, calls_below_input, unpad, inbox, self.fahw.draws, parts[0] if len(parts) > 1 else None
        )
        signal_input, x_local = (x, padded.detach()) if direct else (None, padded)
        arguments = (signal_input, x_local, self.weight, bias, parts[-1], call)
        out: Tensor = Local.apply(*arguments)  # type: ignore[no-untyped-call]
        return out

    def direct_matrices(self, outputs: int, x_shape: torch.Size, tiled: bool, draw: int) -> tuple[Tensor, ...]:
        """The layer's feedback matrix under a direct rule for an input of shape `x_shape`, (n, ...), drawn when first
        needed: (outputs, values of one sample), or the kernel (outputs, channels, kernel height, kernel width) if
        `tiled`; or the two matrices whose product it is. Raises ConfigError where an earlier input had another
        shape."""
        shape = (outputs, x_shape[1], *self.weight.shape[2:]) if tiled else (outputs, x_shape[1:].numel())
        fans, rule = (shape[0] + shape[1]) * prod(shape[2:]), self.fahw.rule
        matrices = feedback_matrices(self.fahw.name, shape, fans, rule)
        return tuple(rule.feedback.drawn(ModuleWords(self, matrix, draw)) for matrix in matrices)

    def _layerwise_parts(self) -> tuple[Tensor | None, ...]:
        """What does not depend on the forward weight in the layer's feedback matrix, or in the two whose product it is:
        shaped as the weight, a scalar, or None where nothing is left."""
        rule = self.fahw.rule
        return tuple(rule.feedback.drawn(ModuleWords(self, matrix, self.fahw.draws)) for matrix in self._matrices)

    @property
    def _matrices(self) -> tuple[FeedbackMatrix, ...]:
        """The feedback matrices of a rule that goes layer by layer."""
        shape = tuple(self.weight.shape)
        fans = (shape[0] + shape[1]) * prod(shape[2:])
        return feedback_matrices(self.fahw.name, shape, fans, self.fahw.rule, getattr(self, "groups", 1))

    def adopt(self, state: LayerState) -> None:
        """Make the layer follow the rule of `state`. Feedback weights that learn are drawn now, so that an optimizer or
        a checkpoint has them."""
        self.fahw = state
        for registered in (self._buffers, self._parameters):  # of a rule that was there before
            registered.pop("fahw_feedback", None)
            registered.pop("fahw_narrow", None)
        self.register_buffer("fahw_feedback", None, persistent=state.rule.learned == "mirror")
        self.register_buffer("fahw_narrow", None, persistent=False)
        if state.rule.learned:
            (matrix,) = self._matrices
            drawn = ModuleWords(self, matrix, 0).drawn(0)
            if state.rule.learned == "gradient":
                del self.fahw_feedback
                drawn = nn.Parameter(drawn)
            self.fahw_feedback = drawn

    @torch.no_grad()
    def _mirror(self, padded: Tensor, products: Products) -> None:
        """Move the feedback weights towards the mean outer product of noise and the layer's answers to it, without
        bias."""
        assert self.fahw_feedback is not None
        weight = self.weight
        is_conv = isinstance(products, ConvProducts)
        samples = MIRROR_SAMPLES
        device = weight.device.type
        # What is learned is kept in the weights' precision.
        with torch.autocast(device, enabled=False) if device in ("cpu", "cuda") else nullcontext():
            if is_conv:
                answer = products.forward(padded[:1].to(weight.dtype), weight, None)
                samples = -(-MIRROR_SAMPLES // answer[0, 0].numel())
            shape = (samples, *(padded.shape[1:] if is_conv else padded.shape[-1:]))
            noise = torch.randint(2, shape, generator=self.fahw.generator("mirror")).to(weight.device, weight.dtype)
            noise = noise * 2 - 1
            answer = products.forward(noise, weight, None)
            _, estimate, _ = products.backward(answer, noise, layout_of(weight), False)
        assert estimate is not None
        estimate /= answer.numel() // answer.shape[1]
        # A new tensor: another forward pass may wait for its backward pass with the old one.
        self.fahw_feedback = torch.lerp(self.fahw_feedback, estimate, MIRROR_RATE)


class WrappedLinear(_WrappedLayer, nn.Linear):
    """A linear layer that sends its error down as a rule says."""

    def forward(self, input: Tensor) -> Tensor:
        """The output (..., out) for an input (..., in), as `nn.Linear` computes it."""
        x = input.unsqueeze(0) if input.ndim == 1 else input
        out = self.run(input, x, x, self.bias, LinearProducts())
        return out.squeeze(0) if input.ndim == 1 else out


class WrappedConv2d(_WrappedLayer, nn.Conv2d):
    """A convolution that sends its error down as a rule says."""

    def forward(self, input: Tensor) -> Tensor:
        """The output for images (n, channels, height, width) or one of them, as `nn.Conv2d` computes it."""
        x = input.unsqueeze(0) if input.ndim == 3 else input
        padded, padding, unpad = x, self.padding, None
        if isinstance(padding, str) or self.padding_mode != "zeros":
            padded, padding, unpad = self._pad(x), (0, 0), partial(self._unpad, x.shape)
        products = ConvProducts(_pair(self.stride), _pair(padding), _pair(self.dilation), self.groups)
        out = self.run(input, x, padded, self.bias, products, unpad)
        return out.squeeze(0) if input.ndim == 3 else out

    def _pad(self, x: Tensor) -> Tensor:
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return functional.pad(x, self._reversed_padding_repeated_twice, mode)

    def _unpad(self, shape: torch.Size, error: Tensor) -> Tensor:
        """The error at the unpadded input, of `shape`, from that at the padded one: the adjoint of `_pad`."""
        with torch.enable_grad():
            x = error.new_zeros(shape, requires_grad=True)
            (x_error,) = torch.autograd.grad(self._pad(x), x, error)
        return x_error


_WRAPPED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: WrappedLinear,
    nn.Conv2d: WrappedConv2d,
    WrappedLinear: WrappedLinear,
    WrappedConv2d: WrappedConv2d,
}

_EXACT = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers with parameters whose gradients are exact under every rule, given the error at their output."""


def apply_rule(
    module: M, rule: str | Rule, seed: int = 0, *, dfa_feedback: DirectFeedback = "dense",
    dfa_residual: DirectResidual = "blocked",
) -> M:  # fmt: skip
    """A copy of `module` whose backward pass follows `rule`, a key of `RULES` or a `Rule`; it itself is left alone.

    The copy has the same parameters under the same names. Feedback weights follow from `seed` and the layer's name
    alone, are not parameters and not part of the state dict. Fixed ones are Xavier-uniform, `usf`'s constant is the
    Xavier standard deviation, `brsf` draws anew in every forward pass in training mode. `dfa` sends the gradient at the
    output of the last weighted layer to the input of every other: through a matrix (`dfa_feedback` "dense") or, to
    convolutions, through a kernel, tiled over the image ("tiled"). Where several layers share an input, their signals
    add up; what comes back to it through a shortcut is dropped (`dfa_residual` "blocked") or added ("biotorch").

    `kp`: feedback weights are parameters too, named `LAYER.fahw_feedback`, whose gradient is the weight's (None in the
    first layer, which sends no error): give both to the same optimizer, with a weight decay. `wm`: they move in every
    forward pass in training mode, and are a part of the state dict. `tdfa` and `drtp` take the loss for a mean over the
    batch, and `drtp` the classes where its gradient is negative for the targets, as they are under a cross-entropy.
    Layers that do not learn (`last`, `frozen_conv`) keep `.grad` None.

    Raises ConfigError for an unknown rule or option and for what cannot be taken, with its place in the module; in the
    forward or backward pass for what only shows there.
    """
    check_kind("module", module, nn.Module, "a torch.nn.Module")
    check_integer("seed", seed, 0, 2**63)
    rule = _rule_of(rule)
    _check_choice("dfa_feedback", dfa_feedback, get_args(DirectFeedback))
    _check_choice("dfa_residual", dfa_residual, get_args(DirectResidual))
    problems = _problems(module)
    if problems:
        raise ConfigError(problems)
    wrapped = module_copy(module)
    network = WrappedNetwork()
    for name, layer in wrapped.named_modules():
        if type(layer) in _WRAPPED:
            # The class is exchanged, not the object: hooks, settings and the names of the parameters stay.
            layer.__class__ = _WRAPPED[type(layer)]
            blocked, tiled = dfa_residual == "blocked", dfa_feedback == "tiled"
            layer.adopt(LayerState(name, rule, seed, network, tiled, blocked))
    return wrapped


def _rule_of(rule: str | Rule) -> Rule:
    """The rule itself, or the one of that name. Raises ConfigError where there is none."""
    if isinstance(rule, Rule):
        return rule
    _check_choice("rule", rule, RULES)
    return RULES[rule]


def _check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    names = list(choices)
    check_kind(what, value, str, f"one of {', '.join(names)}")
    if value not in names:
        raise ConfigError(Problem(what, f"no {what} '{value}'{suggestion(value, names)}; known: {', '.join(names)}"))


def feedback_weights(module: nn.Module) -> dict[str, Tensor]:
    """The matrix that each layer used in its last backward pass to send the error to its input, by layer name.

    Shaped as the layer's weight; for a direct rule `(outputs, values of one input sample)`, for a convolution whose
    feedback is tiled `(outputs, channels, kernel height, kernel width)`. The first layer, which sends no error, is
    absent; before the first backward pass the result is empty. Raises ConfigError for a module that `apply_rule` has
    not made.
    """
    check_kind("module", module, nn.Module, "a torch.nn.Module")
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, _WrappedLayer)]
    if not layers:
        raise ConfigError(Problem("module", "has no learning rule; use what apply_rule returns"))
    return {name: _used(layer) for name, layer in layers if layer.fahw.used}


def _used(layer: _WrappedLayer) -> Tensor:
    """The matrix that a layer sent its error with: of two the product."""
    groups = 1 if layer.fahw.rule.path == "direct" else getattr(layer, "groups", 1)
    product = matrix_product(layer.fahw.used, groups)
    return product.detach().to(layer.weight.dtype, copy=True)


def _problems(module: nn.Module) -> list[Problem]:
    """All reasons why the module cannot be wrapped, each with its place."""
    names: dict[nn.Module, list[str]] = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        names.setdefault(layer, []).append(name)
    problems = []
    for layer, (name, *others) in names.items():
        parameter_names = {key for key, _ in layer.named_parameters(recurse=False)}
        parameter_names -= {"fahw_feedback"} if isinstance(layer, _WrappedLayer) else set()
        place = f"module '{name}'" if name else "the module itself"
        if parameter_names and others:
            message = f"is also '{others[0]}': every use would need feedback weights of its own"
            problems.append(Problem(place, message))
        elif (
            type(layer) in (*_WRAPPED, *_EXACT)
            and parameter_names <= {"weight", "bias"}
            and "weight" in parameter_names
        ):
            continue
        elif parameter_names:
            problems.append(Problem(place, _why_not(layer, parameter_names)))
    if not problems and not any(type(layer) in _WRAPPED for layer in names):
        problems.append(Problem("module", "has no Linear or Conv2d layer, so that there is nothing to apply a rule to"))
    return problems


def _why_not(layer: nn.Module, parameter_names: set[str]) -> str:
    kind, parameters = type(layer).__name__, ", ".join(sorted(parameter_names))
    if isinstance(layer, nn.Linear | nn.Conv2d):
        return f"is a {kind} with changed parameters or forward pass ({parameters}); only the plain layer can be taken"
    return (
        f"is a {kind} with parameters ({parameters}); rules are defined for Linear and Conv2d, other layers than batch"
        " norms must have no parameters"
    )


def _pair(value: int | tuple[int, ...] | str) -> Pair:
    assert isinstance(value, tuple)
    return value[0], value[1]
