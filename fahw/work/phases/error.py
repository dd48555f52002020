"""The tasks that send the error back, for one part of a layer."""

from __future__ import annotations

from fahw.hardware.array import Array
from fahw.layers.layer import INPUT
from fahw.rules.signals import LABEL_BITS
from fahw.work import norm_constants, tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.gemm import Gemm, generated_traffic
from fahw.work.counts.record import Task, TaskId, task_id
from fahw.work.counts.site import Site
from fahw.work.error_forms import ErrorForm
from fahw.work.layer_gemms import error_form, error_gemms, feedback_operand, traffic_of
from fahw.work.mesh import Part
from fahw.work.phases.forward import LOSS, READING
from fahw.work.tasks import fold_timing, gemm_task, lane_task, multicast, scatter


def error_task(step: StepContext, part: Part, micro: int) -> Task:
    """The task of the product, its rounding, the derivatives of the tails below, and the sending of errors to their
    readers."""
    if step.rule.sent.names_rows:
        return _target(step, part, micro)
    site, samples, name = step.site(part, "error"), step.micro_batch_sizes[micro], part.whole.name
    array, graph, layer = site.array("error"), step.graph, part.whole
    products = error_gemms(step, part, samples)
    traffic = _narrowed(step, site, part, samples) + _staged(step, site, part, samples)
    for each in products:
        traffic += traffic_of(site, each, "error")
    accumulator_bits, direct = step.bits("accumulator"), step.rule.path == "direct"
    if not direct and layer.overlapping:
        form = error_form(step, part, samples)
        traffic += _add_windows(site, products[-1], array, accumulator_bits, form)
    values = samples * part.input_share(layer.inputs)
    if not direct and part.count > 1:
        traffic += _add_shares(step, site, part, samples)
    traffic += lanes.exponent_search(site, "error", "error", values, accumulator_bits)
    traffic += lanes.rounding(step.chip, array, "error", values, step.chip.rounding.error, accumulator_bits)
    traffic += _derivatives(step, site, part, samples)
    traffic += _pass_error_down(step, site, part, samples)
    users = graph.users[name]
    after = step.task_ids("error", users, micro) if users and not direct else [task_id("error", LOSS, micro)]
    after += _shortcut_errors(step, name, micro)
    if step.chip.update_delay or not step.learns(part):
        before = []
    elif step.runs_transport_phase:
        before = [task_id("transport", part.name, step.micro_batches[-1] if step.recomputes_gradient else 0)]
    else:
        weights_change = step.rule.reads_weight or step.updates_feedback
        before = [task_id("update", part.name)] if weights_change else []
    macs = sum(each.macs for each in products)
    return gemm_task("error", part.name, array.name, _timing(products), traffic, after, before, macs, micro)


def _shortcut_errors(step: StepContext, name: str, micro: int) -> list[TaskId]:
    """The tasks of a direct rule whose errors come through shortcuts to what a layer's task completes; none where these
    are blocked, or go layer by layer."""
    sources = step.graph.shortcut_sources[name] if step.passes_shortcut_errors else ()
    return step.task_ids("error", sources, micro)


def _timing(products: tuple[Gemm, ...]) -> tuple[int, int, int]:
    """Number of folds of all products, one after the other, cycles of the longest, cycles of all."""
    folds, fold_cycles, cycles = zip(*map(fold_timing, products), strict=True)
    return sum(folds), max(fold_cycles), sum(cycles)


