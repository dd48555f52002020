"""The tasks before the output error: samples come in, layers compute, the loss is taken."""

from __future__ import annotations

from math import prod

from fahw.layers.layer import INPUT, NORMS
from fahw.work import row_stationary as rows
from fahw.work import tensor_sizes as needs
from fahw.work.context import StepContext
from fahw.work.counts import lanes as vector
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.layer_gemms import forward_gemm, traffic_of
from fahw.work.mesh import Part
from fahw.work.tasks import gemm_task, lane_task, multicast, shape_of

LOSS = "loss"
"""Layer name of the task between forward and error; that before forward is called `input`."""
IO = "io"
"""The part that brings samples in."""


def input_task(step: StepContext, micro: int) -> Task:
    """Bring samples and labels on chip, through the layers without weights that come first, if any."""
    samples, bits = step.sizes[micro], step.bits("activation")
    ends = step.readers(step.graph.users[INPUT], ("forward",))
    site, tail = step.sites[ends[0]], step.graph.tails[INPUT]
    raw = samples * prod(step.network.input_shape)
    traffic = site.accesses.dram("read", "io", raw * bits + samples * 8)
    ops = vector.forward_operations(tail, samples, bits)
    traffic += vector.operations(site.array("forward"), "activation", ops)
    values = samples * sum(item.outputs for item in needs.stored(step.network, tail, None)) if tail else raw
    traffic += multicast(step, "activation", values, bits, site.core, ends)
    if step.rule.signal == "targets":
        cores = step.readers(step.graph.senders, ("error",))
        traffic += multicast(step, "error", samples, needs.LABEL_BITS, site.core, cores)
    return gemm_task("forward", INPUT, f"{site.prefix}{IO}", (samples, 0, 0), traffic, [], micro=micro)


def forward_task(step: StepContext, part: Part, micro: int) -> Task:
    """The product, bias, rounding, the tail of layers without weights, and results to where they are read."""
    site, samples = step.site(part, "forward"), step.sizes[micro]
    array, name = site.array("forward"), part.whole.name
    traffic, shape, macs = _forward_product(step, part, samples)
    outputs, a_bits, acc = samples * part.layer.outputs, step.bits("activation"), step.bits("accumulator")
    tail = step.graph.tails[name]
    params = part.layer.biases + part.share(needs.norm_params(tail))
    if params:
        memory = site.home("param", "forward")
        traffic += site.accesses.read(memory, "param", [(1, params)], step.bits("master"))
    if part.layer.biases:
        traffic += vector.operations(array, "param", [("add", outputs, (acc,))])
    traffic += vector.exponents(site, "forward", "activation", outputs, acc)
    traffic += vector.rounding(step.chip, array, "activation", outputs, step.chip.rounding.activation, acc)
    traffic += _tail_traffic(step, site, part, samples)
    stored = samples * part.share(sum(item.outputs for item in needs.stored(step.network, tail, part.whole)))
    users = step.graph.users[name]
    again = ("error",) if step.recomputes else ()  # inputs for the gradient of the feedback weights
    ends = step.readers(users, ("forward", *again)) if users else [step.last.core]
    traffic += multicast(step, "activation", stored, a_bits, site.core, ends)
    masks = samples * part.share(needs.mask_bits(tail))
    if masks and users and step.receives(part):
        readers = step.readers(users[:1], ("error",))
        traffic += multicast(step, "mask", masks, 1, site.core, readers)
    below = step.graph.below[name]
    after = step.ids("forward", below, micro) if below else [task_id("forward", INPUT, micro)]
    before = [task_id("update", part.name)] if step.learns(part) and not step.chip.update_delay else []
    return gemm_task("forward", part.name, array.name, shape, traffic, after, before, macs, micro)


def _forward_product(step: StepContext, part: Part, samples: int) -> tuple[Traffic, tuple[int, int, int], int]:
    """Traffic, shape and multiply-accumulates under the array's dataflow."""
    site = step.site(part, "forward")
    if site.array("forward").phases.forward == "rs":
        return rows.forward(step, part, samples)
    product = forward_gemm(step, part, samples)
    return traffic_of(site, product, "forward"), shape_of(product), product.macs


def _tail_traffic(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Operations of the tail, second operands of adds, and values that derivatives or a second pass need."""
    array, bits, tail = site.array("forward"), step.bits("activation"), step.graph.tails[part.whole.name]
    ops = [
        (action, part.share(count), widths) for action, count, widths in vector.forward_operations(tail, samples, bits)
    ]
    traffic = vector.operations(array, "activation", ops)
    own = {part.whole.name, *(item.name for item in tail)}
    adds = [(item.outputs, source) for item in tail if item.kind == "add" for source in item.sources]
    others = sum(values for values, source in adds if source not in own)
    norms = sum(item.outputs for item in tail if item.kind in NORMS)
    saved = samples * part.share(needs.saved_values(step.network, tail, part.whole, step.receives(part)))
    memory = site.home("activation", "forward")
    read = samples * part.share(others + norms)
    if read:
        traffic += site.accesses.read(memory, "activation", [(1, read)], bits)
    if saved:
        traffic += site.accesses.write(memory, "activation", [(1, saved)], bits)
    dropped = samples * part.share(sum(item.outputs for item in tail if item.kind == "dropout"))
    return traffic + vector.random_bits(step.chip, array, "mask", dropped, "dropout")


def loss_task(step: StepContext, micro: int) -> Task:
    """Softmax and its difference to the label: exponential table, sum, integer division."""
    site = step.sites[step.last.core]
    array, memory = site.array("forward"), site.home("activation", "forward")
    values, bits = step.sizes[micro] * step.network.classes, step.bits("error")
    traffic = site.accesses.read(memory, "activation", [(1, values)], step.bits("activation"))
    ops = [
        ("compare", values, (step.bits("activation"),)), ("table", values, (16,)), ("add", values, (32,)),
        ("divide", values, (16,)), ("subtract", values, (bits,)),
    ]  # fmt: skip
    last, signal = step.network.weighted[-1].name, step.rule.signal
    readers = step.graph.senders if step.rule.path == "direct" else (last,)
    learning, sending = step.readers((last,), ("gradient",)), step.readers(readers, ("error",))
    if signal == "ternary":
        ops.append(("compare", 2 * values, (bits,)))
        traffic += multicast(step, "error", values, step.rule.signal_bits(bits), site.core, sending)
    additions, drawn = vector.dither(step.chip, array, "error", values, step.chip.rounding.of_output_error)
    traffic += vector.operations(array, "error", [*ops, *additions]) + drawn
    ends = list(dict.fromkeys([*learning, *sending])) if signal == "error" else learning
    traffic += multicast(step, "error", values, bits, site.core, ends)
    return lane_task("error", LOSS, array, traffic, step.ids("forward", (last,), micro), micro)
