"""The tasks before the output error: samples come in, layers compute, the loss is taken."""

from __future__ import annotations

from math import prod

from fahw.hardware.part import Phase
from fahw.layers.layer import INPUT
from fahw.rules.signals import LABEL_BITS
from fahw.work import norm_constants, tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.layer_gemms import forward_gemm, traffic_of
from fahw.work.mesh import Part
from fahw.work.tasks import fold_timing, gemm_task, lane_task, multicast, scatter

LOSS = "loss"
"""Layer name of the task between forward and error; that before forward is called `input`."""
READING: dict[str, tuple[Phase, ...]] = {"direct": ("gradient",), "layerwise": ("gradient", "error")}
"""The phases that read the error at a layer's output, by the path of the rule."""
IO = "io"
"""The part that brings samples in."""


def input_task(step: StepContext, micro: int) -> Task:
    """The task that brings samples and labels on chip, through the layers without weights that come first, if any."""
    samples, bits = step.micro_batch_sizes[micro], step.bits("activation")
    reader_cores = step.reader_cores(step.graph.users[INPUT], ("forward",))
    site, tail = step.sites[reader_cores[0]], step.graph.tails[INPUT]
    sample_values = samples * prod(step.network.input_shape)
    labels = samples * LABEL_BITS if step.trains else 0
    traffic = site.accesses.dram("read", "io", sample_values * bits + labels)
    worked = tail if step.trains else [item for item in tail if not item.draws]
    ops = lanes.forward_operations(worked, samples, bits)
    traffic += lanes.operations(site.array("forward"), "activation", ops)
    outputs = tensor_sizes.stored_outputs(step.network, tail, None) if tail else ()
    stored = [(step.first_reader(item), samples * item.outputs) for item in outputs]
    stored = stored or [(step.first_reader(None), sample_values)]
    stored_bits = sum(step.packed_bits("activation", reader, values, bits) for reader, values in stored)
    traffic += multicast(step, "activation", stored_bits, 1, site.core, reader_cores)
    if step.rule.sent.names_rows:
        cores = step.reader_cores(step.graph.senders, ("error",))
        traffic += multicast(step, "error", samples, LABEL_BITS, site.core, cores)
    return gemm_task("forward", INPUT, f"{site.prefix}{IO}", (samples, 0, 0), traffic, [], micro=micro)


def forward_task(step: StepContext, part: Part, micro: int) -> Task:
    """The task of the product, bias, rounding, the tail of layers without weights, and the sending of results to their
    readers."""
    site, samples = step.site(part, "forward"), step.micro_batch_sizes[micro]
    array, name = site.array("forward"), part.whole.name
    traffic, shape, macs = _forward_product(step, part, samples)
    outputs = samples * part.layer.outputs
    activation_bits = step.bits("activation")
    accumulator_bits = step.bits("accumulator")
    tail = step.graph.tails[name]
    params = part.layer.biases + part.share(tensor_sizes.norm_params(tail))
    if params:
        memory = site.home("param", "forward")
        traffic += site.accesses.read(memory, "param", [(1, params)], step.bits("master"))
    if part.layer.biases:
        traffic += lanes.operations(array, "param", [("add", outputs, (accumulator_bits,))])
    traffic += lanes.exponent_search(site, "forward", "activation", outputs, accumulator_bits)
    traffic += lanes.rounding(step.chip, array, "activation", outputs, step.chip.rounding.activation, accumulator_bits)
    traffic += _tail_traffic(step, site, part, samples) + norm_constants.left_traffic(step, site, part)
    stored = [
        step.packed_bits("activation", step.first_reader(item), samples * part.share(item.outputs), activation_bits)
        for item in tensor_sizes.stored_outputs(step.network, tail, part.whole)
    ]
    users = step.graph.users[name]
    recompute_phases = ("error",) if step.recomputes_gradient else ()  # inputs for the gradient of the feedback weights
    reader_cores = step.reader_cores(users, ("forward", *recompute_phases)) if users else [step.output_part.core]
    traffic += multicast(step, "activation", sum(stored), 1, site.core, reader_cores)
    masks = tensor_sizes.mask_bits(tail)
    if masks and users and step.receives_error(part):
        amounts = [(reader, samples * reader.values_for(part, masks)) for reader in step.parts[users[0]]]
        traffic += scatter(step, "mask", amounts, site.core, ("error",))
    below = step.graph.below[name]
    after = step.task_ids("forward", below, micro) if below else [task_id("forward", INPUT, micro)]
    before = [task_id("update", part.name)] if step.learns(part) and not step.chip.update_delay else []
    return gemm_task("forward", part.name, array.name, shape, traffic, after, before, macs, micro)


