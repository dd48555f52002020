"""Bounds of what nests cost, against all nests priced one by one: what they exclude can never be the best."""

from dataclasses import replace

import numpy as np
import pytest

from fahw.mapping.mapper import all_costs, best_mapping, mapped_as
from fahw.mapping.one_level.lowest import Bounds
from fahw.mapping.one_level.tables import table_of
from fahw.mapping.problem import DATAFLOWS
from tests.support.random_products import random_product


def lowest(product, roomy):
    """The bound of every tile size, and the least that a nest costs there."""
    flow = product.array.dataflows[0]
    bounds = Bounds(product, flow, table_of(product, flow))
    bound = bounds.in_any_room() if roomy else bounds.in_room()
    priced = replace(product, room=()) if roomy else product
    least = np.minimum.reduce([found for _, _, found in all_costs(priced)])
    return np.broadcast_to(bound, least.shape), least


@pytest.mark.parametrize("roomy", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_no_nest_costs_less_than_its_bound(seed, roomy):
    """Of random products, in what room there is and in any; where there is room for none, the bound may be infinite."""
    bound, least = lowest(random_product(np.random.default_rng(2_000 + seed), granules=16), roomy)
    assert (bound <= least).all()


def test_bounds_exclude_most_tile_sizes():
    """In little room the bounds of nine in ten tile sizes are above the best mapping, in half of the products: few are
    left to be priced."""
    left = []
    for seed in range(40):
        product = random_product(np.random.default_rng(seed), granules=30)
        bound, least = lowest(product, roomy=False)
        if least.min() < np.inf and bound.size > 512:
            left.append(np.mean(bound <= least.min()))
    assert len(left) > 10
    assert np.median(left) < 0.1


@pytest.mark.parametrize("seed", range(30))
def test_of_equal_tiles_the_first_is_found_among_many(seed):
    """Where sizes are too many to price all: of those that cost the same in everything, the first of the grid."""
    product = random_product(np.random.default_rng(300 + seed), granules=40, flow="os")
    product = replace(product, array=replace(product.array, dataflows=(DATAFLOWS["os"], DATAFLOWS["ws"])), room=())
    best = best_mapping(product)
    every = [
        of for of in all_costs(product) if (of[0].grid.flow.name, of[1]) == (best.tiling.dataflow, best.tiling.nest)
    ]
    ((costs, nest, found),) = every
    other = np.broadcast_to(costs.other(nest), found.shape)
    cost = {"energy": best.energy_pj, "latency": best.latency, "edp": best.energy_pj * best.latency}[product.objective]
    equal = found <= cost * (1 + 1e-12)
    first = np.flatnonzero(equal & (other <= other[equal].min()))[0]
    places = np.unravel_index(first, found.shape)
    sizes = [of.size.ravel()[place] for of, place in zip(costs.grid.sizes.values(), places, strict=True)]
    assert best.tiling.tile == tuple(sizes)
    assert mapped_as(product, best.tiling) == best
