"""Tiles and what stays on the chip, found in turn, against the best of both together, by branch and bound.

Three layers in memories that hold a part of them, where tiles are as large as tensors: the hardest case for a search in
turns. Exact plans are pinned, so that both energies are the ledger's. A search of all choices together would be at
1; where the search is today is what these tests hold.
"""

import pytest

from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from tests.support.joint_plans import joint_plan
from tests.support.models import chain, mlp
from tests.support.plans import searched, step_pj

WORST, MEAN = 1.12, 1.04
"""Of a toy, and of the mean of all: energy of the plan found over that of the best."""
LINEAR = ("linear", {"out": 5})
TOYS = {
    "falling": (mlp(12, 10, 8, 6), 8), "uneven": (mlp(20, 6, 14, 4), 4), "even": (mlp(16, 16, 16, 16), 8),
    "padded": (chain((2, 5, 5), ("conv2d", {"out": 3, "kernel": 3, "padding": 1}), ("relu", {}),
                     ("conv2d", {"out": 4, "kernel": 3, "padding": 1}), ("relu", {}), ("flatten", {}), LINEAR), 2),
    "plain": (chain((1, 6, 6), ("conv2d", {"out": 4, "kernel": 3}), ("relu", {}),
                    ("conv2d", {"out": 2, "kernel": 3}), ("relu", {}), ("flatten", {}), LINEAR), 4),
}  # fmt: skip
PRICES = {"read_pj": 1, "write_pj": 1.5, "leak_mw": 0.05, "area_mm2": 0.01}


def small_chip(buffer, weights):
    """One array of 2 x 2 and memories of so many KiB, one step in flight."""
    sizes = {0: weights, 1: buffer, 2: 64}
    memories = {
        f"memories.{n}.{key}": value
        for n, size in sizes.items()
        for key, value in {"bank_kib": None, "size_kib": size, "width_bits": 8, "energy": PRICES}.items()
    }
    array = {"arrays.0.rows": 2, "arrays.0.cols": 2}
    return load_chip("edge_shared", {"mapping": "best", "steps_in_flight": 1, **array, **memories})


def energy(one):
    """Of all actions, and of static power while products are computed."""
    return step_pj(one) + one.pricing.static_pj_per_cycle * one.found.products.cycles


def over_best(toy, rule, buffer, weights):
    """Energy of the plan found over that of the best one; None where all has room, or no tile fits."""
    (network, batch), chip = TOYS[toy], small_chip(buffer, weights)
    try:
        one = searched(chip, network, rule, batch)
    except ConfigError:
        return None
    if one is None:
        return None
    best = joint_plan(one)
    pinned = searched(chip.model_copy(update=best.pins), network, rule, batch)
    assert pinned.found.cost[0] == pytest.approx(best.bound, rel=4e-3)  # it is a plan, and none is better
    return energy(one) / energy(pinned)


@pytest.mark.parametrize(
    ("toy", "rule", "buffer", "weights"),
    [("falling", "bp", 0.35, 64), ("uneven", "dfa", 0.25, 0.2), ("padded", "bp", 0.25, 64), ("plain", "dfa", 0.6, 64)],
)
def test_a_plan_is_near_the_best_of_tiles_and_places_together(toy, rule, buffer, weights):
    assert 0.999 <= over_best(toy, rule, buffer, weights) <= WORST


@pytest.mark.long
def test_a_hundred_plans_are_near_the_best_of_tiles_and_places_together():
    found = [
        over_best(toy, rule, buffer, weights)
        for toy in TOYS
        for rule in ("bp", "dfa")
        for buffer in (0.15, 0.25, 0.35, 0.6, 1.2)
        for weights in (64, 0.2)
    ]
    ratios = [ratio for ratio in found if ratio is not None]
    assert len(ratios) >= 60
    assert min(ratios) >= 0.999
    assert max(ratios) <= WORST
    assert sum(ratios) / len(ratios) <= MEAN
