"""The tasks that update the weights, for one part of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from fahw.hardware.part import Tensor
from fahw.work import learned_feedback as learned
from fahw.work import tensor_sizes as needs
from fahw.work.context import StepContext
from fahw.work.counts import lanes as vector
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.mesh import Part
from fahw.work.phases.gradient import touched_share
from fahw.work.tasks import decay_operations, lane_task, optimizer_operations


def update_task(step: StepContext, part: Part) -> Task:
    """The step on the master weights by the recipe's optimizer, then the rounded copy for the forward memory."""
    site, layer = step.site(part, "update"), part.layer
    array, accesses = site.array("update"), site.accesses
    options = step.chip.update_options
    factor = 1 + step.chip.transposed_access.write_overhead if step.transposable else 1.0
    values = ceil(layer.weights * touched_share(step, part))
    traffic = _states(step, site, {tensor: tensor for tensor in _kept(step)}, values)
    memory = site.home("weight", "update")
    if options.in_place:  # by rows, as they are stored: no overhead of a transposable memory
        traffic += accesses.read(memory, "weight", [(1, values)], step.bits("weight"))
    traffic += accesses.write(memory, "weight", [(1, values)], step.bits("weight"), factor)
    traffic += optimizer_operations(step, array, "master", values, decays=True)
    traffic += _update_exponents(step, site, values)
    if not options.in_place:
        traffic += vector.rounding(step.chip, array, "weight", values, "nearest", step.bits("master"))
    params = layer.biases + part.share(needs.norm_params(step.graph.tails[part.whole.name]))
    if params:
        traffic += _states(step, site, dict.fromkeys([*_kept(step), "master"], "param"), params)
        traffic += optimizer_operations(step, array, "param", params)
    after = [task_id("gradient", part.name, micro) for micro in step.micros]
    if step.sends_error(part):
        if step.rule.decay:
            traffic += decay_operations(step, array, "master", layer.weights)
        if step.together:
            traffic += learned.kolen_pollack_update(step, part)
        if step.together or (step.rule.reads_weight and step.chip.error_reaches_weights):
            after += [task_id("error", part.name, micro) for micro in step.micros]
    return lane_task("update", part.name, array, traffic, after)


def _update_exponents(step: StepContext, site: Site, values: int) -> Traffic:
    """Of what the update writes, where scales are dynamic; of the copy that it sends too."""
    traffic = vector.exponents(site, "update", "weight", values, step.bits("master"))
    for state in _kept(step):
        if state != "gradient":
            traffic += vector.exponents(site, "update", state, values, step.bits(state) + 8)
    if step.separate and step.rule.magnitude == "weight" and step.chip.precision.scale.is_dynamic("feedback"):
        bits = step.bits("weight")  # they lie in the weight's memory, and are read twice
        ops = [("compare", values, (bits,)), ("shift", values, (bits,))]
        traffic += vector.operations(site.array("update"), "weight", ops)
        traffic += site.accesses.read(site.home("weight", "update"), "weight", [(1, values)], bits)
    return traffic


def _kept(step: StepContext) -> list[Tensor]:
    """What the update reads for a weight besides its forward word: gradient, optimizer's states and master, as far as
    they are kept."""
    options = step.chip.update_options
    kept: dict[Tensor, bool] = {
        "gradient": not options.fused, "optimizer": step.descent.optimizer.states > 0, "master": not options.in_place
    }  # fmt: skip
    return [tensor for tensor, is_kept in kept.items() if is_kept]


def _states(step: StepContext, site: Site, homes: Mapping[Tensor, Tensor], values: int) -> Traffic:
    """Read each state of `values` weights and write it back, save for the gradient. `homes`: what it lies among."""
    traffic = Traffic()
    for state, tensor in homes.items():
        memory = site.home(tensor, "update")
        number, bits = step.descent.words(step.bits(state)) if state == "optimizer" else (1, step.bits(state))
        traffic += site.accesses.read(memory, tensor, [(number, values)], bits)
        if state != "gradient":
            traffic += site.accesses.write(memory, tensor, [(number, values)], bits)
    return traffic
