"""Menus of products: the mappings among which the best one is, whatever of the operands lies on the chip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product as combinations

import numpy as np

from fahw.mapping.one_level.nest_prices import EVERY, NestPrices
from fahw.mapping.one_level.tables import table_of
from fahw.mapping.problem import TiledProduct
from fahw.mapping.shares.programme import Numbers, Values
from fahw.work.counts.record import TaskId
from fahw.work.plan.joint.fronts import Fronts
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import Measured, ProductTask
from fahw.work.plan.step_plan import StepPlan
from fahw.work.plan.tensors.outer_tiles import Surroundings
from fahw.work.plan.tiles import NARROWER, UntiledProduct, can_be_tiled, narrowed

Corner = tuple[bool, bool]
"""Whether the left and the right operand are there wholly, and take no room in tiles."""
CORNERS: tuple[Corner, ...] = ((False, False), (True, False), (False, True), (True, True))
Part = tuple[int, int, float]
"""Of an operand: the number of a tensor, that of its read, and the share of the operand that it is."""
_SHARES = 0.0, 0.5, 1.0
"""Of an operand that is not there wholly: those at which mappings may be best."""
MOST_MAPPINGS = 1 << 18
"""Mappings of all products of a step up to which there are menus."""


@dataclass(frozen=True)
class Menu:
    """The mappings of a product, by number. `energy`: pJ per step, by corner and mapping; infinite where none can be.
    `room`: bits of the tiles of both operands and of sums, in these `memories`. `parts`: of both operands; none of one
    that is always there. `best`: at each corner the mappings of which each takes less of some room than all that are
    cheaper; `between`: likewise where some of the other operands is there, too, and takes room all the same."""

    task: TaskId
    core: int
    energy: Values
    room: Values
    memories: tuple[str, str, str]
    parts: tuple[Sequence[Part], Sequence[Part]]
    best: tuple[Numbers, ...] = ()
    between: tuple[Numbers, ...] = ()

    def room_in(self, memory: str, there: Corner) -> Values:
        """Bits of a memory that each mapping takes where operands are there."""
        takes = [name == memory for name in self.memories] & ~np.array([*there, False])
        bits: Values = self.room[takes].sum(axis=0)
        return bits

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The memories, each once."""
        return tuple(dict.fromkeys(self.memories))

    def narrowed(self, limits: Mapping[str, float]) -> Menu:
        """The best alone, of those for which memories have room."""
        names, fronts = [name for name in self.names if name in limits], list[list[Numbers]]()
        most = np.array([limits[name] for name in names])[:, None]
        for there in CORNERS:
            rooms = np.array([self.room_in(name, there) for name in names]).reshape(len(names), self.energy.shape[1])
            of_rooms = Fronts(rooms, np.flatnonzero((rooms <= most).all(axis=0)))
            fronts.append([of_rooms.of(energy) for energy in self._energies(there)])
        kept = np.unique(np.concatenate([front for own in fronts for front in own]))
        best, between = (
            tuple(np.searchsorted(kept, np.unique(np.concatenate(own[:number]))) for own in fronts)
            for number in (1, None)
        )  # fmt: skip
        return replace(self, energy=self.energy[:, kept], room=self.room[:, kept], best=best, between=between)

    def _energies(self, there: Corner) -> Iterator[Values]:
        """pJ of all mappings where these operands are there wholly, and none, some or all of the others."""
        shares = [(1.0,) if own else _SHARES if parts else (0.0,) for own, parts in zip(there, self.parts, strict=True)]
        for left, right in combinations(*shares):
            weights = (1 - left) * (1 - right), left * (1 - right), (1 - left) * right, left * right
            mixed = [energy * weight for energy, weight in zip(self.energy, weights, strict=True) if weight]
            yield np.sum(mixed, axis=0)


def is_within(there: Corner, other: Corner) -> bool:
    """Whether what is there at one corner is at another, too."""
    return all(is_other or not is_own for is_own, is_other in zip(there, other, strict=True))


def menus_of(keeping: Keeping, found: Measured) -> list[Menu] | None:
    """The menus of all products that the mapper knows; none where there are too many mappings. `found`: the forms that
    errors of several products take."""
    limits = {memory.name: float(memory.kib * 8192) for memory in keeping.memories}
    plan = keeping.nothing_kept(0)
    products = [(task, several) for task in keeping.tasks for several in _products(keeping, plan, task, found)]
    for narrow in range(keeping.narrowing, len(NARROWER)):
        if sum(_mappings(product, narrow) for _, several in products for product in several) <= MOST_MAPPINGS:
            return [_menu(keeping, task, several, narrow).narrowed(limits) for task, several in products]
    return None


