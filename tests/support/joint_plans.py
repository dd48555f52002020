"""The least that a step can cost where tiles and what stays on the chip are chosen together: branch and bound by HiGHS
over every mapping that the mapper tries of every product, in both forms of an error, and all shares of all tensors.

For steps on one core, without groups, in which a task reads one tensor of a kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

from fahw.hardware.pinned_mapping import PinnedMapping, PinnedTensor, PinnedWaiting
from fahw.mapping.cost import NestCosts
from fahw.mapping.grid import DIMENSIONS, all_tiles
from fahw.mapping.nest import PARTS, Nest, nests
from fahw.work.plan.step_plan import StepPlan, all_room
from fahw.work.plan.tiles import UntiledProduct

THERE = ((False, False), (True, False), (False, True), (True, True))
"""Whether the left and the right operand lie wholly on the chip, so that they need no tiles."""


@dataclass(frozen=True)
class SeenProduct:
    """A product of a task: its number among those of the layer and phase, the form that it belongs to, the kinds of its
    operands, and itself, of which nothing is there."""

    layer: str
    phase: str
    number: int
    form: Any
    kinds: tuple[str, str]
    product: Any


@dataclass(frozen=True)
class _Noting(StepPlan):
    """A plan that maps nothing, and notes what it is asked to map."""

    noted: list[Any] = field(default_factory=list)

    def laid_out(
        self, gemm: Any, number: int, unfolding: Any, array: Any, psum: Any, core: int, task: Any
    ) -> Any:  # fmt: skip
        untiled = UntiledProduct(gemm, number, unfolding, array, psum, core, self.chip, self.book)
        product = untiled.around(self.around(core, task, all_room(self.chip)))
        assert gemm.repeats == 1
        kinds = [operand.streams[0].stored or operand.streams[0].tensor for operand in gemm.operands]
        self.noted.append((number, kinds, product))
        return gemm


def products_of(one: Any, task: Any) -> dict[Any, list[SeenProduct]]:
    """The products of a task by form, of which nothing is there."""
    plan, found = one.keeping.nothing_kept(0), {}
    for form in task.forms or (None,):
        forms = {task.part.name: form} if form else {}
        noting = _Noting(plan.chip, plan.book, plan.shares, forms=forms)
        task.products(replace(one.step, plan=noting).during(task.task), task.part, one.step.micro_batch_sizes[0])
        found[form] = [
            SeenProduct(task.part.name, task.task[0], number, form, tuple(kinds), product)
            for number, kinds, product in noting.noted
        ]
    return found


@dataclass
class Menu:
    """All mappings of a product that no other is better than in everything: values in the columns of `table`."""

    seen: SeenProduct
    there: list[tuple[bool, bool]]
    tilings: list[tuple[str, tuple[int, int, int], Nest]]
    table: Any
    memories: list[str]


FIXED, CYCLES, SPILLED, LEFT, RIGHT, FIRST_LEFT, FIRST_RIGHT, ROOM = range(8)
"""Columns of a menu: pJ beside fetches and static power; cycles without loads; bits of sums in DRAM; values fetched of
each operand if nothing is there, and of its first tile; then room by memory."""


def menu_of(seen: SeenProduct) -> Menu:
    """The menu of a product, of which nothing is there."""
    product = seen.product
    memories = sorted({product.left.memory, product.right.memory, product.result.memory})
    rows, tilings, there = [], [], []
    for flow in product.array.dataflows:
        costs = NestCosts(all_tiles(product, flow))
        for nest in nests(product, flow):
            found = _rows(costs, nest, memories)
            possible = np.broadcast_to(costs.counts(nest).sums.possible, costs.grid.shape).ravel()
            tiles = [
                tuple(round(float(size)) for size in sizes)
                for sizes in zip(
                    *(np.broadcast_to(costs.grid.sizes[d].size, costs.grid.shape).ravel() for d in DIMENSIONS),
                    strict=True,
                )
            ]
            for combination in THERE:
                rows.append(found[combination][possible])
                tilings += [(flow.name, tile, nest) for tile, ok in zip(tiles, possible, strict=True) if ok]
                there += [combination] * int(possible.sum())
    table = np.concatenate(rows)
    kept = _undominated(table, np.array(there))
    return Menu(seen, [there[n] for n in kept], [tilings[n] for n in kept], table[kept], memories)


def _rows(costs: NestCosts, nest: Nest, memories: list[str]) -> dict[tuple[bool, bool], Any]:
    product, counts, shape = costs.problem, costs.counts(nest), costs.grid.shape
    fixed = costs.array_energy(counts.array) + counts.sums.spilled * product.prices.spilled_sum
    cycles = counts.array.cycles * costs.grid.flow.costs.paced
    first = [costs.grid.tile_values(part) for part in (0, 1)]
    columns = [fixed, cycles, counts.sums.spilled * 2 * product.result.sum_bits, counts.left.fetched,
               counts.right.fetched, *first]  # fmt: skip
    parts = [(product.left.memory, counts.left.room), (product.right.memory, counts.right.room),
             (product.result.memory, counts.sums.room)]  # fmt: skip
    found = {}
    for combination in THERE:
        away = (*(not there for there in combination), True)
        room = {name: np.zeros(1) for name in memories}
        for (memory, bits), takes in zip(parts, away, strict=True):
            room[memory] = room[memory] + bits * takes
        values = [*columns, *(room[name] for name in memories)]
        for side, is_there in enumerate(combination):
            if is_there:
                values[LEFT + side] = values[FIRST_LEFT + side] = np.zeros(1)
        found[combination] = np.stack([np.broadcast_to(value, shape).ravel() for value in values], axis=1)
    return found


def _undominated(table: Any, there: Any) -> list[int]:
    """The rows that no other with the same operands there is at least as good as in everything."""
    kept: list[int] = []
    for combination in THERE:
        rows = np.flatnonzero((there == np.array(combination)).all(axis=1))
        _, unique = np.unique(table[rows], axis=0, return_index=True)
        rows = rows[unique]
        values = table[rows]
        for number, row in enumerate(values):
            better = (values <= row + 1e-9).all(axis=1)
            better[number] = False
            if not better.any():
                kept.append(int(rows[number]))
    return kept


@dataclass
class _Programme:
    """Columns with their cost, bounds and whether they are whole; rows as sums of columns between two limits."""

    cost: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    entries: list[tuple[int, int, float]] = field(default_factory=list)
    least_of_row: list[float] = field(default_factory=list)
    most_of_row: list[float] = field(default_factory=list)

    def column(self, cost: float = 0.0, most: float = 1.0, whole: bool = False) -> int:
        self.cost.append(cost)
        self.most.append(most)
        self.whole.append(int(whole))
        return len(self.cost) - 1

    def row(self, terms: list[tuple[int, float]], least: float = -np.inf, most: float = np.inf) -> None:
        scale = max((abs(factor) for _, factor in terms), default=1.0) or 1.0
        self.entries += [(len(self.least_of_row), column, factor / scale) for column, factor in terms]
        self.least_of_row.append(least / scale)
        self.most_of_row.append(most / scale)

    def solved(self, gap: float, seconds: float) -> tuple[float, Any]:
        """A lower bound of the least cost, and the best columns found."""
        row, column, factor = np.array(self.entries).T
        shape = len(self.least_of_row), len(self.cost)
        matrix = coo_matrix((factor, (row.astype(int), column.astype(int))), shape=shape).tocsr()
        scale = max(map(abs, self.cost))
        found = milp(
            np.array(self.cost) / scale, integrality=self.whole, bounds=Bounds(0, self.most),
            constraints=LinearConstraint(matrix, self.least_of_row, self.most_of_row),
            options={"mip_rel_gap": gap, "time_limit": seconds},
        )  # fmt: skip
        assert found.x is not None, found.message
        return found.mip_dual_bound * scale, found.x


@dataclass
class JointPlan:
    """The best plan found and a lower bound of what any costs, in pJ: products, with static power in their cycles, and
    all else that is not there. `pins`: the plan, as a chip file has it."""

    bound: float
    pins: dict[str, Any]


def joint_plan(one: Any, gap: float = 1e-3, seconds: float = 120.0) -> JointPlan:
    """The best plan of a step that was `searched`."""
    return _Joint(one).best(gap, seconds)


class _Joint:
    def __init__(self, one: Any) -> None:
        self.keeping, self.pricing, self.waits = one.keeping, one.pricing, one.step.plan.waits
        self.programme = _Programme()
        self.ways = [self.programme.column() for _ in self.keeping.ways]
        self.taken: dict[tuple[Any, ...], list[tuple[int, float]]] = defaultdict(list)
        self.others = 0.0
        self.chosen: list[tuple[Menu, list[int]]] = []
        self._tensors(one.found)
        for task in self.keeping.tasks:
            self._task(one, task)

    def _there(self, number: int, read: int) -> list[tuple[int, float]]:
        """The share of a tensor that is there at a read."""
        return [
            (column, 1.0)
            for (own, until, _), column in zip(self.keeping.ways, self.ways, strict=True)
            if own == number and until > read
        ]

    def _tensors(self, found: Any) -> None:
        keeping = self.keeping
        for number, tensor in enumerate(keeping.tensors):
            own = [column for (other, *_), column in zip(keeping.ways, self.ways, strict=True) if other == number]
            self.programme.row([(column, 1.0) for column in own], most=1.0)
            for read, use in enumerate(tensor.reads):
                if not use.is_operand:
                    self._costs(keeping.worth.read_pj(number, use, found), self._there(number, read))
            written = self._there(number, len(tensor.reads) - 1)
            self._costs(keeping.worth.writes_pj(number), written)
        for (number, *_), moments, column in zip(keeping.ways, keeping._open, self.ways, strict=True):
            for moment, copies in moments:
                bits = float(copies * keeping.tensors[number].bits)
                self.taken[keeping.homes[number][0].name, moment].append((column, bits))

    def _costs(self, energy: float, there: list[tuple[int, float]]) -> None:
        self.others += energy
        for column, _ in there:
            self.programme.cost[column] -= energy

    def _task(self, one: Any, task: Any) -> None:
        forms = products_of(one, task)
        chosen = [(self.programme.column(most=1.0, whole=True), products) for products in forms.values()]
        self.programme.row([(form, 1.0) for form, _ in chosen], 1.0, 1.0)
        for form, products in chosen:
            for seen in products:
                self._product(task, form, menu_of(seen))

    def _product(self, task: Any, form: int, menu: Menu) -> None:
        programme, product, table = self.programme, menu.seen.product, menu.table
        rate, prices = product.dram_bits_per_cycle, product.prices
        factors = {flow.name: flow.costs.fetches for flow in product.array.dataflows}
        columns = [programme.column(task.times * float(row[FIXED]), whole=True) for row in table]
        self.chosen.append((menu, columns))
        programme.row([*((column, 1.0) for column in columns), (form, -1.0)], 0.0, 0.0)
        array = [(column, float(row[CYCLES])) for column, row in zip(columns, table, strict=True)]
        dram = [(column, float(row[SPILLED]) / rate) for column, row in zip(columns, table, strict=True)]
        for side, operand in enumerate(product.operands):
            if operand.resident >= 1:
                continue
            shares = self._operand(task, menu.seen.kinds[side])
            away = []
            for number, column in enumerate(columns):
                fetched, first = float(table[number, LEFT + side]), float(table[number, FIRST_LEFT + side])
                if menu.there[number][side]:
                    continue
                price = prices.fetch[side] * factors[menu.tilings[number][0]][side]
                share = programme.column(task.times * fetched * price)
                programme.row([(share, 1.0), (column, -1.0)], most=0.0)
                away.append((share, 1.0))
                array.append((share, first * operand.bits / rate))
                dram.append((share, fetched * operand.bits / rate))
            programme.row([*away, *shares, (form, -1.0)], least=0.0)
        if prices.static:
            cycles = programme.column(task.times * prices.static, np.inf)
            for terms in (array, dram):
                programme.row([(cycles, 1.0), *((column, -factor) for column, factor in terms)], least=0.0)
        moment = self.keeping.moments.of_task[task.task]
        for place, memory in enumerate(menu.memories):
            room = [(column, float(row[ROOM + place])) for column, row in zip(columns, table, strict=True)]
            self.taken[memory, moment, task.task, menu.seen.number, menu.seen.form] = room

    def _operand(self, task: Any, kind: str) -> list[tuple[int, float]]:
        """The share of an operand that is there."""
        found = [
            (number, read)
            for number, tensor in enumerate(self.keeping.tensors)
            for read, use in enumerate(tensor.reads)
            if use.is_operand and use.task == task.task and tensor.tensor == kind
        ]
        assert len(found) == 1, (task.task, kind, found)
        return self._there(*found[0])

    def best(self, gap: float, seconds: float) -> JointPlan:
        for _, memory in self.keeping.places:
            for moment in range(len(self.keeping.moments.tasks)):
                live = self.taken.get((memory.name, moment), [])
                for tiles in self._tiles(memory.name, moment):
                    self.programme.row([*live, *tiles], most=memory.kib * 8192)
        cost, columns = self.programme.solved(gap, seconds)
        return JointPlan(cost + self.others, self._pins(columns))

    def _tiles(self, memory: str, moment: int) -> Iterator[list[tuple[int, float]]]:
        """Room of tiles that may be there at a moment: of one product of each array."""
        together = self.keeping.tiles.together[moment]
        array, groups = {task.task: task.array for task in self.keeping.tasks}, defaultdict(list)
        for (name, own, *task), terms in self.taken.items():
            if task and name == memory and together[own]:
                groups[array[task[0]]].append(terms)
        for several in product(*groups.values()):
            yield [term for terms in several for term in terms]

    def _pins(self, columns: Any) -> dict[str, Any]:
        mappings, tensors = [], []
        for menu, own in self.chosen:
            for (flow, tile, nest), column in zip(menu.tilings, own, strict=True):
                if columns[column] > 0.5:
                    hold = tuple(name for name, holds in zip(PARTS, nest.holds, strict=True) if holds)
                    seen = menu.seen
                    mappings.append(PinnedMapping(
                        layer=seen.layer, phase=seen.phase, product=seen.number, form=seen.form,
                        dataflow=flow, tile=tile, order="".join(nest.order), hold=hold, blocks=nest.blocks,
                    ))  # fmt: skip
        for number, tensor in enumerate(self.keeping.tensors):
            shares = [sum(columns[way] for way, _ in self._there(number, read)) for read in range(len(tensor.reads))]
            rounded = tuple(
                1.0 if share > 1 - 1e-6 else max(0.0, float(np.floor(share * 1e6) / 1e6)) for share in shares
            )
            tensors.append(PinnedTensor(name=tensor.name, core=tensor.core, shares=rounded))
        waits = (PinnedWaiting(waits=self.waits),)
        return {"layer_mappings": tuple(mappings), "kept_tensors": tuple(tensors), "waiting_tasks": waits}
