"""A product's mapping on two levels walked loop by loop: tiles as in `loop_nest`, in outer tiles walked likewise."""

from dataclasses import dataclass

from tests.reference.loop_nest import (
    Loops,
    Walked,
    array_cycles,
    array_energy,
    finished_values,
    largest_tile,
    walk,
    walked_memory,
    walked_sums,
)

PARTS = ("left", "right", "result")


@dataclass
class Nested:
    """What was counted: by the walk over tiles; values that came from further out into local memories, and from DRAM
    into outer ones; sums that went on to DRAM; finished values that left local memories, and for DRAM from outer ones;
    the room that outer tiles took."""

    inner: Walked
    moved: list
    fetched: list
    spilled: int
    leaving: tuple
    room: dict


def walk_nested(product, flow, tiling):
    """Walk the loops of both levels."""
    outer, level = tiling.outer, product.outer
    inner = walk(product, flow, tiling.tile, tiling.nest, outer.tile, outer.nest.order)
    moved = [count * (1 - part.resident) for count, part in zip(inner.fetched, product.operands, strict=True)]
    loops, room, fetched = Loops(outer.tile, outer.nest.order), {}, []
    for number, (operand, place) in enumerate(zip(product.operands, level.places, strict=False)):
        memory = walked_memory(product, PARTS[number], loops, outer.nest.holds[number])
        fetched.append(memory.came * (1 - place.resident) if place else 0)
        if place and place.resident < 1:
            taken = memory.most * operand.bits * (place.buffers if len(memory.blocks) > 1 else 1)
            room[place.memory] = room.get(place.memory, 0) + taken
    sums, finished = walked_sums(product, loops, outer.nest.holds[2]), finished_values(product)
    if level.result and inner.spilled_sums:
        room[level.result.memory] = room.get(level.result.memory, 0) + sums.most * product.result.sum_bits
    spilled = (sums.shared if product.unfolded == "result" else sums.came_back) if level.result else 0
    leaving = finished * (1 - product.result.resident), finished * (1 - level.result.resident) if level.result else 0
    return Nested(inner, moved, fetched, spilled, leaving, room)


def passing_bits(product, nested):
    """Bits that pass between local and outer memories, and those that pass DRAM."""
    result, level, bits = product.result, product.outer, {True: 0, False: 0}
    for operand, place, moved, fetched in zip(
        product.operands, level.places, nested.moved, nested.fetched, strict=False
    ):  # fmt: skip
        bits[bool(place)] += moved * operand.bits
        bits[False] += fetched * operand.bits
    bits[bool(level.result)] += 2 * nested.inner.spilled_sums * result.sum_bits + nested.leaving[0] * result.bits
    bits[False] += 2 * nested.spilled * result.sum_bits + nested.leaving[1] * result.bits
    return bits[True], bits[False]


def latency_of(product, flow, tile, nested):
    """Cycles of the array with what it waits for, or of what passes memories where this takes longer."""
    level, cycles = product.outer, array_cycles(product, flow, nested.inner)
    for number, (operand, place) in enumerate(zip(product.operands, level.places, strict=False)):
        first = largest_tile(product, PARTS[number], tile)
        awaited = first * (1 - operand.resident) if operand.overlaps else nested.moved[number]
        cycles += awaited * operand.bits / (level.bits_per_cycle if place else product.dram_bits_per_cycle)
        cycles += first * (1 - place.resident) * operand.bits / product.dram_bits_per_cycle if place else 0
    moved, through_dram = passing_bits(product, nested)
    return max(cycles, moved / level.bits_per_cycle, through_dram / product.dram_bits_per_cycle)


def energy_of(product, flow, nested):
    """pJ without the static share."""
    direct, outer, level = product.prices, product.outer.prices, product.outer
    energy = array_energy(product, flow, nested.inner)
    for number, place in enumerate(level.places[:2]):
        energy += nested.moved[number] * (outer.move if place else direct.fetch)[number]
        energy += nested.fetched[number] * outer.fetch[number]
    energy += nested.inner.spilled_sums * (outer.moved_sum if level.result else direct.spilled_sum)
    energy += nested.leaving[0] * (outer.moved_result if level.result else direct.result)
    return energy + nested.spilled * outer.spilled_sum + nested.leaving[1] * outer.result


def fits(product, nested):
    """Whether the mapping can be, and has room on both levels."""
    rooms = (nested.inner.room, dict(product.room)), (nested.room, dict(product.outer.room))
    return nested.inner.possible and all(
        taken <= limits.get(name, taken) for room, limits in rooms for name, taken in room.items()
    )  # fmt: skip


def nested_objective(product, flow, tiling):
    """What the walked mapping costs; infinite where it cannot be or does not fit."""
    nested = walk_nested(product, flow, tiling)
    if not fits(product, nested):
        return float("inf")
    latency = latency_of(product, flow, tiling.tile, nested)
    energy = energy_of(product, flow, nested) + latency * product.prices.static
    return {"energy": energy, "latency": latency, "edp": energy * latency}[product.objective]
