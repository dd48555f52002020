"""What rounding loses: counted in the last step of an epoch, said where a threshold is passed, or before training."""

import csv
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.formats.number import FLOATS, fixed_format
from fahw.formats.precision import TENSORS, Precision, RoundingModes, Scaling
from fahw.hardware.load import load_chip
from fahw.learn.state.rounding_losses import LostShares, RoundingLosses, count_stagnated
from fahw.learn.state.scales import network_scales
from fahw.learn.step import step
from fahw.learn.training.checks import check_rates
from fahw.learn.watch.findings import findings
from fahw.network.load import load_model
from fahw.network.recipe import Ranges, Tuning
from fahw.rules.catalogue import RULES
from tests.support.emulation import emulated_model
from tests.support.models import batch_of, convolutional, integer_model, mlp, same_states, setup_of
from tests.support.trainings import run

NEAREST = RoundingModes(update="nearest")
STOCHASTIC = RoundingModes(update="stochastic")
NARROW = Precision(master=8)


class Epoch:
    """An epoch of which only the losses are known."""

    def __init__(self, layer, tensor, lost):
        self.lost = {layer: {tensor: lost}}


def after_a_step(make, rule="bp", watched=True, network=None, **given):
    """A model after two steps, and what the second lost."""
    network = network or convolutional()
    model, _ = make(network, RULES[rule], **given)
    pixels, labels = batch_of(network, 4)
    losses = RoundingLosses()
    for draw in range(2):
        model.arithmetic.watch(losses if watched and draw else None)
        step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, draw)
    return model, losses.lost


def in_fp8_errors(network, rule):
    return emulated_model(network, rule, Precision(error="fp8_e5m2", accumulator="fp32"))


@pytest.mark.parametrize("make", [integer_model, in_fp8_errors])
@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_watching_changes_no_bit_and_sees_every_tensor(make, rule):
    seen, lost = after_a_step(make, rule)
    unseen, nothing = after_a_step(make, rule, watched=False)

    assert same_states(seen, unseen)
    assert nothing == {}
    everywhere = {"activation", "gradient", "velocity", "master", "weight", "bias_gradient", "bias_velocity", "bias"}
    assert all(everywhere <= set(tensors) for tensors in lost.values())
    assert [("error" in lost[layer.name]) for layer in seen.network.weighted] == [False, True, True, True]
    shares = [share for tensors in lost.values() for item in tensors.values() for share in vars(item).values()]
    assert all(share is None or 0 <= share <= 1 for share in shares)


def test_the_integer_step_and_emulation_lose_the_same():
    modes = RoundingModes(activation="nearest", error="nearest", gradient="nearest", update="nearest")
    precision = Precision(master=8, error=4, optimizer=8, gradient=8, accumulator=48)
    _, integer = after_a_step(integer_model, network=mlp(6, 5, 4), precision=precision, rounding=modes)
    _, emulated = after_a_step(lambda n, r: emulated_model(n, r, precision, modes), network=mlp(6, 5, 4))

    for layer, tensors in integer.items():
        for tensor, lost in tensors.items():
            if "velocity" not in tensor:  # whose values before rounding only emulation knows
                assert emulated[layer][tensor] == lost, (layer, tensor)


@pytest.mark.parametrize(
    ("mode", "bits", "small"),
    [("nearest", 8, [0.4, -0.5]), ("floor", 8, [0.4, 0.9]), ("stochastic", 8, [0.003]), ("stochastic", 2, [0.2, 0.24])],
)
def test_an_update_is_in_vain_where_it_rounds_to_no_change_whatever_the_random_bits(mode, bits, small):
    others = (-0.001, 1.0) if mode == "floor" else (-0.001 if mode == "stochastic" else -2.0, 0.97)
    units = torch.tensor([0.0, *small, 1.5, -1.5, *others])

    assert count_stagnated(units, mode, bits) == (len(small), len(small) + 4)


