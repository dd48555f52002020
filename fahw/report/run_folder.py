"""What a run folder of a comparison says: its files read into values. Nothing is computed again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fahw.errors import ConfigError, Problem, shortened
from fahw.rules.catalogue import BACKPROPAGATION, RULES
from fahw.stored_json import read_json
from fahw.tables import read_csv

FILES = ("manifest.json", "summary.csv", "ledger.csv", "epochs.csv", "details.json")
Numbers = dict[str, float | None]


def is_backpropagation(rule: str) -> bool:
    """Whether a rule is backpropagation, the side to compare with."""
    return rule == BACKPROPAGATION.name


def is_direct(rule: str) -> bool:
    """Whether a rule sends the output error straight to every layer."""
    name = rule.partition("@")[0]
    return name in RULES and RULES[name].path == "direct"


@dataclass(frozen=True)
class Saving:
    """1 - energy / baseline's energy, its range over the uncertain constants; winner: rule, baseline or undecided."""

    value: float
    low: float
    high: float
    winner: str


@dataclass(frozen=True)
class Verdict:
    """A rule under one form of transport against the best backpropagation."""

    rule: str
    transport: str
    step: Saving
    target: Saving | None
    seeds_reached: int
    seeds: int
    accuracy_points: float
    beyond_noise: bool | None
    break_even_scale: float | None


@dataclass(frozen=True)
class Entry:
    """A row of the energy ledger: what was done how often, and its energy in pJ."""

    component: str
    action: str
    tensor: str
    phase: str
    layer: str
    count: float
    energy_pj: float


@dataclass(frozen=True)
class Line:
    """A row of the comparison. `texts` and `numbers` hold the cells of summary.csv as written and as numbers."""

    rule: str
    transport: str
    texts: dict[str, str]
    numbers: Numbers
    details: dict[str, Any]
    ledger: tuple[Entry, ...]
    roofline: tuple[Mapping[str, Any], ...] = ()
    """The points of the roofline plots, as roofline.csv has them."""

    @property
    def hosted(self) -> bool:
        """Whether the chip can host the rule under this form of transport."""
        return self.numbers["energy_pj_per_step"] is not None

    @property
    def form(self) -> str:
        """The form of transport that was simulated, which `shared` leaves open."""
        return str(self.details.get("form", self.transport))

    @property
    def label(self) -> str:
        """A short name of the line for axes and heads of columns."""
        return self.rule if self.transport == "none" else f"{self.rule} {self.transport}"


@dataclass(frozen=True)
class Run:
    """A comparison as its folder has it. `epochs`: rule -> seed -> one row per epoch."""

    manifest: dict[str, Any]
    lines: tuple[Line, ...]
    verdicts: tuple[Verdict, ...]
    baseline: Line | None
    read_overhead: float | None
    epochs: dict[str, dict[str, list[Numbers]]]
    losses: tuple[dict[str, str], ...] | None = None
    """Rule and sentence of what number formats lost; None where it was not counted."""
    split: Mapping[str, Any] = field(default_factory=dict)
    """`baseline`: the micro-batch that is best for backpropagation, where it was searched; `is_learned`: whether what
    the network learns depends on the split."""

    @property
    def hosted(self) -> tuple[Line, ...]:
        """The lines that the chip can host."""
        return tuple(line for line in self.lines if line.hosted)

    @property
    def target_pct(self) -> float:
        """The validation accuracy to reach, percent."""
        return float(self.manifest["target_accuracy_pct"])

    @property
    def inputs(self) -> dict[str, Any]:
        """The chip, model, recipe, data, rules and seeds as they went in."""
        inputs: dict[str, Any] = self.manifest["inputs"]
        return inputs

    @property
    def batch_size(self) -> int:
        """The number of samples of a training step."""
        return int(self.inputs["recipe"]["batch_size"])

    def trained_as(self, line: Line) -> str:
        """The name under which the trainings of a line stand: its rule's, unless it has its own."""
        return line.label if line.label in self.epochs else line.rule

    def epochs_to_target(self, rule: str) -> list[int | None]:
        """The first epoch whose validation accuracy reaches the target, per seed; None where it never does."""
        return [_first_epoch(rows, self.target_pct) for rows in self.epochs.get(rule, {}).values()]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder. Raises ConfigError where the folder or the file is missing or broken."""
    require(folder, ["manifest.json"])
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict):
        raise ConfigError(Problem(str(folder / "manifest.json"), "is not a manifest that fahw wrote"))
    return manifest


def require(folder: Path, names: Iterable[str]) -> None:
    """Raise ConfigError that names every file that `folder` lacks."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        message = f"not a finished run folder: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        raise ConfigError(Problem(str(folder), message))


