"""Frozen layers in training: they keep what they were drawn with, and the others learn as before."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.errors import ConfigError
from fahw.formats.precision import Precision
from fahw.learn.step import gradients, step
from fahw.rules.catalogue import RULES
from tests.reference.compare import assert_same_training
from tests.support.models import batch_of, built, everything, float_model, integer_model, mlp, modes, precisions, states

INTEGER = sorted(name for name, rule in RULES.items() if not rule.learned)


def freeze(network, *names):
    layers = tuple(replace(layer, frozen=True) if layer.name in names else layer for layer in network.layers)
    return replace(network, layers=layers)


def sets_of(network):
    """Some of the layers of each network, with the batch norms that go with them."""
    if len(network.weighted) == 3:
        return [("linear0",), ("linear2",), ("linear4",), ("linear0", "linear2")]
    return [
        ("conv0", "bn0"),
        ("conv1",),
        ("conv0", "bn0", "conv1", "conv2", "bn2"),
        ("l1", "bn3"),
        ("l2",),
        ("bn2", "bn3"),
    ]


def name_of(value):
    return "-".join(value) if isinstance(value, tuple) else ""


NETWORKS = [mlp(7, 6, 5, 3), everything()]
CASES = [(freeze(network, *names), names) for network in NETWORKS for names in sets_of(network)]


@pytest.mark.parametrize(
    ("network", "names"), CASES, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
@pytest.mark.parametrize("rule", RULES)
def test_float_trains_what_is_not_frozen(network, names, rule):
    """Frozen parameters keep their values; all others have the gradients that they have where nothing is frozen."""
    model, whole = float_model(network, RULES[rule]), float_model(freeze_none(network), RULES[rule])
    x, labels = batch_of(network, 4)
    x = model.arithmetic.encode(x, 255)
    if not model.path.roles.learns:
        return
    found, wanted = gradients(model, x, labels), gradients(whole, x, labels)
    assert not found.keys() & set(names)
    assert found.keys() == {name for name in wanted if name not in names and _is_reached(model, name)}
    for name, gradient in found.items():
        assert torch.allclose(gradient.weight, wanted[name].weight), name
    before = states(model)
    for number in range(2):
        step(model, x, labels, 0.1, number)
    after = states(model)
    for (layer, name), value in before.items():
        if layer in names and name != "statistics":
            assert torch.equal(value, after[layer, name])


def _is_reached(model, name):
    """Whether an error reaches a batch norm, which has no role of its own."""
    return model.network.layer(name).weighted or name in model.path.wants_error


def freeze_none(network):
    return replace(network, layers=tuple(replace(layer, frozen=False) for layer in network.layers))


@pytest.mark.parametrize(
    ("network", "names"), CASES, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
@pytest.mark.parametrize("rule", INTEGER)
def test_integers_equal_the_slow_reference(network, names, rule):
    if RULES[rule].trains == "last" and network.weighted[-1].frozen:
        return
    assert_same_training(network, RULES[rule], batch=2)


@settings(max_examples=40)
@given(rule=st.sampled_from(INTEGER), precision=precisions(), rounding=modes, case=st.sampled_from(CASES[:4]))
def test_any_formats_train_alike_around_frozen_layers(rule, precision, rounding, case):
    network, _ = case
    if not (RULES[rule].trains == "last" and network.weighted[-1].frozen):
        assert_same_training(network, RULES[rule], precision=precision, rounding=rounding, batch=2)


CONVOLUTIONS = ("conv0", "bn0", "conv1", "conv2", "bn2")


@pytest.mark.parametrize(("rule", "names"), [("frozen_conv", CONVOLUTIONS), ("last", (*CONVOLUTIONS, "l1", "bn3"))])
def test_rules_that_freeze_are_backpropagation_on_frozen_networks(rule, names):
    """The same bits, in integers with stochastic rounding."""
    network = everything()
    by_rule, _ = integer_model(network, RULES[rule])
    by_network, _ = integer_model(freeze(network, *names), RULES["bp"])
    for number in range(3):
        pixels, labels = batch_of(network, 4, number)
        for model in (by_rule, by_network):
            step(model, model.arithmetic.encode(pixels, 255), labels, 0.3, number)
    left, right = states(by_rule), states(by_network)
    assert all(torch.equal(left[key], right[key]) for key in left if key[0] not in names or key[1] != "statistics")


def test_emulated_formats_keep_frozen_words():
    network = freeze(mlp(7, 6, 5, 3), "linear2")
    model = built(network, "bp", Precision(weight="fp8_e4m3", accumulator="fp32"))
    before = states(model)
    pixels, labels = batch_of(network, 4)
    step(model, model.arithmetic.encode(pixels, 255), labels, 0.5, 0)
    after = states(model)
    masters = {layer: value for (layer, name), value in before.items() if name == "master"}
    moved = {layer for layer, value in masters.items() if not torch.equal(value, after[layer, "master"])}
    assert moved == {"linear0", "linear4"}


def test_nothing_trained_is_refused():
    with pytest.raises(ConfigError, match="nothing is trained under last"):
        built(freeze(mlp(7, 6, 5, 3), "linear4"), "last")
