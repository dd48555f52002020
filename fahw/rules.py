"""The learning rules as values.

A rule is three choices: the path of the error, where the sign of a feedback weight comes from, and where its magnitude
comes from. The arithmetic (`fahw.learn`) and the traffic (`fahw.work`) are both derived from these choices; nothing
else in fahw asks for a rule by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Path = Literal["layerwise", "direct"]
Sign = Literal["weight", "own"]
Magnitude = Literal["weight", "own", "constant", "redrawn"]


@dataclass(frozen=True)
class Rule:
    """How the error reaches the hidden layers.

    `path`: `layerwise` sends it through one layer after the other; `direct` from the output straight to every layer.
    `sign`, `magnitude`: of a feedback weight. `weight`: the forward weight's, moved after every update. `own`: drawn
    once and kept. `constant`: one power of two per layer. `redrawn`: drawn anew for every training batch.
    """

    name: str
    title: str
    path: Path
    sign: Sign
    magnitude: Magnitude
    source: str

    def transported_bits(self, feedback_bits: int) -> int:
        """Bits per weight that an update must move from the forward memory to a separate feedback memory."""
        if self.magnitude == "weight":
            return feedback_bits
        return 1 if self.sign == "weight" else 0

    def kept_bits(self, feedback_bits: int) -> int:
        """Bits per feedback weight that are the rule's own and stay the same for the whole training."""
        magnitude = feedback_bits - 1 if self.magnitude == "own" else 0
        return magnitude + (1 if self.sign == "own" else 0)

    def generated_bits(self, feedback_bits: int) -> int:
        """Bits per feedback weight that a generator yields whenever the weight is fetched."""
        return feedback_bits - 1 if self.magnitude == "redrawn" else 0

    def operand_bits(self, feedback_bits: int) -> int:
        """Width of the feedback weight at the multiplier: a constant magnitude is a shift, so only the sign is left."""
        return 1 if self.magnitude == "constant" else feedback_bits

    @property
    def reads_weight(self) -> bool:
        """Whether the feedback weight depends on the forward weight at all."""
        return self.sign == "weight" or self.magnitude == "weight"


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("bp", "Backpropagation", "layerwise", "weight", "weight", "Rumelhart, Hinton, Williams 1986"),
        Rule("fa", "Feedback alignment", "layerwise", "own", "own", "Lillicrap et al. 2016"),
        Rule("usf", "Uniform sign-concordant feedback", "layerwise", "weight", "constant", "Liao et al. 2016"),
        Rule(
            "brsf", "Batch-wise random sign-concordant feedback", "layerwise", "weight", "redrawn", "Liao et al. 2016"
        ),
        Rule("frsf", "Fixed random sign-concordant feedback", "layerwise", "weight", "own", "Liao et al. 2016"),
        Rule("dfa", "Direct feedback alignment", "direct", "own", "own", "Nøkland 2016"),
    )
}

BACKPROPAGATION = RULES["bp"]
"""The rule that all others are measured against."""
