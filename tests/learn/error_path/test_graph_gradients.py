"""Gradients of the floating step on graphs of layers are the closed forms, in float64, at most 1e-10 off."""

import pytest
import torch
from torch.nn import functional as fn

from fahw.learn.step import forward, gradients, step
from fahw.rules.catalogue import COMPARED, RULES
from tests.support.closed_forms import Values
from tests.support.models import batch_of, everything, float_model


def found_and_wanted(network, rule, draw=0):
    model = float_model(network, RULES[rule], batch=5)
    generator = torch.Generator().manual_seed(1)
    for layer in network.trained:
        p = model.parameters[layer.name]
        if p.bias is not None:
            p.bias.add_(torch.randn(p.bias.shape, generator=generator, dtype=torch.float64))
        if p.weight.dim() == 1:
            p.weight.add_(torch.randn(p.weight.shape, generator=generator, dtype=torch.float64))
    pixels, labels = batch_of(network, 5)
    x = model.arithmetic.encode(pixels, 255)
    kept = {}
    drop_factors = model.arithmetic.drop_factors

    def watched(layer, values, probability):
        kept[layer.name] = drop_factors(layer, values, probability)
        return kept[layer.name]

    model.arithmetic.drop_factors = watched
    found = gradients(model, x, labels, draw)
    weights = {name: (p.weight, p.bias) for name, p in model.parameters.items()}
    values = Values(network, weights, kept)
    logits = values.forward(x)
    senders = [layer for layer in network.weighted if network.weighted_below(layer)]
    feedback = {layer.name: model.feedback.words(layer, model.parameters[layer.name].weight, draw) for layer in senders}
    error = logits.softmax(1) - fn.one_hot(labels, network.classes)
    blocked = network.dfa_residual == "blocked"
    wanted = values.backward(error, feedback, direct=model.feedback.direct, blocked=blocked)
    flat = {f"{name}.weight": g.weight for name, g in found.items()}
    flat |= {f"{name}.bias": g.bias for name, g in found.items() if g.bias is not None}
    return flat, wanted


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def same(found, wanted):
    """Within 1e-10 of the norm, tensor by tensor; of the largest norm where a gradient is as good as zero."""
    assert found.keys() == wanted.keys()
    least = 1e-3 * max(g.norm() for g in wanted.values())
    worst = {name: float((found[name] - g).norm() / max(g.norm(), least)) for name, g in wanted.items()}
    assert max(worst.values()) <= 1e-10, worst
    return True


@pytest.mark.parametrize("rule", COMPARED)
@pytest.mark.parametrize("way", ["shortcut", "projection"])
@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
def test_gradients_of_every_rule(mode, way, rule):
    """Convolutions with groups, dilation and padding, batch norms, shortcuts of both kinds, pools, activations."""
    assert same(*found_and_wanted(everything(way, mode), rule))


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("residual", ["blocked", "biotorch"])
@pytest.mark.parametrize("feedback", ["dense", "tiled"])
def test_gradients_of_direct_rules_in_all_forms(feedback, residual, mode):
    """Dense and tiled matrices, shortcuts blocked or not."""
    network = everything("projection", mode, dfa_feedback=feedback, dfa_residual=residual)
    assert same(*found_and_wanted(network, "dfa"))


@pytest.mark.parametrize("rule", COMPARED)
def test_training_lowers_the_loss(rule):
    """Sixty steps on one batch."""
    network = everything("projection", "zeros", dfa_feedback="tiled")
    model = float_model(network, RULES[rule], batch=16, gain=0.3)
    pixels, labels = batch_of(network, 16)
    x = model.arithmetic.encode(pixels, 255)
    losses = [step(model, x, labels, 0.1, number) for number in range(60)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_statistics_are_torchs():
    """Running means and variances after training steps are those of torch's batch norm on the same values."""
    network = everything()
    model = float_model(network, RULES["bp"], batch=5)
    theirs = torch.nn.BatchNorm2d(4)
    normalised = model.arithmetic.normalised

    def watched(layer, parameters, x):
        if layer.name == "bn0":
            theirs(x)
        return normalised(layer, parameters, x)

    model.arithmetic.normalised = watched
    for number in range(3):
        pixels, labels = batch_of(network, 5, number)
        step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, number)
    mean, variance = model.parameters["bn0"].statistics
    assert torch.allclose(mean, theirs.running_mean, rtol=1e-12)
    assert torch.allclose(variance, theirs.running_var, rtol=1e-12)


def test_evaluation_depends_on_no_other_sample_and_drops_nothing():
    """With running statistics a sample's logits are its own, and twice the same."""
    network = everything()
    model = float_model(network, RULES["bp"], batch=5)
    pixels, labels = batch_of(network, 5)
    x = model.arithmetic.encode(pixels, 255)
    step(model, x, labels, 0.1, 0)
    evaluator = model.arithmetic.evaluator(3)
    whole = forward(network, evaluator, model.parameters, x).logits
    assert torch.allclose(forward(network, evaluator, model.parameters, x[2:3]).logits, whole[2:3], rtol=1e-12)
    assert not torch.allclose(forward(network, model.arithmetic, model.parameters, x).logits, whole)
