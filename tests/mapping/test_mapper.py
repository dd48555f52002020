"""The mapper against a walked loop nest, over every mapping of its space; and what must hold of the best one."""

import numpy as np
import pytest

from fahw.errors import ConfigError
from fahw.mapping.mapper import all_costs, best_mapping
from tests.reference.loop_nest import array_cycles, objective, walk
from tests.support.random_products import random_product


def check_every_mapping(product):
    """Each mapping's objective is the walked one, and the best mapping is the walked optimum, count by count.

    Returns how many mappings were walked.
    """
    least, number = np.inf, 0
    for costs, nest, found in all_costs(product):
        sizes = [costs.grid.sizes[name].size.ravel() for name in ("m", "n", "k")]
        for index in np.ndindex(*costs.grid.shape):
            tile = tuple(int(sizes[axis][place]) for axis, place in enumerate(index))
            walked = objective(product, costs.grid.flow, tile, nest)
            assert found[index] == pytest.approx(walked, rel=1e-9), (product, costs.grid.flow.name, tile, nest)
            least, number = min(least, walked), number + 1
    if least == np.inf:
        with pytest.raises(ConfigError):
            best_mapping(product)
        return number
    best = best_mapping(product)
    found = {"energy": best.energy_pj, "latency": best.latency, "edp": best.energy_pj * best.latency}
    assert found[product.objective] == pytest.approx(least, rel=1e-9)
    check_counts(product, best)
    return number


def check_counts(product, best):
    """The record's counts are the walked ones."""
    tiling = best.tiling
    flow = next(flow for flow in product.array.dataflows if flow.name == tiling.dataflow)
    walked = walk(product, flow, tiling.tile, tiling.nest)
    missing = [1 - operand.resident for operand in product.operands]
    assert best.reads == tuple(walked.reads)
    assert best.fetched == pytest.approx([a * b for a, b in zip(walked.fetched, missing, strict=True)])
    assert (best.partial_sums, best.spilled_sums) == (walked.partial_sums, walked.spilled_sums)
    assert best.accumulated == walked.accumulated
    assert best.array_cycles == array_cycles(product, flow, walked)
    assert {memory: bits for memory, bits in best.room if bits} == {k: v for k, v in walked.room.items() if v}


@pytest.mark.parametrize("seed", range(40))
def test_the_mapper_is_a_walked_loop_nest_and_brute_force(seed):
    """Of small random products every mapping costs what walking its loops counts, and the best is the least."""
    assert check_every_mapping(random_product(np.random.default_rng(seed), granules=3)) > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000))
def test_the_mapper_is_a_walked_loop_nest_on_a_thousand_products(seed):
    """The same with up to 8 granules a dimension."""
    assert check_every_mapping(random_product(np.random.default_rng(10_000 + seed))) > 0
