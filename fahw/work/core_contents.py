"""What each core of a chip holds in a step: bits of every tensor, and memories that are sized for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fahw.activity import Activity
from fahw.errors import ConfigError, Problem
from fahw.hardware.chip import Chip
from fahw.hardware.part import Form, Tensor
from fahw.network.graph import Network
from fahw.rules.rule import Rule
from fahw.work import tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts.accesses import (
    Accesses,
    place_tensors,
    required_memory,
    with_fitted_memories,
    with_sized_memories,
)
from fahw.work.counts.record import Placement
from fahw.work.counts.site import Site
from fahw.work.graph import graph_of
from fahw.work.layer_gemms import psum_bits
from fahw.work.mesh import Part, core_prefix


def placed_on(contents: CoreContents, chip: Chip) -> tuple[dict[int, Site], list[Placement]]:
    """The cores with what their memories hold, one share for each kind of tensor."""
    sites, placements = dict[int, Site](), list[Placement]()
    for core, bits in contents.bits.items():
        prefix = core_prefix(chip, core)
        own = place_tensors(chip, bits, prefix)
        placements += [*contents.rom_placements(core), *own]
        sites[core] = Site(chip, core, prefix, Accesses(chip, own, prefix))
    return sites, placements


class CoreContents:
    """Bits of every tensor on each core, the chip with memories sized for them, and the bits of its ROMs."""

    def __init__(
        self, chip: Chip, network: Network, rule: Rule, batch_size: int, form: Form | None,
        parts: dict[str, tuple[Part, ...]], activity: Activity | None,
    ) -> None:  # fmt: skip
        self._inputs = (network, rule, batch_size, form, parts, activity)
        self._graph = graph_of(network, rule)
        all_parts = [part for shares in parts.values() for part in shares]
        cores = dict.fromkeys([*(part.core for part in all_parts), *(part.error_core for part in all_parts)])
        unplaced = self.context(
            chip, {core: Site(chip, core, core_prefix(chip, core), Accesses(chip, ())) for core in cores}
        )
        psum = psum_bits(unplaced)
        self.bits: dict[int, dict[Tensor, int]] = {}
        for core in cores:
            held, packed = (batch_size, all_parts, core), unplaced.packed_bits
            bits = tensor_sizes.tensor_bits(chip, network, self._graph, rule, *held, packed)
            bits["psum"] = psum.get(core, 0)
            for tensor, amount in bits.items():
                if amount:
                    required_memory(chip, tensor, None, f"{rule.name} on {network.name}")
            self.bits[core] = bits
        largest = {
            tensor: max(bits[tensor] for bits in self.bits.values()) for tensor in next(iter(self.bits.values()))
        }
        self.rom_bits = self._rom_bits(chip, all_parts, cores)
        self._chip = chip
        self.sized_chip = with_sized_memories(chip, largest, max(self.rom_bits.values(), default=0))

    @property
    def fits_writable(self) -> bool:
        """Whether the chip has memories that training writes and that are built to fit."""
        return any(memory.size_kib == "fit" and memory.writable for memory in self._chip.memories)

    def fitted_chip(self, bits: Mapping[str, float]) -> Chip:
        """The chip with memories that fit so many bits, by name; others as without a plan."""
        known = {memory.name: memory.kib * 8192 for memory in self.sized_chip.memories}
        return with_fitted_memories(self._chip, {**known, **bits})

    def context(self, chip: Chip, sites: dict[int, Site]) -> StepContext:
        """The context of the step's tasks on these cores."""
        network, rule, batch_size, form, parts, activity = self._inputs
        sizes = _micro_batches(batch_size, chip.together(batch_size))
        return StepContext(chip, network, rule, sizes, form, parts, sites, self._graph, activity)

    def rom_placements(self, core: int) -> Iterable[Placement]:
        """What the core's read-only memory holds, if anything."""
        memory = self.sized_chip.fixed_home
        if memory is not None and self.rom_bits.get(core):
            yield Placement(f"{core_prefix(self.sized_chip, core)}{memory.name}", "feedback", self.rom_bits[core], 0)

    @property
    def all_rom_placements(self) -> list[Placement]:
        """What the read-only memories of all cores hold."""
        return [placement for core in self.bits for placement in self.rom_placements(core)]

    def _rom_bits(self, chip: Chip, all_parts: list[Part], cores: Iterable[int]) -> dict[int, int]:
        """Bits of fixed feedback weights in each core's read-only memory; none without one. Raises ConfigError where
        they do not fit."""
        network, rule = self._inputs[:2]
        fixed_memory, width = chip.fixed_home, chip.precision.bits("feedback")
        if fixed_memory is None or not fixed_memory.is_read_only:
            return {}
        by_core: dict[int, int] = {}
        for core in cores:
            sending = [part for part in all_parts if part.error_core == core]
            bits = sum(
                tensor_sizes.fixed_bits(network, rule, part.whole, width)
                * tensor_sizes.feedback_values(network, self._graph, rule, part)
                for part in sending
            )
            if fixed_memory.size_kib != "fit" and bits > fixed_memory.kib * 8192:
                sizes = f"feedback ({bits / 8192:.1f} KiB) does not fit {fixed_memory.name} ({fixed_memory.kib:g} KiB)"
                message = f"{sizes}, a {fixed_memory.kind}: enlarge it, or lower the feedback's bits"
                raise ConfigError(Problem(chip.name, message, "memories"))
            by_core[core] = bits
        return by_core


def _micro_batches(batch_size: int, size: int) -> tuple[int, ...]:
    full, remainder = divmod(batch_size, size)
    return (size,) * full + ((remainder,) if remainder else ())
