"""The tasks that compute weight gradients, for one part of a layer."""

from __future__ import annotations

from fahw.activity import share_of
from fahw.hardware.part import Tensor
from fahw.work import tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.layer_gemms import gradient_gemm, handed_on_sums, traffic_of
from fahw.work.mesh import Part
from fahw.work.phases.forward import LOSS
from fahw.work.tasks import fold_timing, gemm_task


def gradient_task(step: StepContext, part: Part, micro: int) -> Task:
    """The task of the product and its sum: over micro-batches in memory at accumulator width, rounded with the last."""
    site, samples, layer = step.site(part, "gradient"), step.micro_batch_sizes[micro], part.layer
    array, mode, accumulator_bits = site.array("gradient"), step.chip.rounding.gradient, step.bits("accumulator")
    product = gradient_gemm(step, part, samples)
    traffic = traffic_of(site, product, "gradient")
    if handed_on := handed_on_sums(step, part, samples):
        psum = site.home("psum", "gradient")
        for access in (site.accesses.write, site.accesses.read):
            traffic += access(psum, "psum", [(1, handed_on)], accumulator_bits)
    tail = step.graph.tails[part.whole.name]
    norms, is_last = part.share(tensor_sizes.learned_norm_params(tail)), micro + 1 == len(step.micro_batch_sizes)
    params = layer.biases + norms
    additions = samples * layer.positions * layer.biases
    if additions:
        traffic += lanes.operations(array, "param", [("add", additions, (accumulator_bits,))])
    fused = (
        step.chip.update_options.fused and len(step.micro_batch_sizes) == 1
    )  # to the update, which may leave weights out
    weights = share_of(layer.weights, touched_share(step, part)) if fused else layer.weights
    for tensor, values in (("gradient", weights), ("param", params)):
        traffic += _accumulate(step, site, tensor, values, (micro, is_last), mode)  # type: ignore[arg-type]
    users = step.graph.users[part.whole.name]
    reads_output_error = step.rule.path == "direct" and users
    errors = (
        step.task_ids("error", users[:1] if reads_output_error else users, micro)
        if users
        else [task_id("error", LOSS, micro)]
    )
    after = [*errors, task_id("forward", part.name, micro)]
    return gemm_task("gradient", part.name, array.name, fold_timing(product), traffic, after, (), product.macs, micro)


def _accumulate(
    step: StepContext, site: Site, tensor: Tensor, values: int, micro_batch: tuple[int, bool], mode: str
) -> Traffic:
    """Traffic of adding `values` to those of earlier micro-batches, and of rounding them with the last. `micro_batch`:
    its number, and whether it is the last."""
    if not values:
        return Traffic()
    (micro, is_last), accumulator_bits, array = micro_batch, step.bits("accumulator"), site.array("gradient")
    traffic = Traffic()
    if micro:
        traffic += site.accesses.read(site.home(tensor, "gradient"), tensor, [(1, values)], accumulator_bits)
        traffic += lanes.operations(array, tensor, [("add", values, (accumulator_bits,))])
    if is_last:
        traffic += lanes.exponent_search(site, "gradient", tensor, values, accumulator_bits)
        traffic += lanes.rounding(step.chip, array, tensor, values, mode, accumulator_bits)  # type: ignore[arg-type]
        if step.chip.update_options.fused:
            return traffic
    bits = step.bits("gradient") if is_last else accumulator_bits
    return traffic + site.accesses.write(site.home(tensor, "gradient"), tensor, [(1, values)], bits)


def touched_share(step: StepContext, part: Part) -> float:
    """The share of weights whose gradient over the batch is not zero, where the update skips the others. Zeros are
    taken to fall independently of each other. Raises ConfigError where their share is not known."""
    if not step.chip.update_options.skip_zeros or step.rule.decay or step.optimizer_costs.decays:
        return 1.0
    kinds, user = ("zero_activations", "zero_errors"), "the update skips weights without a gradient"
    activations, errors = (step.activity_share(kind, part.whole, user) for kind in kinds)
    return 1 - (1 - (1 - activations) * (1 - errors)) ** (sum(step.micro_batch_sizes) * part.layer.positions)
