"""The tiled product of docs/model.md, section 12: every count, worked out by hand there, equals the mapper's."""

from dataclasses import replace

import pytest

from fahw.layers.window_axes import WindowAxis, Windows
from fahw.mapping.mapper import Tiling, best_mapping, mapped_as
from fahw.mapping.nest import Nest
from fahw.mapping.problem import DATAFLOWS, MappedArray, OperandPlace, Prices, ResultPlace, TiledProduct
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


def by_hand():
    """The table of the section: count -> value."""
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8").split(". Tiles\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): float(row[-1]) for row in rows[2:]}


def test_every_count_worked_out_by_hand_is_the_mappers():
    """Traffic, folds, cycles, room and energy of the mapping, with and without the right operand held."""
    mapped = mapped_as(PRODUCT, TILING)
    held = mapped_as(PRODUCT, replace(TILING, nest=replace(TILING.nest, holds=(False, True, False))))
    best = best_mapping(PRODUCT)
    assert best.tiling == Tiling("ws", (16, 2, 9), Nest(("m", "n", "k"), (True, False, False), blocks=True))
    assert by_hand() == {
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
