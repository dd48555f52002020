"""What the command line prints: texts from values, and progress with the time left."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from fahw.chip.constants import constants_used, summary
from fahw.chip.cost import SHARED, Cost
from fahw.chip.forms import Offer, least
from fahw.chip.ledger import COLUMNS
from fahw.chip.usage import uses
from fahw.config import load, yamltext
from fahw.config.chip import Chip
from fahw.config.model import Model
from fahw.config.numbers import FLOATS, Float
from fahw.config.sweep import Sweep
from fahw.config.validate import in_order
from fahw.errors import ConfigError, Problem
from fahw.files import write_text
from fahw.network import load_model
from fahw.report.priced import part_rows
from fahw.rules import RULES
from fahw.technology import catalogue
from fahw.units import percent, si

if TYPE_CHECKING:
    from fahw.chip.trace import Trace
    from fahw.learn.train import EpochRow, TrainResult
    from fahw.study.attack import Robustness
    from fahw.study.compare import Comparison
    from fahw.study.sweep import SweepResult

_BUSIEST = 6
"""Parts that the text of a cost shows."""


class Progress:
    """A line on stderr: done, total, what finished last, time left. Quiet lines where stderr is not a terminal."""

    def __init__(self, unit: str) -> None:
        self._unit, self._start = unit, time.monotonic()
        self._done_before: int | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty() and self._done_before is not None:
            sys.stderr.write("\n")

    def update(self, done: int, total: int, what: str) -> None:
        """Say how far the work is."""
        if self._done_before is None:
            self._done_before, self._start = done, time.monotonic()
        text = f"{done}/{total} {self._unit}{f' ({what})' if what else ''}{self._left(done, total)}"
        sys.stderr.write(f"\r\x1b[K{text}" if sys.stderr.isatty() else f"{text}\n")
        sys.stderr.flush()

    def _left(self, done: int, total: int) -> str:
        fresh = done - (self._done_before or 0)
        if not fresh or done == total:
            return ""
        seconds = ceil((time.monotonic() - self._start) / fresh * (total - done))
        return f", {seconds // 60} min {seconds % 60:02d} s left"


def download(name: str, here: int, total: int) -> None:
    """How far a download is, where stderr is a terminal."""
    if sys.stderr.isatty():
        end = "\n" if here == total else ""
        sys.stderr.write(f"\r\x1b[K{name}: {here / 1e6:.1f} of {total / 1e6:.1f} MB{end}")
        sys.stderr.flush()


def cost_json(cost: Cost, found: Sequence[Offer]) -> str:
    """Everything about a cost as JSON, and under `forms` the rule under every form of transport that was asked for."""
    names = (
        "chip", "model", "rule", "transport", "form", "batch_size", "cycles", "interval_cycles", "seconds", "energy_pj",
        "energy_pj_per_sample", "static_pj", "isolated_static_pj", "one_time_pj", "area_mm2", "area_used_mm2",
        "power_mw", "samples_per_second", "tops_per_watt", "energy_delay_js", "inference_pj_per_sample",
        "feedback_bits", "transported_bits", "spilled_bits", "macs",
    )  # fmt: skip
    value: dict[str, Any] = {name: getattr(cost, name) for name in names}
    value["busy_cycles"] = dict(sorted(cost.timing.busy.items()))
    value["stall_cycles"] = {f"{part}: {cause}": n for (part, cause), n in sorted(cost.timing.stalls.items()) if n}
    value["parts"] = part_rows(cost)
    value["forms"] = [_form_values(offer, least(found)) for offer in found]
    value["placements"] = [asdict(placement) for placement in cost.placements]
    value["constants"] = [asdict(used) for used in constants_used(cost.ledger)]
    value["ledger"] = [{name: getattr(row, name) for name in COLUMNS} for row in cost.ledger]
    return json.dumps(value, indent=1) + "\n"


def _form_values(offer: Offer, best: Cost | None) -> dict[str, Any]:
    value: dict[str, Any] = {"transport": offer.transport, "hosted": offer.cost is not None, "reason": offer.reason}
    names = ("form", "cycles", "interval_cycles", "energy_pj", "area_mm2", "transported_bits")
    value |= {name: getattr(offer.cost, name, None) for name in names}
    return value | {"least_energy": offer.cost is not None and offer.cost is best}


def _form_lines(found: Sequence[Offer]) -> list[str]:
    """A line per form: what it costs, and against the one with the least energy."""
    best = least(found)
    lines = ["", f"{'forms of transport':<26}{'cycles':>14}{'interval':>14}{'energy':>12}{'area mm2':>10}"]
    for number, offer in enumerate(found):
        cost = offer.cost
        if cost is None or best is None:
            lines.append(f"  {offer.transport:<24}not possible: {offer.reason}")
            continue
        name = offer.transport if cost.form == cost.transport else f"{offer.transport} ({cost.form})"
        energy = si(cost.energy_pj * 1e-12, "J", 4)
        row = f"  {name:<24}{cost.cycles:>14,}{cost.interval_cycles:>14,.0f}{energy:>12}{cost.area_mm2:>10.2f}"
        notes = ["the default: the figures above"] if number == 0 else []
        more = f"{percent(cost.energy_pj / best.energy_pj - 1)} more energy"
        lines.append(f"{row}  {', '.join([*notes, 'least energy' if cost is best else more])}")
    if any(offer.transport == SHARED for offer in found):
        lines.append("  shared: the chip without its feedback memory, one weight memory read by rows and by columns")
    return lines


def cost_text(cost: Cost, found: Sequence[Offer]) -> str:
    """A cost for people: the figures, the other forms of transport, and energy by phase and component."""
    samples = f"{cost.samples_per_second:,.0f} samples/s"
    figures = [
        ("chip, model", f"{cost.chip}, {cost.model}"),
        ("rule, transport", f"{cost.rule}, {cost.transport}{f' ({cost.form})' if cost.form != cost.transport else ''}"),
        ("batch size", str(cost.batch_size)),
        ("cycles of one step", f"{cost.cycles:,}"),
        ("cycles between steps", f"{cost.interval_cycles:,.0f} ({si(cost.seconds, 's')}, {samples})"),
        ("energy of a step", f"{si(cost.energy_pj * 1e-12, 'J')}, of which static {si(cost.static_pj * 1e-12, 'J')}"),
        ("energy of a sample", si(cost.energy_pj_per_sample * 1e-12, "J")),
        ("inference of a sample", f"{si(cost.inference_pj_per_sample * 1e-12, 'J')} (forward, without static)"),
        ("power", f"{si(cost.power_mw * 1e-3, 'W')}, {cost.tops_per_watt:.2f} TOPS/W"),
        ("area", f"{cost.area_mm2:.2f} mm2, used {cost.area_used_mm2:.2f} mm2"),
        ("feedback stored", f"{cost.feedback_bits:,} bits (written once: {si(cost.one_time_pj * 1e-12, 'J')})"),
        ("transported", f"{cost.transported_bits:,} bits per step"),
    ]
    lines = [f"{name:<22} {text}" for name, text in figures]
    lines += _form_lines(found) if len(found) > 1 else []
    for title, key in (("energy by phase", "phase"), ("energy by component", "component")):
        lines += ["", title, *_shares(cost, key)]
    lines += ["", f"busiest parts of {len(cost.timing.busy)} (all: --json)", *_parts(cost)]
    lines += ["", "memories", *_placements(cost)]
    lines += [
        "",
        "constants (sources: --json)",
        *(f"  {name:<22} {text}" for name, text in summary(constants_used(cost.ledger))),
    ]
    return "\n".join(lines) + "\n"


def _shares(cost: Cost, key: str) -> list[str]:
    sums: dict[str, float] = defaultdict(float)
    for row in cost.ledger:
        sums[getattr(row, key) or "static"] += row.energy_pj
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    return [f"  {name:<22} {si(pj * 1e-12, 'J'):>12} {pj / cost.energy_pj:7.1%}" for name, pj in ordered]


def _parts(cost: Cost) -> list[str]:
    """A line per part: share of the interval that it works, what passes it per cycle, what it waits for most."""
    lines = []
    for use in sorted(uses(cost), key=lambda use: -use.utilisation)[:_BUSIEST]:
        line = f"  {use.part:<26} busy {use.utilisation:6.1%}"
        if use.unit:
            line += f", {use.mean_per_cycle:,.1f} of {use.per_cycle:,.0f} {use.unit} per cycle"
        if use.stall_cycles:
            cause, cycles = max(use.stall_cycles.items(), key=lambda item: item[1])
            line += f", waits {cycles:,} cycles for: {cause}"
        lines.append(line)
    return lines


def _placements(cost: Cost) -> list[str]:
    lines = []
    for p in cost.placements:
        spill = f", {p.spilled_bits / 8192:.1f} KiB of it in DRAM" if p.spilled_bits else ""
        lines.append(f"  {p.memory:<22} {p.tensor:<12} {p.bits / 8192:9.1f} KiB{spill}")
    return lines


def trace_text(trace: Trace) -> str:
    """What a trace file shows of its steps, and how to see what it leaves out."""
    text = f"trace: {trace.path}, {trace.spans:,} spans, cycles {trace.start:,} to {trace.end:,} of {trace.cycles:,}"
    if trace.cut:
        text += f"; cut there to keep the file small, the rest: --trace-window {trace.end}:{trace.cycles}"
    return text


def cycle_window(text: str | None) -> tuple[int, int | None] | None:
    """START:END as cycles; either may be left out. Raises ConfigError where it is something else."""
    if text is None:
        return None
    start, colon, end = text.partition(":")
    if not colon or not all(part == "" or (part.isascii() and part.isdigit()) for part in (start, end)):
        raise ConfigError(Problem("--trace-window", f"must be START:END in cycles, such as 0:50000 (got '{text}')"))
    return int(start or 0), int(end) if end else None


def write_out(path: Path, text: str) -> None:
    """Write the file of `--out`. Raises ConfigError where it cannot be written."""
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(Problem(f"--out {path}", f"cannot be written: {error.strerror}")) from None


def epoch_text(row: EpochRow) -> str:
    """One epoch in a line."""
    accuracy = f"validation {row.validation_accuracy_pct:6.2f} %, test {row.test_accuracy_pct:6.2f} %"
    return f"epoch {row.epoch:3d}: loss {row.train_loss:.4f}, {accuracy}"


def train_text(result: TrainResult) -> str:
    """The result of a training."""
    lines = [f"warning: {warning}" for warning in result.warnings]
    lines.append(
        f"{result.rule}, seed {result.seed}: test accuracy {result.test_accuracy_pct:.2f} % "
        f"at epoch {result.best_epoch}, the best on the validation set"
    )
    lines += result.losses
    return "\n".join(lines)


def compare_text(comparison: Comparison) -> str:
    """The comparison as a table (the interval between steps in cycles), the verdict, and where the report lies."""
    from fahw.report.folder import read_run
    from fahw.report.results import sentences

    wide = _name_width(line.rule for line in comparison.lines)
    lines = [
        f"{'rule':<{wide}}{'transport':<15}{'accuracy %':>15}{'energy/sample':>16}{'interval':>12}{'area mm2':>10}"
    ]
    for line in comparison.lines:
        accuracy = f"{line.accuracy.mean:.2f}" if line.accuracy else ""
        if line.accuracy and line.accuracy.count > 1:
            accuracy += f" ± {line.accuracy.std:.2f}"
        row = f"{line.rule:<{wide}}{line.transport:<15}{accuracy:>15}"
        if line.cost is None:
            lines.append(f"{row}  not possible: {line.reason}")
            continue
        energy = si(line.cost.energy_pj_per_sample * 1e-12, "J")
        lines.append(f"{row}{energy:>16}{line.cost.interval_cycles:>12,.0f}{line.cost.area_mm2:>10.2f}")
    for sentence in sentences(read_run(comparison.folder)):
        lines += ["", sentence.lead, *wrap(sentence.text, 100, initial_indent="  ", subsequent_indent="  ")]
    lines += ["", f"report: {comparison.folder / 'report.html'}"]
    return "\n".join(lines) + "\n"


def _name_width(rules: Iterable[str]) -> int:
    return max(6, *(len(rule) + 1 for rule in rules))


def numbers(option: str, text: str) -> list[float]:
    """The comma-separated numbers of an option. Raises ConfigError with every part that is none."""
    parts = [part.strip() for part in text.split(",")]
    problems, found = [], []
    for part in parts:
        try:
            found.append(float(part))
        except ValueError:
            problems.append(Problem(option, f"'{part}' is not a number"))
    if problems:
        raise ConfigError(problems)
    return found


def attack_text(found: Sequence[Robustness]) -> str:
    """Accuracy over epsilon, a row per rule and attack."""
    epsilons = list(dict.fromkeys(row.epsilon for row in found[0].rows))
    lines = [f"accuracy in % on {found[0].images} test images; epsilon: the most that a pixel in [0, 1] changes"]
    wide = _name_width(result.rule for result in found)
    lines.append(f"{'rule':<{wide}}{'attack':<10}" + "".join(f"{epsilon:>8g}" for epsilon in epsilons))
    for result in found:
        for name in dict.fromkeys(row.attack for row in result.rows):
            shares = (row.accuracy_pct for row in result.rows if row.attack == name)
            lines.append(f"{result.rule:<{wide}}{name:<10}" + "".join(f"{share:>8.1f}" for share in shares))
        if result.masked:
            where = ", ".join(f"{epsilon:g}" for epsilon in result.masked)
            lines.append(f"{result.rule}: at {where} another network's images do more harm than the own gradient's")
    return "\n".join(lines) + "\n"


def sweep_text(result: SweepResult) -> str:
    """How a sweep ended."""
    done = len(result.points) - len(result.failed)
    lines = [f"failed: {point.label}: {point.reason}" for point in result.failed]
    lines.append(f"{done} of {len(result.points)} points; report: {result.folder / 'report.html'}")
    return "\n".join(lines) + "\n"


def check_file(path: Path) -> str:
    """What a file is, if it is right. Raises ConfigError with every mistake."""
    for folder in ("hwconfigs", "models", "examples"):
        if not path.exists() and str(path) in load.shipped(folder):
            path = load.shipped(folder)[str(path)]
    kind = load.kind_of(path)
    if kind == "chip":
        load.check_chip(path)
    elif kind == "model":
        return f"{path}: a model, correct{_own_data(path)}"
    else:
        from fahw.study.sweep import describe

        return f"{path}: {describe(*load.load_placed_sweep(path))}"
    return f"{path}: a {kind}, correct"


def _own_data(path: Path) -> str:
    """Check a model file and the data set that it names: a note where that is not here. Raises ConfigError."""
    from fahw.learn.fit import absent, data_problems, named_data

    document, network, problems = yamltext.read(path), None, list[Problem]()
    try:
        network = load_model(path)
    except ConfigError as error:
        problems += error.problems
    problems += data_problems(document, network)
    if problems:
        raise ConfigError(in_order(problems))
    name = named_data(document)
    return f"; its data set '{name}' is not here: to train, give --data" if name is not None and absent(name) else ""


def listing(what: str) -> str:
    """What `fahw list` prints."""
    rows = {
        "rules": lambda: [(rule.name, f"{rule.title} ({rule.source}): {rule.does}") for rule in RULES.values()],
        "chips": lambda: [(n, load.load_chip(p).description) for n, p in load.shipped("hwconfigs").items()],
        "models": lambda: [(n, _model_line(p)) for n, p in load.shipped("models").items()],
        "datasets": _datasets,
        "formats": lambda: [
            ("1 to 16", "fixed point of that many bits with a power-of-two scale; 1 bit, or `binary`, holds -1 and +1"),
            ("ternary", "-1, 0 and +1 in 2 bits, times a power of two"),
            *((name, _float_line(form)) for name, form in FLOATS.items()),
            ("scale", "of fixed point: static, fraction bits given, or dynamic (per_tensor, per_channel)"),
            ("rounding", "nearest (ties to even), floor, stochastic (random_bits of the chip's LFSR, 8 by default)"),
        ],
        "technology": _technology,
    }[what]()
    width = max(22, *(len(name) for name, _ in rows))
    return "".join(f"{name:<{width}} {text}\n" for name, text in rows)


def _model_line(path: Path) -> str:
    network = load_model(path)
    macs = sum(layer.macs for layer in network.layers if layer.weighted)
    shape = "x".join(map(str, network.input_shape))
    return f"input {shape}, {network.parameters:,} parameters, {macs:,} MACs per sample, data {network.recipe.data}"


def _float_line(form: Float) -> str:
    shape = f"{form.exponent_bits} bits of exponent, {form.mantissa_bits} of mantissa"
    return f"{shape}; {form.smallest:.3g} to {form.largest:.3g} ({form.source})"


def _datasets() -> list[tuple[str, str]]:
    from fahw.learn.catalogue import DATASETS

    known = [(name, f"{entry.title} ({entry.source}; {entry.licence})") for name, entry in DATASETS.items()]
    return [
        *known,
        ("FILE.npz", "your own arrays: x_train, y_train, x_test, y_test"),
        ("FOLDER", "your own images: train/CLASS/*.png and test/ or val/ alike; or CIFAR-10's batches"),
    ]


def _technology() -> list[tuple[str, str]]:
    lines = [("part", f"{'value':>10} {'unit':<13} {'node':>7} {'×/÷':>4}  source")]
    for entry in catalogue.entries():
        node = "" if entry.node_nm is None else f"{entry.node_nm} nm"
        value = f"{entry.value:>10.4g} {entry.unit:<13} {node:>7} {entry.factor:>4g}"
        lines.append((entry.part, f"{value}  {entry.source}"))
    return lines


def schema_text(what: str) -> str:
    """The JSON schema of chip, model or sweep files."""
    schemas: dict[str, type[BaseModel]] = {"chip": Chip, "model": Model, "sweep": Sweep}
    schema = schemas[what]
    return json.dumps(schema.model_json_schema(by_alias=True), indent=1) + "\n"
