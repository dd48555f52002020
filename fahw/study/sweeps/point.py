"""A point of a sweep: its values, its trainings, and what has become of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fahw.activity import Activity, mean_activity

if TYPE_CHECKING:
    from fahw.learn.training.result import TrainResult
    from fahw.study.training import Job


@dataclass(frozen=True)
class TrainingDigest:
    """What the tables of a sweep need of one training: accuracies in percent, steps of an epoch, measured activity."""

    seed: int
    steps_per_epoch: int
    test_pct: float
    best_validation_pct: float
    validation_pct: tuple[float, ...]
    activity: Activity | None = None

    @classmethod
    def from_result(cls, result: TrainResult) -> TrainingDigest:
        """The digest of the result of a training."""
        validation_pct = tuple(row.validation_accuracy_pct for row in result.epochs)
        best_pct = validation_pct[result.best_epoch - 1]
        activity = mean_activity([row.activity for row in result.epochs])
        return cls(result.seed, result.steps_per_epoch, result.test_accuracy_pct, best_pct, validation_pct, activity)

    def steps_to(self, target_pct: float) -> int | None:
        """Training steps to the end of the first epoch that reaches the target; None where none does."""
        reached = (epoch for epoch, accuracy in enumerate(self.validation_pct, 1) if accuracy >= target_pct)
        epoch = next(reached, None)
        return None if epoch is None else epoch * self.steps_per_epoch


@dataclass
class Point:
    """One point of a sweep: its values, its figures, and why it has none where it failed."""

    values: dict[str, Any]
    rule: str
    transport: str | None
    cost_key: str
    jobs: tuple[Job, ...] = ()
    cost: dict[str, Any] | None = None
    """Figures of the cost, and its energy by kind and uncertainty of the price."""
    runs: tuple[TrainingDigest, ...] = ()
    reason: str = ""
    finished: bool = False
    mean_steps: float | None = None
    """Steps to the sweep's target, mean of the seeds that reach it; known when the tables are written."""

    @property
    def label(self) -> str:
        """The values of the point in a line: `rule=dfa, batch_size=8`."""
        return ", ".join(f"{name}={value}" for name, value in self.values.items())

    @property
    def status(self) -> str:
        """`failed`, `done`, or `pending` while trainings of it are still to come."""
        return "failed" if self.reason else "done" if self.finished else "pending"
