"""Tiles and what stays on the chip against the best of both together, by branch and bound.

Three layers in memories that hold a part of them, where tiles are as large as tensors: the hardest case for a search in
turns. Exact plans are pinned, so that both energies are the ledger's. They share no errors, so these plans do not.
"""

from itertools import product
from random import Random
from unittest.mock import patch

import pytest

from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.work.plan import search
from tests.support.joint_plans import joint_plan
from tests.support.models import chain, mlp
from tests.support.plans import searched

WORST, MEAN = 1.03, 1.002
"""Of a toy, and of the mean of many: energy of the plan found over that of the best."""
LINEAR = ("linear", {"out": 5})
TOYS = {
    "falling": (mlp(12, 10, 8, 6), 8), "uneven": (mlp(20, 6, 14, 4), 4), "even": (mlp(16, 16, 16, 16), 8),
    "padded": (chain((2, 5, 5), ("conv2d", {"out": 3, "kernel": 3, "padding": 1}), ("relu", {}),
                     ("conv2d", {"out": 4, "kernel": 3, "padding": 1}), ("relu", {}), ("flatten", {}), LINEAR), 2),
    "plain": (chain((1, 6, 6), ("conv2d", {"out": 4, "kernel": 3}), ("relu", {}),
                    ("conv2d", {"out": 2, "kernel": 3}), ("relu", {}), ("flatten", {}), LINEAR), 4),
}  # fmt: skip
PRICES = {"read_pj": 1, "write_pj": 1.5, "leak_mw": 0.05, "area_mm2": 0.01}


def small_chip(buffer, weights, name="edge_shared", size=(2, 2), **more):
    """Arrays of this size and memories of so many KiB, one step in flight."""
    sizes = {"buffer_sram": buffer, "weight_sram": weights, "feedback_sram": weights, "state_sram": 64}
    chip = load_chip(name)
    memories = {
        f"memories.{n}.{key}": value
        for n, memory in enumerate(chip.memories)
        for key, value in {
            "bank_kib": None, "size_kib": sizes[memory.name], "width_bits": 8, "energy": PRICES,
        }.items()
    }  # fmt: skip
    arrays = {
        f"arrays.{n}.{key}": length
        for n in range(len(chip.arrays))
        for key, length in zip(("rows", "cols"), size, strict=True)
    }
    return load_chip(name, {"mapping": "best", "steps_in_flight": 1, **more, **arrays, **memories})


def over_best(chip, network, rule, batch):
    """Energy of the plan found over that of the best one; None where all has room, or no tile fits."""
    with patch.object(search, "worth_sharing", lambda *_: ()):
        try:
            one = searched(chip, network, rule, batch)
        except ConfigError:
            return None
        if one is None:
            return None
        best = joint_plan(one)
        pinned = searched(chip.model_copy(update=best.pins), network, rule, batch)
    assert pinned.found.cost[0] == pytest.approx(best.bound, rel=4e-3)  # it is a plan, and none is better
    return one.found.cost[0] / pinned.found.cost[0]


@pytest.mark.parametrize(
    ("toy", "rule", "buffer", "weights"),
    [
        ("falling", "bp", 0.35, 64), ("uneven", "dfa", 0.25, 0.2), ("padded", "bp", 0.25, 64),
        ("plain", "dfa", 0.6, 0.2), ("plain", "bp", 0.35, 64), ("even", "bp", 0.25, 0.2),
    ],
)  # fmt: skip
def test_a_plan_is_near_the_best_of_tiles_and_places_together(toy, rule, buffer, weights):
    network, batch = TOYS[toy]
    assert 0.999 <= over_best(small_chip(buffer, weights), network, rule, batch) <= WORST


def random_toy(seed):
    """A chip of one or two arrays, a network of three layers, a rule and a batch."""
    rng = Random(seed)
    size, batch = rng.choice([5, 6, 7, 8]), rng.choice([1, 2, 3, 4, 6, 8, 12, 16])
    convs, linear = [_conv(rng), _conv(rng)], ("linear", {"out": rng.choice([2, 3, 5, 8, 10])})
    between = [("relu", {}), ("flatten", {}), ("linear", {"out": rng.choice([4, 6, 8, 12])}), ("relu", {})]
    image = rng.choice([1, 2, 3]), size, size
    network = rng.choice([
        mlp(*(rng.choice([3, 4, 6, 8, 10, 14, 16, 20, 24, 32]) for _ in range(4))),
        chain(image, convs[0], ("relu", {}), convs[1], ("relu", {}), ("flatten", {}), linear),
        chain(image, convs[0], *between, linear),
    ])  # fmt: skip
    buffer, weights = (round(2 ** rng.uniform(-3.3, 1.6), 2) for _ in range(2))
    lengths, name = (rng.choice([1, 2, 3, 4]), rng.choice([1, 2, 4])), rng.choice(["edge_shared", "edge_dual"])
    chip = small_chip(buffer, rng.choice([64, weights]), name, lengths, steps_in_flight=rng.choice([1, 1, 2]))
    return chip, network, rng.choice(["dfa", "bp", "usf"]), batch


def _conv(rng):
    kernel = rng.choice([1, 2, 3])
    return "conv2d", {"out": rng.choice([2, 3, 4, 5, 6]), "kernel": kernel, "padding": rng.choice([0, kernel // 2])}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_plan_of_a_random_toy_is_near_the_best(seed):
    """A sample of the last test."""
    assert 0.999 <= over_best(*random_toy(seed)) <= WORST


def check(ratios, number):
    found = [ratio for ratio in ratios if ratio is not None]
    assert len(found) >= number
    assert min(found) >= 0.999
    assert max(found) <= WORST
    assert sum(found) / len(found) <= MEAN


@pytest.mark.long
def test_a_hundred_plans_are_near_the_best_of_tiles_and_places_together():
    setups = product(TOYS.values(), ("bp", "dfa"), (0.15, 0.25, 0.35, 0.6, 1.2), (64, 0.2))
    check((over_best(small_chip(*sizes), toy[0], rule, toy[1]) for toy, rule, *sizes in setups), 60)


@pytest.mark.long
def test_a_hundred_plans_of_random_toys_are_near_the_best():
    check((over_best(*random_toy(seed)) for seed in range(200)), 100)
