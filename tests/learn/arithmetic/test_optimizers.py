"""Optimizers: floats against torch.optim, integers against a slow reference and by hand; schedules, bad input."""

from math import cos, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.formats.precision import Precision, RoundingModes
from fahw.hardware.load import load_chip
from fahw.learn.state.parameters import Gradient
from fahw.learn.step import step
from fahw.learn.training.checks import check_rates
from fahw.network.load import load_model
from fahw.network.recipe import Ranges, Recipe, Tuning
from fahw.optimizers import OPTIMIZERS
from fahw.rules.catalogue import RULES
from fahw.study.training import make_jobs
from tests.reference.compare import assert_same_training
from tests.support.models import batch_of, everything, float_model, integer_model, mlp, modes, precisions, setup_of

BATCH = 8


class SignSgd(torch.optim.Optimizer):
    """Three lines that torch does not have."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad.sign()


TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    "sign_sgd": lambda p: SignSgd(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.97)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("clip", [None, 0.02])
def test_floating_point_is_torchs(name, decay, clip):
    """Ten steps on given gradients, in float64; decay is a product of its own, as AdamW's, on weights alone."""
    tuning = Tuning(optimizer=name, momentum=0.8, second_moment=0.97, weight_decay=decay, clip=clip)
    model = float_model(everything(), RULES["bp"], batch=BATCH, tuning=tuning)
    ours = {name: (p.master, p.bias) for name, p in model.parameters.items()}
    theirs = {
        (layer, part): torch.nn.Parameter(x.clone())
        for layer, tensors in ours.items()
        for part, x in enumerate(tensors)
        if x is not None
    }
    optimizer, generator = TORCH[name](theirs.values()), torch.Generator().manual_seed(0)
    for number in range(10):
        for p in theirs.values():
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.03
        grads = {key: p.grad.clone() * BATCH for key, p in theirs.items()}
        if clip:
            torch.nn.utils.clip_grad_value_(theirs.values(), clip)
        with torch.no_grad():
            for (layer, part), p in theirs.items():
                if part == 0 and model.parameters[layer].statistics is None:
                    p *= 1 - 0.1 * decay
        optimizer.step()
        found = {layer: Gradient(grads[layer, 0], grads.get((layer, 1))) for layer in ours}
        model.arithmetic.update(model.parameters, found, 0.1, number)
    for (layer, part), p in theirs.items():
        assert torch.allclose(ours[layer][part], p, rtol=1e-9, atol=1e-12), (layer, part)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("mode", ["nearest", "floor", "stochastic"])
def test_integers_are_the_slow_reference_on_graphs(name, mode):
    tuning = Tuning(optimizer=name, weight_decay=0.3, clip=0.2)
    rounding = RoundingModes(gradient=mode, update=mode)
    assert_same_training(everything(), RULES["bp"], tuning=tuning, rounding=rounding, steps=3)


@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)), decay=st.sampled_from((0.0, 1e-3, 0.7)),
    clip=st.sampled_from((None, 1e-4, 0.05)), momentum=st.floats(0, 0.99), rate=st.floats(1e-4, 30),
    rule=st.sampled_from(("bp", "frsf", "dfa")), precision=precisions(), rounding=modes,
)  # fmt: skip
def test_integers_are_the_slow_reference(name, decay, clip, momentum, rate, rule, precision, rounding):
    """Bit for bit, for any formats and rounding."""
    tuning = Tuning(optimizer=name, momentum=momentum, weight_decay=decay, clip=clip)
    assert_same_training(
        mlp(9, 7, 4), RULES[rule], tuning=tuning, precision=precision, rounding=rounding, rate=rate, steps=3
    )


def moved(tuning, sums, rate=0.5, steps=1):
    """Masters, optimizer states and scales of one layer of three weights after updates on given gradient sums."""
    network = mlp(3, 1)
    rounding = RoundingModes(gradient="nearest", update="nearest")
    model, scales = integer_model(network, RULES["bp"], tuning=tuning, rounding=rounding, batch=4)
    p, s = model.parameters["linear0"], scales["linear0"]
    before = p.master.clone().view(-1).tolist()
    shift = 2**s.gradient_shift
    gradient = Gradient(torch.tensor([sums]).float() * shift, torch.zeros(1))
    for number in range(steps):
        model.arithmetic.update(model.parameters, {"linear0": gradient}, rate, number)
    return before, p.master.view(-1).tolist(), [state.view(-1).tolist() for state in p.states], s


