"""A product's mapping walked loop by loop: every tile, every fold, every value that comes or goes is counted.

Nothing here is in closed form. Inputs are sets (bits of integers), so that overlapping windows are seen as such.
"""

from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import product as all_of
from typing import NamedTuple

IRRELEVANT = {"left": "n", "right": "m", "result": "k"}
CONCERNED = {"left": ("m", "k"), "right": ("k", "n"), "result": ("m", "n")}
DIMENSIONS = ("m", "n", "k")


@dataclass
class Walked:
    """What was counted on the way."""

    reads: list
    fetched: list
    partial_sums: int
    spilled_sums: int
    accumulated: int
    streaming: int
    loading: int
    begun: int
    room: dict = field(default_factory=dict)
    possible: bool = True


def cuts(product, dimension, size):
    """The tiles of a dimension as ranges. Tiles of output positions end with their row, or their sample."""
    length, windows = product.length(dimension), product.windows
    step = length
    if windows is not None and dimension == {"left": "m", "right": "k", "result": "m"}[product.unfolded]:
        row, sample = windows.columns.windows, windows.per_sample
        step = row if size < row else sample if size <= sample else length
    return [
        range(start, min(start + size, base + step)) for base in range(0, length, step)
        for start in range(base, base + step, size)
    ]  # fmt: skip


def bits(numbers):
    """A set of small numbers."""
    return sum(1 << number for number in set(numbers))


@cache
def pixels(windows, position):
    """The inputs that the window at an output position touches."""
    sample, place = divmod(position, windows.per_sample)
    row, col = divmod(place, windows.columns.windows)
    rows, columns, found = windows.rows, windows.columns, []
    for tap_y, tap_x in all_of(range(rows.taps), range(columns.taps)):
        y = rows.start + row * rows.stride + tap_y * rows.dilation
        x = columns.start + col * columns.stride + tap_x * columns.dilation
        if 0 <= y < rows.places and 0 <= x < columns.places:
            found.append((sample * rows.places + y) * columns.places + x)
    return bits(found)


