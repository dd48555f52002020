"""The verdict in words: pure functions from numbers to sentences that claim no more than the numbers do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from fahw.report.run_folder import Saving, Verdict, is_backpropagation
from fahw.rules.catalogue import RULES
from fahw.units import J_PER_PJ, fixed, percent, percent_number, si, significant

_BP_FORMS = {
    "copy": "backpropagation with a copied weight memory (copy)",
    "write_through": "backpropagation with a written-through weight copy (write_through)",
    "transposable": "backpropagation on one transposable memory",
    "accumulate": "backpropagation on one weight memory read by rows (accumulate)",
    "column": "backpropagation on one weight memory read by columns (column)",
}


_LEAST = {"energy": "least energy", "latency": "shortest interval", "edp": "least energy x time"}
"""What is least where something is the best for an objective."""


@dataclass(frozen=True)
class Sentence:
    """The answer to a goal in a few words, and the whole statement."""

    lead: str
    text: str


@dataclass(frozen=True)
class Reach:
    """How many of the seeds of a rule reach the target."""

    rule: str
    reached: int
    seeds: int


@dataclass(frozen=True)
class LeastToTarget:
    """The line that reaches the target with the least energy.

    `saving` is against the best backpropagation; where that itself is the line, `runner_up` is the best other rule.
    `luckier`: rules that need less, but get there in too few of their seeds to be compared.
    """

    rule: str
    transport: str
    energy_j: float
    saving: Saving | None
    reach: Reach
    runner_up: Verdict | None = None
    luckier: tuple[Reach, ...] = ()

    @property
    def decided(self) -> bool:
        """Whether the uncertain constants leave the order of the best backpropagation and its best rival alone."""
        rival = self.runner_up.target if self.runner_up else self.saving
        return rival is None or rival.winner != "undecided"


def joined_names(names: Iterable[str]) -> str:
    """The names in a sentence: `a, b and c`."""
    items = list(names)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def seeds_text(reached: int, seeds: int) -> str:
    """How many seeds of all, as in `2 of 3 seeds`."""
    return f"{reached} of {seeds} seed{'' if seeds == 1 else 's'}"


def baseline_name(form: str) -> str:
    """The name of backpropagation under the form of transport that was simulated."""
    return _BP_FORMS.get(form, f"backpropagation ({form})")


def line_name(rule: str, transport: str) -> str:
    """The name of a rule with its transport, as in `usf (write_through)`."""
    return rule if transport == "none" else f"{rule} ({transport})"


def rule_title(rule: str) -> str:
    """The full name of a rule; the short one where it has none."""
    return RULES[rule].title if rule in RULES else rule


def searched_split_sentence(
    objective: str, baseline: int, sizes: Sequence[int], others: Sequence[str], is_learned: bool
) -> Sentence:
    """The sentence on micro-batches that were searched. `objective`: the chip's; `baseline`: backpropagation's best;
    `sizes`: those of all lines; `others`: the lines that are at backpropagation's best beside their own."""
    least = _LEAST.get(objective, objective)
    text = f"Each rule and form of transport has the micro-batch that is best for it ({least})"
    text += f", {sizes[0]} for all of them" if len(sizes) == 1 else ""
    if others:
        text += f"; {others[0]} is {others[0].partition('@')[0]} at {baseline}, the best of backpropagation"
    return Sentence("Micro-batch: the best for each", f"{text}. {_learned_split_text(len(sizes), is_learned)}.")


def _learned_split_text(sizes: int, is_learned: bool) -> str:
    """What micro-batches of so many sizes mean for accuracies."""
    if not is_learned:
        return "No accuracy depends on it: there are no batch norms"
    text = "Batch norms take their statistics over a micro-batch"
    if sizes == 1:
        return f"{text}, in all lines alike"
    return f"{text}, so that lines with different ones have trained apart: accuracies differ by that too"


def given_split_sentence(size: int, batch_size: int) -> Sentence:
    """The sentence on a micro-batch that the chip file gives, where batch norms make it part of what is learned."""
    text = f"{_learned_split_text(1, True)}; accuracies are those of this split."
    return Sentence(f"Micro-batch: {size} of {batch_size} samples", text)


def _explained_name(rule: str, transport: str) -> str:
    """The short name of a rule, with its full name and its transport in brackets."""
    title = rule_title(rule)
    parts = [title[0].lower() + title[1:]] if title != rule else []
    parts += [] if transport == "none" else [transport]
    return f"{rule} ({', '.join(parts)})" if parts else rule


def range_in_percent(saving: Saving) -> str:
    """The range of a saving in percent, without the unit: `4.6 to 11.5`."""
    return f"{percent_number(saving.low)} to {percent_number(saving.high)}"


def range_with_unit(saving: Saving) -> str:
    """The range of a saving in percent: `4.6 to 11.5 %`."""
    return f"{range_in_percent(saving)} %"


