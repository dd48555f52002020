"""One step for all rules: rules that coincide in theory coincide bit for bit."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fahw.formats.precision import Precision, RoundingModes
from fahw.learn.error_path.feedback_words import IntegerWords
from fahw.learn.kernels.matmul import WAYS
from fahw.learn.model import Model
from fahw.learn.state.scales import network_scales
from fahw.learn.step import forward, step
from fahw.learn.watch.alignment import alignment, alignments
from fahw.network.recipe import Ranges, Tuning
from fahw.prng import derive, row_codes, row_seeds
from fahw.rules.catalogue import COMPARED, RULES
from tests.support.bits import trained_bits
from tests.support.models import batch_of, convolutional, float_model, integer_model, mlp, same_states, states

RULE_NAMES = sorted(COMPARED)


def run(model, steps=4, batch=4, rate=0.2):
    for number in range(steps):
        pixels, labels = batch_of(model.network, batch, number)
        step(model, model.arithmetic.encode(pixels, 255), labels, rate, number)
    return model


@pytest.mark.parametrize("network", [mlp(10, 8, 7, 5), convolutional()], ids=["mlp", "conv"])
@pytest.mark.parametrize("kind", ["integer", "float"])
def test_feedback_alignment_with_b_moved_to_w_is_backpropagation(network, kind):
    bp = integer_model(network, RULES["bp"])[0] if kind == "integer" else float_model(network, RULES["bp"])
    fa = integer_model(network, RULES["bp"])[0] if kind == "integer" else float_model(network, RULES["fa"])
    fa = Model(network, fa.arithmetic, fa.parameters, MovedToW(RULES["fa"]))  # in integers, in W's format

    assert same_states(run(bp), run(fa))


class MovedToW:
    """Feedback alignment's words, but injected anew from W before every step."""

    def __init__(self, rule):
        self.rule, self.direct = rule, False

    def stages(self, layer, weight, draw):
        return [(layer, weight.clone())]


@pytest.mark.parametrize("rule", ["frsf", "brsf"])
@pytest.mark.parametrize("network", [mlp(10, 8, 7, 5), convolutional()], ids=["mlp", "conv"])
def test_random_magnitudes_all_equal_to_the_constant_are_uniform_sign_feedback(rule, network):
    """In the format where one step is uSF's constant."""
    usf, scales = integer_model(network, RULES["usf"])
    arithmetic = integer_model(network, RULES["usf"])[0].arithmetic
    base, _ = integer_model(network, RULES[rule], own=lambda layer, _: torch.ones(layer.weight_shape, dtype=torch.int8))
    injected = Model(network, arithmetic, base.parameters, base.feedback)

    assert same_states(run(usf), run(injected))
    assert scales[network.weighted[1].name].feedback.bits == 1


@pytest.mark.parametrize("rule", ["frsf", "brsf"])
def test_float_magnitudes_all_equal_to_the_constant_are_uniform_sign_feedback(rule):
    network = convolutional()

    def constant(layer, _):
        return torch.full(layer.weight_shape, layer.xavier_std, dtype=torch.float64)

    assert same_states(run(float_model(network, RULES["usf"])), run(float_model(network, RULES[rule], own=constant)))


@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("way", WAYS[1:])
def test_slower_products_train_to_the_same_bits(rule, way):
    network = mlp(10, 8, 7, 5)

    assert same_states(
        run(integer_model(network, RULES[rule])[0]), run(integer_model(network, RULES[rule], way=way)[0])
    )


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_the_seed_decides_every_bit(rule):
    network = mlp(10, 8, 7, 5)
    one, again, other = (run(integer_model(network, RULES[rule], seed=seed)[0]) for seed in (1, 1, 2))

    assert same_states(one, again)
    assert not same_states(one, other)


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_every_rule_moves_every_parameter(rule):
    network = convolutional()
    model, _ = integer_model(network, RULES[rule])
    before = states(model)

    run(model)

    unmoved = [key for key, value in states(model).items() if torch.equal(value, before[key])]
    assert unmoved == []


def test_the_last_layers_gradient_does_not_depend_on_the_rule():
    network = mlp(10, 8, 7, 5)
    velocities = [
        run(integer_model(network, RULES[rule])[0], steps=1).parameters["linear4"].states[0] for rule in RULE_NAMES
    ]

    assert all(torch.equal(v, velocities[0]) for v in velocities)


def test_integers_of_many_bits_train_as_float64_does():
    """16 bits everywhere: the integer network follows the real one closely, so every scale is right."""
    network = mlp(12, 9, 7, 5)
    wide = Precision(weight=16, feedback=16, activation=16, error=16, accumulator=48)
    nearest = RoundingModes(error="nearest", update="nearest")
    tuning = Tuning(ranges=Ranges(weight_headroom=2, error=1, velocity_headroom=2))
    integer, scales = integer_model(network, RULES["bp"], precision=wide, rounding=nearest, tuning=tuning)
    real = float_model(network, RULES["bp"])
    start = {name: p.master.clone() for name, p in real.parameters.items()}

    run(integer, steps=6, rate=0.05)
    run(real, steps=6, rate=0.05)

    for name, p in real.parameters.items():
        moved = p.master - start[name]
        ours = integer.parameters[name].master.double() * 2.0 ** -scales[name].master.frac - start[name]
        assert float((ours - moved).norm() / moved.norm()) < 0.03, name


