"""Bits that integer trainings end with: a change of the arithmetic must not go unnoticed.

Nothing outside says that these are the right bits (`test_reference.py` beside it sees to that). Where they change on
purpose, `_ARITHMETIC_VERSION` is raised, so that no stored result passes for a new one, and the digests here are
written anew.
"""

from hashlib import sha256
from itertools import islice

import pytest

from fahw.datasets.dataset import load_dataset
from fahw.hardware.load import load_chip
from fahw.learn.samples.batches import sample_sets
from fahw.learn.step import step
from fahw.learn.training.build import build
from fahw.learn.training.train import epoch_batches
from fahw.study.training import _ARITHMETIC_VERSION
from tests.support.models import setup_of
from tests.support.strategies import network_of

CONVOLUTIONS = """
name: convolutions
input: [1, 8, 8]
layers:
  - {kind: conv2d, out: 4, kernel: 3, padding: 1, stride: 2}
  - {kind: relu}
  - {kind: conv2d, out: 4, kernel: 3, groups: 2}
  - {kind: tanh}
  - {kind: flatten}
  - {kind: linear, out: 10}
recipe: {data: digits, batch_size: 16, learning_rate: 0.05, ranges: {activation: 2}}
"""
DIGESTS = {
    "bp": (2, "9913d58efab4b69a"),
    "fa": (2, "06f9d86f71182b44"),
    "usf": (2, "639f91555d572058"),
    "brsf": (2, "b9d745633998edb5"),
    "frsf": (2, "f551399be79ec286"),
    "dfa": (2, "30e71165faf450db"),
    "egrad": (2, "02f42dfacc6ccdfc"),
    "drtp": (2, "09fbf92c512a996d"),
    "bp recipe.optimizer=adam recipe.learning_rate=0.01": (2, "b8fdc1e2c79fe551"),
    "bp recipe.optimizer=sign_sgd": (2, "1832691e423eef24"),
}


@pytest.mark.parametrize("case", DIGESTS)
def test_a_training_of_integers_ends_with_these_bits(case, tmp_path):
    """Five steps of a small network: masters, weights and feedback of every layer."""
    version, digest = DIGESTS[case]
    rule, *settings = case.split()
    network = network_of(tmp_path, CONVOLUTIONS, dict(setting.split("=") for setting in settings))
    chip, recipe = load_chip("edge_dual"), network.recipe
    setup = setup_of(network, rule, chip.precision, chip.rounding, seed=3)
    model, _ = build(setup)
    training = sample_sets(model.arithmetic, network, recipe, load_dataset("digits"))[0]
    for batch in islice(epoch_batches(setup, training, 1), 5):
        step(model, *batch)
    found = sha256()
    for name, layer in sorted(model.parameters.items()):
        for words in (layer.master, layer.weight, layer.bias):
            found.update(f"{name}{words.tolist()}".encode())
    assert (_ARITHMETIC_VERSION, found.hexdigest()[:16]) == (version, digest)
