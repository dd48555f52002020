"""What must hold between the parts of a chip, whatever the rule and the network: names, homes, phases, wires.

Each check is a function of the chip that yields (key, message); its docstring states what must hold. It may be given a
chip with parts that cannot be read (`fahw.config.partial`); it then says what it can without them. A new check is one
more entry in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from fahw.config.partial import known_part, until_unknown
from fahw.config.yamltext import Key, dotted
from fahw.errors import Problem, suggestion
from fahw.hardware.array import Array, ZeroSkipping
from fahw.hardware.chip import Chip
from fahw.hardware.energy_table import given_energies
from fahw.hardware.generator import GENERATORS
from fahw.hardware.interconnect import Link
from fahw.hardware.mapping_keys import mapping_keys, pinned_once, recomputing, two_levels
from fahw.hardware.memory import Memory
from fahw.hardware.part import PHASES, Phase, Tensor

CheckMessages = Iterator[tuple[Key, str]]

TENSORS_REACHED: dict[Phase, tuple[Tensor, ...]] = {
    "forward": ("activation", "weight", "error"),
    "error": ("error",),
    "gradient": ("error", "activation", "gradient"),
    "update": ("gradient", "optimizer", "master", "weight"),
}
"""Tensors that the array of a phase reads or writes under every rule. The loss, at the forward array, writes error."""


def unstored_tensors(chip: Chip) -> set[Tensor]:
    """The tensors that a step never stores, by the chip's options of the update."""
    options = chip.update_options
    tensors: set[Tensor] = set() if options.momentum else {"optimizer"}
    if options.in_place:
        tensors.add("master")
    return tensors | ({"gradient"} if options.fused and chip.micro_batch is None else set())


def chip_problems(chip: Chip, place: Callable[[Key], str]) -> Iterator[Problem]:
    """Problems of a chip file that its schema cannot see. `place` tells where a key is."""
    yield from _problems(chip, place, CHECKS)


def strict_problems(chip: Chip, place: Callable[[Key], str]) -> Iterator[Problem]:
    """Problems of `chip_problems`, and those that keep a chip from hosting the rules that its file says it is for."""
    yield from _problems(chip, place, (*CHECKS, *STRICT))


def _problems(
    chip: Chip, place: Callable[[Key], str], checks: Iterable[Callable[[Chip], CheckMessages]]
) -> Iterator[Problem]:
    for check in checks:
        for key, message in until_unknown(check(chip)):
            yield Problem(place(key), message, dotted(key))


def unique_names(chip: Chip) -> CheckMessages:
    """Parts have different names, different too from those of the parts that every chip has."""
    groups = ("arrays", "memories", "links")
    items = [
        (group, index, item)
        for group in groups
        for group_items in known_part(chip, group)
        for index, item in enumerate(group_items)
    ]
    owners = dict.fromkeys(("dram", "clock", "io", *GENERATORS), "a part that every chip has")
    for group, index, item in items:
        for name in known_part(item, "name"):
            if name in owners:
                yield (group, index, "name"), f"the name '{name}' is taken (by {owners[name]})"
            owners[name] = f"{group}.{index}"


def unknown_memories(chip: Chip) -> CheckMessages:
    """Arrays are wired to memories, links lead from a memory to another."""
    names = [memory.name for memory in chip.memories]
    for arrays in known_part(chip, "arrays"):
        for index, array in enumerate(arrays):
            yield from until_unknown(_unknown_wires(index, array, names))
    for links in known_part(chip, "links"):
        for index, link in enumerate(links):
            yield from until_unknown(_dead_ends(index, link, names))


def _unknown_wires(index: int, array: Array, names: list[str]) -> CheckMessages:
    for position, name in enumerate(array.memories):
        if name not in names:
            message = f"no memory '{name}'{suggestion(name, names)}; known: {', '.join(names)}"
            yield ("arrays", index, "memories", position), message


def _dead_ends(index: int, link: Link, names: list[str]) -> CheckMessages:
    for end, field in (("from", "from_"), ("to", "to")):
        for name in known_part(link, field):
            if name not in names:
                message = f"the link leads nowhere: no memory '{name}'{suggestion(name, names)}"
                yield ("links", index, end), f"{message}; known: {', '.join(names)}"
    if link.from_ == link.to:
        yield ("links", index, "to"), f"the link leads from {link.to} to itself"


def homes(chip: Chip) -> CheckMessages:
    """Each tensor has one home at a level; those that every rule needs have one at all.

    Fixed feedback weights may come from a rom or a prng beside the memory that transport writes.
    """
    held_tensors = dict.fromkeys(tensor for memory in chip.memories for tensor in memory.holds)
    for tensor in held_tensors:
        homes_by_level: dict[tuple[str, bool], list[int]] = {}
        for index, memory in enumerate(chip.memories):
            if tensor in memory.holds:
                homes_by_level.setdefault((memory.level if memory.writable else "", memory.writable), []).append(index)
        for (level, _), indices in homes_by_level.items():
            if len(indices) > 1:
                names = ", ".join(chip.memories[index].name for index in indices)
                where = f" (all at level {level})" if level else ""
                yield ("memories", indices[1], "holds"), f"{tensor} has more than one home: {names}{where}"
    needed = dict.fromkeys(tensor for tensors in TENSORS_REACHED.values() for tensor in tensors)
    missing = [tensor for tensor in needed if tensor not in held_tensors and tensor not in unstored_tensors(chip)]
    if missing:
        yield ("memories",), f"no memory holds {', '.join(missing)}: add to the `holds` of a memory"


