"""What comes late on a chip: feedback words moved once in several steps, updates that steps do not wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fahw.learn.state.parameters import Gradient

DueUpdate = tuple[dict[str, "Gradient"], float]
"""Gradient sums by layer, and the learning rate of their step."""


@dataclass(frozen=True)
class Delays:
    """The delays of a training. `transport_period`: steps between two transports of the forward words to the feedback
    memory. `update_delay`: how many steps late updates come: step t sees those of the steps up to t - 1 - delay."""

    transport_period: int = 1
    update_delay: int = 0


IN_TIME = Delays()
"""The delays of a training in which nothing comes late."""


class PendingUpdates:
    """A queue of the gradients of the last `delay` steps, which wait for their update."""

    def __init__(self, delay: int = 0) -> None:
        self.delay, self.waiting = delay, list[DueUpdate]()

    def next(self, gradients: dict[str, Gradient], rate: float) -> DueUpdate | None:
        """Queue this step's gradients and return those whose update comes now, None in the first `delay` steps."""
        if not self.delay:
            return gradients, rate
        self.waiting.append((cloned_gradients(gradients), rate))
        return self.waiting.pop(0) if len(self.waiting) > self.delay else None


def cloned_gradients(gradients: dict[str, Gradient]) -> dict[str, Gradient]:
    """Copies of the gradients: an arithmetic may use the memory of its gradients again in the next step."""
    return {
        name: gradient._replace(
            weight=gradient.weight.clone(), bias=None if gradient.bias is None else gradient.bias.clone()
        )
        for name, gradient in gradients.items()
    }
