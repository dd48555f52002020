"""What a training is made from: the values that travel together from whoever asks for it to the first step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from fahw.formats.precision import FP32, Precision, RoundingModes
from fahw.learn.kernels.device import CPU
from fahw.learn.state.delays import IN_TIME, Delays
from fahw.learn.state.scales import Scales, network_scales
from fahw.network.graph import Network
from fahw.network.recipe import Recipe, Tuning
from fahw.rules.rule import Rule


@dataclass(frozen=True)
class TrainingSetup:
    """All that the result of a training depends on, save for its data. With `delays` the error meets weights as the
    last transport found them, and updates come late."""

    network: Network
    recipe: Recipe
    rule: Rule
    precision: Precision = FP32
    rounding: RoundingModes = field(default_factory=RoundingModes)
    seed: int = 0
    delays: Delays = IN_TIME
    device: torch.device = CPU
    """The device on which the training computes: integers train to the same bits on any."""
    norm_samples: int | None = None
    """Samples over which batch norms take their statistics: those of a micro-batch; None: the batch."""

    @cached_property
    def tuning(self) -> Tuning:
        """The settings that hold for the rule: the recipe's, save where it sets others for this rule."""
        return self.recipe.tuning(self.rule.name)

    @cached_property
    def scales(self) -> dict[str, Scales]:
        """The fixed-point formats of every weighted layer by its name, first to last; computed once."""
        return network_scales(self.network, self.precision, self.tuning, self.rule, self.recipe.batch_size)

    def on(self, device: torch.device) -> TrainingSetup:
        """The same training on `device`; itself where it is there already, with scales that it may have computed."""
        return self if device == self.device else replace(self, device=device)
