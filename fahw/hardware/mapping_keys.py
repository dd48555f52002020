"""Checks of the keys that only a search of mappings reads: `mapping: best` has a use for them, and the array too."""

from __future__ import annotations

from collections.abc import Iterator

from fahw.config.partial import known_part, until_unknown
from fahw.config.schema import Frozen
from fahw.config.yamltext import Key
from fahw.hardware.array import Array
from fahw.hardware.arrays.catalogue import DATAFLOWS
from fahw.hardware.arrays.systolic import Folded
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.hardware.pinned_mapping import PINNED_LISTS, pinned_twice

CheckMessages = Iterator[tuple[Key, str]]

OBJECTIVE = ("mapping_objective",)
OF_THE_CHIP = ("error_form", "recompute", "pinned_mappings", *PINNED_LISTS)
OF_AN_ARRAY = ("accumulators", "weights_per_element", "dataflows")
OF_SCRATCHPADS = ("filter_bus_words", "input_bus_words", "psum_bus_words")
_OF_WHAT_STAYS = ("accumulators", "weights_per_element")


def mapping_keys(chip: Chip) -> CheckMessages:
    """Keys of the search of mappings stand where it is asked for, and on arrays that can do what they say."""
    for mapping in known_part(chip, "mapping"):
        searched = mapping == "best"
        if not searched:
            yield from _idle_keys(chip, OF_THE_CHIP, ())
            yield from until_unknown(_idle_objective(chip))
        for arrays in known_part(chip, "arrays"):
            for index, array in enumerate(arrays):
                yield from until_unknown((_array_keys if searched else _idle_array_keys)(array, index))


def pinned_once(chip: Chip) -> CheckMessages:
    """The chip file's own lists of pinned decisions pin everything once."""
    return pinned_twice(chip)


def _idle_objective(chip: Chip) -> CheckMessages:
    """A message about an objective where micro-batches are not searched either."""
    if chip.micro_batch != "best":
        yield from _idle_keys(chip, OBJECTIVE, (), "`mapping: best` and `micro_batch: best`")


def two_levels(chip: Chip) -> CheckMessages:
    """A tensor with three homes is for `mapping: fixed`: a search knows tiles in tiles, no further ones in these."""
    for mapping in known_part(chip, "mapping"):
        for memories in known_part(chip, "memories"):
            if mapping == "best":
                yield from until_unknown(_third_homes(memories))


def _third_homes(memories: tuple[Memory, ...]) -> CheckMessages:
    homes: dict[str, list[str]] = {}
    for index, memory in enumerate(memories):
        for tensor in memory.holds if memory.writable else ():
            first = homes.setdefault(tensor, [])
            first.append(memory.name)
            if len(first) == 3:
                message = f"{tensor} has homes in {' and '.join(first[:2])} too, and `mapping: best` knows two"
                yield ("memories", index, "holds"), f"{message}: leave it out of one, or say `mapping: fixed`"


def recomputing(chip: Chip) -> CheckMessages:
    """What is computed again is so on the core of a chip without a mesh, from the weights of the way forward."""
    for every in known_part(chip, "recompute"):
        if every > 1 and chip.mesh is not None:
            yield ("recompute",), f"it is for chips without a mesh: leave one of them out (got {every})"
        if every > 1 and chip.update_delay:
            message = (
                f"late updates change the weights between the two runs of a layer: set update_delay to 0 (got {every})"
            )
            yield ("recompute",), message


def _idle_keys(part: Frozen, names: tuple[str, ...], place: Key, what: str = "`mapping: best`") -> CheckMessages:
    """A message for every key of a part that says something to no one, as nothing is searched; it is for `what`."""
    for name in names:
        for value in known_part(part, name):
            if value != _default(part, name):
                advice = f"it is for {what} alone: say that, or leave the key out"
                yield (*place, name), f"{advice} (got {_text(value)})"


def _idle_array_keys(array: Array, index: int) -> CheckMessages:
    yield from _idle_keys(array, OF_AN_ARRAY, ("arrays", index))
    for pads in known_part(array, "scratchpads"):
        if pads is not None:
            yield from _idle_keys(pads, OF_SCRATCHPADS, ("arrays", index, "scratchpads"))


def _default(part: Frozen, name: str) -> object:
    return type(part).model_fields[name].default


def _text(value: object) -> str:
    """The value as it is written; of a list of parts how many there are."""
    if not isinstance(value, tuple):
        return str(value)
    return f"[{', '.join(value)}]" if all(isinstance(item, str) for item in value) else f"{len(value)} entries"


def _array_keys(array: Array, index: int) -> CheckMessages:
    """Messages about keys of an array that none of its dataflows has a use for."""
    if not any(issubclass(kind, Folded) and kind.stationary for kind in array.kinds):
        yield from _without_what_stays(array, index)
    yield from _unskipping(array, index)


def _without_what_stays(array: Array, index: int) -> CheckMessages:
    for name in _OF_WHAT_STAYS:
        for value in known_part(array, name):
            if value != _default(array, name):
                advice = "it is for `ws` and `is`, in which an operand stays: list one in `phases` or `dataflows`"
                yield ("arrays", index, name), f"{advice} (got {value})"


def _unskipping(array: Array, index: int) -> CheckMessages:
    """Messages about further dataflows whose lanes cannot skip zeros, on an array that does."""
    skipped = [tensor for tensor in ("activation", "error") if getattr(array.zero_skipping, tensor) == "skip"]
    for position, name in enumerate(array.dataflows):
        if skipped and not DATAFLOWS[name].skips_zeros:
            message = f"lanes of a systolic dataflow cannot skip zeros ({', '.join(skipped)}): use `gate`"
            yield ("arrays", index, "dataflows", position), f"{name}: {message}, or leave {name} out"
