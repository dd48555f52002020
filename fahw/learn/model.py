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


@dataclass(eq=False)
class Trace:
    """What the forward pass leaves for the backward pass: what each layer saved, operands of weighted layers, and the
    last layer's `output`. `logits` are the same numbers as `(n, classes)`."""

    saved: dict[str, Any]
    output: Tensor
    logits: Tensor