def eighth(value):
    """The 8-bit constant nearest to a number."""
    scale = 1
    while value * scale < 128:
        scale *= 2
    while value * scale >= 256:
        scale /= 2
    return round(value * scale) / scale


def test_sgd_by_hand():
    before, after, states, s = moved(Tuning(optimizer="sgd"), [100, -31, 7])
    factor = eighth(0.5 / 4 * 2.0 ** (s.master.frac - s.gradient.frac))
    assert after == [b - round(g * factor) for b, g in zip(before, [100, -31, 7], strict=True)]
    assert not states


def test_nesterov_by_hand():
    """v = 0.9 v + g, u = 0.9 v + g, both rounded; 0.9 is 230 / 256."""
    before, after, (velocity,), s = moved(Tuning(optimizer="nesterov"), [1000, -310, 77], steps=2)
    mu, align = 230 / 256, 2.0 ** (s.velocity.frac - s.gradient.frac)
    factor = eighth(0.5 / 4 * 2.0 ** (s.master.frac - s.velocity.frac))
    for b, a, v, g in zip(before, after, velocity, [1000, -310, 77], strict=True):
        speed = 0
        for _ in range(2):
            speed = round(speed * mu + g * align)
            b -= round(round(speed * mu + g * align) * factor)
        assert (a, v) == (b, speed)


def test_sign_sgd_by_hand():
    """Zero stays; the batch size is not in the step."""
    before, after, _, s = moved(Tuning(optimizer="sign_sgd"), [5, -31, 0], rate=0.01)
    size = round(eighth(0.01 * 2.0**s.master.frac))
    assert after == [before[0] - size, before[1] + size, before[2]]


def test_adam_by_hand():
    """The first step is the learning rate against the sign, whatever the gradient's size."""
    before, after, _, s = moved(Tuning(optimizer="adam"), [900, -31, 0], rate=0.01)
    size = round(0.01 * 2.0**s.master.frac)
    assert after == [before[0] - size, before[1] + size, before[2]]


def test_decay_and_clipping_by_hand():
    tuning = Tuning(optimizer="sgd", weight_decay=0.25, clip=2.0**-7)
    before, after, _, s = moved(tuning, [3000, -3000, 1])
    most = round(2.0**-7 * 4 * 2.0**s.gradient.frac)
    assert 1 < most < 3000
    factor, share = eighth(0.5 / 4 * 2.0 ** (s.master.frac - s.gradient.frac)), eighth(0.5 * 0.25)
    for b, a, g in zip(before, after, [most, -most, 1], strict=True):
        assert a == b - round(b * share) - round(g * factor)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["float", "integer"])
