"""Random products to be mapped: on small arrays, with few granules a dimension, plain or with windows."""

from dataclasses import replace
from math import ceil

import numpy as np

from fahw.layers.window_axes import WindowAxis, Windows
from fahw.mapping.problem import (
    DATAFLOWS,
    UNFOLDED_DIMENSIONS,
    MappedArray,
    OperandPlace,
    OuterLevel,
    OuterPlace,
    OuterPrices,
    Prices,
    ResultPlace,
    TiledProduct,
)


def random_array(rng, flow):
    """A small array with one dataflow, its elements priced."""
    priced = replace(DATAFLOWS[flow], mac_pj=float(rng.random()), idle_pj=float(rng.random() / 4),
                     skewed=flow != "broadcast" and bool(rng.random() < 0.8))  # fmt: skip
    rows, cols = (int(rng.integers(1, 5)) for _ in range(2))
    return MappedArray(
        rows, cols, (priced,),
        accumulators=int(rng.choice([0, 0, 1, 2, 3, 5, 8, 16])), held_folds=int(rng.choice([1, 1, 2, 3, 6])),
        trimmed=bool(rng.random() < 0.3), double_buffered=bool(rng.random() < 0.3),
    )  # fmt: skip


def random_axis(rng):
    """An axis of a few windows; some of them partly, or wholly, over padding."""
    taps, stride, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(1, 3))
    padding, windows = int(rng.integers(-1, 3)), int(rng.integers(1, 5))
    reach = (windows - 1) * stride + (taps - 1) * dilation + 1
    places = max(1, reach - padding - int(rng.integers(0, 3)))
    return WindowAxis(windows, taps, places, -padding, stride, dilation)


def random_windows(rng):
    """The windows of a small convolution."""
    return Windows(int(rng.integers(1, 4)), int(rng.integers(1, 5)), random_axis(rng), random_axis(rng))


def random_lengths(rng, flow, array, granules):
    """M, N and K of at most so many granules each."""
    sides = {flow.rows: array.rows, flow.cols: array.cols}
    lengths = {}
    for dimension in ("m", "n", "k"):
        granule = sides.get(dimension, 16 if dimension == "k" else 1)
        units = int(rng.integers(1, granules + 1))
        lengths[dimension] = (units - 1) * granule + int(rng.integers(1, granule + 1))
    return lengths


def random_prices(rng):
    """Prices of all kinds of accesses, in any order of size."""
    read, fetch = rng.random(2) * 2, rng.random(2) * 40
    partial, spilled, accumulator, window, result, static = rng.random(6) * [8, 300, 1, 8, 50, 2]
    return Prices(
        (float(read[0]), float(read[1])), (float(fetch[0]), float(fetch[1])), float(partial), float(spilled),
        float(accumulator), float(window), float(result), float(static * (rng.random() < 0.5)),
        (float(read[1]), float(read[0] / 2)),
    )  # fmt: skip


def random_operand(rng, memory, resident):
    """An operand of any width, double-buffered or not."""
    return OperandPlace(
        int(rng.integers(2, 17)), memory, resident, int(rng.integers(1, 3)), overlaps=bool(rng.random() < 0.7)
    )  # fmt: skip


def random_product(rng, granules=8, flow=None):
    """A product with an array, memories and prices; half of them have windows."""
    flow = flow or str(rng.choice(["os", "ws", "is", "broadcast"], p=[0.3, 0.35, 0.25, 0.1]))
    array = random_array(rng, flow)
    lengths = random_lengths(rng, array.dataflows[0], array, granules)
    windows = unfolded = None
    if rng.random() < 0.5:
        windows, unfolded = random_windows(rng), str(rng.choice(["left", "right", "result"]))
        positions, window = UNFOLDED_DIMENSIONS[unfolded]
        lengths |= {positions: windows.positions, window: windows.window}
    memories = [["one", "one", "one"], ["one", "two", "one"], ["one", "two", "three"], ["one", "one", "two"]]
    left, right, sums = memories[int(rng.integers(len(memories)))]
    shares = [float(share) for share in rng.choice([0, 0, 0, 0.25, 1], 3)]
    values = lengths["m"] * lengths["k"] + lengths["k"] * lengths["n"] + 2 * lengths["m"] * lengths["n"]
    room = {name: ceil(float(values * 16 * rng.random() ** 2)) for name in (left, right, sums)}
    return TiledProduct(
        lengths["m"], lengths["n"], lengths["k"], array,
        random_operand(rng, left, shares[0]), random_operand(rng, right, shares[1]),
        ResultPlace(int(rng.integers(8, 33)), sums, 8, shares[2]),
        random_prices(rng), tuple(room.items()), windows=windows, unfolded=unfolded,
        dram_bits_per_cycle=float(rng.choice([np.inf, 8, 64])),
        objective=str(rng.choice(["energy", "energy", "latency", "edp"])),
    )  # fmt: skip


def random_outer(rng, product):
    """Memories behind the local ones, for any of the parts."""
    names = ["buffer", "buffer", "sums"] if rng.random() < 0.3 else ["buffer"] * 3
    shares = [product.left.resident, product.right.resident, product.result.resident]
    places = [
        OuterPlace(name, max(share, float(rng.choice([0, 0, 0, 0.5, 1]))), int(rng.integers(1, 3)))
        if rng.random() < 0.85 else None
        for name, share in zip(names, shares, strict=True)
    ]  # fmt: skip
    direct = product.prices
    fetch = tuple(price * float(0.6 + rng.random() / 2) for price in direct.fetch)
    move = tuple(price * float(rng.random() / 3) for price in direct.fetch)
    others = rng.random(4) * [direct.spilled_sum / 3, direct.spilled_sum, direct.result / 4, direct.result]
    prices = OuterPrices(fetch, move, *map(float, others))
    bits = 16 * (product.m * product.k + product.k * product.n + 2 * product.m * product.n)
    room = tuple((name, ceil(float(bits * rng.random()))) for name in sorted(set(names)))
    return OuterLevel(*places, prices, room, float(rng.choice([np.inf, 16, 128])))


def random_two_level_product(rng, granules=8, flow=None):
    """A product with local memories that are mostly too small, and others behind them."""
    product = random_product(rng, granules, flow)
    room = tuple((name, ceil(bits * float(rng.choice([0.3, 1, 3])))) for name, bits in product.room)
    product = replace(product, room=room)
    return replace(product, outer=random_outer(rng, product))
