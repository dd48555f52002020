"""Counts of a forward product on a row-stationary array (`fahw.hardware.row_stationary` says how values move)."""

from __future__ import annotations

from fahw.errors import ConfigError, Problem
from fahw.hardware.array import Array
from fahw.hardware.memory import Memory
from fahw.hardware.row_stationary import Convolution, Movement, movement
from fahw.layers.layer import Layer
from fahw.work.context import StepContext
from fahw.work.counts.accesses import Accesses, Burst, Traffic
from fahw.work.counts.record import Count
from fahw.work.mesh import Part

Shape = tuple[int, int, int]
"""Folds, cycles of one, cycles of all."""


def convolution(layer: Layer, samples: int) -> Convolution:
    """One group of a layer on `samples`; a linear layer has one pixel."""
    outputs, inputs = layer.out_shape[0] // layer.groups, layer.in_shape[0] // layer.groups
    if layer.kind == "linear":
        return Convolution(samples, outputs, inputs, (1, 1), (1, 1), (1, 1))
    (_, *out), (_, *image) = layer.out_shape, layer.in_shape
    return Convolution(
        samples, outputs, inputs, layer.kernel, (out[0], out[1]), (image[0], image[1]), layer.stride[0]
    )  # fmt: skip


def best_movement(step: StepContext, part: Part, samples: int) -> Movement:
    """How the values of a part move. Raises ConfigError where its kernel does not fit the array."""
    site = step.site(part, "forward")
    array, buffer = site.array("forward"), site.home("psum", "forward")
    pads = array.scratchpads
    assert pads is not None, "the chip was checked when it was loaded"
    words = int(buffer.kib * 8192) // step.bits("activation") if buffer.kib else 1 << 62
    sizes = (pads.filter_words, pads.input_words, pads.psum_words)
    found = movement(convolution(part.layer, samples), array.rows, array.cols, sizes, words)
    if found is None:
        height, width = part.layer.kernel
        message = f"layer '{part.layer.name}' ({height} x {width}) does not fit {array.name} ({array.rows} rows, "
        message += f"scratchpads of {sizes[0]}, {sizes[1]} and {sizes[2]} words) and {buffer.name}"
        raise ConfigError(Problem(step.chip.name, message, "arrays"))
    return found


def psum_bits(step: StepContext, part: Part, samples: int) -> int:
    """Partial sums that wait in the buffer."""
    return best_movement(step, part, samples).waiting * step.bits("accumulator")


def forward(step: StepContext, part: Part, samples: int) -> tuple[Traffic, Shape, int]:
    """Traffic, folds (passes) and multiply-accumulates of a part's forward product."""
    site, groups = step.site(part, "forward"), part.layer.groups
    moved, array, bits = best_movement(step, part, samples), site.array("forward"), step.bits
    traffic = _fetch(site.accesses, site.home("weight", "forward"), "weight", bits("weight"), groups,
                     (moved.weights_read, moved.weights_read, moved.passes))  # fmt: skip
    traffic += _fetch(site.accesses, site.home("activation", "forward"), "activation", bits("activation"), groups,
                      (moved.inputs_read, moved.inputs_fetched, moved.passes))  # fmt: skip
    psum, sums = site.home("psum", "forward"), _bursts(groups * moved.sums_written, groups * moved.passes)
    roomy = Accesses(step.chip, (), site.prefix)  # the mapping was chosen so that sums fit
    traffic += roomy.write(psum, "psum", sums, bits("accumulator"))
    traffic += roomy.read(psum, "psum", sums, bits("accumulator"))
    zeros, skipping = step.zeros(array, "activation", part.whole)
    traffic += Traffic(_elements(step, array, moved, groups, zeros if skipping != "none" else 0.0))
    cycles = groups * moved.cycles
    passes = groups * moved.passes
    return traffic, (passes, -(-cycles // passes), cycles), groups * moved.layer.macs


def _bursts(values: int, count: int) -> list[Burst]:
    """`values` in about `count` bursts."""
    each, rest = divmod(values, count)
    return [(count - rest, each), (rest, each + 1)]


def _fetch(
    accesses: Accesses, memory: Memory, tensor: str, bits: int, groups: int, moved: tuple[int, int, int]
) -> Traffic:
    read, fetched, passes = moved
    bursts = _bursts(groups * read, groups * passes)
    return accesses.read(memory, tensor, bursts, bits, fetched=groups * fetched)  # type: ignore[arg-type]


def _elements(step: StepContext, array: Array, moved: Movement, groups: int, gated: float) -> tuple[Count, ...]:
    """Actions in the elements. A gated zero is still read; its weight and sum are not, and nothing is multiplied. An
    element that works has a multiply-accumulate in every cycle; those that do not are clock-gated."""
    pads, macs = array.scratchpads, groups * moved.layer.macs
    assert pads is not None
    done = macs - int(gated * macs)
    a, w, accumulator = step.bits("activation"), step.bits("weight"), step.bits("accumulator")
    idle = max(0, groups * moved.cycles * array.rows * array.cols - done)
    counts = [
        Count(array.name, "mac", "activation", done, (a, w, accumulator)),
        Count(array.name, "clock", "activation", done, (a, w, accumulator, 0)),
        Count(array.name, "idle", "activation", idle, (a, w, accumulator, 0)),
        Count(array.name, "shift_psum", "psum", groups * moved.sums_passed, (accumulator,)),
    ]
    kept = (
        ("weight", done + groups * moved.weights_kept, w, pads.filter_words),
        ("activation", macs + groups * moved.inputs_kept, a, pads.input_words),
        ("psum", 2 * done, accumulator, pads.psum_words),
    )
    for tensor, count, bits, entries in kept:
        counts.append(Count(array.name, "pad", tensor, count, (bits, entries)))
        clock = ("clock_pad", count) if pads.clock_gated else ("clock_registers", macs)
        counts.append(Count(array.name, clock[0], tensor, clock[1], (bits, entries)))
    return tuple(count for count in counts if count.count)
