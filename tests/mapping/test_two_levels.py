"""Tiles in outer tiles: against walked loops of both levels, over every mapping; and what must hold of the best one."""

from dataclasses import replace

import numpy as np
import pytest

from fahw.errors import ConfigError
from fahw.mapping.bounds import lower_bound_bits
from fahw.mapping.grid import DIMENSIONS, Grid
from fahw.mapping.levels.inner_costs import InnerCosts
from fahw.mapping.levels.outer_costs import OUTER_NESTS, OuterCosts, around, inner_problem
from fahw.mapping.levels.pairs import inner_sizes, pairs_of
from fahw.mapping.mapper import OuterTiling, Tiling, best_mapping, mapped_as
from fahw.mapping.nest import Nest, nests
from fahw.mapping.problem import (
    DATAFLOWS,
    DirectWay,
    FlowCosts,
    MappedArray,
    OperandPlace,
    OuterLevel,
    OuterPlace,
    OuterPrices,
    Prices,
    ResultPlace,
    TiledProduct,
)
from tests.reference.loop_nest import array_cycles
from tests.reference.nested_loops import nested_objective, passing_bits, walk_nested
from tests.support.random_products import random_two_level_product


def all_pairs(product):
    """The pairs of an outer tile and a tile by dimension; all of one with all of the others, flat; and the places of
    their outer tiles."""
    flow = product.array.dataflows[0]
    pairs = {name: pairs_of(product, flow, name) for name in DIMENSIONS}
    places = np.indices([len(pairs[name].place) for name in DIMENSIONS]).reshape(3, -1)
    flat = {name: pairs[name].at(of) for name, of in zip(DIMENSIONS, places, strict=True)}
    shape = [len(pairs[name].outer_sizes.size) for name in DIMENSIONS]
    return pairs, flat, np.ravel_multi_index(tuple(flat[name].place for name in DIMENSIONS), shape)


def all_two_level_costs(product, fitting=False):
    """Yield every nest on two levels: that of tiles, that of outer tiles, and over all pairs of tiles the objective.
    Nothing is excluded but, on demand, tiles for whose operands there is no room on one of the levels."""
    flow = product.array.dataflows[0]
    pairs, flat, places = all_pairs(product)
    outer = OuterCosts(product, product.outer, flow, pairs)
    if fitting:
        room = Grid(inner_problem(product, product.outer), flow, inner_sizes(flat)).may_fit()
        some = np.any([np.broadcast_to(outer.fits(nest, False), outer.grid.shape) for nest in OUTER_NESTS], 0)
        kept = np.flatnonzero(room & some.ravel()[places])
        flat, places = {name: of.at(kept) for name, of in flat.items()}, places[kept]
    for outer_nest in OUTER_NESTS if len(places) else ():
        changes = tuple(np.broadcast_to(of, outer.grid.shape).ravel()[places] for of in outer.changes(outer_nest))
        grid = Grid(inner_problem(product, product.outer), flow, inner_sizes(flat), around(flat, changes))
        costs = InnerCosts(grid, product.outer, outer.under(outer_nest).at(places))
        for nest in nests(product, flow):
            yield nest, outer_nest, costs.objective(nest)


def objective_of(product, mapped):
    """What is to be small."""
    energy, latency = mapped.energy_pj, mapped.latency
    return {"energy": energy, "latency": latency, "edp": energy * latency}[product.objective]


def least(product, tiling=None):
    """The objective of the best mapping, or of a given one; infinite where nothing fits."""
    try:
        return objective_of(product, mapped_as(product, tiling) if tiling else best_mapping(product))
    except ConfigError:
        return np.inf


def unused(product):
    """The objective with no memory but the local ones, if the others hold nothing."""
    return least(replace(product, outer=None)) if product.outer_may_go_unused else np.inf


def sizes_at(pairs, places):
    """Tile and outer tile of a pair of each dimension."""
    return tuple(
        tuple(int(getattr(pairs[name], which).size[place]) for name, place in zip(DIMENSIONS, places, strict=True))
        for which in ("inner", "outer")
    )  # fmt: skip


def random_tilings(product, rng, number):
    """Any mappings on two levels."""
    flow, (pairs, _, _) = product.array.dataflows[0], all_pairs(product)
    inside = nests(product, flow)
    for _ in range(number):
        tile, outer = sizes_at(pairs, [int(rng.integers(len(pairs[name].place))) for name in DIMENSIONS])
        nest, outer_nest = (of[int(rng.integers(len(of)))] for of in (inside, OUTER_NESTS))
        yield Tiling(flow.name, tile, nest, OuterTiling(outer, outer_nest))


