"""The learning rules that fahw ships, by name."""

from __future__ import annotations

import json
from dataclasses import asdict

from fahw.rules.rule import Rule

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "bp", "Backpropagation", "layerwise", "weight", "weight", "Rumelhart, Hinton, Williams 1986",
            "reads W; a separate feedback memory stores a copy, and every update moves all of it",
        ),
        Rule(
            "fa", "Feedback alignment", "layerwise", "own", "own", "Lillicrap et al. 2016",
            "reads a random B as large as W, which is stored; moves nothing",
        ),
        Rule(
            "usf", "Uniform sign-concordant feedback", "layerwise", "weight", "constant", "Liao et al. 2016",
            "reads the signs of W; a separate feedback memory stores them, and every update moves 1 bit per weight",
        ),
        Rule(
            "brsf", "Batch-wise random sign-concordant feedback", "layerwise", "weight", "redrawn", "Liao et al. 2016",
            "reads the signs of W, moved as for usf, and magnitudes that a generator draws anew for every batch",
        ),
        Rule(
            "frsf", "Fixed random sign-concordant feedback", "layerwise", "weight", "own", "Liao et al. 2016",
            "reads the signs of W, moved as for usf, and stored random magnitudes",
        ),
        Rule(
            "dfa", "Direct feedback alignment", "direct", "own", "own", "Nøkland 2016",
            "reads a random B of outputs x width per layer, which is stored; moves nothing",
        ),
        Rule(
            "bfa", "Binary feedback alignment", "layerwise", "own", "constant", "Lillicrap et al. 2016; Han, Yoo 2019",
            "as fa with one bit per feedback weight, read and stored; moves nothing",
        ),
        Rule(
            "bdfa", "Binary direct feedback alignment", "direct", "own", "constant", "Han, Yoo 2019",
            "as dfa with one bit per feedback weight, read and stored; moves nothing",
        ),
        Rule(
            "sdfa", "Sparse direct feedback alignment", "direct", "own", "own", "Crafton et al. 2019",
            "reads a tenth of dfa's B, of ten outputs one per value, which is stored with its place; moves nothing",
            density=0.1,
        ),
        Rule(
            "lrfa", "Low-rank feedback alignment", "layerwise", "own", "own",
            "after Hanut, Kadmon 2025, whose matrices adapt",
            "reads two random matrices in place of fa's B, outputs x 10 and 10 x inputs, which stay; moves nothing",
            rank=10,
        ),
        Rule(
            "tdfa", "Direct feedback alignment with a ternary error", "direct", "own", "own", "Launay et al. 2020",
            "reads B as dfa does, and the output's error in 2 bits, stored beside the exact one; moves nothing",
            signal="ternary",
        ),
        Rule(
            "drtp", "Direct random target projection", "direct", "own", "own", "Frenkel, Lefebvre, Bol 2021",
            "reads the row of B that a label names: no product, no wait for the output; stores B; moves nothing",
            signal="targets",
        ),
        Rule(
            "kp", "Kolen-Pollack feedback", "layerwise", "own", "own", "Kolen, Pollack 1994; Akrout et al. 2019",
            "reads and writes a stored B at every update by W's own steps: with the update where it reaches B, else"
            " from the gradient computed again and a velocity stored beside B; moves nothing",
            learned="gradient",
        ),
        Rule(
            "wm", "Weight mirror", "layerwise", "own", "own", "Akrout et al. 2019",
            "reads and writes a stored B at every update by what noise shows of W: one more forward and one more outer"
            " product of a few samples, random bits, noise and responses stored; moves nothing",
            learned="mirror",
        ),
        Rule(
            "egrad", "Gradient-pruned sign-symmetric feedback (EfficientGrad)", "layerwise", "weight", "own",
            "Hong, Yue 2021",
            "as frsf, with hidden errors pruned to zero or a threshold: compares and random bits per error, zeros that"
            " a chip may skip",
            pruned=0.9,
        ),
        Rule(
            "frozen_conv", "Backpropagation with frozen convolutions", "layerwise", "weight", "weight", "baseline",
            "as bp through the layers that are not convolutions; the convolutions keep their random weights, store no"
            " state and send nothing back",
            trains="dense",
        ),
        Rule(
            "last", "Last layer only", "layerwise", "weight", "weight", "baseline",
            "no error path: reads, stores and moves no feedback; only the last layer has a gradient and an update",
            trains="last",
        ),
    )
}  # fmt: skip

BACKPROPAGATION = RULES["bp"]
"""The rule that all others are compared with."""

COMPARED = ("bp", "fa", "usf", "brsf", "frsf", "dfa")
"""The rules that a comparison compares by default."""

_SHIPPED = dict(RULES)


def stored_name(rule: Rule) -> str:
    """What stored results call a rule: a shipped one by its name, another one by its choices too, so that results of
    one are not taken for those of another that had its name before."""
    if _SHIPPED.get(rule.name) == rule:
        return rule.name
    choices = {key: value for key, value in asdict(rule).items() if key not in ("title", "source", "does")}
    return json.dumps(choices, sort_keys=True)
