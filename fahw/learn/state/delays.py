"""What comes late on a chip: feedback words moved once in several steps, updates that steps do not wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fahw.learn.state.parameters import Gradient

Due = tuple[dict[str, "Gradient"], float]
"""Gradient sums by layer, and the learning rate of their step."""


@dataclass(frozen=True)
class Delays:
    """`transport_period`: steps between two transports of the forward words to the feedback memory. `update_delay`: how
    many steps late updates come: step t sees those of the steps up to t - 1 - delay."""

    transport_period: int = 1
    update_delay: int = 0


IN_TIME = Delays()
"""Nothing comes late."""


class Pending:
    """Gradients of the last `delay` steps, which wait for their update."""

    def __init__(self, delay: int = 0) -> None:
        self.delay, self._waiting = delay, list[Due]()

    def next(self, gradients: dict[str, Gradient], rate: float) -> Due | None:
        """Queue this step's gradients; those whose update comes now, none in the first `delay` steps."""
        if not self.delay:
            return gradients, rate
        self._waiting.append((copied(gradients), rate))
        return self._waiting.pop(0) if len(self._waiting) > self.delay else None


def copied(gradients: dict[str, Gradient]) -> dict[str, Gradient]:
    """In memory of their own: an arithmetic may use its memory again in the next step."""
    return {
        name: found._replace(weight=found.weight.clone(), bias=None if found.bias is None else found.bias.clone())
        for name, found in gradients.items()
    }