def contents(product, part, dimension, tile):
    """What a tile holds of a part along one of its dimensions, as a set."""
    if product.unfolded == part:
        if dimension == CONCERNED[part][0]:
            union = 0
            for position in tile:
                union |= pixels(product.windows, position)
            return union
        return bits(place // product.windows.taps for place in tile)
    return bits(tile)


class Memory:
    """The tiles of one part: what lies in memory, what came in, the most that lay there."""

    def __init__(self, product, part, loops, holds):
        first, second = CONCERNED[part]
        tiles, order = cut(product, loops.tile), loops.order
        self.sets = [[contents(product, part, name, tile) for tile in tiles[name]] for name in (first, second)]
        self.holds, outer = holds, order.index(IRRELEVANT[part])
        self.first, self.second = first, second
        self.outside = [name for name in (first, second) if order.index(name) < outer]
        if loops.outer_tile:
            self.outside += [first.upper(), second.upper()]
        self.block, self.tile, self.content = None, None, {}
        self.came = self.most = 0
        self.blocks = set()

    def use(self, at):
        """Use a tile. Returns whether it is another one than before."""
        tile = at[self.first], at[self.second]
        if tile == self.tile:
            return False
        block = tuple(at[name] for name in self.outside) if self.holds else tile
        if block != self.block:
            self.content = {}
        self.tile, self.block = tile, block
        self.blocks.add(block)
        inputs, chunk = self.sets[0][tile[0]], self.sets[1][tile[1]]
        self.there = self.content.get(chunk, 0)
        self.came += (inputs & ~self.there).bit_count() * chunk.bit_count()
        self.content[chunk] = self.there | inputs
        self.most = max(self.most, sum(held.bit_count() * of.bit_count() for of, held in self.content.items()))
        return True


class Sums(Memory):
    """Tiles of results: which were begun or left incomplete and come back, which inputs other tiles added to."""

    def __init__(self, product, part, loops, holds):
        super().__init__(product, part, loops, holds)
        self.turns = len(cut(product, loops.tile)[IRRELEVANT[part]])
        self.done, self.left, self.ever, self.in_block = {}, set(), {}, set()
        self.came_back = self.shared = self.returns = 0

    def visit(self, at):
        """Work on a tile of results. Those of another block, if they lack some of K, leave for it."""
        block = self.block
        if self.use(at) and self.block != block:
            self.left |= {tile for tile in self.in_block if self.done[tile] < self.turns}
            self.in_block = set()
        tile = self.tile
        self.in_block.add(tile)
        inputs, chunk = self.sets[0][tile[0]], self.sets[1][tile[1]]
        if tile in self.left:
            self.left.discard(tile)
            self.returns += 1
            self.came_back += inputs.bit_count() * chunk.bit_count()
        if tile not in self.done:
            self.shared += (inputs & self.ever.get(chunk, 0) & ~self.there).bit_count() * chunk.bit_count()
        self.done[tile] = self.done.get(tile, 0) + 1
        self.ever[chunk] = self.ever.get(chunk, 0) | inputs


def chunks(length, most):
    """A length in pieces of at most `most`."""
    return [min(most, length - start) for start in range(0, length, most)]


@cache
def tile_on_array(array, flow, sizes, declared, blocks, same_tile, started, in_place):
    """The folds of one tile (m, n, k), one by one: (left reads, right reads, partial sums, accumulated, cycles of
    streaming, of loading, values of what stays that folds begin to run with). `declared`: the sizes of a full tile,
    which the schedule goes by. `same_tile`: whether the array worked last on the same tile of what stays in it.
    `started`: whether the results have sums already; `in_place`: whether these are still at the array."""
    own = dict(zip(DIMENSIONS, sizes, strict=True))
    full = dict(zip(DIMENSIONS, declared, strict=True))
    row_folds, col_folds = (len(chunks(full[name], side)) for name, side in
                            ((flow.rows, array.rows), (flow.cols, array.cols)))  # fmt: skip
    reads, sums, accumulated, streaming, loading, begun = {"left": 0, "right": 0}, 0, 0, 0, 0, 0

    def fill(rows, cols):
        if not flow.skewed:
            return 0
        return rows + cols - 2 if array.trimmed else array.rows + array.cols - 2

    if flow.stays is None:
        for rows in chunks(own["m"], array.rows):
            for cols in chunks(own["n"], array.cols):
                goes_on = row_folds == col_folds == 1 and same_tile
                reads["left"] += rows * own["k"]
                reads["right"] += own["k"] * cols
                streaming += own["k"] + (0 if goes_on else fill(rows, cols))
                sums += rows * cols if started and not goes_on else 0
        return reads["left"], reads["right"], sums, 0, streaming, 0, 0
    stays, moves = ("right", "left") if flow.stays == 1 else ("left", "right")
    whole_tile_held = row_folds * col_folds <= array.held_folds
    column_held = row_folds <= array.held_folds
    held = set()
    if whole_tile_held and same_tile:
        held = set(all_of(range(row_folds), range(col_folds)))
    running = (0, 0) if row_folds * col_folds == 1 and same_tile else None
    stream = own[flow.streamed]
    for col, cols in enumerate(chunks(own[flow.cols], array.cols)):
        if not whole_tile_held:
            held = set()
        for block in chunks(stream, array.accumulators) if blocks else [stream]:
            for row, rows in enumerate(chunks(own[flow.rows], array.rows)):
                if not (whole_tile_held or (blocks and column_held) or (blocks and row_folds == 1)):
                    held = set()
                if (row, col) not in held:
                    held.add((row, col))
                    reads[stays] += rows * cols
                    loading += rows if array.trimmed else array.rows
                if running != (row, col) or row_folds > 1:
                    streaming += fill(rows, cols)
                    begun += rows * cols
                running = row, col
                reads[moves] += block * rows
                streaming += block
                if blocks:
                    accumulated += block * cols
                elif started or row:
                    sums += block * cols
            if blocks and started and not in_place:
                sums += block * cols
    return reads["left"], reads["right"], sums, accumulated, streaming, loading, begun


class Loops(NamedTuple):
    """Loops over tiles, outermost first; or over those in each outer tile, and over outer tiles around them."""

    tile: tuple
    order: tuple
    outer_tile: tuple = None
    outer_order: tuple = None


@lru_cache(maxsize=256)
def steps(product, loops):
    """Where the loops are at every tile, in turn: by dimension the tile, and (in capitals) the outer tile."""
    tiles = {name: range(len(of)) for name, of in cut(product, loops.tile).items()}
    if not loops.outer_tile:
        return [dict(zip(loops.order, at, strict=True)) for at in all_of(*(tiles[name] for name in loops.order))]
    inside = {
        name: [[number for number, tile in enumerate(cut(product, loops.tile)[name]) if tile.start in outer]
               for outer in of]
        for name, of in cut(product, loops.outer_tile).items()
    }  # fmt: skip
    found = []
    for outer in all_of(*(range(len(inside[name])) for name in loops.outer_order)):
        around = dict(zip(loops.outer_order, outer, strict=True))
        capitals = {name.upper(): number for name, number in around.items()}
        for at in all_of(*(inside[name][around[name]] for name in loops.order)):
            found.append(dict(zip(loops.order, at, strict=True)) | capitals)
    return found


@lru_cache(maxsize=4096)
def cut_one(product, name, size):
    """The tiles of a dimension."""
    return cuts(product, name, size)


def cut(product, tile):
    """The tiles of all dimensions."""
    return {name: cut_one(product, name, size) for name, size in zip(DIMENSIONS, tile, strict=True)}


@lru_cache(maxsize=4096)
def walked_memory(product, part, loops, holds):
    """An operand's memory after all loops."""
    memory = Memory(product, part, loops, holds)
    for at in steps(product, loops):
        memory.use(at)
    return memory


@lru_cache(maxsize=4096)
def walked_sums(product, loops, holds):
    """The memory of sums after all loops."""
    sums = Sums(product, "result", loops, holds)
    for at in steps(product, loops):
        sums.visit(at)
    return sums


@lru_cache(maxsize=4096)
def walked_array(product, flow, loops, blocks):
    """What the array has done after all loops: the sums of `tile_on_array`."""
    array, tile = product.array, loops.tile
    lengths = {name: [len(piece) for piece in pieces] for name, pieces in cut(product, tile).items()}
    staying = {None: ("m", "n"), 0: ("m", "k"), 1: ("k", "n")}[flow.stays]
    tile_sums = tile[DIMENSIONS.index(flow.streamed)] * len(chunks(tile[DIMENSIONS.index(flow.cols)], array.cols))
    started, last, counted = set(), {}, [0] * 7
    for at in steps(product, loops):
        results = at["m"], at["n"]
        in_place = bool(last) and (last["m"], last["n"]) == results and blocks and tile_sums <= array.accumulators
        same_tile = bool(last) and all(last[name] == at[name] for name in staying)
        sizes = tuple(lengths[name][at[name]] for name in DIMENSIONS)
        done = tile_on_array(array, flow, sizes, tile, blocks, same_tile, results in started, in_place)
        counted = [sum_ + more for sum_, more in zip(counted, done, strict=True)]
        started.add(results)
        last = at
    return counted


def walk(product, flow, tile, nest, outer_tile=None, outer_order=None):
    """Walk the loops over the tiles, outermost first: once for each memory, and once for the array."""
    loops = Loops(tile, nest.order, outer_tile, outer_order)
    left, right = (walked_memory(product, part, loops, nest.holds[side]) for side, part in enumerate(("left", "right")))
    sums = walked_sums(product, loops, nest.holds[2])
    counted = walked_array(product, flow, loops, nest.blocks)
    walked = Walked(counted[:2], [left.came, right.came], counted[2], sums.came_back, *counted[3:])
    if product.unfolded == "result":
        walked.possible, walked.spilled_sums = not sums.returns, sums.shared
    take_room(product, walked, left, right, sums)
    return walked


def take_room(product, walked, left, right, sums):
    """The most bits that lie in each memory, with room for the tiles that come next."""
    for operand, memory in ((product.left, left), (product.right, right)):
        if operand.resident < 1:
            buffers = operand.buffers if len(memory.blocks) > 1 else 1
            taken = memory.most * operand.bits * buffers
            walked.room[operand.memory] = walked.room.get(operand.memory, 0) + taken
    if walked.partial_sums or product.unfolded == "result":
        place = product.result
        walked.room[place.memory] = walked.room.get(place.memory, 0) + sums.most * place.sum_bits


def array_cycles(product, flow, walked):
    """Cycles of the array: loads behind the running folds, or before each."""
    if flow.stays is not None and product.array.double_buffered:
        return max(walked.streaming, walked.loading) + product.array.rows
    return walked.streaming + walked.loading


def finished_values(product):
    """Results: what all windows touch together, or each result."""
    if product.unfolded != "result":
        return product.m * product.n
    return contents(product, "result", "m", range(product.m)).bit_count() * product.windows.channels


def largest_tile(product, part, tile):
    """Values of the largest tile of a part."""
    first, second = (
        max(contents(product, part, name, piece).bit_count() for piece in cut(product, tile)[name])
        for name in CONCERNED[part]
    )  # fmt: skip
    return first * second


def awaited_bits(product, tile, fetched):
    """Bits of the largest tile of both operands that are not there already, or of all loads where none overlaps."""
    total = 0
    for part, operand in (("left", product.left), ("right", product.right)):
        first = largest_tile(product, part, tile) * (1 - operand.resident)
        total += operand.bits * (first if operand.overlaps else fetched[part == "right"])
    return total


def array_energy(product, flow, walked):
    """pJ of the array and of what it reads, writes and sums up."""
    prices, macs = product.prices, product.m * product.n * product.k
    idle = max(0, array_cycles(product, flow, walked) * product.array.rows * product.array.cols - macs)
    energy = sum(count * price for count, price in zip(walked.reads, prices.read, strict=True))
    energy += walked.partial_sums * prices.partial_sum + walked.accumulated * prices.accumulator
    if flow.stays is not None:
        energy += walked.reads[flow.stays] * prices.held[0] + walked.begun * prices.held[1]
    energy += product.m * product.n * prices.window_sum if product.unfolded == "result" else 0
    return energy + macs * flow.mac_pj + idle * flow.idle_pj


def energy_and_latency(product, flow, tile, walked):
    """The price of what was counted: (pJ, cycles)."""
    prices, leaving = product.prices, finished_values(product) * (1 - product.result.resident)
    missing = [1 - operand.resident for operand in product.operands]
    fetched = [count * share for count, share in zip(walked.fetched, missing, strict=True)]
    dram_bits = sum(count * operand.bits for count, operand in zip(fetched, product.operands, strict=True))
    dram_bits += 2 * walked.spilled_sums * product.result.sum_bits + leaving * product.result.bits
    rate = product.dram_bits_per_cycle
    cycles = array_cycles(product, flow, walked)
    latency = max(cycles + awaited_bits(product, tile, fetched) / rate, dram_bits / rate)
    energy = array_energy(product, flow, walked) + walked.spilled_sums * prices.spilled_sum + leaving * prices.result
    energy += sum(count * price for count, price in zip(fetched, prices.fetch, strict=True))
    return energy + latency * prices.static, latency


def objective(product, flow, tile, nest):
    """What the walked mapping costs; infinite where it cannot be or does not fit."""
    walked = walk(product, flow, tile, nest)
    limits = dict(product.room)
    if not walked.possible or any(taken > limits.get(name, taken) for name, taken in walked.room.items()):
        return float("inf")
    energy, latency = energy_and_latency(product, flow, tile, walked)
    return {"energy": energy, "latency": latency, "edp": energy * latency}[product.objective]
