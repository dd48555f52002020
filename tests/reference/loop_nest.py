"""A product's mapping walked loop by loop: every tile, every fold, every value that comes or goes is counted.

Nothing here is in closed form. Inputs are sets (bits of integers), so that overlapping windows are seen as such.
"""

from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import product as all_of

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

    def __init__(self, product, part, tiles, order, holds):
        first, second = CONCERNED[part]
        self.sets = [[contents(product, part, name, tile) for tile in tiles[name]] for name in (first, second)]
        self.holds, outer = holds, order.index(IRRELEVANT[part])
        self.first, self.second = first, second
        self.outside = [name for name in (first, second) if order.index(name) < outer]
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
        there = self.content.get(chunk, 0)
        self.came += (inputs & ~there).bit_count() * chunk.bit_count()
        self.content[chunk] = there | inputs
        self.most = max(self.most, sum(held.bit_count() * of.bit_count() for of, held in self.content.items()))
        return True


class Sums(Memory):
    """Tiles of results: which were begun or left incomplete and come back, which inputs other tiles added to."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.begun, self.left, self.ever = set(), set(), {}
        self.came_back = self.shared = self.returns = 0

    def visit(self, at, incomplete):
        """Work on a tile of results. `incomplete`: whether the tile worked on before lacks some of K."""
        tile, before, block = (at[self.first], at[self.second]), self.tile, self.block
        self.use(at)
        if before is not None and before != tile and incomplete and self.block != block:
            self.left.add(before)
        inputs, chunk = self.sets[0][tile[0]], self.sets[1][tile[1]]
        if tile in self.left:
            self.left.discard(tile)
            self.returns += 1
            self.came_back += inputs.bit_count() * chunk.bit_count()
        if tile not in self.begun and not (self.holds and self.first not in self.outside):
            self.shared += (inputs & self.ever.get(chunk, 0)).bit_count() * chunk.bit_count()
        self.begun.add(tile)
        self.ever[chunk] = self.ever.get(chunk, 0) | inputs


def chunks(length, most):
    """A length in pieces of at most `most`."""
    return [min(most, length - start) for start in range(0, length, most)]


@cache
def tile_on_array(array, flow, sizes, declared, blocks, same_tile, started, in_place):
    """The folds of one tile (m, n, k), one by one: (left reads, right reads, partial sums, accumulated, cycles of
    streaming, of loading). `declared`: the sizes of a full tile, which the schedule goes by. `same_tile`: whether the
    array worked last on the same tile of what stays in it. `started`: whether the results have sums already;
    `in_place`: whether these are still at the array."""
    own = dict(zip(DIMENSIONS, sizes, strict=True))
    full = dict(zip(DIMENSIONS, declared, strict=True))
    row_folds, col_folds = (len(chunks(full[name], side)) for name, side in
                            ((flow.rows, array.rows), (flow.cols, array.cols)))  # fmt: skip
    reads, sums, accumulated, streaming, loading = {"left": 0, "right": 0}, 0, 0, 0, 0

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
        return reads["left"], reads["right"], sums, 0, streaming, 0
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
                running = row, col
                reads[moves] += block * rows
                streaming += block
                if blocks:
                    accumulated += block * cols
                elif started or row:
                    sums += block * cols
            if blocks and started and not in_place:
                sums += block * cols
    return reads["left"], reads["right"], sums, accumulated, streaming, loading


def steps(tiles, order):
    """Yield where the loops are, outermost first, at every tile."""
    for indices in all_of(*(range(len(tiles[name])) for name in order)):
        yield dict(zip(order, indices, strict=True))


def cut(product, tile):
    """The tiles of all dimensions."""
    return {name: cuts(product, name, size) for name, size in zip(DIMENSIONS, tile, strict=True)}


@lru_cache(maxsize=64)
def walked_memory(product, part, tile, order, holds):
    """An operand's memory after all loops."""
    tiles = cut(product, tile)
    memory = Memory(product, part, tiles, order, holds)
    for at in steps(tiles, order):
        memory.use(at)
    return memory


@lru_cache(maxsize=64)
def walked_sums(product, tile, order, holds):
    """The memory of sums after all loops."""
    tiles, done, last = cut(product, tile), {}, None
    sums = Sums(product, "result", tiles, order, holds)
    for at in steps(tiles, order):
        results = at["m"], at["n"]
        sums.visit(at, last is not None and done[last] < len(tiles["k"]))
        done[results] = done.get(results, 0) + 1
        last = results
    return sums


