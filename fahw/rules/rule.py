"""The learning rules as values.

A rule is a few choices: the path of the error, what goes along it, where the sign and the magnitude of a feedback
weight come from, how many of them there are, how they learn if they do, and which layers learn. The arithmetic
(`fahw.learn`) and the traffic (`fahw.work`) are both derived from these choices; nothing else in fahw asks for a rule
by name. A rule that can be made is priced and trained alike everywhere; the others are refused when they are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, pi, sqrt
from statistics import NormalDist
from typing import Literal, get_args

from fahw.rules.signals import SIGNALS, Signal, SignalName
from fahw.rules.sources import NO_SOURCE, SOURCES, FeedbackSource, Magnitude, Sign

Path = Literal["layerwise", "direct"]
Learned = Literal["gradient", "mirror"]
Trained = Literal["all", "dense", "last"]

FEEDBACK_DECAY = 2.0**-11
"""Share of themselves that W and B lose at every update where feedback weights learn by W's gradient."""
MIRROR_SAMPLES = 16
"""Vectors of noise, of -1 and 1, that pass a layer at every update to mirror its weights."""
MIRROR_RATE = 2.0**-6
"""Share of the way to the mirror's estimate of W that B goes at every update."""


@dataclass(frozen=True)
class Rule:
    """A learning rule: how the error reaches the hidden layers, and what learns from it.

    `path`: `layerwise` sends it through one layer after the other; `direct` from the output straight to every layer.
    `sign`, `magnitude`: of a feedback weight. `weight`: the forward weight's, moved after every update. `own`: drawn
    once and kept. `constant`: one power of two per layer. `redrawn`: drawn anew for every training batch.
    `density`: the share of a layer's feedback weights that there are; the rest are zero, and neither stored nor read
    nor multiplied. `rank`: B is the product of two matrices, of so many columns and rows; None: it is one matrix.
    `does`: what it reads, stores and moves, in words.

    `signal`, along a direct path: the output's `error`; its `ternary` form, -1, 0 or 1 (the last layer still learns
    from the exact one); or the `targets`, one-hot, so that no hidden layer waits for the output.
    `learned`: own feedback weights change: by the same steps as W, both with a decay (`gradient`), or towards what
    noise shows of W (`mirror`). `pruned`: the share of hidden errors, taken as normal, that lies below the threshold
    under which an error is rounded at random to 0 or to the threshold, unbiased. `trains`: all layers with weights,
    those that are not convolutions (and the last), or the last alone; the others keep what they were drawn with.
    """

    name: str
    title: str
    path: Path
    sign: Sign
    magnitude: Magnitude
    source: str
    does: str = ""
    signal: SignalName = "error"
    learned: Learned | None = None
    pruned: float = 0.0
    trains: Trained = "all"
    density: float = 1.0
    rank: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError with every reason why the choices make no rule."""
        reasons = [*_unknown_choices(self)] or [*_contradictions(self)]
        if reasons:
            raise ValueError("; ".join(f"{self.name}: {reason}" for reason in reasons))

    @property
    def feedback(self) -> FeedbackSource:
        """Where the feedback weights come from: how their words are made, and their bits."""
        return SOURCES[self.sign, self.magnitude]

    @property
    def sent(self) -> Signal:
        """What a direct path sends back from the output: how its words are made, and their bits."""
        return SIGNALS[self.signal]

    @property
    def is_whole(self) -> bool:
        """Whether B is one matrix that holds every feedback weight: neither sparse nor of low rank."""
        return self.density == 1 and self.rank is None

    def transported_bits(self, feedback_bits: int) -> int:
        """Bits per weight that an update must move from the forward memory to a separate feedback memory."""
        return self.feedback.moved(feedback_bits) if self.reads_weight else 0

    def kept_bits(self, feedback_bits: int) -> int:
        """Bits per feedback weight that are the rule's own and stay the same for the whole training; where it lies in a
        sparse matrix is no part of them."""
        return 0 if self.learned else self.feedback.kept(feedback_bits)

    def learned_bits(self, feedback_bits: int) -> int:
        """Bits per feedback weight that are the rule's own and written at every update."""
        return feedback_bits if self.learned else 0

    def generated_bits(self, feedback_bits: int) -> int:
        """Bits per feedback weight that a generator yields whenever the weight is fetched."""
        return self.feedback.generated(feedback_bits)

    def operand_bits(self, feedback_bits: int) -> int:
        """Width of the feedback weight at the multiplier: a constant magnitude is a shift, so only the sign is left."""
        return self.feedback.multiplied(feedback_bits)

    def signal_bits(self, error_bits: int) -> int:
        """Bits of each word of the signal that is sent back from the output."""
        return self.sent.bits(error_bits)

    def trains_layer(self, convolution: bool, last: bool) -> bool:
        """Whether the rule trains a weighted layer, `convolution` or linear, the `last` of its network or not."""
        return last or self.trains == "all" or (self.trains == "dense" and not convolution)

    @property
    def reads_weight(self) -> bool:
        """Whether the feedback weight depends on the forward weight, by its sign or its magnitude."""
        return self.trains != "last" and self.feedback.reads_weight

    @property
    def decay(self) -> float:
        """The share of itself that a weight loses at every update because the rule demands it."""
        return FEEDBACK_DECAY if self.learned == "gradient" else 0.0

    @property
    def pruning_threshold(self) -> float:
        """The threshold of pruning over the standard deviation of the errors."""
        return NormalDist().inv_cdf((1 + self.pruned) / 2)

    @property
    def pruned_zeros(self) -> float:
        """Share of normally distributed errors that pruning rounds to zero.

        It is the share below the threshold, less their mean over it, the chance that they are rounded up to it.
        """
        if not self.pruned:
            return 0.0
        threshold = self.pruning_threshold
        return self.pruned - sqrt(2 / pi) * (1 - exp(-(threshold**2) / 2)) / threshold


_NAMED = {
    "path": Path,
    "sign": Sign,
    "magnitude": Magnitude,
    "signal": SignalName,
    "learned": Learned,
    "trains": Trained,
}
"""The values of the choices that have names."""
_UNSENT = {
    "path": "layerwise", "sign": "weight", "magnitude": "weight", "signal": "error", "learned": None, "pruned": 0.0,
    "density": 1.0, "rank": None,
}  # fmt: skip
"""The choices of a rule that sends no error: those of backpropagation."""


def _unknown_choices(rule: Rule) -> Iterator[str]:
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


def _contradictions(rule: Rule) -> Iterator[str]:
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
