"""The tensors of a step on every core, each with its life: the tasks that write it, and those that read it.

What one micro-batch leaves from one task for another, and what lies there from step to step. Partial sums are not
among them: they belong to the tiles of a product.
"""

from __future__ import annotations

from fahw.work.context import StepContext
from fahw.work.plan.tensors.errors import add_errors
from fahw.work.plan.tensors.lives import KeptTensor, Lives, Use
from fahw.work.plan.tensors.values import add_values
from fahw.work.plan.tensors.weights import add_weights

__all__ = ["KeptTensor", "Use", "kept_tensors"]


def kept_tensors(step: StepContext) -> tuple[KeptTensor, ...]:
    """The tensors of one micro-batch of a step, the largest, and those of the step."""
    lives = Lives(step)
    add_values(lives)
    add_errors(lives)
    add_weights(lives)
    return tuple(lives.finished())
