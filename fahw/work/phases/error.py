"""The tasks that send the error back, for one part of a layer."""

from __future__ import annotations

from fahw.hardware.array import Array
from fahw.layers.layer import INPUT
from fahw.work import tensor_sizes as needs
from fahw.work.context import StepContext
from fahw.work.counts import lanes as vector
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.layer_gemms import error_gemm, feedback_operand, traffic_of
from fahw.work.mesh import Part
from fahw.work.phases.forward import LOSS
from fahw.work.tasks import gemm_task, lane_task, multicast, shape_of


def error_task(step: StepContext, part: Part, micro: int) -> Task:
    """The product, rounding, the derivatives of the tails below, and errors to where they are read."""
    if step.rule.signal == "targets":
        return _target(step, part, micro)
    site, samples, name = step.site(part, "error"), step.sizes[micro], part.whole.name
    array, graph, layer = site.array("error"), step.graph, part.whole
    product = error_gemm(step, part, samples)
    traffic = traffic_of(site, product, "error")
    acc, direct = step.bits("accumulator"), step.rule.path == "direct"
    if not direct and needs.overlapping(layer):
        traffic += _add_windows(site, product, array, acc)
    values = samples * (part.share(layer.inputs) if direct else layer.inputs)
    traffic += vector.exponents(site, "error", "error", values, acc)
    traffic += vector.rounding(step.chip, array, "error", values, step.chip.rounding.error, acc)
    traffic += _derivatives(step, site, part, samples)
    several = len(step.parts[name]) > 1 and not direct
    traffic += _pass_error_down(step, site, part, samples, several)
    users = graph.users[name]
    after = step.ids("error", users, micro) if users and not direct else [task_id("error", LOSS, micro)]
    if step.shortcuts:
        after += step.ids("error", graph.above[name], micro)
    if step.chip.update_delay:
        before = []
    elif step.renews:
        before = [task_id("transport", part.name, step.micros[-1] if step.recomputes else 0)]
    else:
        changes = (step.rule.reads_weight or step.together) and step.learns(part)
        before = [task_id("update", part.name)] if changes else []
    return gemm_task("error", part.name, array.name, shape_of(product), traffic, after, before, product.macs, micro)


def _pass_error_down(step: StepContext, site: Site, part: Part, samples: int, several: bool = False) -> Traffic:
    """The errors that this task completes: pruned, where the rule does, and sent to where they are read; as wide sums
    where several shares of a layer are added."""
    graph, name, direct = step.graph, part.whole.name, step.rule.path == "direct"
    complete = [item.outputs for item in graph.written[name]] or [part.whole.inputs]
    result = samples * (part.share(sum(complete)) if direct else sum(complete))
    ends = step.readers(graph.below[name], ("gradient",) if direct else ("gradient", "error"))
    array, traffic, bits = site.array("error"), Traffic(), step.bits("accumulator" if several else "error")
    if step.rule.pruned:
        ops = [("add", result, (bits,)), ("compare", 2 * result, (bits,))]  # their mean size, the threshold, the chance
        traffic += vector.operations(array, "error", ops)
        traffic += vector.random_bits(step.chip, array, "error", result, f"the pruning of {step.rule.name}")
    traffic += multicast(step, "error", result, bits, site.core, ends)
    if several:
        traffic += vector.operations(array, "error", [("add", result, (bits,))])
    return traffic


def _target(step: StepContext, part: Part, micro: int) -> Task:
    """Rows of feedback weights that the labels name, rounded, with the derivatives below: no product, and no wait for
    the output."""
    site, samples, graph, name = step.site(part, "error"), step.sizes[micro], step.graph, part.whole.name
    array = site.array("error")
    row = needs.feedback_values(step.network, graph, step.rule, part) // step.network.classes
    traffic = site.accesses.read(site.home("error", "error"), "error", [(1, samples)], needs.LABEL_BITS)
    for stream in feedback_operand(step, site).streams:
        traffic += site.accesses.read(stream.memory, "feedback", [(samples, row)], stream.bits)
    values = samples * part.share(part.whole.inputs)
    traffic += vector.rounding(step.chip, array, "error", values, step.chip.rounding.error, step.bits("feedback"))
    traffic += _derivatives(step, site, part, samples)
    traffic += _pass_error_down(step, site, part, samples)
    after = [task_id("forward", INPUT, micro), *step.ids("forward", graph.below[name], micro)]
    return lane_task("error", part.name, array, traffic, after, micro)


def _derivatives(step: StepContext, site: Site, part: Part, samples: int) -> Traffic:
    """Masks and saved values read, local derivatives, contributions of other paths added."""
    array, local, e_bits = site.array("error"), step.graph.back[part.whole.name], step.bits("error")
    parts = len(step.parts[part.whole.name])
    traffic = Traffic()
    masks = -(-samples * needs.mask_bits(local) // parts)
    if masks:
        traffic += site.accesses.read(site.home("mask", "error"), "mask", [(1, masks)], 1)
    saved = -(-samples * needs.derivative_values(local) // parts)
    if saved:
        memory = site.home("activation", "error")
        traffic += site.accesses.read(memory, "activation", [(1, saved)], step.bits("activation"))
    ops = vector.derivative_operations(local, samples, e_bits)
    added = step.rule.path == "layerwise" or step.shortcuts
    extra = -(-samples * step.graph.extra[part.whole.name] // parts) if added else 0
    if extra:
        traffic += site.accesses.read(site.home("error", "error"), "error", [(1, extra)], e_bits)
    ops = [(action, -(-count // parts), widths) for action, count, widths in ops]
    return traffic + vector.operations(array, "error", [*ops, ("add", extra, (e_bits,))])


def _add_windows(site: Site, product: Gemm, array: Array, bits: int) -> Traffic:
    """Errors of overlapping windows are added up in memory at accumulator width: read, add and write."""
    values = product.mapping.m * product.mapping.n * product.repeats
    memory = site.home("psum", "error")
    traffic = site.accesses.read(memory, "psum", [(1, values)], bits)
    traffic += site.accesses.write(memory, "psum", [(1, values)], bits)
    return traffic + vector.operations(array, "psum", [("add", values, (bits,))])