def check_two_levels(product, rng, number):
    """So many mappings, and the best, cost what walking both nests counts; the best is the least of all mappings."""
    for tiling in random_tilings(product, rng, number):
        assert least(product, tiling) == pytest.approx(nested_objective(product, product.array.dataflows[0], tiling))
    lowest = min((float(of.min()) for _, _, of in all_two_level_costs(product, fitting=True)), default=np.inf)
    assert least(product) == pytest.approx(min(lowest, unused(product)), rel=1e-9)
    if least(product) < np.inf and best_mapping(product).outer:
        check_counts(product, best_mapping(product))


def check_counts(product, best):
    """The record's counts are the walked ones."""
    flow = product.array.dataflows[0]
    nested = walk_nested(product, flow, best.tiling)
    walked = nested.inner
    assert best.reads == tuple(walked.reads)
    assert best.fetched == pytest.approx(nested.moved)
    assert best.outer.fetched == pytest.approx(nested.fetched)
    assert (best.partial_sums, best.spilled_sums) == (walked.partial_sums, walked.spilled_sums)
    assert (best.accumulated, best.begun) == (walked.accumulated, walked.begun)
    assert best.outer.spilled_sums == nested.spilled
    assert (best.results, best.outer.results) == pytest.approx(nested.leaving)
    assert best.array_cycles == array_cycles(product, flow, walked)
    assert best.dram_bits == pytest.approx(passing_bits(product, nested)[1])
    assert {name: bits for name, bits in best.room if bits} == {k: v for k, v in walked.room.items() if v}
    assert {name: bits for name, bits in best.outer.room if bits} == {k: v for k, v in nested.room.items() if v}


@pytest.mark.parametrize("seed", range(24))
def test_two_levels_are_walked_loop_nests_and_brute_force(seed):
    """Of small random products: any mapping is as walked, and none is better than the best."""
    rng = np.random.default_rng(seed)
    check_two_levels(random_two_level_product(rng, granules=3), rng, 20)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000))
