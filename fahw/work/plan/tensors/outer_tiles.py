"""Memories behind the local ones as a product of a step meets them: what of it is there, and room for its tiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.mapping.problem import DirectWay, OuterLevel, OuterPlace, TiledProduct
from fahw.work.counts.gemm import Gemm
from fahw.work.plan.pricing import PriceBook, StreamPrice


@dataclass(frozen=True)
class Surroundings:
    """What a task finds: shares of its operands, by kind, that are in their innermost homes, and on the chip at all;
    bits for tiles, by memory. `one_level`: homes behind the innermost ones hold no tiles."""

    shares: Mapping[str, float]
    on_chip: Mapping[str, float]
    room: tuple[tuple[str, float], ...]
    one_level: bool = False


def in_outer(
    product: TiledProduct, streams: Sequence[Sequence[StreamPrice]], gemm: Gemm, psum: Memory | None, chip: Chip,
    book: PriceBook, around: Surroundings,
) -> TiledProduct:  # fmt: skip
    """The product with the memories behind its local ones, where something can come through them; else with the prices
    of what comes from there. `streams`: of both operands, without shares on the chip."""
    left, right = (_outer_place(of, around) for of in streams)
    sums = None if around.one_level or psum is None else book.outer_homes.get("psum")
    direct = _direct(product, streams, chip, book, around)
    comes_through = any(place is not None and place.resident < 1 for place in (left, right))
    if around.one_level or not (comes_through or sums):
        alone = OuterLevel(None, None, None, direct=direct)
        return replace(product, outer=alone).on_one_level
    outer = {place.memory for place in (left, right) if place} | ({sums.name} if sums else set())
    level = OuterLevel(
        left, right, OuterPlace(sums.name, 1.0) if sums else None, book.outer_prices(gemm, psum), (),
        min(_rate(chip, name) for name in outer), direct,
    )  # fmt: skip
    local = {product.left.memory, product.right.memory, product.result.memory}
    shared = {name: bits / 2 if name in outer & local else bits for name, bits in around.room}
    room = tuple((name, bits) for name, bits in shared.items() if name in outer)
    return replace(product, room=tuple(shared.items()), outer=replace(level, room=room))


def _outer_place(streams: Sequence[StreamPrice], around: Surroundings) -> OuterPlace | None:
    """Where an operand lies behind its local memory, with the share that is on the chip; None where its parts have no
    such home together, or nothing comes."""
    memories = {stream.outer for stream in streams}
    if len(memories) != 1 or "" in memories or around.one_level or _missing(streams, around.shares) <= 0:
        return None
    bits = sum(stream.bits for stream in streams)
    return OuterPlace(streams[0].outer, 1 - _missing(streams, around.on_chip) / bits)


def _missing(streams: Iterable[StreamPrice], shares: Mapping[str, float]) -> float:
    """Bits of a value that are not there."""
    return sum(stream.bits * (1 - shares.get(stream.stored, 1.0)) for stream in streams)


def _direct(
    product: TiledProduct, streams: Sequence[Sequence[StreamPrice]], chip: Chip, book: PriceBook, around: Surroundings
) -> DirectWay:
    """How operands come past outer tiles: from DRAM, and from outer memories what lies there."""
    away = [stream for of in streams for stream in of if around.on_chip.get(stream.stored, 1.0) < 1]
    inner = [name for of in streams for name in (stream.outer for stream in of) if name]
    rate = product.dram_bits_per_cycle if away or not inner else min(_rate(chip, name) for name in inner)
    (left, moved_left), (right, moved_right) = (_mean_prices(of, around) for of in streams)
    return DirectWay((left, right), (moved_left, moved_right), rate, around.room)


def _mean_prices(streams: Sequence[StreamPrice], around: Surroundings) -> tuple[float, float]:
    """What a value that is not in its innermost home takes from DRAM and from its outer one, on average."""
    missing, bits = _missing(streams, around.shares), sum(stream.bits for stream in streams)
    if missing <= 0 or _missing(streams, around.on_chip) >= missing:
        return sum(stream.fetch_pj for stream in streams), 0.0
    fetch = move = 0.0
    for stream in streams:
        away = 1 - around.on_chip.get(stream.stored, 1.0)
        fetch += away * stream.fetch_pj
        move += (1 - around.shares.get(stream.stored, 1.0) - away) * stream.move_pj
    return fetch * bits / missing, move * bits / missing


def _rate(chip: Chip, name: str) -> float:
    """Bits per cycle that a memory gives."""
    return chip.memory(name).bits_per_cycle("read", chip.clock_mhz)
