"""The tables of what a comparison found: every line's figures, and each rule's verdict against backpropagation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fahw.report import sentences
from fahw.report.run_folder import Line, Run, Verdict, is_backpropagation
from fahw.report.table import Cell, Column, Row, Table
from fahw.units import J_PER_PJ, Scale, fixed, percent_number, scale_for

_NAME_COLUMNS = (
    Column("rule"),
    Column("transport", hint="form of weight transport; shared: backpropagation on the chip without a feedback memory"),
)


@dataclass(frozen=True)
class Figure:
    """A figure of every line: its place in the run folder, the factor to its base unit, how it is shown, which end is
    best.

    `shown` makes the text of a figure that is no single number; `target`: it exists only where the target is
    reached.
    """

    head: str
    key: str
    unit: str = ""
    factor: float = 1.0
    prefixed: bool = False
    digits: int = 4
    decimals: int | None = None
    best: str = ""
    hint: str = ""
    shown: Callable[[Run, Line], str] | None = None
    target: bool = False

    def text_of(self, line: Line) -> str:
        """The exact value as the run folder has it; empty where there is none."""
        value = line.texts.get(self.key, line.details.get(self.key))
        return "" if value is None else str(value)

    def value_of(self, line: Line) -> float | None:
        """The value of a line in the base unit; None where there is none."""
        text = self.text_of(line)
        return float(text) * self.factor if text else None


def _seeds_text(run: Run, line: Line) -> str:
    """How many seeds reach the target, of all."""
    epochs = run.epochs_to_target(run.trained_as(line))
    return f"{sum(epoch is not None for epoch in epochs)} of {len(epochs)}" if epochs else "–"


def _epochs_text(run: Run, line: Line) -> str:
    """The epochs that the seeds take to the target, from the least to the most."""
    reached = sorted(epoch for epoch in run.epochs_to_target(run.trained_as(line)) if epoch is not None)
    if not reached:
        return "–"
    return str(reached[0]) if reached[0] == reached[-1] else f"{reached[0]} to {reached[-1]}"


ENERGY_FIGURES = (
    Figure("test accuracy", "accuracy_pct_mean", "%", decimals=2, best="most", hint="mean ± standard deviation"),
    Figure("energy per sample", "energy_pj_per_sample", "J", J_PER_PJ, True, best="least"),
    Figure("energy per step", "energy_pj_per_step", "J", J_PER_PJ, True),
    Figure("energy to target", "energy_to_target_j", "J", 1.0, True, best="least", target=True),
    Figure("steps to target", "steps_to_target", decimals=0, hint="mean over the seeds that got there", target=True),
    Figure("epochs to target", "", hint="over the seeds that got there", shown=_epochs_text, target=True),
    Figure("seeds there", "", hint="seeds that reached the target", shown=_seeds_text, target=True),
    Figure("power", "power_mw", "mW"),
    Figure("energy-delay product", "energy_delay_js", "J·s", 1.0, True, hint="energy × time of a step in steady state"),
    Figure("efficiency", "tops_per_watt", "TOPS/W", digits=3, hint="two operations per multiply-accumulate"),
    Figure("inference per sample", "inference_pj_per_sample", "J", J_PER_PJ, True, hint="dynamic, forward alone"),
)  # fmt: skip
SPACE_FIGURES = (
    Figure("cycles per step", "cycles_per_step", decimals=0, hint="one isolated step"),
    Figure("interval", "interval_cycles", "cycles", decimals=1, hint="steady-state cycles between steps"),
    Figure("training speed", "samples_per_second", "samples/s", decimals=0),
    Figure("area", "area_mm2", "mm²", hint="the chip as built"),
    Figure("area used", "area_used_mm2", "mm²", hint="with every memory fitted to what the rule stores"),
    Figure("feedback stored", "feedback_bits", "bits", decimals=0, hint="held for the error path"),
    Figure("moved per step", "transported_bits_per_step", "bits", decimals=0, hint="payload of weight transport"),
    Figure("micro-batch", "micro_batch", "samples", decimals=0, hint="of a step, that go through the phases together"),
    Figure("static energy", "static_pj", "J", J_PER_PJ, True, hint="per step in steady state; within the energy"),
    Figure("static, isolated step", "isolated_static_pj", "J", J_PER_PJ, True, hint="were steps not to overlap; apart"),
    Figure("writing B once", "one_time_pj", "J", J_PER_PJ, True, hint="before training; not within the energy"),
)  # fmt: skip


def energy_table(run: Run) -> Table:
    """The table of accuracy and energy of every line."""
    notes = (
        "★ best of its column (least energy per sample, best accuracy; least energy to the target among the rules that "
        "get there in as many seeds as backpropagation), be it beyond noise or not. Hover over a number for its exact "
        "value.",
        f"Target: {fixed(run.target_pct, 2)} % validation accuracy. Energy to target = steps to reach it × energy per "
        "step, over the seeds that reached it.",
    )
    return _figures_table("energy", "Accuracy and energy", run, ENERGY_FIGURES, notes)


def space_table(run: Run) -> Table:
    """The table of time, area, storage and transport of every line."""
    return _figures_table("space", "Time, area, storage and transport", run, SPACE_FIGURES, ())


def _figures_table(name: str, caption: str, run: Run, figures: Sequence[Figure], notes: tuple[str, ...]) -> Table:
    """A table with a row for every line and a column for every figure."""
    scales = {figure.key: _scale(figure, run.lines) for figure in figures}
    lines_of = {True: dependable_lines(run), False: run.lines}
    bests = {figure.key: _best(figure, lines_of[figure.target]) for figure in figures if figure.best}
    columns = (*_NAME_COLUMNS, *(_column(figure, scales[figure.key]) for figure in figures))
    rows = tuple(_row(run, line, figures, scales, bests) for line in run.lines)
    return Table(name, caption, columns, rows, 2, notes)


def _scale(figure: Figure, lines: Sequence[Line]) -> Scale:
    """The unit and the digits in which a figure of all lines is shown."""
    values = [value for line in lines if (value := figure.value_of(line)) is not None]
    scale = scale_for(values, figure.unit, figure.digits, figure.prefixed)
    if figure.decimals is None:
        return scale
    whole = figure.decimals == 1 and all(value.is_integer() for value in values)
    return Scale(scale.factor, scale.unit, 0 if whole else figure.decimals)


def _best(figure: Figure, lines: Sequence[Line]) -> float | None:
    """The best value of a figure; None where no line has one."""
    values = [value for line in lines if line.hosted and (value := figure.value_of(line)) is not None]
    return (max(values) if figure.best == "most" else min(values)) if values else None


def _column(figure: Figure, scale: Scale) -> Column:
    return Column(figure.head, scale.unit, True, figure.key, figure.hint)


def _row(
    run: Run,
    line: Line,
    figures: Sequence[Figure],
    scales: dict[str, Scale],
    bests: dict[str, float | None],
) -> Row:
    """The row of a line: a cell for each figure, and where it misses the target or cannot be hosted a wide one that
    says so."""
    names = (Cell(line.rule), Cell(_transport(line)))
    missed_target = line.hosted and line.numbers["energy_to_target_j"] is None
    shown_figures = [figure for figure in figures if _has_own_cell(figure, line, missed_target)]
    cells = [_cell(run, line, figure, scales[figure.key], bests.get(figure.key)) for figure in shown_figures]
    if missed_target and any(figure.target for figure in figures):
        first_target = next(number for number, figure in enumerate(figures) if figure.target)
        text = f"not reached ({sentences.seeds_text(0, len(run.epochs_to_target(run.trained_as(line))))})"
        cells.insert(first_target, Cell(text, span=sum(figure.target for figure in figures), muted=True))
    if not line.hosted:
        reason = f"cannot be hosted: {line.details.get('reason') or 'no reason given'}"
        cells.append(Cell(reason, span=len(figures) - len(cells), muted=True))
    is_baseline = run.baseline is not None and line is run.baseline
    return Row((*names, *cells), "baseline" if is_baseline else "" if line.hosted else "absent")


def _has_own_cell(figure: Figure, line: Line, missed: bool) -> bool:
    """Whether a line has a cell of its own for the figure."""
    return figure.key == "accuracy_pct_mean" or (line.hosted and not (missed and figure.target))


def _transport(line: Line) -> str:
    """The form of transport, with the one that was simulated where it is another."""
    shown = line.hosted and line.form != line.transport
    return f"{line.transport} ({line.form})" if shown else line.transport


def _cell(run: Run, line: Line, figure: Figure, scale: Scale, best: float | None) -> Cell:
    """The cell of a figure; it is marked where its value is the `best`."""
    if figure.shown:
        return Cell(figure.shown(run, line))
    value = figure.value_of(line)
    if value is None:
        return Cell("–", muted=True)
    text = scale.show(value)
    if figure.key == "accuracy_pct_mean" and (line.numbers["seeds"] or 0) > 1:
        text += f" ± {fixed(line.numbers['accuracy_pct_std'] or 0.0, 2)}"
    return Cell(text, figure.text_of(line), best is not None and line.hosted and value == best)


_LESS_TO_TARGET = Column("less energy to target")
_VERDICT_COLUMNS: tuple[tuple[Column, Callable[[Verdict], str]], ...] = (
    (Column("rule"), lambda item: item.rule),
    (Column("transport"), lambda item: item.transport),
    (Column("saving per step", "%", True), lambda item: percent_number(item.step.value)),
    (Column("its range", "%", True), lambda item: sentences.range_in_percent(item.step)),
    (Column("less energy per step"), lambda item: sentences.winner_word(item.rule, item.step)),
    (Column("saving to target", "%", True), lambda item: _to_target_text(item)),
    (_LESS_TO_TARGET, lambda item: sentences.winner_word(item.rule, item.target)),
    (Column("accuracy difference", "points", True), lambda item: sentences.signed_number(item.accuracy_points)),
    (Column("noise of the seeds"), lambda item: sentences.noise_word(item.beyond_noise)),
)


def _to_target_text(item: Verdict) -> str:
    """The saving to the target with its range, and in how many seeds where not in all."""
    if item.target is None:
        return f"not reached ({sentences.seeds_text(item.seeds_reached, item.seeds)})"
    text = f"{percent_number(item.target.value)} ({sentences.range_in_percent(item.target)})"
    if item.seeds_reached < item.seeds:
        text += f" in {sentences.seeds_text(item.seeds_reached, item.seeds)}"
    return text


def verdict_table(run: Run) -> Table | None:
    """The table with a row per rule and transport against the best backpropagation; None without verdicts."""
    if not run.verdicts or run.baseline is None:
        return None
    dependable = {(line.rule, line.transport) for line in dependable_lines(run)}

    def cell(column: Column, text: str, item: Verdict) -> Cell:
        by_luck = column == _LESS_TO_TARGET and item.target and (item.rule, item.transport) not in dependable
        return Cell("fewer seeds get there" if by_luck else text)

    rows = tuple(
        Row(tuple(cell(column, show(item), item) for column, show in _VERDICT_COLUMNS)) for item in run.verdicts
    )
    notes = (
        "A saving is 1 − energy ÷ energy of the best backpropagation; negative: the rule costs more. Its range is what "
        "remains when every kind of constant moves within its uncertainty, alike on both sides; the spread of the "
        "steps over the seeds is not within it. Undecided: the sign changes within the range.",
        "Beyond noise: accuracies differ by more than chance lets so many seeds differ in 5 % of cases (Welch's test).",
    )
    caption = f"Every rule against {sentences.baseline_name(run.baseline.form)}"
    return Table("verdicts", caption, tuple(column for column, _ in _VERDICT_COLUMNS), rows, 2, notes)


def break_evens(run: Run) -> list[tuple[str, str]]:
    """(rules, sentence) on the overhead of transposed access at which the verdict flips; equal sentences share a
    line."""
    names_by_text: dict[str, list[str]] = {}
    for item in run.verdicts:
        text = sentences.break_even_sentence(item.break_even_scale, run.read_overhead)
        names_by_text.setdefault(text, []).append(sentences.line_name(item.rule, item.transport))
    return [(sentences.joined_names(names), text) for text, names in names_by_text.items()]


def verdict_sentences(run: Run) -> list[sentences.Sentence]:
    """The verdicts on the two goals: least energy per step, and accuracy with least energy to the target."""
    form = run.baseline.form if run.baseline else None
    least = min(run.hosted, key=lambda line: line.numbers["energy_pj_per_step"] or 0.0, default=None)
    least_pj = ""
    if least is not None:
        least_pj = sentences.least_words(least.rule, least.transport, least.numbers["energy_pj_per_sample"] or 0.0)
    bp = sentences.baseline_name(form) if form else "backpropagation"
    reaches = [_reach(run, name) for name in dict.fromkeys(map(run.trained_as, run.lines))]
    return [
        sentences.energy_sentence(run.verdicts, form, least_pj),
        sentences.target_sentence(run.target_pct, reaches, _least_to_target(run), run.verdicts, bp),
        *_split_sentences(run),
    ]


def _split_sentences(run: Run) -> Iterator[sentences.Sentence]:
    """The sentence on the split of the batch, where it was searched or changes what the network learns."""
    sizes = sorted({int(line.numbers.get("micro_batch") or run.batch_size) for line in run.hosted})
    searched, is_learned = run.split.get("baseline"), bool(run.split.get("is_learned"))
    if searched is not None:
        others = [line.rule for line in run.lines if "@" in line.rule]
        objective = str(run.inputs["chip"].get("mapping_objective", "energy"))
        yield sentences.searched_split_sentence(objective, int(searched), sizes, others, is_learned)
    elif is_learned and sizes and sizes[0] < run.batch_size:
        yield sentences.given_split_sentence(sizes[0], run.batch_size)


def _reach(run: Run, rule: str) -> sentences.Reach:
    """How many seeds of a rule reach the target."""
    epochs = run.epochs_to_target(rule)
    return sentences.Reach(rule, sum(epoch is not None for epoch in epochs), len(epochs))


def dependable_lines(run: Run) -> list[Line]:
    """The lines that reach the target, but for rules that get there in a smaller share of their seeds than
    backpropagation does (where it does not: than the best): their mean is one of lucky seeds."""
    reached = [line for line in run.hosted if line.numbers["energy_to_target_j"] is not None]
    reaches = [_reach(run, run.trained_as(line)) for line in reached]
    shares = [reach.reached / max(1, reach.seeds) for reach in reaches]
    pairs = list(zip(reached, shares, strict=True))
    least_share = next((share for line, share in pairs if is_backpropagation(line.rule)), max(shares, default=0.0))
    return [line for line, share in pairs if share >= least_share]


def _least_to_target(run: Run) -> sentences.LeastToTarget | None:
    """The dependable line that needs the least energy to the target; None where there is none."""
    candidates = dependable_lines(run)
    if not candidates:
        return None
    line = min(candidates, key=lambda item: item.numbers["energy_to_target_j"] or 0.0)
    key, names = (line.rule, line.transport), {(item.rule, item.transport) for item in candidates}
    saving = next((item.target for item in run.verdicts if (item.rule, item.transport) == key), None)
    others = [item for item in run.verdicts if item.target and (item.rule, item.transport) in names]
    rivals = others if is_backpropagation(line.rule) else []
    runner_up = max(rivals, key=lambda item: item.target.value if item.target else 0.0, default=None)
    energy = line.numbers["energy_to_target_j"] or 0.0
    luckier = dict.fromkeys(
        other.rule
        for other in run.hosted
        if other not in candidates and (other.numbers["energy_to_target_j"] or energy) < energy
    )
    reach = _reach(run, run.trained_as(line))
    return sentences.LeastToTarget(*key, energy, saving, reach, runner_up, tuple(_reach(run, rule) for rule in luckier))