def repeated_names(chip: Chip) -> CheckMessages:
    """A memory holds a tensor once, an array is wired to a memory once and lists a dataflow once."""
    for group, field in (("memories", "holds"), ("arrays", "memories"), ("arrays", "dataflows")):
        for index, item in enumerate(getattr(chip, group)):
            for names in known_part(item, field):
                for position, name in enumerate(names):
                    if name in names[:position]:
                        yield (group, index, field, position), f"{name} is listed twice"


def phases(chip: Chip) -> CheckMessages:
    """Each phase but transport has one array that runs it."""
    for phase in PHASES[:4]:
        yield from until_unknown(_check_phase(chip, phase))


def _check_phase(chip: Chip, phase: Phase) -> CheckMessages:
    arrays = [index for index, array in enumerate(chip.arrays) if getattr(array.phases, phase) is not None]
    if len(arrays) != 1:
        reason = "no array runs it" if not arrays else "more than one array runs it"
        yield ("arrays", arrays[1] if arrays else 0, "phases"), f"phase {phase}: {reason}"


def wires(chip: Chip) -> CheckMessages:
    """The array of a phase reaches the home of every tensor that the phase needs under every rule."""
    names = {memory.name for memory in chip.memories}
    for phase, tensors in TENSORS_REACHED.items():
        running = [index for index, array in enumerate(chip.arrays) if getattr(array.phases, phase) is not None]
        if len(running) == 1 and names.issuperset(chip.arrays[running[0]].memories):
            yield from until_unknown(_check_wires(chip, running[0], phase, tensors))


def _check_wires(chip: Chip, index: int, phase: Phase, tensors: tuple[Tensor, ...]) -> CheckMessages:
    array = chip.arrays[index]
    for tensor in tensors:
        home = chip.home(tensor)
        if home is not None and home.name not in array.memories:
            message = f"{phase} runs on {array.name}, which is not wired to {home.name}, where {tensor} lives"
            yield ("arrays", index, "memories"), f"{message}: add {home.name}"


def feedback_wires(chip: Chip) -> CheckMessages:
    """The error array reads the memories that hold feedback weights: its own, fixed ones and the copy of the others."""
    names = {memory.name for memory in chip.memories}
    read = dict.fromkeys(home.name for home in (chip.fixed_home, chip.home("feedback")) if home is not None)
    for index, array in enumerate(chip.arrays):
        if array.phases.error is not None and names.issuperset(array.memories):
            for name in read:
                if name not in array.memories:
                    message = f"error runs on {array.name}, which is not wired to {name}, where feedback lives"
                    yield ("arrays", index, "memories"), f"{message}: add {name}"


def banks(chip: Chip) -> CheckMessages:
    """A bank is at most as large as its memory."""
    for index, memory in enumerate(chip.memories):
        yield from until_unknown(_check_bank(index, memory))


def _check_bank(index: int, memory: Memory) -> CheckMessages:
    size, bank = memory.size_kib, memory.bank_kib
    if isinstance(size, float | int) and bank is not None and bank > size:
        message = f"a bank of {bank:g} KiB is larger than the memory ({size:g} KiB)"
        yield ("memories", index, "bank_kib"), message


def rounding_bits(chip: Chip) -> CheckMessages:
    """Stochastic rounding draws its bits from the chip's generator."""
    modes = chip.rounding
    drawn = [name for name in type(modes).model_fields if getattr(modes, name) == "stochastic"]
    if drawn and chip.rounding_generator is None and not chip.precision.is_float:
        message = f"stochastic rounding ({', '.join(drawn)}) needs a rounding_generator, or another rounding mode"
        yield ("rounding",), message


def transport_forms(chip: Chip) -> CheckMessages:
    """Which forms of transport there are follows from whether the error array can read the weights."""
    if chip.array_of("error") is None or chip.home("weight") is None:
        return
    shared = chip.error_reaches_weights
    allowed = ("transposable", "accumulate", "column") if shared else ("copy", "write_through")
    reason = "the error array reads the weight memory" if shared else "the error array cannot reach the weight memory"
    for index, form in enumerate(chip.transport):
        if form not in allowed:
            yield ("transport", index), f"{form}: {reason}, so the form is one of {', '.join(allowed)}"