def _products(
    keeping: Keeping, plan: StepPlan, task: ProductTask, found: Measured
) -> Iterator[Sequence[UntiledProduct]]:
    """The products of a task; of one that may take either form both. Where one of them has several products, those of
    the form found."""
    samples = keeping.step.micro_batch_sizes[0]
    forms = {form: task.untiled(keeping.step, plan, form, samples) for form in task.forms or (None,)}
    if len(forms) > 1 and all(len(products) == 1 for products in forms.values()):
        several = [[product for products in forms.values() for product in products]]
    else:
        several = [[product] for product in forms[found.forms.get(task.part.name) if task.forms else None]]
    yield from (each for each in several if all(can_be_tiled(product.gemm.mapping) for product in each))


def _mappings(untiled: UntiledProduct, narrow: int) -> int:
    product = narrowed(untiled.around(Surroundings({}, {}, (), True)), narrow)
    tables = [table_of(product, flow) for flow in product.array.dataflows]
    return sum(len(table.ways.nests) * table.number for table in tables)


def _menu(keeping: Keeping, task: ProductTask, several: Sequence[UntiledProduct], narrow: int) -> Menu:
    """The menu of products of which one is chosen."""
    menus = [_menu_of(keeping, task, untiled, narrow) for untiled in several]
    energy, room = (
        np.concatenate([getattr(menu, name) for menu in menus], axis=1) for name in ("energy", "room")
    )  # fmt: skip
    return replace(menus[0], energy=energy, room=room)


def _menu_of(keeping: Keeping, task: ProductTask, untiled: UntiledProduct, narrow: int) -> Menu:
    parts = tuple(list(_parts(keeping, task, untiled, side)) for side in (0, 1))
    kinds = [{stream.stored for stream in streams} for streams in untiled.streams]
    products = list[TiledProduct]()
    for corner in CORNERS:
        found = [1.0 if there else 1 - sum(share for *_, share in of) for there, of in zip(corner, parts, strict=True)]
        shares: dict[str, float] = {kind: share for of, share in zip(kinds, found, strict=True) for kind in of}
        products.append(narrowed(untiled.around(Surroundings(shares, shares, (), True)), narrow))
    times, first = untiled.gemm.repeats * task.times, products[0]
    energy = np.array([_energies(product) for product in products]) * times
    for number, corner in enumerate(CORNERS):
        if any(there and not of for there, of in zip(corner, parts, strict=True)):
            energy[number] = np.inf
    memories = first.left.memory, first.right.memory, first.result.memory
    return Menu(task.task, task.core, energy, _rooms(first), memories, (parts[0], parts[1]))


def _parts(keeping: Keeping, task: ProductTask, untiled: UntiledProduct, side: int) -> Iterator[Part]:
    """The tensors that an operand is read from, without those that are always there."""
    streams = untiled.streams[side]
    for stream in streams:
        tensors = [
            (number, read, tensor.bits)
            for number, tensor in enumerate(keeping.tensors)
            for read, use in enumerate(tensor.reads)
            if use.is_operand and use.task == task.task and tensor.tensor == stream.stored and tensor.bits
        ]
        share = stream.bits / sum(each.bits for each in streams) / max(1, sum(bits for *_, bits in tensors))
        yield from ((number, read, bits * share) for number, read, bits in tensors if number not in keeping.given)


def _energies(product: TiledProduct) -> Values:
    """pJ of all mappings, infinite where they cannot be."""
    found = list[Values]()
    for prices in _prices(product):
        energy, possible = prices.energy(EVERY), prices.possible
        found.append((energy if possible is None else np.where(possible, energy, np.inf)).ravel())
    return np.concatenate(found)


def _rooms(product: TiledProduct) -> Values:
    """Bits of the tiles of both operands and of sums, of all mappings."""
    return np.concatenate([[bits.ravel() for bits in prices.rooms(EVERY)] for prices in _prices(product)], axis=1)


def _prices(product: TiledProduct) -> Iterator[NestPrices]:
    """The prices of all tile sizes, by dataflow."""
    return (NestPrices(product, flow, table_of(product, flow).only) for flow in product.array.dataflows)
