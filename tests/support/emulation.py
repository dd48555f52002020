"""Models in emulation, whatever their formats."""

import torch

from fahw.formats.precision import Precision, RoundingModes
from fahw.learn.arithmetic.emulated import Emulated
from fahw.learn.error_path.emulated_words import EmulatedWords
from fahw.learn.error_path.feedback import Feedback
from fahw.learn.model import Model
from fahw.learn.state.scales import network_scales
from fahw.learn.step import step
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr
from fahw.rules.catalogue import RULES
from tests.support.models import batch_of, integer_model


def emulated_model(network, rule, precision, rounding=None, batch=4, seed=0, tuning=None, norm_samples=None):
    """A model in emulation, whatever its formats."""
    rounding, tuning = rounding or RoundingModes(), tuning or Tuning()
    scales = network_scales(network, precision, tuning, rule, batch)
    arithmetic = Emulated(network, precision, rounding, scales, tuning, batch, Lfsr(seed), seed, norm_samples)
    words = EmulatedWords(network, rule, precision, scales, tuning.feedback_gain, seed)
    parameters = arithmetic.initial(network, seed)
    return Model(network, arithmetic, parameters, Feedback(rule, words)), scales


def assert_emulation_is_integers(network, steps=3):
    """Train with the formats of the integers, and rounding to the nearest, in integers and in their emulation: the same
    numbers are stored."""
    precision = Precision(accumulator=48)
    nearest = RoundingModes(activation="nearest", error="nearest", gradient="nearest", update="nearest")
    integer, scales = integer_model(network, RULES["bp"], precision=precision, rounding=nearest)
    emulated, _ = emulated_model(network, RULES["bp"], precision, nearest)
    pixels, labels = batch_of(network, 4)
    for number in range(steps):
        for model in (integer, emulated):
            step(model, model.arithmetic.encode(pixels, 255), labels, 0.3, number)
    for name, s in scales.items():
        words = integer.parameters[name].master.double() * 2.0**-s.master.frac
        assert torch.equal(words, emulated.parameters[name].master), name