def test_every_optimizer_learns(name, kind):
    """Sixty steps on one batch of random images."""
    rate = {"sgd": 0.3, "momentum": 0.1, "nesterov": 0.1, "sign_sgd": 0.003, "adam": 0.01}[name]
    network, tuning = mlp(64, 40, 10), Tuning(optimizer=name)
    if kind == "float":
        model = float_model(network, RULES["fa"], batch=16, tuning=tuning)
    else:
        model, _ = integer_model(network, RULES["fa"], batch=16, tuning=tuning)
    pixels, labels = batch_of(network, 16)
    x = model.arithmetic.encode(pixels, 255)
    losses = [step(model, x, labels, rate, number) for number in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_cosine_falls_and_constants_stay():
    falling = [Recipe(epochs=10, schedule="cosine").rate_factor(epoch) for epoch in range(10)]
    assert falling == pytest.approx([0.5 + 0.5 * cos(pi * epoch / 10) for epoch in range(10)])
    assert falling[0] == 1
    assert {Recipe(epochs=10, schedule="constant").rate_factor(epoch) for epoch in range(10)} == {1}


def test_a_rate_that_warms_up_rises_in_equal_steps_to_the_schedule():
    """Two epochs of warm-up: a third, two thirds, all of it; what is too small is judged by the highest."""
    recipe = Recipe(epochs=6, schedule="step", drop_at=(0.5,), warmup_epochs=2, learning_rate=0.3)
    assert [recipe.rate_factor(epoch) for epoch in range(6)] == pytest.approx([1 / 3, 2 / 3, 1, 0.1, 0.1, 0.1])
    assert recipe.highest_rate(recipe.tuning("bp")) == pytest.approx(0.3)
    assert Recipe(epochs=1, warmup_epochs=3, learning_rate=0.4).highest_rate(Recipe(learning_rate=0.4)) == 0.1


@given(
    epochs=st.integers(1, 40), warmup=st.integers(0, 45), rate=st.sampled_from((0.1, 0.3, 1e-3)),
    drops=st.lists(st.floats(0.01, 0.99), max_size=4), factor=st.sampled_from((0.1, 0.5, 1.0)),
    schedule=st.sampled_from(("step", "cosine")), powers=st.booleans(),
)  # fmt: skip
def test_the_highest_rate_is_that_of_an_epoch_of_the_warm_up(epochs, warmup, rate, drops, factor, schedule, powers):
    """Few epochs are looked at, of a million: between two drops the rate only rises."""
    recipe = Recipe(
        epochs=epochs, warmup_epochs=warmup, learning_rate=rate, drop_at=tuple(drops) if schedule == "step" else (),
        drop_factor=factor, schedule=schedule, power_of_two_rates=powers,
    )  # fmt: skip
    tuning = recipe.tuning("bp")
    assert recipe.highest_rate(tuning) == max(recipe.rate(tuning, epoch) for epoch in range(min(epochs, warmup + 1)))


@given(rate=st.floats(1e-9, 1e3), batch=st.integers(1, 1000), name=st.sampled_from(sorted(OPTIMIZERS)))
def test_powers_of_two_are_the_nearest_ones(rate, batch, name):
    recipe = Recipe(learning_rate=rate, batch_size=batch, power_of_two_rates=True, optimizer=name)
    shared = batch if OPTIMIZERS[name].linear else 1
    factor = recipe.rate(recipe.tuning("bp"), 0) / shared
    assert np.log2(factor) == pytest.approx(round(np.log2(factor)), abs=1e-9)
    assert 2**-0.5001 <= factor / (rate / shared) <= 2**0.5001


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"learning_rate": 1e-7}, r"recipe.learning_rate: bp: 1e-07 moves no weight of 'linear1.*largest step is"),
        ({"optimizer": "sign_sgd", "learning_rate": 1e-8}, r"recipe.learning_rate: bp: .* moves no weight"),
        ({"optimizer": "adam", "learning_rate": 1e-9}, r"recipe.learning_rate: bp: .* moves no weight"),
        ({"weight_decay": 1e-8}, r"recipe.weight_decay: bp: 1e-08 at the learning rate 0.05 takes at most"),
        ({"clip": 1e-7}, r"recipe.clip: bp: 1e-07 is less than half a unit"),
    ],
)
def test_what_underflows_is_named_before_training(settings, says):
    network = load_model("mlp_digits")
    recipe = network.recipe.model_copy(update={"learning_rate": 0.05} | settings)
    rounding = {"rounding.update": "nearest"}
    with pytest.raises(ConfigError, match=says):
        make_jobs(network, recipe, ["bp"], load_chip("edge_dual", rounding), [0], None)


def test_small_rates_pass_where_rounding_is_stochastic_or_numbers_are_wide():
    network = load_model("mlp_digits")
    tuning = Tuning(learning_rate=1e-4, ranges=Ranges())
    recipe = network.recipe.model_copy(update={"learning_rate": tuning.learning_rate, "rules": {}})

    narrow = Precision(master=8)
    check_rates([setup_of(network, "bp", narrow, RoundingModes(update="stochastic"), recipe=recipe)])
    slow = recipe.model_copy(update={"learning_rate": 1e-6})
    with pytest.raises(ConfigError, match="moves no weight"):
        check_rates([setup_of(network, "bp", narrow, RoundingModes(update="nearest"), recipe=slow)])
