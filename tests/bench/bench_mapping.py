"""Time of the mapper, and how far its mappings are from what no mapping can beat.

    python -m tests.bench.bench_mapping [--batch N] [--kib N]

speed      every product of resnet18_imagenet (forward, gradient, error as window sums) on 32 x 32 elements with so much
           room in each of two memories, and with an eighth of it and 32 times as much as that behind them: processor
           time of one mapping, by dataflow, the median and the longest
distance   bits through DRAM of the mapping that moves least, over the lower bounds: of those products, and of random
           plain ones in equal-width words
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fahw.errors import ConfigError
from fahw.layers.weighted import Weighted
from fahw.layers.window_axes import layer_windows
from fahw.mapping.bounds import lower_bound_bits
from fahw.mapping.mapper import best_mapping
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
from fahw.network.load import load_model

ARRAYS = {
    "os": MappedArray(32, 32, (DATAFLOWS["os"],)),
    "ws": MappedArray(32, 32, (DATAFLOWS["ws"],)),
    "ws, 512 accumulators": MappedArray(32, 32, (DATAFLOWS["ws"],), accumulators=512),
    "os, ws and is": MappedArray(32, 32, (DATAFLOWS["os"], DATAFLOWS["ws"], DATAFLOWS["is"])),
}


def products(batch: int, kib: int, array: MappedArray) -> Iterator[TiledProduct]:
    """Yield the three products of every layer with weights."""
    inputs, weights, results = OperandPlace(8, "buffer"), OperandPlace(8, "weights"), ResultPlace(32, "buffer", 8, 0.0)
    room = (("buffer", kib * 8192), ("weights", kib * 8192))
    for layer in load_model("resnet18_imagenet").layers:
        if isinstance(layer, Weighted):
            windows, out = layer_windows(layer, batch), layer.out_shape[0] // layer.groups
            positions, window = windows.positions, windows.window
            shared = {"array": array, "result": results, "room": room, "repeats": layer.groups, "windows": windows}
            yield TiledProduct(positions, out, window, left=inputs, right=weights, unfolded="left", **shared)
            yield TiledProduct(positions, window, out, left=inputs, right=weights, unfolded="result", **shared)
            yield TiledProduct(out, window, positions, left=inputs, right=inputs, unfolded="right", **shared)


def moved_least(product: TiledProduct) -> TiledProduct:
    """The product with the bits through DRAM as its only price."""
    prices = Prices((0, 0), (product.left.bits, product.right.bits), 0, 2 * product.result.sum_bits)
    return replace(product, prices=prices)


def plain_products(number: int) -> Iterator[TiledProduct]:
    """Yield random plain products in words of 8 bits, with room for some thousand words."""
    rng, place = np.random.default_rng(17), OperandPlace(8, "buffer")
    for _ in range(number):
        m, n, k = (int(2 ** rng.uniform(6, 12)) for _ in range(3))
        room = (("buffer", 8.0 * int(2 ** rng.uniform(10, 17))),)
        array = ARRAYS["os, ws and is"]
        yield TiledProduct(m, n, k, array, place, place, ResultPlace(8, "buffer", 8, 0.0), room=room)


def distances(of: Iterator[TiledProduct]) -> list[float]:
    """Bits of the mapping that moves least over the lower bound, of those that fit."""
    found = []
    for product in map(moved_least, of):
        try:
            found.append(best_mapping(product).dram_bits / lower_bound_bits(product))
        except ConfigError:
            continue
    return found


def with_outer(product: TiledProduct) -> TiledProduct:
    """The product with 32 times as much room behind the local memories."""
    place, room = OuterPlace("outer"), (("outer", 32 * product.room[0][1]),)
    prices = OuterPrices((95, 95), (6, 6), 60, 760, 3, 95)
    return replace(product, outer=OuterLevel(place, place, place, prices, room))


def print_times(name: str, of: Iterator[TiledProduct]) -> None:
    """Print the median and the longest processor time of a mapping."""
    spent = []
    for product in of:
        begun = time.process_time()
        best_mapping(product)
        spent.append((time.process_time() - begun) * 1e3)
    median = statistics.median(spent)
    sys.stdout.write(f"{name}: {len(spent)} products, median {median:.2f} ms, longest {max(spent):.2f} ms\n")


def main() -> None:
    """Print times and distances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--kib", type=int, default=128)
    options = parser.parse_args()
    for name, array in ARRAYS.items():
        print_times(name, products(options.batch, options.kib, array))
    for name, array in ARRAYS.items():
        print_times(f"{name}, two levels", map(with_outer, products(options.batch, options.kib // 8, array)))
    layers = products(options.batch, options.kib, ARRAYS["os, ws and is"])
    for name, of in (("resnet18_imagenet", layers), ("random plain products", plain_products(200))):
        found = distances(of)
        sys.stdout.write(
            f"{name}: {len(found)} products, DRAM bits over the bound: median {statistics.median(found):.3f}, "
            f"most {max(found):.3f}\n"
        )


if __name__ == "__main__":
    main()
