"""The verdict in words: pure functions from numbers to sentences that claim no more than the numbers do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from fahw.report.run_folder import Saving, Verdict, backpropagates
from fahw.rules.catalogue import RULES
from fahw.units import J_PER_PJ, fixed, percent, percent_number, si, significant

_BP_FORMS = {
    "copy": "backpropagation with a copied weight memory (copy)",
    "write_through": "backpropagation with a written-through weight copy (write_through)",
    "transposable": "backpropagation on one transposable memory",
    "accumulate": "backpropagation on one weight memory read by rows (accumulate)",
    "column": "backpropagation on one weight memory read by columns (column)",
}


@dataclass(frozen=True)
class Sentence:
    """A goal with its answer in a few words, and the whole statement."""

    lead: str
    text: str


@dataclass(frozen=True)
class Reach:
    """In how many of its seeds a rule reaches the target."""

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


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    items = list(names)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def of_seeds(reached: int, seeds: int) -> str:
    """`2 of 3 seeds`."""
    return f"{reached} of {seeds} seed{'' if seeds == 1 else 's'}"


def baseline_name(form: str) -> str:
    """Backpropagation under the form of transport that was simulated."""
    return _BP_FORMS.get(form, f"backpropagation ({form})")


def line_name(rule: str, transport: str) -> str:
    """A rule with its transport, as in `usf (write_through)`."""
    return rule if transport == "none" else f"{rule} ({transport})"


def rule_title(rule: str) -> str:
    """Full name of a rule; the short one where it has none."""
    return RULES[rule].title if rule in RULES else rule


def _explained(rule: str, transport: str) -> str:
    title = rule_title(rule)
    parts = [title[0].lower() + title[1:]] if title != rule else []
    parts += [] if transport == "none" else [transport]
    return f"{rule} ({', '.join(parts)})" if parts else rule


def range_number(saving: Saving) -> str:
    """The range in percent: `4.6 to 11.5`."""
    return f"{percent_number(saving.low)} to {percent_number(saving.high)}"


def saving_range(saving: Saving) -> str:
    """`4.6 to 11.5 %`."""
    return f"{range_number(saving)} %"


def _more(saving: Saving) -> str:
    """How much more a rule costs that loses, with the range."""
    return f"{percent(-saving.value)} more ({percent_number(-saving.high)} to {percent(-saving.low)})"


def _nominal(saving: Saving) -> str:
    return f"saves {percent(saving.value)}" if saving.value >= 0 else f"costs {percent(-saving.value)} more"


def energy_sentence(verdicts: Sequence[Verdict], baseline_form: str | None, least_pj: str = "") -> Sentence:
    """Who needs the least energy per step. `baseline_form`: the best backpropagation's; None where none is hosted.

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
    name = _explained(best.rule, best.transport)
    if best.step.winner == "rule":
        text = f"{_sure(best.step, name)} against {bp}, its best form on this chip{_yet(best)}."
        return Sentence(f"Least energy per step: {best.rule}", text)
    if best.step.winner == "baseline":
        text = f"Every other rule costs more than {bp}; the nearest, {name}, costs {_more(best.step)} per step."
        return Sentence("Least energy per step: backpropagation", text)
    return Sentence("Least energy per step: undecided", _undecided(best, name, bp, verdicts))


def _sure(saving: Saving, name: str) -> str:
    value, spread = percent(saving.value), saving_range(saving)
    return f"{name} saves {value} per step ({spread} within the uncertainty of the constants)"


def _yet(best: Verdict) -> str:
    """What the least energy per step is worth if the rule does not learn well enough."""
    if best.seeds_reached or not best.seeds:
        return ""
    return ", but does not reach the target accuracy in any seed within the epochs trained"


def _undecided(best: Verdict, name: str, bp: str, verdicts: Sequence[Verdict]) -> str:
    low, high = percent(best.step.low), percent(best.step.high)
    text = f"{name} {_nominal(best.step)} per step against {bp}, but within the uncertainty of the constants the saving"
    text += f" runs from {low} to {high}, so either may win"
    winners = [item for item in verdicts if item.step.winner == "rule"]
    if not winners:
        return f"{text}."
    sure = max(winners, key=lambda item: item.step.value)
    return f"{text}; ahead throughout is {line_name(sure.rule, sure.transport)}, which saves {_with_range(sure.step)}."


def _with_range(saving: Saving) -> str:
    return f"{percent(saving.value)} ({saving_range(saving)})"


def target_sentence(
    target_pct: float, reaches: Sequence[Reach], least: LeastToTarget | None, verdicts: Sequence[Verdict], bp: str
) -> Sentence:
    """Who reaches the target, with the least energy, and whether accuracies differ beyond the noise of the seeds."""
    clauses = [reach_clause(target_pct, reaches), _least_clause(least, bp), accuracy_clause(verdicts)]
    text = "; ".join(clause for clause in clauses if clause)
    return Sentence(_target_lead(target_pct, least), f"{text}.")


def _target_lead(target_pct: float, least: LeastToTarget | None) -> str:
    goal = f"Least energy to {fixed(target_pct, 2)} % accuracy"
    if least is None:
        return f"{goal}: not reached"
    if not least.decided:
        return f"{goal}: undecided"
    return f"{goal}: {'backpropagation' if backpropagates(least.rule) else least.rule}"


