"""A network as a training step knows it, and what its forward pass leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.error_path.feedback import Feedback
from fahw.learn.state.delays import PendingUpdates
from fahw.learn.state.parameters import Parameters
from fahw.network.error_path import ErrorPath, error_path
from fahw.network.graph import Network


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, the arithmetic that computes it, the feedback words of its rule, and the updates that
    are still to come."""

    network: Network
    arithmetic: Arithmetic
    parameters: dict[str, Parameters]
    feedback: Feedback
    pending: PendingUpdates = field(default_factory=PendingUpdates)

    @cached_property
    def path(self) -> ErrorPath:
        """Where errors go under the rule."""
        return error_path(self.network, self.feedback.rule)

    @cached_property
    def passes(self) -> dict[str, tuple[bool, ...]]:
        """For each layer without weights that has something to do on the way back: which of its sources get an error.

        A direct rule's own error replaces what comes back through a shortcut.
        """
        path, blocked = self.path, self.feedback.direct and self.network.dfa_residual == "blocked"
        closed = path.tapped if blocked else frozenset()
        wanted = {
            layer.name: tuple(source in path.wants_error and source not in closed for source in layer.sources)
            for layer in self.network.layers
            if not layer.weighted
        }
        return {name: sources for name, sources in wanted.items() if any(sources) or self.network.layer(name).params}


@dataclass(eq=False)
class Trace:
    """What the forward pass leaves for the backward pass: what each layer saved, operands of weighted layers, and the
    last layer's `output`. `logits` are the same numbers as `(n, classes)`."""

    saved: dict[str, Any]
    output: Tensor
    logits: Tensor