def test_own_words_are_the_generators_codes():
    """The feedback matrix is what the chip's generator yields, one register per row."""
    network, seed = mlp(10, 8, 7, 5), 3
    layer = network.weighted[2]
    codes = row_codes(row_seeds(derive(seed, "feedback", layer.name), 5), 7, 8).astype(int)
    scales = network_scales(network, Precision(), Tuning(), RULES["fa"], 4)

    words = IntegerWords(network, RULES["fa"], Precision(), scales, seed).signed(layer, 0)

    assert np.array_equal(words.numpy(), codes - 128)


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("rule", ["fa", "dfa", "frsf"])
def test_own_words_have_the_wanted_deviation_at_every_width(rule, bits):
    network = mlp(40, 60, 50)
    layer = network.weighted[1]
    precision = Precision(feedback=bits)
    scales = network_scales(network, precision, Tuning(), RULES[rule], 4)
    source = IntegerWords(network, RULES[rule], precision, scales, 0)

    drawn = source.magnitudes if rule == "frsf" else source.signed
    words = drawn(layer, 0).double() * 2.0 ** -scales[layer.name].feedback.frac

    std = (2 / (60 + 50)) ** 0.5 if rule == "dfa" else layer.xavier_std
    rms = float(words.square().mean().sqrt())
    assert 0.68 < rms / std < 1.46, "within half a power of two"
    if rule != "frsf":
        assert abs(float(words.mean())) < 0.1 * std


def test_feedback_does_not_depend_on_other_layers():
    def words(network):
        scales = network_scales(network, Precision(), Tuning(), RULES["fa"], 4)
        return IntegerWords(network, RULES["fa"], Precision(), scales, 0).signed(network.weighted[1], 0)

    assert torch.equal(words(mlp(10, 8, 7, 5)), words(mlp(20, 8, 7, 6)))


def test_copies_of_fewer_bits_are_the_rounded_words():
    network = mlp(10, 8, 7)
    precision = Precision(feedback=4)
    model, _ = integer_model(network, RULES["bp"], precision=precision)
    layer = network.weighted[1]
    weight = model.parameters[layer.name].weight

    copy = model.feedback.words(layer, weight, 0)

    assert copy.tolist() == torch.round(weight / 16.0).clamp(-8, 7).tolist()
    assert model.arithmetic.unit_ratio(layer) == 16


def test_initial_angles_and_norms_are_the_theorys():
    """arccos(sqrt(3)/2) for uniform signs, arccos(3/4) for random magnitudes, 90 degrees for an own matrix."""
    network = mlp(16, 300, 300)
    layer = network.weighted[1].name
    expected = {"bp": (0, 1e-6), "fa": (90, 1.0), "usf": (30, 1.0), "frsf": (41.4, 1.0), "brsf": (41.4, 1.0)}

    for rule, (angle, margin) in expected.items():
        found = alignments(float_model(network, RULES[rule]), 0)[layer]
        assert found.angle_deg == pytest.approx(angle, abs=margin), rule
        assert found.norm_ratio == pytest.approx(1, abs=0.02), rule


def test_integer_angles_are_of_the_signed_matrix():
    network = mlp(16, 300, 300)

    found = alignments(integer_model(network, RULES["frsf"])[0], 0)[network.weighted[1].name]

    assert found.angle_deg == pytest.approx(41.4, abs=1.5)
    assert 0.68 < found.norm_ratio < 1.46


def test_direct_rules_have_no_angle():
    network = mlp(16, 30, 20, 5)

    assert alignments(integer_model(network, RULES["dfa"])[0], 0) == {}
    assert alignment(torch.ones(2, 3), torch.ones(3, 3)) is None


def test_evaluation_leaves_the_trainings_random_stream_alone():
    network = mlp(10, 8, 7, 5)
    rounding = RoundingModes(activation="stochastic")
    plain, watched = (integer_model(network, RULES["bp"], rounding=rounding)[0] for _ in range(2))
    pixels, _ = batch_of(network, 4)

    run(plain)
    for number in range(4):
        x = watched.arithmetic.encode(pixels, 255)
        forward(network, watched.arithmetic.evaluator(7), watched.parameters, x)
        images, labels = batch_of(network, 4, number)
        step(watched, watched.arithmetic.encode(images, 255), labels, 0.2, number)

    assert same_states(plain, watched)


CAPS = ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"ATEN_CPU_CAPABILITY": "default"})
"""oneDNN capped at AVX2, where its byte products saturate, and PyTorch's own loops without vectors."""


def test_processors_without_byte_products_and_wide_vectors_train_to_the_same_bits():
    """The same digests here and in two processes whose libraries are kept from some instructions."""
    command = [sys.executable, "-m", "tests.support.bits"]
    capped = [subprocess.Popen(command, env=os.environ | cap, stdout=subprocess.PIPE, text=True) for cap in CAPS]
    exact, *bits = trained_bits()
    printed = [process.communicate()[0].splitlines() for process in capped]

    assert [process.returncode for process in capped] == [0, 0]
    (capped_exact, *capped_bits), (_, *plain_bits) = printed
    assert len(bits) == 2 * len(COMPARED)
    assert bits == capped_bits == plain_bits
    assert capped_exact == "False" or exact == "True", "a cap makes nothing exact"
