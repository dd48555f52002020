"""Models in emulation, whatever their formats."""

from fahw.formats.precision import RoundingModes
from fahw.learn.arithmetic.emulated import Emulated
from fahw.learn.error_path.emulated_words import EmulatedWords
from fahw.learn.error_path.feedback import Feedback
from fahw.learn.model import Model
from fahw.learn.state.scales import network_scales
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr


def emulated_model(network, rule, precision, rounding=None, batch=4, seed=0, tuning=None):
    """A model in emulation, whatever its formats."""
    rounding, tuning = rounding or RoundingModes(), tuning or Tuning()
    scales = network_scales(network, precision, tuning, rule, batch)
    arithmetic = Emulated(network, precision, rounding, scales, tuning, batch, Lfsr(seed), seed)
    words = EmulatedWords(network, rule, precision, scales, tuning.feedback_gain, seed)
    parameters = arithmetic.initial(network, seed)
    return Model(network, arithmetic, parameters, Feedback(rule, words)), scales
