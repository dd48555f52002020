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
from fahw.work import tensor_sizes as needs
from fahw.work.context import StepContext
from fahw.work.counts import lanes as vector
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.layer_gemms import mirror_gemm, noise_gemm, outer_product_gemm, traffic_of
from fahw.work.mesh import Part
from fahw.work.tasks import decay_operations, gemm_task, multicast, optimizer_operations, shape_of


def kolen_pollack_update(step: StepContext, part: Part) -> Traffic:
    """What W's update takes to give B the same step and the same decay."""
    site, values = step.site(part, "update"), part.layer.weights
    array = site.array("update")
    traffic = vector.operations(array, "feedback", [("subtract", values, (step.bits("master"),))])
    return traffic + decay_operations(step, array, "feedback", values) + _renewed(step, site, array, part)


def feedback_learning_tasks(step: StepContext, part: Part) -> Iterator[Task]:
    """The tasks that teach a part its feedback weights, if they are not taught by the update."""
    if step.recomputes:
        yield from (_gradient_again(step, part, micro) for micro in step.micros)
    elif step.rule.learned == "mirror":
        yield _noise(step, part)
        yield _mirror(step, part)


def _renewed(step: StepContext, site: Site, array: Array, part: Part) -> Traffic:
    """B read and written, and rounded in between."""
    values, bits = part.layer.weights, step.rule.learned_bits(step.bits("feedback"))
    memory = site.home("feedback", "update" if step.together else "error")
    traffic = site.accesses.read(memory, "feedback", [(1, values)], bits)
    traffic += site.accesses.write(memory, "feedback", [(1, values)], bits)
    return traffic + vector.rounding(step.chip, array, "feedback", values, step.chip.rounding.update, bits)


def _gradient_again(step: StepContext, part: Part, micro: int) -> Task:
    """The gradient on the array of the error path, added to the velocity; the last one changes B."""
    site, values, bits = step.site(part, "error"), part.layer.weights, step.bits("optimizer")
    array, memory = site.array("error"), site.home("feedback", "error")
    product = outer_product_gemm(step, part, step.sizes[micro], "error", "feedback")
    traffic = traffic_of(site, product, "error")
    kept = needs.kept_beside(step.chip, step.network, step.rule, sum(step.sizes))
    if kept:
        width = step.descent.words(bits)[1]
        traffic += site.accesses.read(memory, "feedback", [(kept // width, values)], width)
        traffic += site.accesses.write(memory, "feedback", [(kept // width, values)], width)
    if micro == step.micros[-1]:
        traffic += optimizer_operations(step, array, "feedback", values) + decay_operations(
            step, array, "feedback", values
        )
        traffic += _renewed(step, site, array, part)
    else:
        traffic += vector.operations(array, "feedback", [("accumulate", values, (bits,))])
        traffic += vector.rounding(step.chip, array, "feedback", values, step.chip.rounding.update, bits)
    above = step.ids("error", step.graph.users[part.whole.name], micro) or [task_id("error", "loss", micro)]
    after = [*above, task_id("error", part.name, micro), task_id("forward", part.name, micro)]
    after += [task_id("transport", part.name, micro - 1)] if micro else []
    return gemm_task(
        "transport", part.name, array.name, shape_of(product), traffic, after, (), product.macs, micro
    )  # fmt: skip


def _noise(step: StepContext, part: Part) -> Task:
    """Noise through the new weights, as one more micro-batch; it and the responses go to the error path."""
    site, samples = step.site(part, "forward"), needs.mirror_samples(step.rule, part.layer)
    array, acc = site.array("forward"), step.bits("accumulator")
    product, values = noise_gemm(step, part), samples * part.whole.inputs
    traffic = traffic_of(site, product, "forward")
    user = f"the noise of {step.rule.name}"
    traffic += vector.random_bits(step.chip, array, "activation", values, user, needs.NOISE_BITS)
    responses = samples * part.layer.outputs
    traffic += vector.rounding(step.chip, array, "error", responses, step.chip.rounding.error, acc)
    ends = list(dict.fromkeys([part.core, part.error_core]))
    traffic += multicast(step, "activation", values, needs.NOISE_BITS, part.core, ends)
    traffic += multicast(step, "error", responses, step.bits("error"), part.core, [part.error_core])
    after, number = [task_id("update", part.name)], len(step.sizes)
    return gemm_task(
        "forward", part.name, array.name, shape_of(product), traffic, after, (), product.macs, number
    )  # fmt: skip


def _mirror(step: StepContext, part: Part) -> Task:
    """The outer product of responses and noise, of which B takes a small share."""
    site, values, acc = step.site(part, "error"), part.layer.weights, step.bits("accumulator")
    array, product = site.array("error"), mirror_gemm(step, part)
    traffic = traffic_of(site, product, "error")
    ops = [("subtract", values, (acc,)), ("shift", values, (acc,)), ("add", values, (acc,))]
    traffic += vector.operations(array, "feedback", ops) + _renewed(step, site, array, part)
    after = [task_id("forward", part.name, len(step.sizes))]
    after += [task_id("error", part.name, micro) for micro in step.micros]
    return gemm_task("transport", part.name, array.name, shape_of(product), traffic, after, (), product.macs)
