"""Adversarial attacks: true gradients, images within bounds, clean accuracy at epsilon 0, and falling from there."""

import csv
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.formats.precision import FP32, Precision, RoundingModes
from fahw.learn.samples.batches import Probe
from fahw.learn.training.train import train_model
from fahw.learn.watch.alignment import plain_copy
from fahw.learn.watch.attack import RobustnessRow, fgsm, input_gradient, pgd, robustness
from fahw.network.recipe import Recipe
from fahw.prng import derive
from fahw.rules.catalogue import RULES
from fahw.study.attack import Robustness, attack
from tests.support.models import batch_of, convolutional, float_model, integer_model, mlp, setup_of

DIGITS = load_dataset("digits")
EPSILONS = (0.0, 0.05, 0.1, 0.2, 0.4)


def torch_twin(network, parameters):
    """The network in torch.nn, with the same weights."""
    made = []
    for layer in network.layers:
        if layer.kind == "linear":
            made.append(torch.nn.Linear(layer.inputs, layer.outputs))
        elif layer.kind == "conv2d":
            channels = layer.in_shape[0], layer.out_shape[0]
            made.append(torch.nn.Conv2d(*channels, layer.kernel, layer.stride, layer.padding))
        elif layer.kind in ("maxpool2d", "avgpool2d"):
            pool = torch.nn.MaxPool2d if layer.kind == "maxpool2d" else torch.nn.AvgPool2d
            made.append(pool(layer.kernel, layer.stride, layer.padding))
        else:
            made.append({"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "flatten": torch.nn.Flatten}[layer.kind]())
        if layer.weighted:
            with torch.no_grad():
                made[-1].weight.copy_(parameters[layer.name].weight)
                made[-1].bias.copy_(parameters[layer.name].bias)
    return torch.nn.Sequential(*made)


def autograd(network, parameters, x, labels):
    leaf = x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(torch_twin(network, parameters)(leaf), labels, reduction="sum").backward()
    return leaf.grad


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa"])
@pytest.mark.parametrize("kind", ["float", "integer"])
@pytest.mark.parametrize("pool", ["maxpool2d", "avgpool2d"])
def test_the_gradient_is_torchs_whatever_the_rule(rule, kind, pool):
    network = convolutional(pool=pool)
    model = float_model(network, RULES[rule]) if kind == "float" else integer_model(network, RULES[rule])[0]
    plain = plain_copy(model)
    pixels, labels = batch_of(network, 6)
    pixels[0] = 0  # zeros before a ReLU: its derivative there is 0
    x = plain.arithmetic.encode(pixels, 255)

    found = input_gradient(plain, x, labels)
    assert torch.allclose(found, autograd(network, plain.parameters, x, labels), rtol=1e-4, atol=1e-7)
    assert found.abs().max() > 1e-4


def test_a_black_image_has_torchs_gradient_too():
    network = mlp(16, 12, 5)
    plain = plain_copy(float_model(network, RULES["bp"]))
    x, labels = torch.zeros(3, 16), torch.tensor([0, 1, 2])

    assert torch.equal(input_gradient(plain, x, labels), autograd(network, plain.parameters, x, labels))


@given(st.floats(0, 0.5), st.integers(0, 100), st.sampled_from([fgsm, pgd]))
def test_images_stay_within_epsilon_and_within_black_and_white(epsilon, seed, method):
    network = mlp(16, 12, 5)
    plain = plain_copy(float_model(network, RULES["bp"], seed=seed))
    pixels, labels = batch_of(network, 5, seed)
    x = plain.arithmetic.encode(pixels, 255)

    found = method(plain, x, labels, epsilon, torch.Generator().manual_seed(seed))
    assert (found - x).abs().max() <= epsilon + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


def loss(plain, x, labels):
    logits = torch_twin(plain.network, plain.parameters)(x)
    return float(torch.nn.functional.cross_entropy(logits, labels).detach())


def test_fgsm_is_one_step_along_the_signs_and_pgd_does_more_harm():
    network = mlp(16, 40, 5)
    plain = plain_copy(float_model(network, RULES["bp"]))
    pixels, labels = batch_of(network, 200)
    x = plain.arithmetic.encode(pixels, 255)
    one, many = (method(plain, x, labels, 0.2, torch.Generator().manual_seed(0)) for method in (fgsm, pgd))

    expected = (x + 0.2 * autograd(network, plain.parameters, x, labels).sign()).clamp(0, 1)
    assert torch.allclose(one, expected)
    assert loss(plain, x, labels) < loss(plain, one, labels) <= loss(plain, many, labels) + 1e-4


def trained(rule, precision, rounding=None, seed=0):
    recipe = Recipe(epochs=4, learning_rate=0.05 if rule == "bp" else 0.02)
    return train_model(setup_of(mlp(64, 40, 10), rule, precision, rounding, recipe=recipe, seed=seed), DIGITS)


def attacked(model, surrogate, seed=0):
    images = Probe(DIGITS.test_images.reshape(-1, 64), torch.from_numpy(DIGITS.test_labels), DIGITS.maximum)
    return robustness(model, surrogate, images, EPSILONS, seed, derive(0, "evaluation", 4))


@pytest.mark.parametrize(("rule", "kind"), [("bp", "float"), ("dfa", "float"), ("bp", "integer"), ("fa", "stochastic")])
def test_accuracy_starts_at_the_clean_one_and_falls(rule, kind):
    rounding = RoundingModes(activation="stochastic") if kind == "stochastic" else None
    model, result = trained(rule, FP32 if kind == "float" else Precision(), rounding)
    surrogate, _ = trained("bp", FP32, seed=1)
    rows = attacked(model, surrogate)

    for name in ("fgsm", "pgd", "transfer"):
        curve = [row.accuracy_pct for row in rows if row.attack == name]
        assert [row.epsilon for row in rows if row.attack == name] == list(EPSILONS)
        # Stochastic rounding of the outputs draws other bits here than at the end of the epoch.
        assert curve[0] == pytest.approx(result.epochs[-1].test_accuracy_pct, abs=2 if kind == "stochastic" else 0)
        assert all(after <= before + 1.5 for before, after in pairwise(curve)), name
        assert curve[-1] < 50 < curve[0], name
    accuracy = {(row.attack, row.epsilon): row.accuracy_pct for row in rows}
    assert accuracy["pgd", 0.1] <= accuracy["fgsm", 0.1] + 1
    assert accuracy["pgd", 0.1] <= accuracy["transfer", 0.1]


def test_the_same_seed_gives_the_same_curve():
    model, _ = trained("dfa", Precision())

    assert attacked(model, model) == attacked(model, model)


def test_an_attack_through_the_feedback_weights_would_look_weaker():
    """Why the copy is plain: DFA's own error at the input follows no gradient, and finds a robustness that is not."""
    model, _ = trained("dfa", FP32)
    plain = plain_copy(model)
    images = Probe(DIGITS.test_images.reshape(-1, 64), torch.from_numpy(DIGITS.test_labels), DIGITS.maximum)
    x = plain.arithmetic.encode(images.pixels, images.maximum)
    true = input_gradient(plain, x, images.labels)
    logits = torch_twin(plain.network, plain.parameters)(x).detach()
    e = torch.softmax(logits, 1) - torch.nn.functional.one_hot(images.labels, 10)
    first, last = (model.parameters[layer.name].weight for layer in model.network.weighted)
    delta = (e @ model.feedback.words(model.network.weighted[1], last, 0)) * (x @ first.t() > 0)
    false = delta @ first

    def loss_after(direction):
        return loss(plain, (x + 0.1 * direction.sign()).clamp(0, 1), images.labels)

    assert loss_after(true) > 1.1 * loss_after(false)


def test_masked_gradients_are_noticed():
    def result(transfer):
        shares = {"fgsm": 60.0, "pgd": 55.0, "transfer": transfer}
        return Robustness("fa", 0, 1000, tuple(RobustnessRow(name, 0.1, share) for name, share in shares.items()))

    assert result(30.0).masked == [0.1]
    assert result(54.0).masked == []


def test_the_study_attacks_every_rule_alike_and_writes_a_table(tmp_path):
    found = attack("mlp_digits", ("bp", "dfa"), "edge_dual", epochs=2, epsilons=(0.1, 0), images=50, out=tmp_path)

    assert [(r.rule, r.images, len(r.rows)) for r in found] == [("bp", 50, 6), ("dfa", 50, 6)]
    with (tmp_path / "robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy_pct"]) for row in rows] == [row.accuracy_pct for r in found for row in r.rows]
    assert [row["epsilon"] for row in rows[:2]] == ["0", "0.1"]


def test_wrong_input_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"epsilons: must be 0 to 1 \(got 2\)"):
        attack("mlp_digits", epsilons=(0, 2))
    with pytest.raises(ConfigError, match="did you mean 'dfa'"):
        attack("mlp_digits", ("bp", "dfaa"))
    with pytest.raises(ConfigError, match="images: must be a whole number"):
        attack("mlp_digits", images=0)