def read_run(folder: Path) -> Run:
    """Read the run folder of a comparison. Raises ConfigError where a file is missing or does not fit."""
    require(folder, FILES)
    manifest, details = read_manifest(folder), read_json(folder / "details.json")
    tables = [read_csv(folder / name) for name in ("summary.csv", "ledger.csv", "epochs.csv")]
    roofline = folder / "roofline.csv"
    tables.append(read_csv(roofline) if roofline.is_file() else [])
    try:
        return _run_from_tables(manifest, details, *tables)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        said = shortened(repr(error), 200)
        message = f"its files do not fit together, or another version of fahw wrote them ({said})"
        raise ConfigError(Problem(str(folder), message)) from None


def _run_from_tables(
    manifest: dict[str, Any],
    details: dict[str, Any],
    summary: list[dict[str, str]],
    ledger: list[dict[str, str]],
    epochs: list[dict[str, str]],
    roofline: list[dict[str, str]],
) -> Run:
    """The run from the contents of its files; a table is a list of rows."""
    details_of_line = {(item["rule"], item["transport"]): item for item in details["lines"]}
    ledger_of_line: dict[tuple[str, str], list[Entry]] = {}
    for row in ledger:
        ledger_of_line.setdefault((row["rule"], row["transport"]), []).append(_ledger_entry(row))
    roofline_of_line: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in roofline:
        roofline_of_line.setdefault((row["rule"], row["transport"]), []).append(row)
    keys = [(row["rule"], row["transport"]) for row in summary]
    lines = tuple(
        Line(
            *key,
            row,
            _numbers(row),
            details_of_line[key],
            tuple(ledger_of_line.get(key, ())),
            tuple(roofline_of_line.get(key, ())),
        )
        for key, row in zip(keys, summary, strict=True)
    )
    baseline_key = details.get("baseline")
    baseline = lines[keys.index((baseline_key["rule"], baseline_key["transport"]))] if baseline_key else None
    verdicts = tuple(_verdict(item) for item in details["verdicts"])
    losses = tuple(details["losses"]) if "losses" in details else None
    overhead, split = details.get("read_overhead"), details.get("split", {})
    return Run(manifest, lines, verdicts, baseline, overhead, _epochs_by_rule(epochs), losses, split)


def _ledger_entry(row: dict[str, str]) -> Entry:
    """A row of ledger.csv as a value."""
    address = (row["component"], row["action"], row["tensor"], row["phase"], row["layer"])
    return Entry(*address, float(row["count"]), float(row["energy_pj"]))


def _numbers(row: dict[str, str]) -> Numbers:
    """The cells of a row of summary.csv as numbers; None where empty."""
    return {name: float(text) if text else None for name, text in row.items() if name not in ("rule", "transport")}


def _verdict(item: dict[str, Any]) -> Verdict:
    """A verdict of details.json as a value."""
    target = item["saving_to_target"]
    return Verdict(
        item["rule"], item["transport"], Saving(**item["saving_per_step"]), Saving(**target) if target else None,
        item["seeds_reached"], item["seeds"], item["accuracy_difference_pct"], item["beyond_noise"],
        item["break_even_overhead_scale"],
    )  # fmt: skip


def _epochs_by_rule(rows: list[dict[str, str]]) -> dict[str, dict[str, list[Numbers]]]:
    """The rows of epochs.csv by rule and seed."""
    by_rule: dict[str, dict[str, list[Numbers]]] = {}
    for row in rows:
        numbers = {name: float(text) if text else None for name, text in row.items() if name not in ("rule", "seed")}
        by_rule.setdefault(row["rule"], {}).setdefault(row["seed"], []).append(numbers)
    return by_rule


def _first_epoch(rows: list[Numbers], target_pct: float) -> int | None:
    """The first epoch that reaches the target; None where none does."""
    for row in rows:
        accuracy = row["validation_accuracy_pct"]
        if accuracy is not None and accuracy >= target_pct:
            return int(row["epoch"] or 0)
    return None