def reach_clause(target_pct: float, reaches: Sequence[Reach]) -> str:
    """Which rules reach the target in how many seeds."""
    goal = f"the target of {fixed(target_pct, 2)} % validation accuracy"
    found = [item for item in reaches if item.reached]
    missed = [item for item in reaches if not item.reached and item.seeds]
    if not found:
        return f"No rule reaches {goal} in any seed within the epochs trained"
    ordered = sorted(found, key=lambda item: -item.reached / item.seeds)
    groups = [
        f"{listed(item.rule for item in group)} in {of_seeds(*key)}"
        for key, items in groupby(ordered, key=lambda item: (item.reached, item.seeds))
        if (group := list(items))
    ]
    text = f"{goal[0].upper()}{goal[1:]} is reached by {', by '.join(groups)}"
    if missed:
        text += f", and by {listed(item.rule for item in missed)} in none"
    return text


def _least_clause(least: LeastToTarget | None, bp: str) -> str:
    if least is None:
        return ""
    name = bp if backpropagates(least.rule) else line_name(least.rule, least.transport)
    text = f"{name} needs the least energy to get there, {si(least.energy_j, 'J')}"
    if least.reach.reached < least.reach.seeds:
        text += f" (mean of the {of_seeds(least.reach.reached, least.reach.seeds)} that got there)"
    text += _against(least, bp)
    if least.luckier:
        few = listed(f"{item.rule} (in {of_seeds(item.reached, item.seeds)})" for item in least.luckier)
        text += f"; less is needed by {few}, too few to be compared"
    return text


def _against(least: LeastToTarget, bp: str) -> str:
    """The least energy to the target against the nearest rival's on the other side."""
    if least.runner_up and least.runner_up.target:
        name, saving = line_name(least.runner_up.rule, least.runner_up.transport), least.runner_up.target
        if least.decided:
            return f", and the nearest other rule, {name}, needs {_more(saving)}"
        return f", but against {name} that is undecided: it saves {_wide_range(saving)}"
    if backpropagates(least.rule) or least.saving is None:
        return ""
    if least.decided:
        return f", {_with_range(least.saving)} less than {bp}"
    return f", but against {bp} that is undecided: it saves {_wide_range(least.saving)}"


def _wide_range(saving: Saving) -> str:
    return f"{percent(saving.low)} to {percent(saving.high)}"


def accuracy_clause(verdicts: Sequence[Verdict]) -> str:
    """Which rules' test accuracy differs from backpropagation's beyond the noise of the seeds."""
    rules = list({item.rule: item for item in verdicts}.values())
    beyond = [f"{item.rule} ({points(item.accuracy_points)})" for item in rules if item.beyond_noise]
    within = [item.rule for item in rules if item.beyond_noise is False]
    unknown = [f"{item.rule} ({points(item.accuracy_points)})" for item in rules if item.beyond_noise is None]
    parts = []
    if beyond:
        parts.append(f"test accuracy differs from backpropagation's beyond the noise of the seeds for {listed(beyond)}")
    if within:
        lead = (
            "within it" if beyond else "test accuracy differs from backpropagation's only within the noise of the seeds"
        )
        parts.append(f"{lead} for {listed(within)}")
    if unknown:
        parts.append(f"with a single seed the noise of the accuracy is unknown for {listed(unknown)}")
    return ", and ".join(parts)


def signed(value: float) -> str:
    """With its sign: `+0.13`."""
    return f"{'+' if value > 0 else ''}{fixed(value, 2)}"


def points(value: float) -> str:
    """A difference of percentages: `−2.00 points`."""
    return f"{signed(value)} points"


def winner_word(rule: str, saving: Saving | None) -> str:
    """Who needs less energy, in a word."""
    if saving is None:
        return "–"
    return {"rule": rule, "baseline": "backpropagation"}.get(saving.winner, "undecided")


def noise_word(beyond_noise: bool | None) -> str:
    """Whether an accuracy difference says something."""
    return {True: "beyond noise", False: "within noise", None: "one seed: unknown"}[beyond_noise]


def break_even_sentence(scale: float | None, read_overhead: float | None) -> str:
    """The overhead of transposed access at which backpropagation on one transposable memory costs the same."""
    if scale is None or read_overhead is None:
        return "no break-even: the chip file gives transposed access no cost"
    if scale <= 0:
        return "bp would lose even if transposed access cost nothing extra"
    wins = "bp would win if" if scale < 1 else "bp wins as long as"
    if read_overhead == 0:
        return f"{wins} the overheads of transposed access are below {significant(scale)} times this chip's"
    limit = percent(scale * read_overhead)
    return f"{wins} transposed reads cost less than {limit} more (this chip: {100 * read_overhead:g} %)"


def least_words(rule: str, transport: str, energy_pj_per_sample: float) -> str:
    """The least energy without a comparison."""
    energy = si(energy_pj_per_sample * J_PER_PJ, "J")
    return f"the least energy is that of {line_name(rule, transport)}, {energy} per sample"