@lru_cache(maxsize=64)
def walked_array(array, flow, tiles, tile, order, blocks):
    """What the array has done after all loops: the sums of `tile_on_array`. `tiles`: lengths by dimension."""
    lengths = dict(zip(DIMENSIONS, tiles, strict=True))
    staying = {None: ("m", "n"), 0: ("m", "k"), 1: ("k", "n")}[flow.stays]
    tile_sums = tile[DIMENSIONS.index(flow.streamed)] * len(chunks(tile[DIMENSIONS.index(flow.cols)], array.cols))
    started, last, counted = set(), {}, [0] * 6
    for at in steps(lengths, order):
        results = at["m"], at["n"]
        in_place = bool(last) and (last["m"], last["n"]) == results and blocks and tile_sums <= array.accumulators
        same_tile = bool(last) and all(last[name] == at[name] for name in staying)
        sizes = tuple(lengths[name][at[name]] for name in DIMENSIONS)
        done = tile_on_array(array, flow, sizes, tile, blocks, same_tile, results in started, in_place)
        counted = [sum_ + more for sum_, more in zip(counted, done, strict=True)]
        started.add(results)
        last = at
    return counted


def walk(product, flow, tile, nest):
    """Walk the loops over the tiles, outermost first: once for each memory, and once for the array."""
    left, right = (
        walked_memory(product, part, tile, nest.order, nest.holds[side]) for side, part in enumerate(("left", "right"))
    )
    sums = walked_sums(product, tile, nest.order, nest.holds[2])
    lengths = tuple(tuple(map(len, pieces)) for pieces in cut(product, tile).values())
    counted = walked_array(product.array, flow, lengths, tile, nest.order, nest.blocks)
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
    """Results that leave for DRAM: what all windows touch together, or each result."""
    if product.unfolded != "result":
        return product.m * product.n * (1 - product.result.resident)
    union = contents(product, "result", "m", range(product.m))
    return union.bit_count() * product.windows.channels * (1 - product.result.resident)


def awaited_bits(product, tile, fetched):
    """Bits of the largest tile of both operands that are not there already, or of all loads where none overlaps."""
    total = 0
    for part, operand in (("left", product.left), ("right", product.right)):
        sizes = [
            max(contents(product, part, name, piece).bit_count() for piece in
                cuts(product, name, tile[DIMENSIONS.index(name)]))
            for name in CONCERNED[part]
        ]  # fmt: skip
        first = sizes[0] * sizes[1] * (1 - operand.resident)
        total += operand.bits * (first if operand.overlaps else fetched[part == "right"])
    return total


def energy_and_latency(product, flow, tile, walked):
    """The price of what was counted: (pJ, cycles)."""
    prices, cycles = product.prices, array_cycles(product, flow, walked)
    missing = [1 - operand.resident for operand in product.operands]
    fetched = [count * share for count, share in zip(walked.fetched, missing, strict=True)]
    dram_bits = sum(count * operand.bits for count, operand in zip(fetched, product.operands, strict=True))
    dram_bits += 2 * walked.spilled_sums * product.result.sum_bits + finished_values(product) * product.result.bits
    rate = product.dram_bits_per_cycle
    latency = max(cycles + awaited_bits(product, tile, fetched) / rate, dram_bits / rate)
    macs = product.m * product.n * product.k
    energy = sum(count * price for count, price in zip(walked.reads, prices.read, strict=True))
    energy += sum(count * price for count, price in zip(fetched, prices.fetch, strict=True))
    energy += walked.partial_sums * prices.partial_sum + walked.spilled_sums * prices.spilled_sum
    energy += walked.accumulated * prices.accumulator + finished_values(product) * prices.result
    energy += macs * flow.mac_pj + max(0, cycles * product.array.rows * product.array.cols - macs) * flow.idle_pj
    energy += product.m * product.n * prices.window_sum if product.unfolded == "result" else 0
    return energy + latency * prices.static, latency


def objective(product, flow, tile, nest):
    """What the walked mapping costs; infinite where it cannot be or does not fit."""
    walked = walk(product, flow, tile, nest)
    limits = dict(product.room)
    if not walked.possible or any(taken > limits.get(name, taken) for name, taken in walked.room.items()):
        return float("inf")
    energy, latency = energy_and_latency(product, flow, tile, walked)
    return {"energy": energy, "latency": latency, "edp": energy * latency}[product.objective]
