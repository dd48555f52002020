"""What a training comes to, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass

from fahw.activity import Activity
from fahw.learn.state.rounding_losses import LostShares


@dataclass(frozen=True)
class EpochRow:
    """What one epoch (counted from 1) came to.

    `train_loss`: mean cross-entropy over its batches in nats, at most 1e9. `angles`, `norm_ratios`: of the feedback
    matrix to the weights at its end (`watch.alignment`), by layer; empty for direct rules. `gradient_angles`: of the
    rule's gradient to backpropagation's at its end, in degrees, by layer. `activity`: shares of zeros and changes over
    some of its steps. `saturated`: share of the stored integers at an end of their range at its end, by kind of tensor.
    `lost`: what rounding lost in its last step, by layer and tensor.
    """

    epoch: int
    train_loss: float
    validation_accuracy_pct: float
    test_accuracy_pct: float
    angles: dict[str, float]
    norm_ratios: dict[str, float]
    saturated: dict[str, float]
    gradient_angles: dict[str, float]
    activity: Activity
    lost: dict[str, dict[str, LostShares]]


@dataclass(frozen=True)
class TrainResult:
    """What one training came to. `best_epoch` is the first with the best validation accuracy, `test_accuracy_pct` the
    test accuracy there. `warnings`: accumulators that could overflow, images left out. `losses`: what the number
    formats lost, in sentences."""

    rule: str
    seed: int
    steps_per_epoch: int
    epochs: tuple[EpochRow, ...]
    best_epoch: int
    test_accuracy_pct: float
    warnings: tuple[str, ...]
    losses: tuple[str, ...]
