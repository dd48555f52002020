"""What a training comes to, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fahw.activity import Activity
from fahw.learn.state.rounding_losses import LostShares
from fahw.network.graph import Network


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


def check_rows(rows: Sequence[EpochRow], network: Network) -> None:
    """Raise ValueError unless these can be the first epochs of a training of the network: counted from 1, percentages
    as such, and of layers that it has."""
    weighted, layers = [layer.name for layer in network.weighted], {layer.name for layer in network.layers}
    for number, row in enumerate(rows, 1):
        accuracies = row.validation_accuracy_pct, row.test_accuracy_pct
        if row.epoch != number or not all(0 <= accuracy <= 100 for accuracy in accuracies):
            raise ValueError(f"its epoch {number} is not one of a training")
        named = {*row.angles, *row.norm_ratios, *row.gradient_angles, *row.lost}
        if sorted(row.activity.layers) != sorted(weighted) or not named <= layers:
            raise ValueError(f"its epoch {number} names other layers than the network has")
