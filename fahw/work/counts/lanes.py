"""Counts of the vector lanes at an array's edge: bias, rounding, activation, pooling, softmax, optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fahw.errors import ConfigError, Problem
from fahw.formats.precision import Rounding
from fahw.hardware.array import Array
from fahw.hardware.chip import Chip
from fahw.hardware.part import Phase, Tensor
from fahw.layers.dropout import DRAW_BITS
from fahw.layers.layer import VALUE, LaneOperation, Layer
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Count, Flow
from fahw.work.counts.site import Site

Operation = tuple[str, int, tuple[int, ...]]
"""(action, count, widths)."""


def component_name(array: Array) -> str:
    """The name that the vector lanes of `array` have in counts and flows."""
    return f"{array.name}.vector"


def operations(array: Array, tensor: Tensor, ops: Iterable[Operation]) -> Traffic:
    """Traffic of vector operations (action, count, widths): each with its share of the clock, and their lane-cycles."""
    name, counts, total = component_name(array), [], 0
    for action, count, widths in ops:
        if count:
            counts += [
                Count(name, action, tensor, count, widths),
                Count(name, f"clock_{action}", tensor, count, widths),
            ]
            total += count
    flow = Flow(name, total, array.lanes)
    return Traffic(tuple(counts), drains=(flow,) if total else ())


def rounding(chip: Chip, array: Array, tensor: Tensor, values: int, mode: Rounding, bits: int) -> Traffic:
    """Traffic of bringing `values` of `bits` into their format: a shift, and for stochastic rounding an addition of
    random bits."""
    ops, drawn = dither(chip, array, tensor, values, mode)
    return operations(array, tensor, [("shift", values, (bits,)), *ops]) + drawn


def dither(
    chip: Chip, array: Array, tensor: Tensor, values: int, mode: Rounding
) -> tuple[list[Operation], Traffic]:  # fmt: skip
    """The additions of stochastic rounding, before bits are cut off, and the traffic of the random bits that they add.

    Both are empty under other modes. Raises ConfigError where the chip has no generator.
    """
    if mode != "stochastic" or chip.precision.is_float:
        return [], Traffic()
    if chip.rounding_generator is None:
        message = f"stochastic rounding of {tensor} needs a rounding_generator, or another rounding mode"
        raise ConfigError(Problem(chip.name, message, "rounding"))
    drawn, user = chip.rounding.random_bits, f"stochastic rounding of {tensor}"
    return [("add", values, (drawn,))], random_bits(chip, array, tensor, values, user, drawn)


def exponent_search(site: Site, phase: Phase, tensor: Tensor, values: int, bits: int) -> Traffic:
    """Traffic of the search for the unit of `tensor` before it is rounded, where its scale is dynamic: `values` of
    `bits` are compared on their way to memory, wait there, and come back."""
    precision = site.chip.precision
    if not precision.is_dynamic(tensor):
        return Traffic()
    memory, array = site.home(tensor, phase), site.array(phase)
    waiting = site.accesses.write(memory, tensor, [(1, values)], bits)
    waiting += site.accesses.read(memory, tensor, [(1, values)], bits)
    compares = precision.number(tensor).unit_compares * values
    return waiting + operations(array, tensor, [("compare", compares, (bits,))])


def random_bits(
    chip: Chip, array: Array, tensor: Tensor, values: int, user: str, bits: int = DRAW_BITS, is_operand: bool = False
) -> Traffic:  # fmt: skip
    """Traffic of `bits` random bits for each of `values` from the chip's rounding generator (each core has one), which
    the results wait for, or the computation where they are its operand; `user` says what draws them."""
    if not values:
        return Traffic()
    if chip.rounding_generator is None:
        message = f"{user} draws random bits: the chip needs a rounding_generator"
        raise ConfigError(Problem(chip.name, message, "rounding_generator"))
    name = f"{array.name.rpartition(':')[0]}:rounding_generator" if ":" in array.name else "rounding_generator"
    counts = (Count(name, "generate", tensor, values * bits),)
    flows = (Flow(name, values * bits, chip.rounding_generator.bits_per_cycle),)
    return Traffic(counts, loads=flows) if is_operand else Traffic(counts, drains=flows)


def forward_operations(layers: Iterable[Layer], samples: int, bits: int) -> list[Operation]:
    """Operations of the layers without weights on `samples` samples of `bits`-wide activations."""
    pairs = ((layer.forward_operations(), layer.forward_constants()) for layer in layers)
    return [operation for pair in pairs for operation in _counted(*pair, samples, bits)]


def repeated_operations(layers: Iterable[Layer], samples: int, bits: int) -> list[Operation]:
    """Operations of the same layers where they run again and know the statistics of the batch."""
    pairs = ((layer.repeated_operations(), layer.repeated_constants()) for layer in layers)
    return [operation for pair in pairs for operation in _counted(*pair, samples, bits)]


def derivative_operations(layers: Iterable[Layer], samples: int, bits: int) -> list[Operation]:
    """Operations of the local derivatives of the layers without weights, on `samples` errors of `bits`-wide values."""
    pairs = ((layer.error_operations(), layer.error_constants()) for layer in layers)
    return [operation for pair in pairs for operation in _counted(*pair, samples, bits)]


def _counted(
    per_sample: Iterable[LaneOperation], per_batch: Iterable[LaneOperation], samples: int, bits: int
) -> Iterator[Operation]:
    """Yield the operations on a batch, the width of values filled in."""
    for times, operations_of_one in ((samples, per_sample), (1, per_batch)):
        for action, count, widths in operations_of_one:
            yield action, times * count, tuple(bits if width == VALUE else int(width) for width in widths)