def _narrowed(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Traffic of the error between two feedback matrices: its rounding, and its way to memory."""
    values, bits = samples * tensor_sizes.narrow_values(step.network, step.rule, part.whole), step.bits("accumulator")
    if not values:
        return Traffic()
    traffic = lanes.exponent_search(site, "error", "error", values, bits)
    traffic += lanes.rounding(step.chip, site.array("error"), "error", values, step.chip.rounding.error, bits)
    return traffic + site.accesses.write(site.home("error", "error"), "error", [(1, values)], step.bits("error"))


def _staged(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Traffic of bringing the error at the layer's output tile by tile, for the gradient too, where both share it."""
    if step.sub_batches(samples)[1] == 1 or step.rule.path == "direct":
        return Traffic()
    bits = step.packed_bits("error", part.whole, samples * part.layer.outputs, step.bits("error"))
    return site.accesses.staged(site.home("error", "error"), "error", bits)


def _add_shares(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Traffic of adding up what the shares of a layer find for all its inputs: each sends the others their shares of
    the inputs, as sums at accumulator width, and adds what has come for its own to its own."""
    bits, others, traffic = step.bits("accumulator"), part.count - 1, Traffic()
    for other in step.parts[part.whole.name]:
        if other is not part:
            values = samples * other.input_share(part.whole.inputs)
            traffic += multicast(step, "error", values, bits, site.core, [other.error_core])
    values = samples * part.input_share(part.whole.inputs)
    traffic += site.accesses.read(site.home("error", "error"), "error", [(others, values)], bits)
    return traffic + lanes.operations(site.array("error"), "error", [("add", others * values, (bits,))])


def _pass_error_down(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Traffic of the errors that this task completes: pruned, where the rule prunes, and sent to their readers."""
    graph, name, bits = step.graph, part.whole.name, step.bits("error")
    completed, phases = graph.completed_errors[name], READING[step.rule.path]
    sizes = [item.outputs for item in completed] or [part.whole.inputs]
    values = samples * sum(map(part.input_share, sizes))
    array, traffic = site.array("error"), Traffic()
    if step.rule.pruned:
        ops = [("add", values, (bits,)), ("compare", 2 * values, (bits,))]  # their mean size, the threshold, the chance
        traffic += lanes.operations(array, "error", ops)
        traffic += lanes.random_bits(step.chip, array, "error", values, f"the pruning of {step.rule.name}")
    if not completed:  # they wait where the errors of other paths are added
        return traffic + multicast(step, "error", values, bits, site.core, step.reader_cores(graph.below[name], phases))
    amounts = [
        (reader, step.packed_bits("error", item, samples * part.values_for(reader, item.outputs), bits))
        for item in completed
        for reader in step.parts[item.name]
    ]
    return traffic + scatter(step, "error", amounts, site.core, phases)


def _target(step: StepContext, part: Part, micro: int) -> Task:
    """The task that reads the rows of feedback weights that the labels name, rounds them and applies the derivatives
    below: no product, and no wait for the output."""
    site, samples, graph, name = step.site(part, "error"), step.micro_batch_sizes[micro], step.graph, part.whole.name
    array = site.array("error")
    row_values = tensor_sizes.feedback_values(step.network, graph, step.rule, part) // step.network.classes
    traffic = site.accesses.read(site.home("error", "error"), "error", [(1, samples)], LABEL_BITS)
    feedback = feedback_operand(step, site)
    for stream in feedback.streams:
        traffic += site.accesses.read(stream.memory, "feedback", [(samples, row_values)], stream.bits)
    traffic += generated_traffic(feedback, samples * row_values)
    values = samples * part.input_share(part.whole.inputs)
    traffic += lanes.rounding(step.chip, array, "error", values, step.chip.rounding.error, step.bits("feedback"))
    traffic += _derivatives(step, site, part, samples)
    traffic += _pass_error_down(step, site, part, samples)
    after = [task_id("forward", INPUT, micro), *step.task_ids("forward", graph.below[name], micro)]
    after += _shortcut_errors(step, name, micro)
    return lane_task("error", part.name, array, traffic, after, micro)


def _derivatives(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Traffic of reading masks and saved values, of the local derivatives, and of adding the errors of other paths."""
    array = site.array("error")
    local_layers = step.graph.derivative_layers[part.whole.name]
    error_bits = step.bits("error")
    traffic = Traffic()
    masks = samples * part.input_share(tensor_sizes.mask_bits(local_layers))
    if masks:
        traffic += site.accesses.read(site.home("mask", "error"), "mask", [(1, masks)], 1)
    saved = samples * part.input_share(tensor_sizes.derivative_inputs(local_layers))
    if saved:
        memory = site.home("activation", "error")
        traffic += site.accesses.read(memory, "activation", [(1, saved)], step.bits("activation"))
    traffic += norm_constants.read_traffic(step, site, part)
    ops = lanes.derivative_operations(local_layers, samples, error_bits)
    adds_paths = step.rule.path == "layerwise" or step.passes_shortcut_errors
    summed_values = samples * part.input_share(step.graph.summed_values[part.whole.name]) if adds_paths else 0
    if summed_values:
        traffic += site.accesses.read(site.home("error", "error"), "error", [(1, summed_values)], error_bits)
    ops = [(action, part.input_share(count), widths) for action, count, widths in ops]
    return traffic + lanes.operations(array, "error", [*ops, ("add", summed_values, (error_bits,))])


def _add_windows(site: Site, product: Gemm, array: Array, bits: int, form: ErrorForm | None) -> Traffic:
    """Traffic of adding up the errors of overlapping windows in memory at accumulator width: read, add and write.
    `form`: that of the error, where a plan chose one; of a scattered one, sums that tiles share leave and come back."""
    values = product.results if form is None else form.added
    memory = site.home("psum", "error")
    traffic = site.accesses.read(memory, "psum", [(1, values)], bits)
    traffic += site.accesses.write(memory, "psum", [(1, values)], bits)
    if form is not None and form.name == "scatter":
        trip = site.accesses.outer_trip if product.mapping.sums_in_outer else site.accesses.round_trip
        traffic += trip(memory, "psum", product.mapping.left_windows * product.repeats, bits)
    return traffic + lanes.operations(array, "psum", [("add", values, (bits,))])
