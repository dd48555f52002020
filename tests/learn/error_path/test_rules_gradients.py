"""Every rule's gradients are the closed forms, in float64, on linear layers and convolutions with bias."""

import pytest
import torch
import torch.nn.functional as tf

from fahw.learn.step import gradients, step
from fahw.network.error_path import feedback_shape
from fahw.rules.catalogue import COMPARED, RULES
from tests.support.models import batch_of, convolutional, float_model, mlp

TOLERANCE = 1e-12


def closed_form(model, x, labels, draw=0):
    """Gradients of the summed cross-entropy by autograd, each layer cut off and given the rule's error.

    Shares with the step only the feedback matrices: products with B are autograd's through a layer whose weight is B.
    """
    network, words = model.network, {}
    for layer in network.weighted[1:]:
        words[layer.name] = model.feedback.words(layer, model.parameters[layer.name].weight, draw).clone()
    inputs, outputs, parameters = {}, {}, {}
    for layer in network.layers:
        x = x.detach().requires_grad_()
        inputs[layer.name] = x
        p = model.parameters.get(layer.name)
        if p is not None:
            parameters[layer.name] = [t.clone().requires_grad_() for t in (p.weight, p.bias) if t is not None]
        x = outputs[layer.name] = apply(layer, x, parameters.get(layer.name))
    logits = x.detach().requires_grad_()
    (output_error,) = torch.autograd.grad(tf.cross_entropy(logits, labels, reduction="sum"), logits)
    result, error = {}, output_error
    for layer in reversed(network.layers):
        if layer.weighted:
            result[layer.name] = torch.autograd.grad(outputs[layer.name], parameters[layer.name], error)
            if layer is network.weighted[0]:
                break
            if RULES[model.feedback.rule.name].path == "direct":
                error = (output_error @ words[layer.name]).view(inputs[layer.name].shape)
            else:
                probe = inputs[layer.name].detach().requires_grad_()
                (error,) = torch.autograd.grad(apply(layer, probe, [words[layer.name]]), probe, error)
        else:
            (error,) = torch.autograd.grad(outputs[layer.name], inputs[layer.name], error)
    return result


def apply(layer, x, parameters):
    """PyTorch's own layers."""
    weight, bias = ([*parameters, None])[:2] if parameters else (None, None)
    return {
        "linear": lambda: tf.linear(x, weight, bias),
        "conv2d": lambda: tf.conv2d(x, weight, bias, layer.stride, layer.padding),
        "maxpool2d": lambda: tf.max_pool2d(x, layer.kernel, layer.stride, layer.padding),
        "avgpool2d": lambda: tf.avg_pool2d(x, layer.kernel, layer.stride, layer.padding),
        "relu": lambda: torch.relu(x),
        "tanh": lambda: torch.tanh(x),
        "flatten": lambda: x.flatten(1),
    }[layer.kind]()


NETWORKS = {
    "mlp": mlp(12, 9, 7, 5),
    "tanh": mlp(12, 9, 7, 5, act="tanh"),
    "conv_max": convolutional(),
    "conv_average": convolutional(pool="avgpool2d", stride=(1, 2), padding=(2, 1)),
    "conv_no_bias": convolutional(bias=False, stride=(1, 1), padding=(0, 0)),
}


def prepared(network, rule, **given):
    model = float_model(network, RULES[rule], **given)
    pixels, labels = batch_of(network, 4)
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters.values():  # biases that are not zero
        if p.bias is not None:
            p.bias.uniform_(-0.3, 0.3, generator=generator)
    return model, model.arithmetic.encode(pixels, 255), labels


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("rule", sorted(COMPARED))
def test_gradients_are_the_closed_forms(rule, network):
    model, x, labels = prepared(network, rule)

    ours, theirs = gradients(model, x, labels), closed_form(model, x, labels)

    for layer in network.weighted:
        for mine, autograd in zip((g for g in ours[layer.name] if g is not None), theirs[layer.name], strict=True):
            assert float((mine - autograd).norm()) <= TOLERANCE * float(autograd.norm()), layer.name


def test_backpropagation_is_autograd_end_to_end():
    network = NETWORKS["conv_max"]
    model, x, labels = prepared(network, "bp")
    parameters = {n: [t.clone().requires_grad_() for t in (p.weight, p.bias)] for n, p in model.parameters.items()}
    y = x
    for layer in network.layers:
        y = apply(layer, y, parameters.get(layer.name))
    tf.cross_entropy(y, labels, reduction="sum").backward()

    ours = gradients(model, x, labels)

    for name, (weight, bias) in parameters.items():
        assert torch.allclose(ours[name].weight, weight.grad, rtol=TOLERANCE, atol=1e-13)
        assert torch.allclose(ours[name].bias, bias.grad, rtol=TOLERANCE, atol=1e-13)


@pytest.mark.parametrize("rule", sorted(COMPARED))
def test_the_error_path_sees_of_the_weights_what_the_rule_says(rule):
    """Nothing, the signs, or all of it: told by doubling and by negating the weights."""
    network = mlp(6, 5, 4)
    model, _, _ = prepared(network, rule)
    last = network.weighted[-1]
    weight = model.parameters[last.name].weight
    before = model.feedback.words(last, weight, 0).clone()
    weight.mul_(2)
    doubled = model.feedback.words(last, weight, 0).clone()
    weight.mul_(-1)
    negated = model.feedback.words(last, weight, 0).clone()

    choice = RULES[rule]
    assert torch.equal(before, doubled) == (choice.magnitude != "weight")
    assert torch.equal(before, negated) == (not choice.reads_weight)


@pytest.mark.parametrize("rule", ["fa", "usf", "frsf", "bp"])
def test_feedback_drawn_once_is_the_same_at_every_step(rule):
    network = mlp(6, 5, 4)
    model = float_model(network, RULES[rule])
    layer = network.weighted[1]
    weight = model.parameters[layer.name].weight

    assert torch.equal(model.feedback.words(layer, weight, 0), model.feedback.words(layer, weight, 7))


def test_redrawn_feedback_changes_with_the_step_and_is_reproducible():
    network = mlp(6, 5, 4)
    first, again = (float_model(network, RULES["brsf"]) for _ in range(2))
    layer = network.weighted[1]
    weight = first.parameters[layer.name].weight

    assert not torch.equal(first.feedback.words(layer, weight, 0), first.feedback.words(layer, weight, 1))
    assert torch.equal(first.feedback.words(layer, weight, 5), again.feedback.words(layer, weight, 5))


def test_direct_feedback_is_shaped_from_outputs_to_layer_inputs_and_makes_no_layerwise_product(monkeypatch):
    network = convolutional()
    model, x, labels = prepared(network, "dfa")
    layer = network.weighted[1]
    assert tuple(model.feedback.words(layer, model.parameters[layer.name].weight, 0).shape) == feedback_shape(
        layer, 5, True
    )

    def forbidden(*_):
        raise AssertionError("layer-by-layer error product")

    monkeypatch.setattr(type(model.arithmetic), "error", forbidden)
    step(model, x, labels, 0.1, 0)


def test_sign_rules_count_zero_as_plus():
    network = mlp(6, 5, 4)
    model = float_model(network, RULES["usf"])
    layer = network.weighted[1]
    weight = model.parameters[layer.name].weight
    weight[0, :3] = torch.tensor([0.0, -0.0, -1e-30])

    words = model.feedback.words(layer, weight, 0)

    assert words[0, :3].sign().tolist() == [1, 1, -1]
    assert float(words.abs().max()) == pytest.approx(layer.xavier_std, rel=1e-15)
