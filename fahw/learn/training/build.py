"""A model before its first step: the arithmetic of the formats, its parameters and feedback words."""

from __future__ import annotations

import torch

from fahw.formats.fixed_point import RANDOM_BITS
from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.arithmetic.emulated import Emulated
from fahw.learn.arithmetic.floating import Floating
from fahw.learn.arithmetic.integer import Integer
from fahw.learn.error_path.emulated_words import EmulatedWords
from fahw.learn.error_path.feedback import Feedback, check_trained
from fahw.learn.error_path.feedback_words import FeedbackWords, FloatWords, IntegerWords
from fahw.learn.model import Model
from fahw.learn.state.delays import PendingUpdates
from fahw.learn.state.overflow import overflow_problems
from fahw.learn.training.setup import TrainingSetup
from fahw.network.error_path import check_learning
from fahw.prng import Lfsr, derive


def build(setup: TrainingSetup) -> tuple[Model, tuple[str, ...]]:
    """A model before its first step, and what could overflow in it. Raises ConfigError where the formats have no
    arithmetic for the rule."""
    check_trained([setup.rule], setup.precision)
    check_learning(setup.network, setup.rule)
    arithmetic, words, warnings = _arithmetic(setup)
    device, delays = setup.device, setup.delays
    parameters = arithmetic.initial(setup.network, setup.seed, device)
    feedback = Feedback(setup.rule, words, None, delays.transport_period, setup.tuning.weight_decay, device)
    return Model(setup.network, arithmetic, parameters, feedback, PendingUpdates(delays.update_delay)), warnings


def _arithmetic(setup: TrainingSetup) -> tuple[Arithmetic, FeedbackWords, tuple[str, ...]]:
    """The arithmetic of the formats, the source of its feedback words, and what could overflow."""
    network, rule, tuning, seed = setup.network, setup.rule, setup.tuning, setup.seed
    precision, rounding, batch_size = setup.precision, setup.rounding, setup.recipe.batch_size
    norm_samples = setup.norm_samples
    if precision.is_float:
        floating = Floating(tuning.momentum, batch_size, seed=seed, tuning=tuning, norm_samples=norm_samples)
        return floating, FloatWords(network, rule, tuning.feedback_gain, seed, torch.float32), ()
    scales, random, warnings = setup.scales, Lfsr(derive(seed, "rounding")), _overflows(setup)
    if not (precision.is_integer and rounding.random_bits == RANDOM_BITS):
        emulated = Emulated(network, precision, rounding, scales, tuning, batch_size, random, seed, norm_samples)
        feedback = EmulatedWords(network, rule, precision, scales, tuning.feedback_gain, seed)
        return emulated, feedback, tuple(f"{problem} (training does not wrap it)" for problem in warnings)
    integer = Integer(
        network, rule, precision, rounding, scales, tuning.momentum, batch_size, random, None, tuning, setup.device,
        norm_samples,
    )  # fmt: skip
    return integer, IntegerWords(network, rule, precision, scales, seed), warnings


def _overflows(setup: TrainingSetup) -> tuple[str, ...]:
    """A sentence for every accumulator that could overflow; none where accumulators are floats."""
    width = setup.precision.accumulator
    if not isinstance(width, int):
        return ()
    return overflow_problems(setup.network, setup.scales, setup.rule, setup.recipe.batch_size, width)