def _cost_more(saving: Saving) -> str:
    """How much more a rule costs that saves nothing, with the range."""
    return f"{percent(-saving.value)} more ({percent_number(-saving.high)} to {percent(-saving.low)})"


def _saves_or_costs(saving: Saving) -> str:
    """The nominal saving as `saves 2 %` or `costs 2 % more`."""
    return f"saves {percent(saving.value)}" if saving.value >= 0 else f"costs {percent(-saving.value)} more"


def energy_sentence(verdicts: Sequence[Verdict], baseline_form: str | None, least_pj: str = "") -> Sentence:
    """The sentence on who needs the least energy per step. `baseline_form`: the best backpropagation's; None where none
    is hosted.

    `least_pj` names the least energy in words for the case that there is nothing to compare it with.
    """
    if baseline_form is None:
        text = "The chip cannot host backpropagation, so no saving can be stated"
        return Sentence("Energy per step: no baseline", f"{text}; {least_pj}." if least_pj else f"{text}.")
    bp = baseline_name(baseline_form)
    if not verdicts:
        text = f"The chip hosts no other rule than {bp}, so there is nothing to compare."
        return Sentence("Energy per step: backpropagation alone", text)
    best = max(verdicts, key=lambda item: item.step.value)
    name = _explained_name(best.rule, best.transport)
    if best.step.winner == "rule":
        text = f"{_sure_saving(best.step, name)} against {bp}, its best form on this chip{_unless_learning(best)}."
        return Sentence(f"Least energy per step: {best.rule}", text)
    if best.step.winner == "baseline":
        text = f"Every other rule costs more than {bp}; the nearest, {name}, costs {_cost_more(best.step)} per step."
        return Sentence("Least energy per step: backpropagation", text)
    return Sentence("Least energy per step: undecided", _undecided_text(best, name, bp, verdicts))


def _sure_saving(saving: Saving, name: str) -> str:
    """The statement that a rule saves, with the range of its saving."""
    value, spread = percent(saving.value), range_with_unit(saving)
    return f"{name} saves {value} per step ({spread} within the uncertainty of the constants)"


def _unless_learning(best: Verdict) -> str:
    """The clause that warns that the rule with the least energy per step does not reach the target; else empty."""
    if best.seeds_reached or not best.seeds:
        return ""
    return ", but does not reach the target accuracy in any seed within the epochs trained"


def _undecided_text(best: Verdict, name: str, bp: str, verdicts: Sequence[Verdict]) -> str:
    """The statement where the best rule's saving may be of either sign; it names the best rule that saves for sure."""
    low, high = percent(best.step.low), percent(best.step.high)
    text = f"{name} {_saves_or_costs(best.step)} per step against {bp}, but within the uncertainty of the constants the"
    text += f" saving runs from {low} to {high}, so either may win"
    winners = [item for item in verdicts if item.step.winner == "rule"]
    if not winners:
        return f"{text}."
    sure = max(winners, key=lambda item: item.step.value)
    saved = _value_with_range(sure.step)
    return f"{text}; ahead throughout is {line_name(sure.rule, sure.transport)}, which saves {saved}."


def _value_with_range(saving: Saving) -> str:
    """A saving with its range: `8.1 % (4.6 to 11.5 %)`."""
    return f"{percent(saving.value)} ({range_with_unit(saving)})"


def target_sentence(
    target_pct: float, reaches: Sequence[Reach], least: LeastToTarget | None, verdicts: Sequence[Verdict], bp: str
) -> Sentence:
    """The sentence on who reaches the target, with the least energy, and whether accuracies differ beyond the noise of
    the seeds."""
    clauses = [reach_clause(target_pct, reaches), _least_clause(least, bp), accuracy_clause(verdicts)]
    text = "; ".join(clause for clause in clauses if clause)
    return Sentence(_target_lead(target_pct, least), f"{text}.")


def _target_lead(target_pct: float, least: LeastToTarget | None) -> str:
    """The lead of that sentence: the goal, and the rule that wins it."""
    goal = f"Least energy to {fixed(target_pct, 2)} % accuracy"
    if least is None:
        return f"{goal}: not reached"
    if not least.decided:
        return f"{goal}: undecided"
    return f"{goal}: {'backpropagation' if is_backpropagation(least.rule) else least.rule}"


def reach_clause(target_pct: float, reaches: Sequence[Reach]) -> str:
    """The clause on which rules reach the target in how many seeds."""
    goal = f"the target of {fixed(target_pct, 2)} % validation accuracy"
    reaching = [item for item in reaches if item.reached]
    missing = [item for item in reaches if not item.reached and item.seeds]
    if not reaching:
        return f"No rule reaches {goal} in any seed within the epochs trained"
    ordered = sorted(reaching, key=lambda item: -item.reached / item.seeds)
    groups = [
        f"{joined_names(item.rule for item in group)} in {seeds_text(*key)}"
        for key, items in groupby(ordered, key=lambda item: (item.reached, item.seeds))
        if (group := list(items))
    ]
    text = f"{goal[0].upper()}{goal[1:]} is reached by {', by '.join(groups)}"
    if missing:
        text += f", and by {joined_names(item.rule for item in missing)} in none"
    return text


