"""Where feedback weights come from, as values: what a source stores, moves and generates, and how its words are made.

`SOURCES` has one for every choice of sign and magnitude that has a meaning, `NO_SOURCE` says why the others have none.
A source makes its words of what a `Words` offers, one for each arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Sign = Literal["weight", "own"]
Magnitude = Literal["weight", "own", "constant", "redrawn"]


class ForwardWeights(Protocol):
    """The forward weights of a layer, as feedback words can be made of them."""

    def copied(self) -> Any:
        """The forward weights in the feedback format."""

    def with_weight_signs(self, magnitudes: Any) -> Any:
        """The magnitudes with the signs of the forward weights."""


class DrawnWords(Protocol):
    """What can be drawn for one matrix of one layer in a step, in one arithmetic. What is drawn once is the same in
    every step; magnitudes have no sign."""

    def signed(self) -> Any:
        """Numbers of both signs, drawn once."""

    def magnitudes(self) -> Any:
        """Magnitudes, drawn once."""

    def binary(self) -> Any:
        """The constant with signs that are drawn once."""

    def constant(self) -> Any:
        """The constant, one for the whole matrix; None where it is 1 in the units of the words."""

    def redrawn(self) -> Any:
        """Magnitudes that are drawn anew for this step."""

    def with_own_signs(self, magnitudes: Any) -> Any:
        """The magnitudes with signs that are drawn once."""


class Words(ForwardWeights, DrawnWords, Protocol):
    """All that the words of one matrix of one layer can be made of."""


BitCount = Callable[[int], int]
"""Bits of a part of a feedback word, given the bits of the word."""


def _none(bits: int) -> int:
    return 0


def _sign(bits: int) -> int:
    return 1


def _magnitude(bits: int) -> int:
    return bits - 1


def _word(bits: int) -> int:
    return bits


@dataclass(frozen=True)
class FeedbackSource:
    """A source of feedback weights: how its words are made, and the bits of each.

    `drawn`: makes what does not depend on the forward weights; None where nothing does not. `joined`: the words, from
    that. `moved`: bits that an update moves from the forward memory. `kept`: bits that stay the same for a whole
    training. `generated`: bits that a generator yields at every fetch. `multiplied`: width at the multiplier, where a
    constant magnitude is a shift.
    """

    drawn: Callable[[DrawnWords], Any]
    joined: Callable[[ForwardWeights, Any], Any]
    moved: BitCount = _none
    kept: BitCount = _none
    generated: BitCount = _none
    multiplied: BitCount = _word

    @property
    def reads_weight(self) -> bool:
        """Whether a feedback weight depends on the forward weight."""
        return self.moved is not _none

    @property
    def copies_weight(self) -> bool:
        """Whether a feedback weight is the forward weight."""
        return self.moved is _word

    @property
    def is_constant(self) -> bool:
        """Whether all magnitudes of a matrix are one power of two, which its scale holds."""
        return self.multiplied is _sign

    def words(self, words: Words) -> Any:
        """The feedback words."""
        return self.joined(words, self.drawn(words))


def _nothing(words: DrawnWords) -> None:
    return None


def _copied(weights: ForwardWeights, drawn: Any) -> Any:
    return weights.copied()


def _with_weight_signs(weights: ForwardWeights, drawn: Any) -> Any:
    return weights.with_weight_signs(drawn)


def _as_drawn(weights: ForwardWeights, drawn: Any) -> Any:
    return drawn


SOURCES: dict[tuple[Sign, Magnitude], FeedbackSource] = {
    ("weight", "weight"): FeedbackSource(_nothing, _copied, moved=_word),
    ("weight", "own"): FeedbackSource(
        lambda words: words.magnitudes(), _with_weight_signs, moved=_sign, kept=_magnitude
    ),
    ("weight", "constant"): FeedbackSource(
        lambda words: words.constant(), _with_weight_signs, moved=_sign, multiplied=_sign
    ),
    ("weight", "redrawn"): FeedbackSource(
        lambda words: words.redrawn(), _with_weight_signs, moved=_sign, generated=_magnitude
    ),
    ("own", "own"): FeedbackSource(lambda words: words.signed(), _as_drawn, kept=_word),
    ("own", "constant"): FeedbackSource(lambda words: words.binary(), _as_drawn, kept=_sign, multiplied=_sign),
    ("own", "redrawn"): FeedbackSource(
        lambda words: words.with_own_signs(words.redrawn()), _as_drawn, kept=_sign, generated=_magnitude
    ),
}
"""The sources by the choices of sign and magnitude."""

NO_SOURCE: dict[tuple[Sign, Magnitude], str] = {
    ("own", "weight"): "the forward weights' magnitudes go with their signs: take sign weight, or magnitude own",
}
"""Why the other choices have none."""
