"""The mapper against a walked loop nest, over every mapping of its space; and what must hold of the best one."""

import re
from dataclasses import replace

import numpy as np
import pytest

from fahw.errors import ConfigError
from fahw.layers.window_axes import WindowAxis, Windows
from fahw.mapping.mapper import Tiling, all_costs, best_mapping, mapped_as
from fahw.mapping.nest import Nest
from fahw.mapping.problem import DATAFLOWS, MappedArray, OperandPlace, Prices, ResultPlace, TiledProduct
from tests.reference.loop_nest import array_cycles, objective, walk
from tests.support.random_products import random_product


def check_every_mapping(product):
    """Each mapping's objective is the walked one, and the best mapping is the walked optimum, count by count.

    Returns how many mappings were walked.
    """
    least, number = np.inf, 0
    every = list(all_costs(product))
    grid = every[0][0].grid
    sizes = [grid.sizes[name].size.ravel().astype(int).tolist() for name in ("m", "n", "k")]
    for index in np.ndindex(*grid.shape):
        tile = tuple(sizes[axis][place] for axis, place in enumerate(index))
        for _, nest, found in every:
            walked = objective(product, grid.flow, tile, nest)
            assert found[index] == walked or abs(found[index] - walked) <= 1e-9 * walked, (product, tile, nest)
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
    assert (best.accumulated, best.begun) == (walked.accumulated, walked.begun)
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


def least(product):
    """The objective of the best mapping; infinite where nothing fits."""
    try:
        best = best_mapping(product)
    except ConfigError:
        return np.inf
    return {"energy": best.energy_pj, "latency": best.latency, "edp": best.energy_pj * best.latency}[product.objective]


@pytest.mark.parametrize("seed", range(60))
def test_more_room_more_accumulators_and_more_dataflows_never_cost_more(seed):
    """At equal prices every mapping of the smaller chip is one of the larger chip, or worse than one."""
    product = random_product(np.random.default_rng(500 + seed), granules=20)
    array, before = product.array, least(product)
    roomier = replace(product, room=tuple((name, 2 * bits + 100) for name, bits in product.room))
    deeper = replace(product, array=replace(array, accumulators=2 * array.accumulators + 1))
    held = replace(product, array=replace(array, held_folds=2 * array.held_folds))
    flows = tuple({flow.name: flow for flow in (*DATAFLOWS.values(), *array.dataflows)}.values())
    for larger in (roomier, deeper, held, replace(product, array=replace(array, dataflows=flows))):
        assert least(larger) <= before * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_a_mapping_can_be_pinned(seed):
    """The best mapping, given again, costs the same to the bit, and `repeats` products so many times as much."""
    product = random_product(np.random.default_rng(900 + seed), granules=20)
    if least(product) < np.inf:
        best = best_mapping(product)
        assert mapped_as(product, best.tiling) == best
        thrice = best_mapping(replace(product, repeats=3))
        assert thrice.tiling == best.tiling
        assert (thrice.partial_sums, thrice.reads[0]) == (3 * best.partial_sums, 3 * best.reads[0])
        assert thrice.energy_pj == pytest.approx(3 * best.energy_pj)


def small(**changes):
    """A product of 64 x 48 x 80 on 16 x 16 elements, os first."""
    array = MappedArray(16, 16, (DATAFLOWS["os"], DATAFLOWS["ws"]))
    place = OperandPlace(8, "buffer")
    product = TiledProduct(64, 48, 80, array, place, place, ResultPlace(32, "buffer"), room=(("buffer", 40_000),))
    return replace(product, **changes)


def test_equal_mappings_are_told_apart_by_the_stated_order():
    """Where nothing costs anything latency decides, then the dataflow listed first, the order, no holds, the largest
    tile."""
    free = Prices((0, 0), (0, 0), 0, 0)
    best = best_mapping(small(prices=free, room=()))
    assert best.tiling == Tiling("os", (64, 48, 80), Nest(("m", "n", "k")))
    assert str(best.tiling) == "os 64x48x80 order mnk"
    twice = MappedArray(16, 16, (replace(DATAFLOWS["os"], name="first"), DATAFLOWS["os"]))
    assert best_mapping(small(prices=free, room=(), array=twice)).tiling.dataflow == "first"
    faster = MappedArray(16, 16, (*twice.dataflows, replace(DATAFLOWS["ws"], skewed=False)))
    assert best_mapping(small(prices=free, room=(), array=faster)).tiling.dataflow == "ws"


