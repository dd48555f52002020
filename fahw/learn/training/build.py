"""A model before its first step: the arithmetic of the formats, its parameters and feedback words."""

from __future__ import annotations

import torch

from fahw.formats.fixed_point import RANDOM_BITS
from fahw.formats.precision import Precision, RoundingModes
from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.arithmetic.emulated import Emulated
from fahw.learn.arithmetic.floating import Floating
from fahw.learn.arithmetic.integer import Integer
from fahw.learn.error_path.emulated_words import EmulatedWords
from fahw.learn.error_path.feedback import Feedback, check_trained
from fahw.learn.error_path.feedback_words import FloatWords, IntegerWords, Words
from fahw.learn.kernels.device import CPU
from fahw.learn.model import Model
from fahw.learn.state.delays import IN_TIME, Delays, Pending
from fahw.learn.state.overflow import overflow_problems
from fahw.learn.state.scales import network_scales
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr, derive
from fahw.rules.rule import Rule


def build(
    network: Network, tuning: Tuning, rule: Rule, precision: Precision, rounding: RoundingModes, batch_size: int,
    seed: int, delays: Delays = IN_TIME, device: torch.device = CPU,
) -> tuple[Model, tuple[str, ...]]:  # fmt: skip
    """A model before its first step, and what could overflow in it. Raises ConfigError where the formats have no
    arithmetic for the rule."""
    check_trained([rule], precision)
    arithmetic, words, warnings = _numbers(network, tuning, rule, precision, rounding, batch_size, seed, device)
    parameters = arithmetic.initial(network, seed, device)
    feedback = Feedback(rule, words, None, delays.transport_period, tuning.weight_decay, device)
    return Model(network, arithmetic, parameters, feedback, Pending(delays.update_delay)), warnings


def _numbers(
    network: Network, tuning: Tuning, rule: Rule, precision: Precision, rounding: RoundingModes, batch_size: int,
    seed: int, device: torch.device,
) -> tuple[Arithmetic, Words, tuple[str, ...]]:  # fmt: skip
    """The arithmetic of the formats, the source of its feedback words, and what could overflow."""
    if precision.is_float:
        floating = Floating(tuning.momentum, batch_size, seed=seed, tuning=tuning)
        return floating, FloatWords(network, rule, tuning.feedback_gain, seed, torch.float32), ()
    scales = network_scales(network, precision, tuning, rule, batch_size)
    random, warnings = Lfsr(derive(seed, "rounding")), tuple[str, ...]()
    if isinstance(precision.accumulator, int):
        warnings = overflow_problems(network, scales, rule, batch_size, precision.accumulator)
    if not (precision.is_integer and rounding.random_bits == RANDOM_BITS):
        emulated = Emulated(network, precision, rounding, scales, tuning, batch_size, random, seed)
        feedback = EmulatedWords(network, rule, precision, scales, tuning.feedback_gain, seed)
        return emulated, feedback, tuple(f"{problem} (training does not wrap it)" for problem in warnings)
    integer = Integer(
        network, rule, precision, rounding, scales, tuning.momentum, batch_size, random, None, tuning, device
    )
    return integer, IntegerWords(network, rule, precision, scales, seed), warnings