@given(st.integers(-600, 600), st.integers(1, 8))
def test_what_is_in_vain_under_stochastic_rounding_is_what_no_random_bits_move(sixteenths, bits):
    """Tried with all of them: floor(u + r / 2^bits)."""
    update = sixteenths / 512
    moved = {floor(update + word / 2**bits) for word in range(2**bits)}
    assert count_stagnated(torch.tensor([update]), "stochastic", bits)[0] == (moved == {0} and update != 0)


def test_parts_of_a_tensor_are_counted_together():
    losses = RoundingLosses()
    for part in (torch.tensor([0.2, 300.0]), torch.tensor([1.0, 2.0])):
        losses.rounded("fc1", "error", part, part.round().clamp(-128, 127), fixed_format(8))
        losses.changed("fc1", "master", part, fixed_format(8), 1.0, (1, 2))

    assert losses.lost["fc1"]["error"] == LostShares(0.25, 0.25)
    assert losses.lost["fc1"]["master"] == LostShares(0.25, None, 0.5)


@pytest.mark.parametrize(
    ("tensor", "lost", "precision", "modes", "said"),
    [
        ("master", LostShares(0, None, 0.99), NARROW, NEAREST,
         "8-bit master weights with nearest rounding: 99 % of the updates of fc2 change nothing. Try stochastic"),
        ("master", LostShares(0, None, 0.95), NARROW, STOCHASTIC, "Try more random bits than 8"),
        ("velocity", LostShares(0.12), Precision(), NEAREST,
         "16-bit velocities: 12 % of fc2's saturate. Try a larger recipe.ranges.velocity_headroom, which leaves fewer"),
        ("velocity", LostShares(0.012), Precision(scale=Scaling(optimizer=9)), NEAREST,
         "1.2 % of fc2's saturate. Try fewer fraction bits (precision.scale.optimizer)"),
        ("error", LostShares(0, 0.97), Precision(error="ternary"), NEAREST,
         "ternary errors with stochastic rounding: 97 % of fc2's"),
        ("error", LostShares(0, 0.97), Precision(error="fp8_e4m3", accumulator="fp32"), NEAREST, "fp8_e4m3 errors"),
        ("weight", LostShares(0, 1.0), Precision(weight=2), NEAREST,
         "2-bit forward weights with nearest rounding: 100 % of fc2's become zero. Try a smaller recipe"),
        ("activation", LostShares(0.2, 0.1), Precision(), NEAREST, "8-bit outputs: 20 % of fc2's saturate"),
    ],
)  # fmt: skip
def test_a_sentence_names_layer_tensor_format_and_what_to_try(tensor, lost, precision, modes, said):
    (sentence,) = findings([[Epoch("fc2", tensor, lost)]], precision, modes)

    assert said in sentence


@pytest.mark.parametrize(
    ("tensor", "lost"),
    [("master", LostShares(0, None, 0.6)), ("error", LostShares(0.03, 0.3)), ("weight", LostShares(0, 0.95))],
)
def test_what_healthy_trainings_lose_is_not_worth_a_sentence(tensor, lost):
    assert findings([[Epoch("fc2", tensor, lost)]], Precision(), NEAREST) == ()


def test_stagnation_counts_while_there_is_something_to_learn():
    """A training that has learnt everything stands still in any format."""
    early, late = Epoch("fc1", "master", LostShares(0, None, 0.2)), Epoch("fc1", "master", LostShares(0, None, 1.0))

    assert findings([[early, late]], NARROW, NEAREST) == ()
    assert findings([[late, late]], NARROW, NEAREST)


def trained(precision, rounding, rule="dfa", epochs=10, rate=0.02, **ranges):
    """A training on digits with small steps."""
    network = load_model("mlp_digits")
    recipe = network.recipe.model_copy(update={"learning_rate": rate, "ranges": Ranges(**ranges), "rules": {}})
    return run(rule, network, recipe, precision, load_dataset("digits", None, None), epochs, rounding)


