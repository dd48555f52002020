"""Every shipped model trains under every rule, in floating point and in the default chip's arithmetic."""

import pytest
import torch

from fahw.config.files import shipped
from fahw.formats.precision import FP32, RoundingModes
from fahw.hardware.load import load_chip
from fahw.learn.step import forward, step
from fahw.network.load import load_model
from fahw.rules.catalogue import COMPARED
from tests.support.models import batch_of, built

QUICK = ("lenet5", "mlp_digits", "mlp_mnist", "resnet20", "resnet56")
WIDE = ("alexnet", "resnet18_imagenet")


def case(model, rule, kind):
    slow = model not in QUICK
    return pytest.param(model, rule, kind, marks=[pytest.mark.slow] if slow else [], id=f"{model}-{rule}-{kind}")


CASES = [
    case(model, rule, kind)
    for model in shipped("models")
    for rule in COMPARED
    for kind in ("float", "integer")
    if model not in WIDE or rule == "dfa" or (rule, kind) == ("bp", "integer")  # the small ones have the same layers
]


@pytest.mark.parametrize(("model", "rule", "kind"), CASES)
def test_two_steps_move_every_tensor(model, rule, kind):
    """Every weight tensor, bias, scale and shift has changed, all is finite, and logits can be had after it."""
    network, chip = load_model(model), load_chip("edge_dual")
    precision, rounding = (FP32, RoundingModes()) if kind == "float" else (chip.precision, chip.rounding)
    trained = built(network, rule, precision, rounding, batch=2)
    before = {
        (name, part): getattr(p, part).clone()
        for name, p in trained.parameters.items()
        for part in ("master", "bias")
        if getattr(p, part) is not None
    }
    for draw in range(2):
        pixels, labels = batch_of(network, 2, draw)
        step(trained, trained.arithmetic.encode(pixels, 255), labels, network.recipe.tuning(rule).learning_rate, draw)

    for (name, part), old in before.items():
        new = getattr(trained.parameters[name], part)
        assert new.isfinite().all(), (name, part)
        assert not torch.equal(new, old), (name, part)
    evaluator = trained.arithmetic.evaluator(1)
    logits = forward(network, evaluator, trained.parameters, evaluator.encode(pixels[:1], 255)).logits
    assert logits.shape == (1, network.classes)
    assert logits.double().isfinite().all()
