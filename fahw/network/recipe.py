"""The recipe of a training: data, schedule, learning rate, and the value ranges of the fixed-point tensors."""

from __future__ import annotations

from math import cos, frexp, pi
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from fahw.config.schema import Frozen
from fahw.errors import suggestion
from fahw.optimizers import OPTIMIZERS
from fahw.rules.catalogue import RULES

Positive = Annotated[float, Field(ge=2**-32, le=2**32)]
Rate = Annotated[float, Field(ge=1e-9, le=1e3)]
Side = Annotated[int, Field(ge=1, le=4096)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


def _known_rule(name: str) -> str:
    """The name of a rule that fahw ships. Raises ValueError for another."""
    if name not in RULES:
        raise ValueError(f"no rule '{name}'{suggestion(name, RULES)}; known: {', '.join(RULES)}")
    return name


def _known_optimizer(name: str) -> str:
    """The name of an optimizer that fahw has. Raises ValueError for another."""
    if name not in OPTIMIZERS:
        names = ", ".join(OPTIMIZERS)
        raise ValueError(f"no optimizer '{name}'{suggestion(name, OPTIMIZERS)}; known: {names}")
    return name


RuleName = Annotated[str, AfterValidator(_known_rule)]
OptimizerName = Annotated[str, AfterValidator(_known_optimizer)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Ranges(Frozen):
    """Largest magnitudes that fixed-point tensors can hold; each is rounded up to a power of two."""

    weight_headroom: Positive = 4.0
    """Weights hold up to this many times the bound of their initial draw."""
    activation: Positive = 8.0
    """Outputs of weighted layers. (Inputs lie in [0, 1] and the output error in [-1, 1], and are scaled for that.)"""
    logit_headroom: Positive = 4.0
    """Logits hold this many times what other outputs do: where they saturate, the error cannot vanish."""
    error: Positive = 0.5
    """Errors of hidden layers, for a single sample (the batch's 1/N is part of the learning rate)."""
    velocity_headroom: Positive = 8.0
    """The velocity holds up to this many times what the gradient can."""


class LayerRanges(Frozen):
    """Ranges of one weighted layer; what is not given is as `ranges` has it."""

    weight_headroom: Positive | None = None
    activation: Positive | None = None
    """Its outputs."""


class Tuning(Frozen):
    """What may differ from rule to rule."""

    learning_rate: Rate = 0.1
    optimizer: OptimizerName = "momentum"
    momentum: Share = 0.9
    """Of momentum and nesterov; Adam's first decay rate."""
    second_moment: Share = 0.999
    """Adam's second decay rate."""
    weight_decay: Share = 0.0
    """Every step also takes off this share of each weight, times the learning rate (decoupled, as in AdamW). Biases and
    batch norms do not decay."""
    clip: Positive | None = None
    """Largest magnitude of each component of the batch's mean gradient."""
    feedback_gain: Positive = 1.0
    """Factor on the magnitude of the rule's own feedback weights."""
    ranges: Ranges = Ranges()
    layer_ranges: dict[str, LayerRanges] = Field(default_factory=dict)
    """By the name of the layer, where one range does not fit all."""

    def ranges_of(self, layer: str) -> Ranges:
        """The ranges of the layer called `layer`: its own, else the common ones."""
        overrides = self.layer_ranges.get(layer, LayerRanges()).model_dump(exclude_none=True)
        return self.ranges.model_copy(update=overrides)


class RuleTuning(Frozen):
    """Overrides for one rule; what is not given stays as the recipe says."""

    learning_rate: Rate | None = None
    optimizer: OptimizerName | None = None
    momentum: Share | None = None
    second_moment: Share | None = None
    weight_decay: Share | None = None
    clip: Positive | None = None
    feedback_gain: Positive | None = None
    ranges: Ranges | None = None
    layer_ranges: dict[str, LayerRanges] | None = None


class Augment(Frozen):
    """Changes of the training images, drawn anew in every epoch."""

    crop_padding: Annotated[int, Field(ge=0, le=64)] = 0
    """Black pixels added on every side; an image of the old size is then cut out at a random place."""
    horizontal_flip: bool = False
    """Mirrors every other image, by chance."""

    @property
    def active(self) -> bool:
        """Whether any image is changed."""
        return self.crop_padding > 0 or self.horizontal_flip


class Recipe(Tuning):
    """A training run, rule by rule."""

    model_config = ConfigDict(title="Training recipe")

    data: str = "digits"
    """A known data set, or the path of an .npz file, of a folder of images or of CIFAR-10's batches."""
    image_size: tuple[Side, Side] | None = None
    """Height and width that the images of a folder are scaled and cropped to, where they differ."""
    augment: Augment = Augment()
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=10_000_000)] = 32
    """Images of a step. Batches are whole: the images that are left at the end of an epoch, others in each, are not
    trained in it."""
    schedule: Literal["constant", "step", "cosine"] = "step"
    """Of the learning rate over the epochs; cosine falls to zero after the last one."""
    drop_at: tuple[Fraction, ...] = ()
    """Fractions of the epochs after which the learning rate is multiplied by `drop_factor`."""
    drop_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Epochs at the start in which the rate rises to the schedule's in equal steps: half of it in a single one."""
    power_of_two_rates: bool = False
    """Rounds the factor that a weight moves by (the rate, over the batch size where gradients are summed) to the
    nearest power of two, so that it is a shift."""
    validation: Fraction = 0.1
    """Share of the training set that is kept apart to choose the epoch."""
    rules: dict[RuleName, RuleTuning] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _drops_are_steps(self) -> Self:
        if self.drop_at and self.schedule != "step":
            raise ValueError(f"drop_at belongs to schedule: step, the schedule is {self.schedule}: leave one out")
        return self

    def tuning(self, rule: str) -> Tuning:
        """The settings for `rule`: the recipe's, with the overrides for that rule."""
        override = self.rules.get(rule, RuleTuning()).model_dump(exclude_none=True)
        base = {name: getattr(self, name) for name in Tuning.model_fields}
        return Tuning.model_validate(base | override, strict=False)

    def rate_factor(self, epoch: int) -> float:
        """The factor on the learning rate in `epoch` (counted from 0): warm-up and schedule."""
        warmup = min(1.0, (epoch + 1) / (self.warmup_epochs + 1))
        if self.schedule == "cosine":
            return warmup * (1 + cos(pi * epoch / self.epochs)) / 2
        return warmup * self.drop_factor ** sum(epoch >= max(1, round(drop * self.epochs)) for drop in self.drop_at)

    def rate(self, tuning: Tuning, epoch: int) -> float:
        """The learning rate in `epoch` (counted from 0)."""
        rate = tuning.learning_rate * self.rate_factor(epoch)
        if not self.power_of_two_rates:
            return rate
        divisor = self.batch_size if OPTIMIZERS[tuning.optimizer].linear else 1
        mantissa, exponent = frexp(rate / divisor)
        return divisor * 2.0 ** (exponent if mantissa * mantissa >= 0.5 else exponent - 1)

    def highest_rate(self, tuning: Tuning) -> float:
        """The highest learning rate of the training, which it reaches by the end of the warm-up."""
        return max(self.rate(tuning, epoch) for epoch in range(min(self.epochs, self.warmup_epochs + 1)))