def test_velocities_with_too_many_fraction_bits_are_pointed_at():
    healthy = trained(Precision(), STOCHASTIC, "fa", 2)
    wrecked = trained(Precision(), STOCHASTIC, "fa", 2, velocity_headroom=1 / 64)

    assert healthy.losses == ()
    assert any("16-bit velocities" in text and "linear1" in text for text in wrecked.losses)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["bp", "fa", "dfa"])
def test_8_bit_masters_learn_with_stochastic_rounding_only_and_the_training_says_why(rule):
    wide, stochastic, nearest = (
        trained(precision, modes, rule, epochs=15, rate=0.01)
        for precision, modes in ((Precision(), NEAREST), (NARROW, STOCHASTIC), (NARROW, NEAREST))
    )

    assert wide.epochs[-1].test_accuracy_pct - stochastic.epochs[-1].test_accuracy_pct < 2
    assert nearest.epochs[-1].test_accuracy_pct < 40
    assert wide.losses == stochastic.losses == ()
    (weights,) = [text for text in nearest.losses if "master weights" in text]
    assert weights.startswith("8-bit master weights with nearest rounding: 100 % of the updates of linear")
    assert "change nothing. Try stochastic rounding (rounding.update)" in weights


def test_a_comparison_writes_the_counts_and_its_report_says_what_they_mean(tmp_path):
    chip = load_chip("edge_dual", {"precision.master": "8", "rounding.update": "nearest"})

    fahw.compare(chip, "mlp_digits", rules=["bp", "dfa"], epochs=1, seeds=1, out=tmp_path / "run")

    with (tmp_path / "run" / "rounding.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["rule"] for row in rows} == {"bp", "dfa"}
    masters = [row for row in rows if row["tensor"] == "master" and row["rule"] == "dfa"]
    still = {row["layer"]: float(row["stagnated"]) for row in masters}
    assert still.keys() == {"linear1", "linear2", "linear3"}
    assert max(still.values()) > 0.9
    page = (tmp_path / "run" / "report.html").read_text()
    assert "8-bit master weights with nearest rounding" in page
    assert "change nothing" in page


@pytest.mark.parametrize(
    ("master", "rate", "zero"),
    [("fp16", 5e-7, True), ("fp16", 0.1, False), ("bf16", 1e-6, False), ("fp8_e4m3", 0.01, True)],
)
def test_a_learning_rate_that_is_zero_in_the_masters_float_is_named(master, rate, zero):
    network = load_model("mlp_digits")
    recipe = network.recipe.model_copy(update={"learning_rate": rate, "rules": {}})
    precision = Precision(
        **(dict.fromkeys(TENSORS, "bf16") | {"master": master, "accumulator": "fp32", "weight": "fp8_e4m3"})
    )

    setup = setup_of(network, "bp", precision, NEAREST, recipe=recipe)
    if zero:
        with pytest.raises(
            ConfigError, match=f"is zero in {master}, whose smallest number is {FLOATS[master].smallest:.2g}"
        ):
            check_rates([setup])
    else:
        check_rates([setup])


def test_more_random_bits_let_smaller_steps_through():
    network = load_model("mlp_digits")
    recipe = network.recipe.model_copy(update={"learning_rate": 2e-7, "rules": {}})
    few, many = (RoundingModes(random_bits=bits) for bits in (1, 16))

    with pytest.raises(ConfigError, match="moves no weight"):
        check_rates([setup_of(network, "bp", NARROW, few, recipe=recipe)])
    check_rates([setup_of(network, "bp", NARROW, many, recipe=recipe)])


def test_scales_of_ternary_words_are_those_of_one_bit():
    network = mlp(6, 5, 4)
    ternary, binary = (
        network_scales(network, Precision(weight=name, feedback=name), Tuning(), RULES["fa"], 4)
        for name in ("ternary", "binary")
    )

    for name in ternary:
        assert ternary[name].weight.frac == binary[name].weight.frac
        assert ternary[name].feedback.frac == binary[name].feedback.frac