@pytest.mark.parametrize(
    ("tiling", "message"),
    [
        (Tiling("is", (16, 16, 16), Nest(("m", "n", "k"))), "dataflow: must be one of os, ws (got 'is')"),
        (Tiling("os", (16, 16, 81), Nest(("m", "n", "k"))), "tile: must be from 1 to 80 (got 81)"),
        (Tiling("os", (0, 16, 16), Nest(("m", "n", "k"))), "tile: must be from 1 to 64 (got 0)"),
        (Tiling("os", (16, 16, 16), Nest(("m", "n", "n"))), "order: must name m, n and k once each"),
        (Tiling("ws", (16, 16, 16), Nest(("m", "n", "k"), blocks=True)), "blocks need accumulators"),
        (Tiling("os", (64, 48, 16), Nest(("m", "n", "k"))), "has 40,000 bits for tiles, of which it takes 126,976"),
    ],
)  # fmt: skip
def test_a_pinned_mapping_that_cannot_be_is_refused(tiling, message):
    """The message says what is wrong, and by how much."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        mapped_as(small(), tiling)


@pytest.mark.parametrize("tile", [3, 8, 12, 24])
def test_pinned_tiles_of_positions_are_strips_rows_or_samples(tile):
    """Of 2 samples of 3 x 4 outputs: less than a row, a multiple of 4 up to 12, or of 12; nothing else."""
    windows = Windows(2, 5, WindowAxis(3, 3, 5), WindowAxis(4, 3, 6))
    product = small(m=24, k=45, windows=windows, unfolded="left", room=())
    assert mapped_as(product, Tiling("os", (tile, 16, 18), Nest(("m", "n", "k")))).tiling.tile[0] == tile
    for size, window in ((tile, 10), (6, 9), (20, 9), (36, 9)):
        with pytest.raises(ConfigError, match="tile: must be"):
            mapped_as(product, Tiling("os", (size, 16, window), Nest(("m", "n", "k"))))


def test_memories_without_room_for_one_tile_are_named_with_what_they_lack():
    """Every memory that is too small, what lies there, and how much the smallest tiles take: of `ws`, a row of 16
    values twice at 8 bits, and 16 sums at 32."""
    product = small(right=OperandPlace(8, "weights"), room=(("buffer", 500), ("weights", 100)))
    with pytest.raises(ConfigError) as error:
        best_mapping(product)
    assert [str(problem) for problem in error.value.problems] == [
        "buffer: the smallest tiles of left and results take 768 bits, and it has room for 500",
        "weights: the smallest tiles of right take 4,096 bits, and it has room for 100",
    ]


def test_windows_that_do_not_make_up_the_product_are_refused():
    """A fault of the caller, not of a file."""
    with pytest.raises(ValueError, match="do not make up"):
        small(windows=Windows(1, 1, *2 * [WindowAxis(2, 1, 2)]), unfolded="left")
    with pytest.raises(ValueError, match="together"):
        small(unfolded="left")


@pytest.mark.parametrize("seed", range(40))
def test_what_a_bound_excludes_is_never_the_best(seed):
    """Over several dataflows and many sizes: the best is the least of all mappings priced one by one, and of equals the
    first in the stated order."""
    product = random_product(np.random.default_rng(700 + seed), granules=30)
    flows = {flow.name: flow for flow in (*product.array.dataflows, *DATAFLOWS.values())}
    product = replace(product, array=replace(product.array, dataflows=tuple(flows.values())))
    every = list(all_costs(product))
    lowest = min(float(found.min()) for _, _, found in every)
    if lowest < np.inf:
        others = [
            np.where(found <= lowest * (1 + 1e-12), np.broadcast_to(costs.other(nest), found.shape), np.inf)
            for costs, nest, found in every
        ]
        smallest = min(float(other.min()) for other in others)
        first = next(i for i, other in enumerate(others) if (other <= smallest * (1 + 1e-12)).any())
        best = best_mapping(product)
        assert least(product) == pytest.approx(lowest, rel=1e-12)
        assert (best.tiling.dataflow, best.tiling.nest) == (every[first][0].grid.flow.name, every[first][1])
