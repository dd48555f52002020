"""Feedback weights that learn: what keeps them up to date in place of weight transport, and what that costs.

By W's own steps (Kolen-Pollack): where the update's array reaches the feedback memory, B is read, changed and written
with W. Elsewhere the steps would have to be moved, which is more than to move W; so the array of the error path
computes the gradient again, micro-batch by micro-batch, into a velocity that lies beside B.

By a mirror: after the update a few samples of random -1 and 1 pass W, and their outer product with the responses, an
unbiased estimate of W, draws B towards it.

B is one word of feedback bits, rounded as updates are.
"""

from __future__ import annotations

from collections.abc import Iterator

from fahw.hardware.array import Array
from fahw.work import tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.layer_gemms import mirror_gemm, noise_gemm, outer_product_gemm, traffic_of
from fahw.work.mesh import Part
from fahw.work.tasks import decay_operations, fold_timing, gemm_task, multicast, optimizer_operations


def kolen_pollack_update(step: StepContext, part: Part) -> Traffic:
    """Action counts and flows of giving B the same step and the same decay as W, within W's update."""
    site, values = step.site(part, "update"), part.layer.weights
    array = site.array("update")
    traffic = lanes.operations(array, "feedback", [("subtract", values, (step.bits("master"),))])
    return traffic + decay_operations(step, array, "feedback", values) + _feedback_rewrite(step, site, array, part)


def feedback_learning_tasks(step: StepContext, part: Part) -> Iterator[Task]:
    """The tasks that teach a part its feedback weights; none where the update of W does."""
    if step.recomputes_gradient:
        taught = step.during(task_id("transport", part.name))
        yield from (_recomputed_gradient_task(taught, part, micro) for micro in step.micro_batches)
    elif step.rule.learned == "mirror":
        yield _noise_task(step.during(task_id("forward", part.name, len(step.micro_batches))), part)
        yield _mirror_task(step.during(task_id("transport", part.name)), part)


def _feedback_rewrite(step: StepContext, site: Site, array: Array, part: Part) -> Traffic:
    """Traffic of reading, rounding and writing all feedback weights of a part once."""
    values, bits = part.layer.weights, step.rule.learned_bits(step.bits("feedback"))
    memory = site.home("feedback", "update" if step.updates_feedback else "error")
    traffic = site.accesses.read(memory, "feedback", [(1, values)], bits)
    traffic += site.accesses.write(memory, "feedback", [(1, values)], bits)
    return traffic + lanes.rounding(step.chip, array, "feedback", values, step.chip.rounding.update, bits)


def _recomputed_gradient_task(step: StepContext, part: Part, micro: int) -> Task:
    """The task that computes the gradient again on the array of the error path and adds it to the velocity; that of the
    last micro-batch changes B."""
    site, values, bits = step.site(part, "error"), part.layer.weights, step.bits("optimizer")
    array, memory = site.array("error"), site.home("feedback", "error")
    product = outer_product_gemm(step, part, step.micro_batch_sizes[micro], "error", "feedback")
    traffic = traffic_of(site, product, "error")
    state_bits = tensor_sizes.feedback_state_bits(step.chip, step.network, step.rule, sum(step.micro_batch_sizes))
    if state_bits:
        width = step.optimizer_costs.state_words(bits)[1]
        traffic += site.accesses.read(memory, "feedback", [(state_bits // width, values)], width)
        traffic += site.accesses.write(memory, "feedback", [(state_bits // width, values)], width)
    if micro == step.micro_batches[-1]:
        traffic += optimizer_operations(step, array, "feedback", values) + decay_operations(
            step, array, "feedback", values
        )
        traffic += _feedback_rewrite(step, site, array, part)
    else:
        traffic += lanes.operations(array, "feedback", [("accumulate", values, (bits,))])
        traffic += lanes.rounding(step.chip, array, "feedback", values, step.chip.rounding.update, bits)
    after_errors = step.task_ids("error", step.graph.users[part.whole.name], micro) or [task_id("error", "loss", micro)]
    after = [*after_errors, task_id("error", part.name, micro), task_id("forward", part.name, micro)]
    after += [task_id("transport", part.name, micro - 1)] if micro else []
    return gemm_task(
        "transport", part.name, array.name, fold_timing(product), traffic, after, (), product.macs, micro
    )  # fmt: skip


def _noise_task(step: StepContext, part: Part) -> Task:
    """The task that sends noise through the new weights, as one more micro-batch; noise and responses go to the error
    path."""
    site, samples = step.site(part, "forward"), tensor_sizes.mirror_samples(step.rule, part.layer)
    array, accumulator_bits = site.array("forward"), step.bits("accumulator")
    product, values = noise_gemm(step, part), samples * part.whole.inputs
    traffic = traffic_of(site, product, "forward")
    user = f"the noise of {step.rule.name}"
    traffic += lanes.random_bits(step.chip, array, "activation", values, user, tensor_sizes.NOISE_BITS, is_operand=True)
    responses = samples * part.layer.outputs
    traffic += lanes.rounding(step.chip, array, "error", responses, step.chip.rounding.error, accumulator_bits)
    reader_cores = list(dict.fromkeys([part.core, part.error_core]))
    traffic += multicast(step, "activation", values, tensor_sizes.NOISE_BITS, part.core, reader_cores)
    traffic += multicast(step, "error", responses, step.bits("error"), part.core, [part.error_core])
    after, micro = [task_id("update", part.name)], len(step.micro_batch_sizes)
    return gemm_task(
        "forward", part.name, array.name, fold_timing(product), traffic, after, (), product.macs, micro
    )  # fmt: skip


def _mirror_task(step: StepContext, part: Part) -> Task:
    """The task that computes the outer product of responses and noise, of which B takes a small share."""
    site, values, accumulator_bits = step.site(part, "error"), part.layer.weights, step.bits("accumulator")
    array, product = site.array("error"), mirror_gemm(step, part)
    traffic = traffic_of(site, product, "error")
    ops = [
        ("subtract", values, (accumulator_bits,)),
        ("shift", values, (accumulator_bits,)),
        ("add", values, (accumulator_bits,)),
    ]
    traffic += lanes.operations(array, "feedback", ops) + _feedback_rewrite(step, site, array, part)
    after = [task_id("forward", part.name, len(step.micro_batch_sizes))]
    after += [task_id("error", part.name, micro) for micro in step.micro_batches]
    return gemm_task("transport", part.name, array.name, fold_timing(product), traffic, after, (), product.macs)
