"""What `train`, `compare`, `attack` and `sweep` print of their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from fahw.units import si

if TYPE_CHECKING:
    from fahw.learn.training.result import EpochRow, TrainResult
    from fahw.study.attack import Robustness
    from fahw.study.comparison import Comparison
    from fahw.study.sweeps.sweep import SweepResult


def epoch_text(row: EpochRow) -> str:
    """The loss and the accuracies of one epoch, in a line."""
    accuracy = f"validation {row.validation_accuracy_pct:6.2f} %, test {row.test_accuracy_pct:6.2f} %"
    return f"epoch {row.epoch:3d}: loss {row.train_loss:.4f}, {accuracy}"


def split_text(samples: int, batch_size: int) -> str:
    """Over what the batch norms of a training take their statistics, where that is not the batch."""
    return f"batch norms take their statistics over micro-batches of {samples}, of batches of {batch_size}"


def train_text(result: TrainResult) -> str:
    """The accuracy that a training reached, with warnings before it and what rounding lost behind."""
    lines = [f"warning: {warning}" for warning in result.warnings]
    lines.append(
        f"{result.rule}, seed {result.seed}: test accuracy {result.test_accuracy_pct:.2f} % "
        f"at epoch {result.best_epoch}, the best on the validation set"
    )
    lines += result.losses
    return "\n".join(lines)


def compare_text(comparison: Comparison) -> str:
    """The comparison as a table (the interval between steps in cycles), the verdict, and where the report lies."""
    from fahw.report.results import verdict_sentences
    from fahw.report.run_folder import read_run

    width = _name_width(line.name for line in comparison.lines)
    is_split = any(line.cost and line.cost.micro_batch < line.cost.batch_size for line in comparison.lines)
    head = f"{'rule':<{width}}{'transport':<15}{'accuracy %':>15}{'energy/sample':>16}{'interval':>12}{'area mm2':>10}"
    lines = [f"{head}{'micro-batch':>13}" if is_split else head]
    for line in comparison.lines:
        accuracy = f"{line.accuracy.mean:.2f}" if line.accuracy else ""
        if line.accuracy and line.accuracy.count > 1:
            accuracy += f" ± {line.accuracy.std:.2f}"
        row = f"{line.name:<{width}}{line.transport:<15}{accuracy:>15}"
        if line.cost is None:
            lines.append(f"{row}  not possible: {line.reason}")
            continue
        energy = si(line.cost.energy_pj_per_sample * 1e-12, "J")
        row += f"{energy:>16}{line.cost.interval_cycles:>12,.0f}{line.cost.area_mm2:>10.2f}"
        lines.append(f"{row}{line.cost.micro_batch:>13}" if is_split else row)
    for sentence in verdict_sentences(read_run(comparison.folder)):
        lines += ["", sentence.lead, *wrap(sentence.text, 100, initial_indent="  ", subsequent_indent="  ")]
    lines += ["", f"report: {comparison.folder / 'report.html'}"]
    return "\n".join(lines) + "\n"


def _name_width(rules: Iterable[str]) -> int:
    """Characters of a column of rules."""
    return max(6, *(len(rule) + 1 for rule in rules))


def attack_text(results: Sequence[Robustness]) -> str:
    """A table of the accuracy over epsilon, with a row for each rule and attack."""
    epsilons = list(dict.fromkeys(row.epsilon for row in results[0].rows))
    lines = [f"accuracy in % on {results[0].images} test images; epsilon: the most that a pixel in [0, 1] changes"]
    width = _name_width(result.rule for result in results)
    lines.append(f"{'rule':<{width}}{'attack':<10}" + "".join(f"{epsilon:>8g}" for epsilon in epsilons))
    for result in results:
        for name in dict.fromkeys(row.attack for row in result.rows):
            shares = (row.accuracy_pct for row in result.rows if row.attack == name)
            lines.append(f"{result.rule:<{width}}{name:<10}" + "".join(f"{share:>8.1f}" for share in shares))
        if result.masked:
            where = ", ".join(f"{epsilon:g}" for epsilon in result.masked)
            lines.append(f"{result.rule}: at {where} another network's images do more harm than the own gradient's")
    return "\n".join(lines) + "\n"


def sweep_text(result: SweepResult) -> str:
    """How a sweep ended: a line for each point that failed, and where the report lies."""
    done = len(result.points) - len(result.failed)
    lines = [f"failed: {point.label}: {point.reason}" for point in result.failed]
    lines.append(f"{done} of {len(result.points)} points; report: {result.folder / 'report.html'}")
    return "\n".join(lines) + "\n"
