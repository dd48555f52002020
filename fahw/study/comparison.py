"""A comparison of rules: its lines, the target that its accuracies are measured against, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fahw.chip.cost import Cost
from fahw.learn.training.result import TrainResult
from fahw.study.costs import verdict


@dataclass(frozen=True)
class Line:
    """One row of the comparison: a rule under one form of transport. `cost` is None where the chip cannot host it;
    `at_baseline` the line's micro-batch, if it is not the rule's best but backpropagation's."""

    rule: str
    transport: str
    cost: Cost | None
    reason: str
    results: tuple[TrainResult, ...]
    at_baseline: int | None = None

    @property
    def name(self) -> str:
        """The rule; with `@` and the micro-batch where that is backpropagation's: `dfa@16`."""
        return self.rule if self.at_baseline is None else f"{self.rule}@{self.at_baseline}"

    @property
    def accuracy(self) -> verdict.Spread | None:
        """Test accuracy over the seeds, percent; None where nothing was trained."""
        return verdict.spread([result.test_accuracy_pct for result in self.results])

    def steps_to(self, target_pct: float) -> list[int]:
        """Training steps to the first epoch whose validation accuracy reaches the target, for the seeds that reach
        it."""
        return [steps for result in self.results if (steps := _steps_to_target(result, target_pct)) is not None]


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns: its lines, and the validation accuracy to reach. `folder` holds the same as files;
    `baseline_split` is the micro-batch that is best for backpropagation, where that was searched."""

    folder: Path
    target_pct: float
    lines: tuple[Line, ...]
    baseline_split: int | None = None


def _steps_to_target(result: TrainResult, target_pct: float) -> int | None:
    """Training steps to the first epoch that reaches the target; None where none does."""
    reached = (row.epoch for row in result.epochs if row.validation_accuracy_pct >= target_pct)
    epoch = next(reached, None)
    return None if epoch is None else epoch * result.steps_per_epoch


def target_accuracy_pct(results: Sequence[TrainResult], points: float) -> float:
    """The mean of backpropagation's best validation accuracies, minus `points`, percent."""
    best = [result.epochs[result.best_epoch - 1].validation_accuracy_pct for result in results]
    mean = verdict.spread(best)
    assert mean is not None
    return mean.mean - points


def summary_row(line: Line, target_pct: float) -> dict[str, Any]:
    """The line's row of summary.csv; what was not reached or cannot be hosted is empty."""
    cost, accuracy, steps = line.cost, line.accuracy, verdict.spread(line.steps_to(target_pct))
    row: dict[str, Any] = {"rule": line.name, "transport": line.transport, "seeds": len(line.results)}
    if accuracy:
        row |= {"accuracy_pct_mean": accuracy.mean, "accuracy_pct_std": accuracy.std}
    if steps:
        row["steps_to_target"] = steps.mean
    if cost is None:
        return row
    return row | {
        "cycles_per_step": cost.cycles, "interval_cycles": cost.interval_cycles, "energy_pj_per_step": cost.energy_pj,
        "energy_pj_per_sample": cost.energy_pj_per_sample,
        "energy_to_target_j": steps.mean * cost.energy_pj * 1e-12 if steps else None,
        "area_mm2": cost.area_mm2, "area_used_mm2": cost.area_used_mm2, "feedback_bits": cost.feedback_bits,
        "transported_bits_per_step": cost.transported_bits, "micro_batch": cost.micro_batch,
    }  # fmt: skip