def test_two_levels_are_walked_loop_nests_on_a_thousand_products(seed):
    """The same with up to 8 granules a dimension."""
    rng = np.random.default_rng(20_000 + seed)
    check_two_levels(random_two_level_product(rng), rng, 60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_every_mapping_on_two_levels_is_walked(seed):
    """Of products with up to 2 granules a dimension every mapping is walked, and the least of these is the best."""
    product = random_two_level_product(np.random.default_rng(300 + seed), granules=2, flow=("os", "ws", "is")[seed % 3])
    flow, (_, flat, _), lowest = product.array.dataflows[0], all_pairs(product), unused(product)
    for nest, outer_nest, found in all_two_level_costs(product):
        for place, value in enumerate(found):
            tile, outer = sizes_at(flat, [place] * 3)
            tiling = Tiling(flow.name, tile, nest, OuterTiling(outer, outer_nest))
            walked = nested_objective(product, flow, tiling)
            assert value == walked or abs(value - walked) <= 1e-9 * walked, tiling
            lowest = min(lowest, walked)
    assert least(product) == pytest.approx(lowest, rel=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_an_outer_memory_never_costs_more_than_none_nor_moves_less_than_it_must(seed):
    """Larger products: the outer memory goes unused where that is better; DRAM sees at least the compulsory traffic; a
    mapping that is given again costs the same to the bit; more room on either level never costs more."""
    product = random_two_level_product(np.random.default_rng(600 + seed), granules=30)
    cost = least(product)
    assert cost <= unused(product)
    if cost < np.inf:
        best = best_mapping(product)
        assert mapped_as(product, best.tiling) == best
        assert not best.outer or best.dram_bits >= lower_bound_bits(product) * (1 - 1e-12)
    outer, local = (tuple((name, 2 * bits + 100) for name, bits in of.room) for of in (product.outer, product))
    for larger in (replace(product, outer=replace(product.outer, room=outer)), replace(product, room=local)):
        assert least(larger) <= cost * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_factors_of_a_dataflow_are_those_of_each_way_alone(seed):
    """What comes from DRAM past outer memories, to them, and from them is dearer, each by its own factor: as if these
    were prices."""
    product = random_two_level_product(np.random.default_rng(900 + seed), granules=8)
    (flow,) = product.array.dataflows
    dearer = FlowCosts(fetches=(1.5, 2.5), to_outer=(3.5, 4.5), moves=(5.5, 6.5))
    array = replace(product.array, dataflows=(replace(flow, costs=dearer),))
    prices, outer = product.prices, product.outer.prices
    direct, fetch, move = (
        tuple(price * factor for price, factor in zip(of, factors, strict=True))
        for of, factors in ((prices.fetch, dearer.fetches), (outer.fetch, dearer.to_outer), (outer.move, dearer.moves))
    )
    level = replace(product.outer, prices=replace(outer, fetch=fetch, move=move))
    priced = replace(product, prices=replace(prices, fetch=direct), outer=level)
    assert least(replace(product, array=array)) == pytest.approx(least(priced), rel=1e-9)


def test_past_outer_tiles_comes_what_lies_there_and_the_rest_from_dram():
    """A quarter of the left operand is in the local memory, half of it behind that one: of what comes two thirds are
    moved. So is all of the right one, at its own rate of the memory."""
    outer = replace(behind().outer, left=OuterPlace("buffer", 0.75), right=OuterPlace("buffer", 1.0))
    product = behind(left=OperandPlace(8, "local", 0.25), prices=Prices(fetch=(99, 98)), outer=outer)
    assert not product.outer_may_go_unused
    way = DirectWay((90 / 3, 0.0), (10 * 2 / 3, 10.0), 16.0, product.room)
    mixed = replace(product, outer=replace(outer, direct=way)).on_one_level
    assert (mixed.outer, mixed.dram_bits_per_cycle) == (None, 16.0)
    assert mixed.prices.fetch == pytest.approx((90 / 3 + 10 * 2 / 3, 10.0))
    costs = FlowCosts(fetches=(2.0, 2.0), moves=(3.0, 3.0)).mixed(way)
    assert costs.fetches[0] * mixed.prices.fetch[0] == pytest.approx(2 * 90 / 3 + 3 * 10 * 2 / 3)
    assert costs.fetches[1] * mixed.prices.fetch[1] == pytest.approx(30.0)
    tiling = best_mapping(mixed).tiling
    assert mapped_as(replace(product, outer=replace(outer, direct=way)), tiling) == best_mapping(mixed)


def behind(**changes):
    """A product of 64 x 48 x 80 on 16 x 16 elements, with a buffer behind the local memory."""
    array, place = MappedArray(16, 16, (DATAFLOWS["os"], DATAFLOWS["ws"])), OperandPlace(8, "local")
    outer = OuterPlace("buffer")
    level = OuterLevel(outer, outer, outer, room=(("buffer", 60_000),))
    product = TiledProduct(
        64, 48, 80, array, place, place, ResultPlace(32, "local", 8, 0.0), room=(("local", 20_000),), outer=level
    )  # fmt: skip
    return replace(product, **changes)


def test_equal_mappings_on_two_levels_are_told_apart_by_the_stated_order():
    """Where nothing costs anything the outer memory goes unused; if it may not, the first nests, the largest tiles."""
    free = Prices((0, 0), (0, 0), 0, 0)
    assert best_mapping(behind(prices=free)).outer is None
    here = OuterPlace("buffer", 1.0)
    level = OuterLevel(here, here, here, OuterPrices((0, 0), (0, 0), 0, 0))
    best = best_mapping(behind(prices=free, room=(), outer=level))
    whole, first = (64, 48, 80), Nest(("m", "n", "k"))
    assert best.tiling == Tiling("os", whole, first, OuterTiling(whole, first))
    assert str(best.tiling) == "os 64x48x80 order mnk in 64x48x80 order mnk"


@pytest.mark.parametrize(
    ("tile", "outer", "message"),
    [
        ((16, 16, 16), (32, 40, 80), "tile: tiles of 16 must fill every outer tile of 40 evenly"),
        ((16, 16, 16), (32, 32, 80), "tile: tiles of 16 must fill every outer tile of 32 evenly"),
        ((16, 16, 16), (65, 48, 80), "tile: must be from 1 to 64"),
        ((64, 48, 80), (64, 48, 80), "tile: local has 20,000 bits for tiles, of which it takes"),
        ((16, 16, 16), (64, 48, 80), "tile: buffer has 60,000 bits for tiles, of which it takes"),
    ],
)
def test_two_levels_that_cannot_be_are_refused(tile, outer, message):
    """Tiles that leave a rest, or one alone in the last outer tile; too large ones; and on which level room lacks."""
    nest = Nest(("m", "k", "n"))
    with pytest.raises(ConfigError, match=message):
        mapped_as(behind(), Tiling("os", tile, nest, OuterTiling(outer, nest)))


def test_outer_tiles_need_an_outer_memory_with_room():
    """And one that holds part of an operand cannot go unused."""
    nest = Nest(("m", "n", "k"))
    with pytest.raises(ConfigError, match="outer: must be left out"):
        mapped_as(behind(outer=None), Tiling("os", (16, 16, 16), nest, OuterTiling((16, 16, 16), nest)))
    full = OuterLevel(OuterPlace("buffer", 0.5), OuterPlace("buffer"), None, room=(("buffer", 10),))
    with pytest.raises(ConfigError, match="buffer: no tile fits it"):
        best_mapping(behind(outer=full))
    with pytest.raises(ValueError, match="does not come from DRAM"):
        behind(left=OperandPlace(8, "local", 1.0))
