"""Price of one action of a component: energy in pJ, its source, and how uncertain it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from fahw.chip import memory_prices as storage
from fahw.formats.number import FLOATS, Float
from fahw.formats.precision import TENSORS
from fahw.hardware.array import Array
from fahw.hardware.chip import Chip
from fahw.hardware.generator import GENERATORS, Generator
from fahw.hardware.interconnect import Link
from fahw.hardware.memory import Memory
from fahw.hardware.process import UnitEnergy
from fahw.technology import operations as ops
from fahw.technology.constant import Constant
from fahw.technology.scaling import LOGIC_FACTOR, VDD_V
from fahw.technology.storage import scratchpad
from fahw.technology.wires import WIRE_FACTOR, wire_pj_per_bit_mm
from fahw.work.counts.record import Count, local_name
from fahw.work.mesh import NOC

OPERANDS = {"activation": ("activation", "weight"), "error": ("error", "feedback"), "gradient": ("error", "activation")}
"""Of the product that a tensor results from."""
_FORMATS = {name: name for name in TENSORS} | {"param": "master", "psum": "accumulator"}


@dataclass(frozen=True)
class Prices:
    """The prices of one chip."""

    chip: Chip

    @cached_property
    def _given(self) -> dict[tuple[str, str], UnitEnergy]:
        return {(energy.component, energy.action): energy for energy in self.chip.energies}

    @cached_property
    def _parts(self) -> dict[str, Memory | Link | Array]:
        parts: tuple[Memory | Link | Array, ...] = (*self.chip.memories, *self.chip.links, *self.chip.arrays)
        lanes = {f"{array.name}.vector": array for array in self.chip.arrays}
        return {part.name: part for part in parts} | lanes

    @cached_property
    def _known(self) -> dict[tuple[str, str, str, tuple[int, ...], float], Constant]:
        return {}

    def of(self, count: Count) -> Constant:
        """Price of one of the actions that `count` counts, pJ; the same on every core."""
        key = (count.component, count.action, count.tensor, count.widths, count.factor)
        known = self._known
        found = known.get(key)
        if found is None:
            found = known[key] = self._of(replace(count, component=local_name(count.component)))
        return found

    def _of(self, count: Count) -> Constant:
        price = self._of_component(count)
        factor = count.factor
        given = self._given.get((count.component, count.action))
        if given is not None:
            price = storage.outright(given, price.kind)
        elif price.kind in ("logic", "clock"):
            factor *= (self.chip.technology.vdd_v / VDD_V) ** 2
        return replace(price, value=price.value * factor)

    def _of_component(self, count: Count) -> Constant:
        chip, name = self.chip, count.component
        if name == "dram":
            assert chip.dram is not None
            return storage.dram_constant(chip.dram, count.action)
        if name == NOC:
            assert chip.mesh is not None
            source = chip.mesh.source or "assumed"
            return Constant(chip.mesh.hop_pj_per_bit, source, "wire", chip.mesh.uncertainty, given=True)
        if name in GENERATORS:
            generator: Generator | None = getattr(chip, name)
            assert generator is not None
            source = generator.source or "assumed"
            return Constant(generator.pj_per_bit, source, "generator", generator.uncertainty, given=True)
        return self._of_part(self._parts[name], count)

    def _of_part(self, part: Memory | Link | Array, count: Count) -> Constant:
        if isinstance(part, Memory):
            return storage.access(self.chip, part, count.action)
        if isinstance(part, Link):
            if count.action == "transpose":
                write = ops.register_pj(count.widths[0], self.chip.technology.node_nm)
                return replace(write, value=2 * write.value, source=f"{write.source}, written and read")
            return link_bit(self.chip, part)
        if part.name == count.component:
            return self._processing_element(part, count)
        return self._vector(count)

    def _processing_element(self, array: Array, count: Count) -> Constant:
        node, forms = self.chip.technology.node_nm, self._product_forms(count.tensor)
        if count.action == "mac":
            return ops.mac_pj(count.widths[0], count.widths[1], count.widths[2], node, *forms)
        if count.action.startswith("shift"):
            return ops.register_pj(count.widths[0], node)
        if count.action.endswith(("pad", "_registers")):
            return self._pad(array, count)
        a, b, accumulator, shifted = count.widths
        active = ops.mac_pj(a, b, accumulator, node, *forms).value + ops.register_pj(shifted + accumulator, node).value
        clock = self.chip.technology.clock_share
        if count.action == "clock":
            return Constant(active * clock, f"{clock:g} of the logic and registers clocked", "clock", LOGIC_FACTOR)
        value = active * (1 + clock) * array.idle_pe_fraction
        return Constant(value, f"{array.idle_pe_fraction:g} of an active PE-cycle", "logic", LOGIC_FACTOR)

    def _pad(self, array: Array, count: Count) -> Constant:
        assert array.scratchpads is not None
        bits, entries = count.widths
        pad = scratchpad(bits, entries, self.chip.technology.node_nm, array.scratchpads.device).access
        share = self.chip.technology.clock_share
        if count.action == "pad":
            return pad
        if count.action == "clock_registers":
            kept = ops.register_clock_pj(bits * entries, self.chip.technology.node_nm)
            value = kept.value * (1 + share) if pad.kind == "logic" else 0.0
            said = f"{kept.source}; {share:g} more for the clock's tree"
            return replace(kept, value=value, kind="clock", source=said)
        value = pad.value * share if pad.kind == "logic" else 0.0
        return Constant(value, f"{share:g} of the registers clocked, none of an SRAM", "clock", LOGIC_FACTOR)

    def _vector(self, count: Count) -> Constant:
        clocked = count.action.startswith("clock_")
        action, widths = count.action.removeprefix("clock_"), count.widths
        node, form = self.chip.technology.node_nm, self._form(count.tensor, widths[0])
        price = {
            "add": lambda: ops.add_pj(widths[0], node, form),
            "subtract": lambda: ops.add_pj(widths[0], node, form),
            "accumulate": lambda: ops.add_pj(widths[0], node, form),
            "multiply": lambda: ops.multiply_pj(widths[0], widths[-1], node, form),
            "divide": lambda: ops.divide_pj(widths[0], node, form),
            "float_add": lambda: ops.float_add_pj(FLOATS["fp32"], node),
            "float_multiply": lambda: ops.float_multiply_pj(FLOATS["fp32"], node),
            "float_divide": lambda: ops.divide_pj(widths[0], node, FLOATS["fp32"]),
            "float_root": lambda: ops.divide_pj(widths[0], node, FLOATS["fp32"]),
            "compare": lambda: ops.compare_pj(widths[0], node),
            "shift": lambda: ops.shift_pj(widths[0], node),
            "table": lambda: ops.table_pj(widths[0], node),
        }[action]()
        if clocked:
            share = self.chip.technology.clock_share
            return Constant(price.value * share, f"{share:g} of the logic clocked", "clock", LOGIC_FACTOR)
        return price

    def _product_forms(self, result: str) -> tuple[Float | None, Float | None]:
        """The float that products are in, the operand's with more digits, and the accumulator's; None for integers."""
        operands = [self.chip.precision.number(tensor) for tensor in OPERANDS.get(result, ())]
        floats = [operand for operand in operands if isinstance(operand, Float)]
        sum_ = self.chip.precision.number("accumulator")
        return max(floats, key=lambda form: form.digits, default=None), sum_ if isinstance(sum_, Float) else None

    def _form(self, tensor: str, bits: int) -> Float | None:
        """The float format of an operation of the vector lanes: the tensor's, the accumulator's if it is that wide."""
        own, sum_ = (self.chip.precision.number(name) for name in (_FORMATS.get(tensor, "activation"), "accumulator"))
        form = sum_ if bits == sum_.bits != own.bits else own
        return form if isinstance(form, Float) else None


@lru_cache(maxsize=64)
def prices_of(chip: Chip) -> Prices:
    """The prices of a chip, found once for all costs on it."""
    return Prices(chip)


def link_bit(chip: Chip, link: Link) -> Constant:
    """Energy of one bit over a link."""
    if link.pj_per_bit_mm is not None:
        value = link.pj_per_bit_mm * link.length_mm
        return Constant(value, link.source or "assumed", "wire", WIRE_FACTOR, given=True)
    wire = wire_pj_per_bit_mm(chip.technology.node_nm, "lop")
    return replace(wire, value=wire.value * link.length_mm)
