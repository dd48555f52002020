"""Price of one action of a component: energy in pJ, its source, and how uncertain it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from fahw.chip.array_stores import stores
from fahw.formats.number import Float
from fahw.formats.precision import TENSORS
from fahw.hardware.array import Array
from fahw.hardware.arrays.catalogue import DATAFLOWS
from fahw.hardware.chip import Chip
from fahw.hardware.energy_table import UPDATE
from fahw.hardware.generator import GENERATORS, Generator
from fahw.hardware.interconnect import Link
from fahw.hardware.memory import Memory, with_overhead
from fahw.hardware.process import UnitEnergy
from fahw.technology import operations as ops
from fahw.technology.constant import SHARES_OF_LOGIC, Constant, Part, parts_of_sum
from fahw.technology.scaling import LOGIC_FACTOR, VDD_V
from fahw.technology.wires import WIRE_FACTOR, wire_pj_per_bit_mm
from fahw.work.counts.record import Count, local_name
from fahw.work.mesh import NOC

OPERANDS = {"activation": ("activation", "weight"), "error": ("error", "feedback"), "gradient": ("error", "activation")}
"""Operands of the product that a tensor results from."""
UNGATED_FACTOR = 10.0
"""Uncertainty of `ungated_share`: nothing published says how well an element's unused part is shut off."""
IDLE_FACTOR = 3.0
"""Uncertainty of `idle_pe_fraction`. Assumed: from a gate before nearly all registers to a third of an element's."""
TRANSPOSER_MOVES = (2, 16)
"""Moves of a value in the transposer: a register written and read, to one of 16 rows of shifting registers."""
_FORMATS = {name: name for name in TENSORS} | {"param": "master", "psum": "accumulator"}


@dataclass(frozen=True)
class Prices:
    """Prices of the actions of one chip, each computed once."""

    chip: Chip

    @cached_property
    def _given_energies(self) -> dict[tuple[str, str], UnitEnergy]:
        return {(energy.component, energy.action): energy for energy in self.chip.energies}

    @cached_property
    def _parts(self) -> dict[str, Memory | Link | Array]:
        parts: tuple[Memory | Link | Array, ...] = (*self.chip.memories, *self.chip.links, *self.chip.arrays)
        lanes = {f"{array.name}.vector": array for array in self.chip.arrays}
        return {part.name: part for part in parts} | lanes

    @cached_property
    def _store_accesses(self) -> dict[str, Constant]:
        return {store.name: store.unit.access for array in self.chip.arrays for store in stores(self.chip, array)}

    @cached_property
    def _cache(self) -> dict[tuple[str, str, str, tuple[int, ...], float], Constant]:
        return {}

    def unit_price(self, count: Count) -> Constant:
        """The price in pJ of one of the actions that `count` counts; the same on every core."""
        key = (count.component, count.action, count.tensor, count.widths, count.factor)
        cached = self._cache
        price = cached.get(key)
        if price is None:
            local = replace(count, component=local_name(count.component)) if ":" in count.component else count
            price = cached[key] = self._price_of(local)
        return price

    def _price_of(self, count: Count) -> Constant:
        price = self._component_price(count)
        energy = self._given_energies.get((count.component, count.action))
        if energy is not None:
            kind = "logic" if price.kind in SHARES_OF_LOGIC else price.kind
            price = energy.constant(kind).named(f"{count.action} (given)")
        elif price.kind in ("logic", *SHARES_OF_LOGIC) and self.chip.technology.vdd_v != VDD_V:
            price = price.times((self.chip.technology.vdd_v / VDD_V) ** 2)
        return with_overhead(price, count.factor, f"transposed {count.action}")

    def _component_price(self, count: Count) -> Constant:
        chip, name = self.chip, count.component
        if name == "dram":
            assert chip.dram is not None
            return chip.dram.constant(count.action)
        if name == NOC:
            assert chip.mesh is not None
            source = chip.mesh.source or "assumed"
            return Constant(chip.mesh.hop_pj_per_bit, source, "wire", chip.mesh.uncertainty, given=True).named("hop")
        if name in GENERATORS:
            generator: Generator | None = getattr(chip, name)
            assert generator is not None
            source = generator.source or "assumed"
            price = Constant(generator.pj_per_bit, source, "generator", generator.uncertainty, given=True)
            return price.named(name.replace("_", " "))
        if name in self._store_accesses:
            return self._store_accesses[name]
        return self._part_price(self._parts[name], count)

    def _part_price(self, part: Memory | Link | Array, count: Count) -> Constant:
        if isinstance(part, Memory):
            return part.access_energy(self.chip.technology, count.action)
        if isinstance(part, Link):
            if count.action == "transpose":
                return turned_pj(count.widths[0], self.chip.technology.node_nm)
            return link_energy_per_bit(self.chip, part)
        if part.name == count.component:
            return self._element_price(part, count)
        return self._lane_price(count)

    def _element_price(self, array: Array, count: Count) -> Constant:
        node, forms = self.chip.technology.node_nm, self._product_forms(count)
        if count.action == "mac":
            return ops.mac_pj(count.widths[0], count.widths[1], count.widths[2], node, *forms)
        if count.action.startswith("shift"):
            return ops.register_pj(count.widths[0], node)
        if count.action == "ungated":
            return self._ungated_price(array, count)
        if count.action not in ("clock", "idle"):
            kind = next(kind for kind in DATAFLOWS.values() if count.action in kind.own_actions(array))
            return kind.action_price(count.action, count.widths, array, self.chip.technology)
        active, clock = _element_cycle(count.widths, *forms, node, self.chip.technology.clock_share)
        if count.action == "clock":
            return clock
        idle = _made_of([(1, active), (1, clock)], f"{array.idle_pe_fraction:g} of an active PE-cycle", "logic")
        return idle.times(array.idle_pe_fraction, Part("idle share", 1.0, 1 / IDLE_FACTOR, IDLE_FACTOR))

    def _ungated_price(self, array: Array, count: Count) -> Constant:
        """What the part of an element that narrow operands leave unused takes all the same; nothing where the file
        gives the energy of its multiply-accumulate, which is that of all of it."""
        forms, share = self._product_forms(count), array.ungated_share
        node, clock_share = self.chip.technology.node_nm, self.chip.technology.clock_share
        used, widest = (
            _element_cycle(widths, *forms, node, clock_share) for widths in (count.widths[:4], count.widths[4:])
        )
        all_of, that_of = (_made_of([(1, active), (1, clock)], "", "logic") for active, clock in (widest, used))
        source = f"assumed: {share:g} of what narrow operands leave unused"
        unused = _made_of([(1, all_of), (-1, that_of)], source, "gating")
        scale = 0.0 if (array.name, "mac") in self._given_energies else share
        own = Part("ungated share", 1.0, 1 / UNGATED_FACTOR, UNGATED_FACTOR)
        return replace(unused.times(scale, own), factor=UNGATED_FACTOR)

    def _lane_price(self, count: Count) -> Constant:
        clocked = count.action.startswith("clock_")
        action, widths = count.action.removeprefix("clock_"), count.widths
        if action == UPDATE:
            return Constant(0, "given by the chip file", "logic", given=True)
        form = self._float_form(count.tensor, widths[0])
        price = ops.LANE_PRICES[action](widths, self.chip.technology.node_nm, form)
        if clocked:
            share = self.chip.technology.clock_share
            tree = price.times(share, ops.clock_part(share))
            return replace(tree, source=f"{share:g} of the logic clocked", kind="clock", factor=ops.CLOCK_FACTOR)
        return price

    def _product_forms(self, count: Count) -> tuple[Float | None, Float | None]:
        """The float formats of the products (the operands' with more digits) and of the accumulator; None for
        integers. A copied weight that is narrower than feedback weights has its own."""
        tensors = list(OPERANDS.get(count.tensor, ()))
        weight, feedback = (self.chip.precision.bits(tensor) for tensor in ("weight", "feedback"))
        if "feedback" in tensors and count.widths[1:2] == (weight,) and weight < feedback:
            tensors[tensors.index("feedback")] = "weight"
        forms = [self.chip.precision.number(tensor).float_form for tensor in tensors]
        product = max((form for form in forms if form is not None), key=lambda form: form.digits, default=None)
        return product, self.chip.precision.number("accumulator").float_form

    def _float_form(self, tensor: str, bits: int) -> Float | None:
        """The float format of an operation of the vector lanes: the tensor's, the accumulator's if it is that wide."""
        tensor_number, accumulator = (
            self.chip.precision.number(name) for name in (_FORMATS.get(tensor, "activation"), "accumulator")
        )
        return (accumulator if bits == accumulator.bits != tensor_number.bits else tensor_number).float_form


