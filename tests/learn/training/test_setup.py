"""What a training is made from: one value, whose scales are computed once."""

from dataclasses import replace

import pytest

import fahw
from fahw.formats.precision import FP32, Precision
from fahw.learn.training import setup as setups
from fahw.network.load import load_model
from tests.support.models import mlp, setup_of
from tests.support.trainings import RECIPE


@pytest.mark.parametrize(("precision", "times"), [(Precision(), 1), (FP32, 0)], ids=["integer", "float"])
def test_the_scales_of_a_training_are_computed_once(precision, times, monkeypatch):
    """Checks before the first step, the arithmetic and its feedback words share them; floats need none."""
    calls, real = [], setups.network_scales
    monkeypatch.setattr(setups, "network_scales", lambda *arguments: calls.append(arguments) or real(*arguments))
    network = replace(load_model("mlp_digits"), precision=precision)

    fahw.train(network, "fa", epochs=1)

    assert len(calls) == times


def test_settings_are_those_of_the_rule():
    """A rule's own learning rate holds for its training alone."""
    network = mlp(16, 8, 4)
    fa, bp = (setup_of(network, rule, recipe=RECIPE).tuning.learning_rate for rule in ("fa", "bp"))
    assert (fa, bp) == (RECIPE.rules["fa"].learning_rate, RECIPE.learning_rate)
