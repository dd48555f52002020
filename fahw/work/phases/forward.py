"""The tasks that compute forward: samples come in, layers compute, once or again, the loss is taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from fahw.hardware.part import Phase
from fahw.layers.layer import INPUT, Layer
from fahw.rules.signals import LABEL_BITS
from fahw.work import norm_constants, tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, TaskId, task_id
from fahw.work.counts.site import Site
from fahw.work.layer_gemms import forward_gemm, traffic_of
from fahw.work.mesh import Part
from fahw.work.tasks import fold_timing, gemm_task, lane_task, multicast, scatter

LOSS = "loss"
"""Layer name of the task between forward and error; that before forward is called `input`."""
READING: dict[str, tuple[Phase, ...]] = {"direct": ("gradient",), "layerwise": ("gradient", "error")}
"""The phases that read the error at a layer's output, by the path of the rule."""
RECOMPUTE = "recompute"
"""The phase of what is computed again; the array of the forward phase runs it."""
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
    site, samples, name = step.site(part, "forward"), step.micro_batch_sizes[micro], part.whole.name
    product = forward_gemm(step, part, samples)
    drops = name in step.segments.again
    traffic = traffic_of(site, product, "forward") + _rounded(step, site, part, samples)
    traffic += _tail_traffic(step, site, part, samples, step.receives_error(part) and not drops)
    traffic += norm_constants.left_traffic(step, site, part)
    users = step.graph.users[name]
    recompute_phases = ("error",) if step.recomputes_gradient else ()  # inputs for the gradient of the feedback weights
    reader_cores = step.reader_cores(users, ("forward", *recompute_phases)) if users else [step.output_part.core]
    stored = tensor_sizes.stored_outputs(step.network, step.graph.tails[name], part.whole)
    traffic += multicast(step, "activation", _stored_bits(step, part, stored, samples), 1, site.core, reader_cores)
    traffic += Traffic() if drops else _masks(step, site, part, samples)
    awaited = dict.fromkeys([*step.graph.below[name], *step.graph.joined[name]])
    after = step.task_ids("forward", awaited, micro) if awaited else [task_id("forward", INPUT, micro)]
    before = [task_id("update", part.name)] if step.learns(part) and not step.chip.update_delay else []
    array, shape = site.array("forward"), fold_timing(product)
    return gemm_task("forward", part.name, array.name, shape, traffic, after, before, product.macs, micro)


def recompute_task(step: StepContext, part: Part, micro: int, after: Sequence[TaskId]) -> Task:
    """The task that computes again what the chip has not kept of a part's results, for the way back: by the statistics
    that norms have left, with the random bits that were drawn before. `after`: tasks that it waits for."""
    site, samples = step.site(part, "forward"), step.micro_batch_sizes[micro]
    product, name = forward_gemm(step, part, samples), part.whole.name
    traffic = traffic_of(site, product, "forward") + _rounded(step, site, part, samples)
    receives = step.receives_error(part)
    traffic += _tail_traffic(step, site, part, samples, receives, has_statistics=receives)
    traffic += norm_constants.read_again(step, site, part)
    stored = tensor_sizes.stored_outputs(step.network, step.graph.tails[name], part.whole)
    bits = _stored_bits(step, part, filter(step.segments.is_read_again, stored), samples)
    traffic += multicast(step, "activation", bits, 1, site.core, [site.core])
    traffic += _masks(step, site, part, samples)
    array, shape = site.array("forward"), fold_timing(product)
    return gemm_task(RECOMPUTE, part.name, array.name, shape, traffic, after, (), product.macs, micro)


def _rounded(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Traffic of biases and rounding of a product's sums; norms' parameters are read with the biases."""
    array, outputs, accumulator_bits = site.array("forward"), samples * part.layer.outputs, step.bits("accumulator")
    tail, traffic = step.graph.tails[part.whole.name], Traffic()
    params = part.layer.biases + part.share(tensor_sizes.norm_params(tail))
    if params:
        memory = site.home("param", "forward")
        traffic += site.accesses.read(memory, "param", [(1, params)], step.bits("master"))
    if part.layer.biases:
        traffic += lanes.operations(array, "param", [("add", outputs, (accumulator_bits,))])
    traffic += lanes.exponent_search(site, "forward", "activation", outputs, accumulator_bits)
    traffic += lanes.rounding(step.chip, array, "activation", outputs, step.chip.rounding.activation, accumulator_bits)
    return traffic


def _stored_bits(step: StepContext, part: Part, outputs: Iterable[Layer], samples: int) -> int:
    """Bits in memory of a part's share of the outputs of layers."""
    bits = step.bits("activation")
    values = ((step.first_reader(item), samples * part.share(item.outputs)) for item in outputs)
    return sum(step.packed_bits("activation", reader, number, bits) for reader, number in values)


def _masks(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Traffic of sending the masks of a part's tail to those that apply its derivatives."""
    users, masks = step.graph.users[part.whole.name], tensor_sizes.mask_bits(step.graph.tails[part.whole.name])
    if not (masks and users and step.receives_error(part)):
        return Traffic()
    amounts = [(reader, samples * reader.values_for(part, masks)) for reader in step.parts[users[0]]]
    return scatter(step, "mask", amounts, site.core, ("error",))


def _tail_traffic(
    step: StepContext, site: Site, part: Part, samples: int, saves: bool, has_statistics: bool = False
) -> Traffic:
    """Traffic of the tail's operations, the second operands of adds, and values that derivatives (where it `saves`
    them) or a second pass need. `has_statistics`: norms know those of the batch, and need no second pass."""
    array, bits, tail = site.array("forward"), step.bits("activation"), step.graph.tails[part.whole.name]
    worked = tail if step.trains else tuple(item for item in tail if not item.draws)
    operations = lanes.repeated_operations if has_statistics else lanes.forward_operations
    ops = [(action, part.share(count), widths) for action, count, widths in operations(worked, samples, bits)]
    traffic = lanes.operations(array, "activation", ops)
    own_names = {part.whole.name, *(item.name for item in tail)}
    read = [(prod(shape), name) for item in tail for shape, name in zip(item.in_shapes, item.sources, strict=True)]
    second_operands = sum(values for values, name in read if name not in own_names)
    second_passes = 0 if has_statistics else sum(item.inputs for item in tail if item.rereads_input)
    saved_count = samples * part.share(tensor_sizes.saved_values(step.network, tail, part.whole, saves))
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