@lru_cache(maxsize=1024)
def _element_cycle(
    widths: tuple[int, ...], form: Float | None, sum_form: Float | None, node: int, share: float
) -> tuple[Constant, Constant]:
    """Energy of an element that multiplies and accumulates, and of its clock's tree, which drives no registers' own
    clock twice; `widths`: of the operands, the sum, and what moves on. `share`: of logic that is clocked."""
    left_bits, right_bits, accumulator_bits, moved_bits = widths
    held_bits = moved_bits + accumulator_bits
    product = ops.mac_pj(left_bits, right_bits, accumulator_bits, node, form, sum_form)
    active = _made_of([(1, product), (1, ops.register_pj(held_bits, node))], "", "logic")
    source = f"{share:g} of the logic and registers clocked, without the registers' own clock"
    tree = _made_of([(1, active), (-1, ops.register_clock_pj(held_bits, node))], source, "clock")
    return active, tree.times(share, ops.clock_part(share))


def _made_of(terms: list[tuple[float, Constant]], source: str, kind: str) -> Constant:
    """The sum of number x constant, with logic's factor, or with the clock's share's."""
    value = sum(number * constant.value for number, constant in terms)
    factor = ops.CLOCK_FACTOR if kind == "clock" else LOGIC_FACTOR
    return Constant(value, source, kind, factor, parts=parts_of_sum(terms))


@lru_cache(maxsize=64)
def prices_of(chip: Chip) -> Prices:
    """The prices of a chip, cached for all costs on it."""
    return Prices(chip)


def turned_pj(bits: int, node_nm: int) -> Constant:
    """Energy of turning a value of `bits` at the end of a link: a register written and read."""
    write, (moves, most) = ops.register_pj(bits, node_nm), TRANSPOSER_MOVES
    turned = write.times(moves, Part("moves in the transposer", 1.0, 1.0, most / moves))
    return replace(turned, source=f"{write.source}, written and read")


def link_energy_per_bit(chip: Chip, link: Link) -> Constant:
    """Energy of moving one bit over a link."""
    if link.pj_per_bit_mm is not None:
        value = link.pj_per_bit_mm * link.length_mm
        return Constant(value, link.source or "assumed", "wire", WIRE_FACTOR, given=True).named("wire")
    return wire_pj_per_bit_mm(chip.technology.node_nm, "lop").times(link.length_mm)
