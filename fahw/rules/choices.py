"""The choices that a rule is made of, and why some of them make no rule together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

from fahw.rules.sources import NO_SOURCE, Magnitude, Sign

if TYPE_CHECKING:
    from fahw.rules.rule import Rule

Path = Literal["layerwise", "direct"]
Signal = Literal["error", "ternary", "targets"]
Learned = Literal["gradient", "mirror"]
Trained = Literal["all", "dense", "last"]

_NAMED = {"path": Path, "sign": Sign, "magnitude": Magnitude, "signal": Signal, "learned": Learned, "trains": Trained}
"""The values of the choices that have names."""
_UNSENT = {
    "path": "layerwise", "sign": "weight", "magnitude": "weight", "signal": "error", "learned": None, "pruned": 0.0,
    "density": 1.0, "rank": None,
}  # fmt: skip
"""The choices of a rule that sends no error: those of backpropagation."""


def unknown_choices(rule: Rule) -> Iterator[str]:
    """A reason for every choice that is none of those that there are."""
    for name, kind in _NAMED.items():
        value, choices = getattr(rule, name), get_args(kind)
        if value not in choices and not (name == "learned" and value is None):
            yield f"no {name} '{value}'; known: {', '.join(choices)}"
    if not 0 <= rule.pruned < 1:
        yield f"the pruned share lies in [0, 1) (got {rule.pruned})"
    if not 0 < rule.density <= 1:
        yield f"the density, a share of the feedback weights, lies in (0, 1] (got {rule.density})"
    if rule.rank is not None and (isinstance(rule.rank, bool) or not isinstance(rule.rank, int) or rule.rank < 1):
        yield f"the rank is a whole number from 1, or None for a matrix of full rank (got {rule.rank})"


def contradictions(rule: Rule) -> Iterator[str]:
    """A reason for everything that the choices, each of which exists, cannot mean together."""
    if (rule.sign, rule.magnitude) in NO_SOURCE:
        yield NO_SOURCE[rule.sign, rule.magnitude]
    elif rule.path == "direct" and rule.feedback.reads_weight:
        reason = "a direct path goes through a matrix of outputs x inputs, to which no forward weight belongs"
        yield f"{reason}: sign and magnitude must be its own"
    if rule.signal != "error" and rule.path != "direct":
        yield f"{rule.signal} go straight to the layers, so the path must be direct"
    if rule.learned and (rule.path, rule.sign, rule.magnitude) != ("layerwise", "own", "own"):
        yield "only a layer's own feedback weights, shaped as its weights, can learn"
    set_in_vain = [name for name, value in _UNSENT.items() if getattr(rule, name) != value]
    if rule.trains == "last" and set_in_vain:
        yield f"the last layer alone learns, so that no error is sent: {', '.join(set_in_vain)} would mean nothing"
    if rule.density < 1:
        yield from _matrix_contradictions(rule, "density")
    if rule.rank is not None:
        yield from _matrix_contradictions(rule, "rank")
    if rule.density < 1 and rule.rank is not None:
        yield "feedback weights are sparse or of low rank, not both: leave out density or rank"


def _matrix_contradictions(rule: Rule, choice: str) -> Iterator[str]:
    """A reason for everything that goes with neither sparse matrices nor those of low rank."""
    if (rule.sign, rule.magnitude) not in NO_SOURCE and rule.feedback.reads_weight:
        yield f"{choice} is of feedback weights of their own, and these follow the forward weights one by one"
    if rule.learned:
        yield f"{choice} is of feedback weights that stay, and these learn, each with its forward weight"
    if rule.signal == "targets":
        yield f"{choice} saves products, of which targets take none: a label reads one row of a whole matrix"