def _least_clause(least: LeastToTarget | None, bp: str) -> str:
    """The clause on which line needs the least energy to the target; empty where none reaches it."""
    if least is None:
        return ""
    name = bp if is_backpropagation(least.rule) else line_name(least.rule, least.transport)
    text = f"{name} needs the least energy to get there, {si(least.energy_j, 'J')}"
    if least.reach.reached < least.reach.seeds:
        text += f" (mean of the {seeds_text(least.reach.reached, least.reach.seeds)} that got there)"
    text += _against_rival(least, bp)
    if least.luckier:
        few = joined_names(f"{item.rule} (in {seeds_text(item.reached, item.seeds)})" for item in least.luckier)
        text += f"; less is needed by {few}, too few to be compared"
    return text


def _against_rival(least: LeastToTarget, bp: str) -> str:
    """The clause on the least energy to the target against the nearest rival's on the other side."""
    if least.runner_up and least.runner_up.target:
        name, saving = line_name(least.runner_up.rule, least.runner_up.transport), least.runner_up.target
        if least.decided:
            return f", and the nearest other rule, {name}, needs {_cost_more(saving)}"
        return f", but against {name} that is undecided: it saves {_wide_range(saving)}"
    if is_backpropagation(least.rule) or least.saving is None:
        return ""
    if least.decided:
        return f", {_value_with_range(least.saving)} less than {bp}"
    return f", but against {bp} that is undecided: it saves {_wide_range(least.saving)}"


def _wide_range(saving: Saving) -> str:
    """The range of a saving with the unit at both ends, for one that changes sign."""
    return f"{percent(saving.low)} to {percent(saving.high)}"


def accuracy_clause(verdicts: Sequence[Verdict]) -> str:
    """The clause on which rules' test accuracy differs from backpropagation's beyond the noise of the seeds."""
    rules = list({item.rule: item for item in verdicts}.values())
    beyond = [f"{item.rule} ({points_text(item.accuracy_points)})" for item in rules if item.beyond_noise]
    within = [item.rule for item in rules if item.beyond_noise is False]
    unknown = [f"{item.rule} ({points_text(item.accuracy_points)})" for item in rules if item.beyond_noise is None]
    parts = []
    if beyond:
        parts.append(
            f"test accuracy differs from backpropagation's beyond the noise of the seeds for {joined_names(beyond)}"
        )
    if within:
        start = (
            "within it" if beyond else "test accuracy differs from backpropagation's only within the noise of the seeds"
        )
        parts.append(f"{start} for {joined_names(within)}")
    if unknown:
        parts.append(f"with a single seed the noise of the accuracy is unknown for {joined_names(unknown)}")
    return ", and ".join(parts)


def signed_number(value: float) -> str:
    """The value with two decimals and its sign: `+0.13`."""
    return f"{'+' if value > 0 else ''}{fixed(value, 2)}"


def points_text(value: float) -> str:
    """A difference of percentages: `−2.00 points`."""
    return f"{signed_number(value)} points"


def winner_word(rule: str, saving: Saving | None) -> str:
    """The side that needs less energy, in a word."""
    if saving is None:
        return "–"
    return {"rule": rule, "baseline": "backpropagation"}.get(saving.winner, "undecided")


def noise_word(beyond_noise: bool | None) -> str:
    """The verdict on an accuracy difference, in two words."""
    return {True: "beyond noise", False: "within noise", None: "one seed: unknown"}[beyond_noise]


def break_even_sentence(scale: float | None, read_overhead: float | None) -> str:
    """The sentence on the overhead of transposed access at which backpropagation on one transposable memory costs as
    much as the rule."""
    if scale is None or read_overhead is None:
        return "no break-even: the chip file gives transposed access no cost"
    if scale <= 0:
        return "bp would lose even if transposed access cost nothing extra"
    wins = "bp would win if" if scale < 1 else "bp wins as long as"
    if read_overhead == 0:
        return f"{wins} the overheads of transposed access are below {significant(scale)} times this chip's"
    limit = percent(scale * read_overhead)
    return f"{wins} transposed reads cost less than {limit} more (this chip: {100 * read_overhead:.4g} %)"


def least_words(rule: str, transport: str, energy_pj_per_sample: float) -> str:
    """The clause on the least energy, for where there is nothing to compare it with."""
    energy = si(energy_pj_per_sample * J_PER_PJ, "J")
    return f"the least energy is that of {line_name(rule, transport)}, {energy} per sample"
