"""The tasks that update the weights, for one part of a layer."""

from __future__ import annotations

from collections.abc import Mapping

from fahw.activity import share_of
from fahw.hardware.part import Tensor
from fahw.work import learned_feedback, tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.mesh import Part
from fahw.work.phases.gradient import touched_share
from fahw.work.tasks import decay_operations, lane_task, optimizer_operations


def update_task(step: StepContext, part: Part) -> Task:
    """The task of the optimizer's step on the master weights, then of the rounded copy for the forward memory."""
    site, layer = step.site(part, "update"), part.layer
    array, accesses = site.array("update"), site.accesses
    options = step.chip.update_options
    values = share_of(layer.weights, touched_share(step, part))
    traffic = _gradients_seen(step, site, layer.weights - values)
    traffic += _state_traffic(step, site, {tensor: tensor for tensor in _stored_tensors(step)}, values)
    memory = site.home("weight", "update")
    if options.in_place:  # by rows, as they are stored: no overhead of a transposable memory
        traffic += accesses.read(memory, "weight", [(1, values)], step.bits("weight"))
    traffic += accesses.write(memory, "weight", [(1, values)], step.bits("weight"), 1 + step.transposed.write)
    traffic += optimizer_operations(step, array, "master", values, decays=True)
    traffic += _update_exponents(step, site, values)
    if not options.in_place:
        traffic += lanes.rounding(step.chip, array, "weight", values, "nearest", step.bits("master"))
    params = layer.biases + part.share(tensor_sizes.learned_norm_params(step.graph.tails[part.whole.name]))
    if params:
        traffic += _state_traffic(step, site, dict.fromkeys([*_stored_tensors(step), "master"], "param"), params)
        traffic += optimizer_operations(step, array, "param", params)
    after = [task_id("gradient", part.name, micro) for micro in step.micro_batches]
    if step.sends_error(part):
        if step.rule.decay:
            traffic += decay_operations(step, array, "master", layer.weights)
        if step.updates_feedback:
            traffic += learned_feedback.kolen_pollack_update(step, part)
        if step.updates_feedback or (step.rule.reads_weight and step.chip.error_reaches_weights):
            after += [task_id("error", part.name, micro) for micro in step.micro_batches]
    return lane_task("update", part.name, array, traffic, after)


def _gradients_seen(step: StepContext, site: Site, skipped: int) -> Traffic:
    """Traffic of finding the weights to skip: where gradients are stored, those that are zero are read too."""
    if step.chip.update_options.fused or not skipped:
        return Traffic()
    return site.accesses.read(site.home("gradient", "update"), "gradient", [(1, skipped)], step.bits("gradient"))


def _update_exponents(step: StepContext, site: Site, values: int) -> Traffic:
    """Traffic of the exponent search over what the update writes, and over the copy that it sends, where scales are
    dynamic."""
    traffic = lanes.exponent_search(site, "update", "weight", values, step.bits("master"))
    for state in _stored_tensors(step):
        if state != "gradient":
            traffic += lanes.exponent_search(site, "update", state, values, step.bits(state) + 8)
    copies = step.has_weight_copy and step.rule.feedback.copies_weight
    if copies and step.chip.precision.is_dynamic("feedback"):
        bits = step.bits("weight")  # they lie in the weight's memory, and are read twice
        ops = [("compare", values, (bits,)), ("shift", values, (bits,))]
        traffic += lanes.operations(site.array("update"), "weight", ops)
        traffic += site.accesses.read(site.home("weight", "update"), "weight", [(1, values)], bits)
    return traffic


def _stored_tensors(step: StepContext) -> list[Tensor]:
    """The tensors that the update reads for a weight besides its forward word: gradient, optimizer's states and master,
    as far as the chip stores them."""
    options = step.chip.update_options
    is_stored: dict[Tensor, bool] = {
        "gradient": not options.fused,
        "optimizer": step.optimizer_costs.optimizer.states > 0,
        "master": not options.in_place,
    }
    return [tensor for tensor, stored in is_stored.items() if stored]


def _state_traffic(step: StepContext, site: Site, homes: Mapping[Tensor, Tensor], values: int) -> Traffic:
    """Traffic of reading each state of `values` weights and writing it back, save for the gradient. `homes`: the tensor
    that each lies among."""
    traffic = Traffic()
    for state, tensor in homes.items():
        memory = site.home(tensor, "update")
        number, bits = (
            step.optimizer_costs.state_words(step.bits(state)) if state == "optimizer" else (1, step.bits(state))
        )
        traffic += site.accesses.read(memory, tensor, [(number, values)], bits)
        if state != "gradient":
            traffic += site.accesses.write(memory, tensor, [(number, values)], bits)
    return traffic