def _forward_product(step: StepContext, part: Part, samples: int) -> tuple[Traffic, tuple[int, int, int], int]:
    """Traffic, shape and multiply-accumulates under the array's dataflow."""
    product = forward_gemm(step, part, samples)
    return traffic_of(step.site(part, "forward"), product, "forward"), fold_timing(product), product.macs


def _tail_traffic(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Traffic of the tail's operations, the second operands of adds, and values that derivatives or a second pass
    need."""
    array, bits, tail = site.array("forward"), step.bits("activation"), step.graph.tails[part.whole.name]
    worked = tail if step.trains else tuple(item for item in tail if not item.draws)
    ops = [
        (action, part.share(count), widths) for action, count, widths in lanes.forward_operations(worked, samples, bits)
    ]
    traffic = lanes.operations(array, "activation", ops)
    own_names = {part.whole.name, *(item.name for item in tail)}
    read = [(prod(shape), name) for item in tail for shape, name in zip(item.in_shapes, item.sources, strict=True)]
    second_operands = sum(values for values, name in read if name not in own_names)
    second_passes = sum(item.inputs for item in tail if item.rereads_input)
    saved_count = samples * part.share(
        tensor_sizes.saved_values(step.network, tail, part.whole, step.receives_error(part))
    )
    memory = site.home("activation", "forward")
    read_count = samples * part.share(second_operands + second_passes)
    if read_count:
        traffic += site.accesses.read(memory, "activation", [(1, read_count)], bits)
    if saved_count:
        traffic += site.accesses.write(memory, "activation", [(1, saved_count)], bits)
    dropped = samples * part.share(sum(item.draws for item in worked))
    return traffic + lanes.random_bits(step.chip, array, "mask", dropped, "dropout")


def loss_task(step: StepContext, micro: int) -> Task:
    """The task of the softmax and its difference to the label: exponential table, sum, integer division."""
    site = step.sites[step.output_part.core]
    array, memory = site.array("forward"), site.home("activation", "forward")
    values, bits = step.micro_batch_sizes[micro] * step.network.classes, step.bits("error")
    traffic = site.accesses.read(memory, "activation", [(1, values)], step.bits("activation"))
    ops = [
        ("compare", values, (step.bits("activation"),)), ("table", values, (16,)), ("add", values, (32,)),
        ("divide", values, (16,)), ("subtract", values, (bits,)),
    ]  # fmt: skip
    last, signal = step.network.weighted[-1], step.rule.sent
    error_cores = step.reader_cores(step.graph.senders, ("error",))
    if signal.is_copy and error_cores:
        ops.append(("compare", signal.compares * values, (bits,)))
        copy_bits = step.packed_bits("error", last, values, signal.bits(bits))
        traffic += multicast(step, "error", copy_bits, 1, site.core, error_cores)
    dither_operations, dither_bits = lanes.dither(step.chip, array, "error", values, step.chip.rounding.of_output_error)
    traffic += lanes.operations(array, "error", [*ops, *dither_operations]) + dither_bits
    traffic += _sent_error(step, site, values)
    return lane_task("error", LOSS, array, traffic, step.task_ids("forward", (last.name,), micro), micro)


def _sent_error(step: StepContext, site: Site, values: int) -> Traffic:
    """Traffic of sending the output error: all of it to the cores of a direct rule, a share of the last layer's outputs
    to the core that has them."""
    bits, last = step.bits("error"), step.network.weighted[-1]
    is_direct, phases = step.rule.path == "direct", READING[step.rule.path]
    everywhere = step.reader_cores(step.graph.senders, ("error",)) if is_direct and step.rule.sent.is_error else []
    all_bits, parts = step.packed_bits("error", last, values, bits), step.parts[last.name]
    if len(parts) == 1:
        reader_cores = list(dict.fromkeys([*step.part_cores(parts[0], phases), *everywhere]))
        return multicast(step, "error", all_bits, 1, site.core, reader_cores)
    shares = [
        (part, step.packed_bits("error", last, part.share(values), bits))
        for part in parts
        if not {*step.part_cores(part, phases)} <= {*everywhere}
    ]
    return multicast(step, "error", all_bits, 1, site.core, everywhere) + scatter(
        step, "error", shares, site.core, phases
    )
