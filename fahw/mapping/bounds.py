"""Lower bounds of what passes DRAM in a product, whatever its mapping.

docs/model.md, "What no mapping can beat", derives them. Compulsory traffic: whatever is not there comes once. Reuse:
with S bits of room on the chip, no schedule of the multiply-accumulates moves less than Hong and Kung's red-blue pebble
game allows, here with the constant of Smith et al. (2019), widths of each part, and windows that use a stored value R
times.
"""

from __future__ import annotations

from math import inf, sqrt

from fahw.mapping.problem import TiledProduct


def compulsory_bits(product: TiledProduct) -> float:
    """Bits that pass DRAM if every operand comes once and every result leaves once."""
    widths = product.left.bits, product.right.bits, product.result.bits
    parts = zip(_distinct(product), widths, product.shares_on_chip, strict=True)
    return sum(values * bits * (1 - share) for values, bits, share in parts) * product.repeats


def reuse_bits(product: TiledProduct) -> float:
    """Bits that must pass DRAM for want of room: 2 MACs sqrt(w_A w_B w_C / (R S)) - 2 S, less the bits w_C of every
    sum, which need not come the first time, plus the results that leave. MACs are those with a stored value, w widths,
    R the most windows that a stored value lies in, S `local_bits`."""
    room = local_bits(product)
    if room == inf:
        return 0.0
    windows, results = product.windows, _distinct(product)[2]
    macs = product.macs * product.repeats * (windows.met_share if windows else 1.0)
    widths = product.left.bits * product.right.bits * product.result.sum_bits
    moved = 2 * macs * sqrt(widths / ((windows.reuse if windows else 1) * room)) - 2 * room
    leaving = results * product.result.bits * (1 - product.shares_on_chip[2])
    return max(0.0, moved - results * product.result.sum_bits * product.repeats) + leaving * product.repeats


def lower_bound_bits(product: TiledProduct) -> float:
    """The larger of both bounds."""
    return max(compulsory_bits(product), reuse_bits(product))


def local_bits(product: TiledProduct) -> float:
    """Bits that the chip can hold of the product at a time: room for tiles on both levels, what is there already,
    registers of the elements, accumulators. Infinite where a memory has no limit."""
    limits = dict(product.room)
    memories = {product.left.memory, product.right.memory, product.result.memory}
    room = sum(limits.get(memory, inf) for memory in memories) + _outer_room(product)
    left, right, _ = _distinct(product)
    left_share, right_share, _ = product.shares_on_chip
    there = left * product.left.bits * left_share + right * product.right.bits * right_share
    return room + there * product.repeats + _register_bits(product)


def _outer_room(product: TiledProduct) -> float:
    """Bits in the memories behind the local ones."""
    if product.outer is None:
        return 0.0
    limits = dict(product.outer.room)
    return sum(limits.get(memory, inf) for memory in {place.memory for place in product.outer.places if place})


def _register_bits(product: TiledProduct) -> float:
    """Bits in the elements and at the array's edge."""
    array, sum_bits = product.array, product.result.sum_bits
    element = (array.held_folds + array.double_buffered) * (product.left.bits + product.right.bits) + sum_bits
    return array.rows * array.cols * element + array.cols * array.accumulators * sum_bits


def _distinct(product: TiledProduct) -> tuple[int, int, int]:
    """Values of left, right and results as they lie in memory: inputs where windows share them."""
    values = {"left": product.m * product.k, "right": product.k * product.n, "result": product.m * product.n}
    if product.windows is not None and product.unfolded is not None:
        values[product.unfolded] = product.windows.values
    return values["left"], values["right"], values["result"]
