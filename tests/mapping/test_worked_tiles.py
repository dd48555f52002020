"""The tiled product of docs/model.md, section 12: every count, worked out by hand there, equals the mapper's."""

from dataclasses import replace

import pytest

from fahw.layers.window_axes import WindowAxis, Windows
from fahw.mapping.mapper import OuterTiling, Tiling, best_mapping, mapped_as
from fahw.mapping.nest import Nest
from fahw.mapping.problem import (
    DATAFLOWS,
    MappedArray,
    OperandPlace,
    OuterLevel,
    OuterPlace,
    OuterPrices,
    Prices,
    ResultPlace,
    TiledProduct,
)
from tests.support.strategies import ROOT

AXIS = WindowAxis(4, 3, 4, -1)
PLACE = OperandPlace(8, "buffer")
PRODUCT = TiledProduct(
    16, 4, 18, MappedArray(2, 2, (DATAFLOWS["ws"],), accumulators=16), PLACE, PLACE,
    ResultPlace(16, "buffer", 8, resident=0.0),
    Prices((1, 1), (90, 90), partial_sum=4, spilled_sum=360, accumulator=0.5, result=90),
    (("buffer", 768),), windows=Windows(1, 2, AXIS, AXIS), unfolded="left", dram_bits_per_cycle=8,
)  # fmt: skip
TILING = Tiling("ws", (8, 4, 9), Nest(("m", "k", "n"), blocks=True))


TWO_LEVELS = replace(
    PRODUCT, n=16, k=72, windows=Windows(1, 8, AXIS, AXIS), room=(("buffer", 1280),),
    prices=Prices((1, 1), (92, 92), partial_sum=4, spilled_sum=368, accumulator=0.5, result=92),
    outer=OuterLevel(
        *3 * [OuterPlace("global")],
        OuterPrices((90, 90), (10, 10), moved_sum=40, spilled_sum=360, moved_result=10, result=90),
        (("global", 3200),), bits_per_cycle=16,
    ),
)  # fmt: skip


def by_hand(heading):
    """A table of the section: count -> value."""
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8").split(". Tiles\n")[1]
    table = text.split(f"**{heading}.**")[1].split("\n|---")[1].split("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[1:]]
    return {row[0].strip(): float(row[-1]) for row in rows}


def test_every_count_worked_out_by_hand_is_the_mappers():
    """Traffic, folds, cycles, room and energy of the mapping, with and without the right operand held."""
    mapped = mapped_as(PRODUCT, TILING)
    held = mapped_as(PRODUCT, replace(TILING, nest=replace(TILING.nest, holds=(False, True, False))))
    best = best_mapping(PRODUCT)
    assert best.tiling == Tiling("ws", (16, 2, 9), Nest(("m", "n", "k"), (True, False, False), blocks=True))
    assert by_hand("By hand") == {
        "fetched left": mapped.fetched[0],
        "fetched right": mapped.fetched[1],
        "folds": mapped.accumulated / (16 * 4) * 2,
        "partial sums": mapped.partial_sums,
        "passes": mapped.accumulated,
        "reads left": mapped.reads[0],
        "reads right": mapped.reads[1],
        "cycles": mapped.array_cycles,
        "DRAM bits": mapped.dram_bits,
        "latency": mapped.latency,
        "room": dict(mapped.room)["buffer"],
        "energy": pytest.approx(mapped.energy_pj),
        "energy, right held": pytest.approx(held.energy_pj),
        "best energy": pytest.approx(best.energy_pj),
    }


def test_every_count_of_two_levels_worked_out_by_hand_is_the_mappers():
    """Traffic on both levels, cycles, room and energy; with left held, the best, and the outer memory unused."""
    outer = OuterTiling((16, 4, 18), Nest(("n", "m", "k")))
    tiling = replace(TILING, outer=outer)
    mapped, best = mapped_as(TWO_LEVELS, tiling), best_mapping(TWO_LEVELS)
    held = replace(outer, nest=replace(outer.nest, holds=(True, False, False)))
    unused = best_mapping(replace(TWO_LEVELS, outer=None))
    in_order = Nest(("m", "n", "k"), blocks=True)
    around = OuterTiling((16, 2, 36), Nest(("m", "n", "k"), (True, False, False)))
    assert best.tiling == Tiling("ws", (16, 2, 18), in_order, around)
    assert unused.tiling == Tiling("ws", (16, 2, 18), in_order)
    assert by_hand("Two levels by hand") == {
        "from DRAM, left": mapped.outer.fetched[0],
        "from DRAM, right": mapped.outer.fetched[1],
        "moved left": mapped.fetched[0],
        "moved right": mapped.fetched[1],
        "sums moved": mapped.spilled_sums,
        "sums on to DRAM": mapped.outer.spilled_sums,
        "partial sums": mapped.partial_sums,
        "passes": mapped.accumulated,
        "reads left": mapped.reads[0],
        "reads right": mapped.reads[1],
        "cycles": mapped.array_cycles,
        "DRAM bits": mapped.dram_bits,
        "latency": mapped.latency,
        "local room": dict(mapped.room)["buffer"],
        "outer room": dict(mapped.outer.room)["global"],
        "energy": pytest.approx(mapped.energy_pj),
        "energy, left held outside": pytest.approx(mapped_as(TWO_LEVELS, replace(tiling, outer=held)).energy_pj),
        "best energy": pytest.approx(best.energy_pj),
        "energy, unused": pytest.approx(unused.energy_pj),
    }
