"""Counts of a forward product on a row-stationary array (`fahw.hardware.row_stationary` says how values move)."""

from __future__ import annotations

from fahw.errors import ConfigError, Problem
from fahw.hardware.array import Array
from fahw.hardware.part import Tensor
from fahw.hardware.row_stationary import Convolution, Movement, movement
from fahw.layers.weighted import Weighted
from fahw.work.context import StepContext
from fahw.work.counts.accesses import Accesses, Burst, Traffic
from fahw.work.counts.record import Count
from fahw.work.counts.site import Site
from fahw.work.mesh import Part

Shape = tuple[int, int, int]
"""(folds, cycles of one, cycles of all)."""


def convolution(layer: Weighted, samples: int) -> Convolution:
    """One group of a layer on `samples`; a linear layer has one pixel."""
    outputs, inputs = layer.out_shape[0] // layer.groups, layer.in_shape[0] // layer.groups
    if not layer.convolutional:
        return Convolution(samples, outputs, inputs, (1, 1), (1, 1), (1, 1))
    (_, *out), (_, *image) = layer.out_shape, layer.in_shape
    return Convolution(
        samples, outputs, inputs, layer.kernel, (out[0], out[1]), (image[0], image[1]), layer.stride[0]
    )  # fmt: skip


def best_movement(step: StepContext, part: Part, samples: int) -> Movement:
    """The mapping of a part that moves the fewest values. Raises ConfigError where its kernel does not fit the
    array."""
    site = step.site(part, "forward")
    array, buffer = site.array("forward"), site.home("psum", "forward")
    pads = array.scratchpads
    assert pads is not None, "the chip was checked when it was loaded"
    buffer_words = int(buffer.kib * 8192) // step.bits("activation") if buffer.kib else 1 << 62
    pad_words = (pads.filter_words, pads.input_words, pads.psum_words)
    best = movement(convolution(part.layer, samples), array.rows, array.cols, pad_words, buffer_words)
    if best is None:
        height, width = part.layer.kernel
        message = f"layer '{part.layer.name}' ({height} x {width}) does not fit {array.name} ({array.rows} rows, "
        message += f"scratchpads of {pad_words[0]}, {pad_words[1]} and {pad_words[2]} words) and {buffer.name}"
        raise ConfigError(Problem(step.chip.name, message, "arrays"))
    return best


def psum_bits(step: StepContext, part: Part, samples: int) -> int:
    """Bits of the partial sums that wait in the buffer at a time."""
    return best_movement(step, part, samples).waiting * step.bits("accumulator")


def forward_traffic(step: StepContext, part: Part, samples: int) -> tuple[Traffic, Shape, int]:
    """Traffic, folds (passes) and multiply-accumulates of a part's forward product."""
    site, groups = step.site(part, "forward"), part.layer.groups
    moves, array, bits = best_movement(step, part, samples), site.array("forward"), step.bits
    weight_reads = (moves.weights_read, moves.weights_read, moves.passes)
    input_reads = (moves.inputs_read, moves.inputs_fetched, moves.passes)
    traffic = _operand_reads(site, "weight", bits("weight"), groups, weight_reads)
    traffic += _operand_reads(site, "activation", bits("activation"), groups, input_reads)
    psum, sum_bursts = site.home("psum", "forward"), _bursts(groups * moves.sums_written, groups * moves.passes)
    unspilled = Accesses(step.chip, (), site.prefix)  # the mapping was chosen so that sums fit
    traffic += unspilled.write(psum, "psum", sum_bursts, bits("accumulator"))
    traffic += unspilled.read(psum, "psum", sum_bursts, bits("accumulator"))
    zeros, skipping = step.operand_zeros(array, "activation", part.whole)
    traffic += Traffic(_element_actions(step, array, moves, groups, zeros if skipping != "none" else 0.0))
    cycles = groups * moves.cycles
    passes = groups * moves.passes
    return traffic, (passes, -(-cycles // passes), cycles), groups * moves.layer.macs


def _bursts(values: int, count: int) -> list[Burst]:
    """Bursts of equal length, or one apart, that carry `values` in `count` bursts."""
    length, longer = divmod(values, count)
    return [(count - longer, length), (longer, length + 1)]


def _operand_reads(site: Site, tensor: Tensor, bits: int, groups: int, volumes: tuple[int, int, int]) -> Traffic:
    """Reads of an operand by the array; `volumes`: values read, values fetched from further out, and passes, each of
    one group."""
    read, fetched, passes = volumes
    bursts = _bursts(groups * read, groups * passes)
    return site.accesses.read(site.home(tensor, "forward"), tensor, bursts, bits, fetched=groups * fetched)


def _element_actions(
    step: StepContext, array: Array, moves: Movement, groups: int, gated_share: float
) -> tuple[Count, ...]:
    """Action counts of the elements. A gated zero is still read; its weight and sum are not, and nothing is multiplied.
    An element that works has a multiply-accumulate in every cycle; those that do not are clock-gated."""
    pads, macs = array.scratchpads, groups * moves.layer.macs
    assert pads is not None
    executed = macs - int(gated_share * macs)
    input_bits, weight_bits, accumulator_bits = step.bits("activation"), step.bits("weight"), step.bits("accumulator")
    idle = max(0, groups * moves.cycles * array.rows * array.cols - executed)
    counts = [
        Count(array.name, "mac", "activation", executed, (input_bits, weight_bits, accumulator_bits)),
        Count(array.name, "clock", "activation", executed, (input_bits, weight_bits, accumulator_bits, 0)),
        Count(array.name, "idle", "activation", idle, (input_bits, weight_bits, accumulator_bits, 0)),
        Count(array.name, "shift_psum", "psum", groups * moves.sums_passed, (accumulator_bits,)),
    ]
    pad_accesses = (
        ("weight", executed + groups * moves.weights_kept, weight_bits, pads.filter_words),
        ("activation", macs + groups * moves.inputs_kept, input_bits, pads.input_words),
        ("psum", 2 * executed, accumulator_bits, pads.psum_words),
    )
    for tensor, count, bits, entries in pad_accesses:
        counts.append(Count(array.name, "pad", tensor, count, (bits, entries)))
        clock_action = ("clock_pad", count) if pads.clock_gated else ("clock_registers", macs)
        counts.append(Count(array.name, clock_action[0], tensor, clock_action[1], (bits, entries)))
    return tuple(count for count in counts if count.count)