def transport_links(chip: Chip) -> CheckMessages:
    """A form that moves weights has a memory to move them to, and a link that leads there.

    Where feedback weights come from a rom or a generator alone, no rule moves any: the form then says nothing.
    """
    index = next((position for position, form in enumerate(chip.transport) if form in ("copy", "write_through")), None)
    weights, copies = chip.home("weight"), chip.home("feedback")
    if index is None or weights is None or chip.array_of("error") is None or chip.error_reaches_weights:
        return
    form = chip.transport[index]
    if copies is None and chip.fixed_home is None:
        yield ("transport", index), f"{form}: no memory holds feedback: add it to the `holds` of one that error reads"
    names = {memory.name for memory in chip.memories}
    link_ends = [(link.from_, link.to) for link in chip.links]
    dead = any(start == end or not names.issuperset((start, end)) for start, end in link_ends)
    if copies is None or dead or (weights.name, copies.name) in link_ends:
        return
    message = f"{form} needs a link from {weights.name} to {copies.name}"
    if (copies.name, weights.name) in link_ends:
        yield ("links", link_ends.index((copies.name, weights.name))), f"{message}; this one leads the other way"
    else:
        yield ("transport", index), f"{message}: add it to `links`, or say `transport: []` if no weights move here"


def zero_skipping(chip: Chip) -> CheckMessages:
    """Lanes of a systolic dataflow move in step: they can rest on zeros, but not skip them."""
    for index, array in enumerate(chip.arrays):
        modes, flows = array.zero_skipping, array.phases
        for tensor, readers in (("activation", ("forward", "gradient")), ("error", ("error", "gradient"))):
            systolic = [phase for phase, kind in flows.dataflows if phase in readers and not kind.skips_zeros]
            if getattr(modes, tensor) == "skip" and systolic:
                message = (
                    f"`skip` is not for systolic dataflows ({', '.join(systolic)}): use `gate`, or `broadcast` there"
                )
                yield ("arrays", index, "zero_skipping", tensor), message
    yield from _packed_alike(chip)


def _packed_alike(chip: Chip) -> CheckMessages:
    """A tensor that several arrays skip lies in memory in one form."""
    skipped: tuple[Literal["activation", "error"], ...] = ("activation", "error")
    for tensor in skipped:
        for index, array in enumerate(chip.arrays):
            modes, first = array.zero_skipping, chip.skipping_array(tensor)
            if getattr(modes, tensor) != "skip" or first is None or _packed(modes) == _packed(first.zero_skipping):
                continue
            message = f"{first.name} skips zeros of {tensor}s in another form or with other index bits"
            yield ("arrays", index, "zero_skipping"), f"{message}: they lie in memory in one"


def _packed(modes: ZeroSkipping) -> tuple[str, int]:
    """How what is skipped lies in memory; a bitmap has no index."""
    return modes.form, 0 if modes.form == "bitmap" else modes.index_bits


def update_options(chip: Chip) -> CheckMessages:
    """Options of the update fit the formats, and each other."""
    options, precision = chip.update_options, chip.precision
    if options.in_place and precision.bits("master") != precision.bits("weight"):
        message = f"there is no wide copy: master ({precision.master} bits) must be as wide as weight"
        yield ("update_options", "in_place"), f"{message} ({precision.weight})"
    if options.skip_zeros and options.momentum:
        yield ("update_options", "skip_zeros"), "momentum moves weights whose gradient is zero: set momentum to false"


def dataflow_keys(chip: Chip) -> CheckMessages:
    """An array has what its dataflows need, such as scratchpads for rows."""
    for index, array in enumerate(chip.arrays):
        for kind in dict.fromkeys(kind for _, kind in array.phases.dataflows):
            for key, message in kind.problems(array):
                yield ("arrays", index, key), message


def late_updates(chip: Chip) -> CheckMessages:
    """A step starts when the one `steps_in_flight` before it has ended, whose update it therefore always sees."""
    least_delay = chip.steps_in_flight - 1
    if 0 < chip.update_delay < least_delay:
        message = f"with {chip.steps_in_flight} steps in flight, 0 or at least {least_delay} (got {chip.update_delay})"
        yield ("update_delay",), message


def mesh_cores(chip: Chip) -> CheckMessages:
    """Cores named in a placement are on the mesh."""
    mesh = chip.mesh
    if mesh is None or not isinstance(mesh.placement, dict):
        return
    for layer, cores in mesh.placement.items():
        layer_cores = (cores,) if isinstance(cores, int) else cores
        for core in layer_cores:
            if core >= mesh.cores:
                yield ("mesh", "placement", layer), f"core {core} is not on the mesh (0 to {mesh.cores - 1})"


def copy_layout(chip: Chip) -> CheckMessages:
    """A copy in the weights' own layout needs an error dataflow that consumes its rows; it says nothing for one
    memory."""
    if chip.transport_options.layout == "same" and chip.error_reaches_weights:
        yield ("transport_options", "layout"), "there is no copy: the error array reads the weight memory"


CHECKS: tuple[Callable[[Chip], CheckMessages], ...] = (
    unique_names, unknown_memories, homes, repeated_names, phases, wires, banks, rounding_bits, transport_forms,
    zero_skipping, update_options, dataflow_keys, late_updates, mesh_cores, copy_layout, given_energies,
    mapping_keys, pinned_once, recomputing, two_levels,
)  # fmt: skip
STRICT: tuple[Callable[[Chip], CheckMessages], ...] = (feedback_wires, transport_links)
"""Checks of what only rules that move weights, or read feedback weights, would meet: others can be priced on such a
chip."""
