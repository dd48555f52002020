"""The tasks that compute weight gradients, for one part of a layer."""

from __future__ import annotations

from math import ceil

from fahw.hardware.part import Tensor
from fahw.work import tensor_sizes as needs
from fahw.work.context import StepContext
from fahw.work.counts import lanes as vector
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.record import Task, task_id
from fahw.work.counts.site import Site
from fahw.work.layer_gemms import gradient_gemm, traffic_of
from fahw.work.mesh import Part
from fahw.work.phases.forward import LOSS
from fahw.work.tasks import gemm_task, shape_of


def gradient_task(step: StepContext, part: Part, micro: int) -> Task:
    """The product, and its sum: over micro-batches in memory at accumulator width, rounded with the last one."""
    site, samples, layer = step.site(part, "gradient"), step.sizes[micro], part.layer
    array, mode, acc = site.array("gradient"), step.chip.rounding.gradient, step.bits("accumulator")
    product = gradient_gemm(step, part, samples)
    traffic = traffic_of(site, product, "gradient")
    tail = step.graph.tails[part.whole.name]
    norms, last = part.share(needs.norm_params(tail)), micro + 1 == len(step.sizes)
    params = layer.biases + norms
    adds = samples * layer.positions * layer.biases
    if adds:
        traffic += vector.operations(array, "param", [("add", adds, (acc,))])
    straight = step.chip.update_options.fused and len(step.sizes) == 1  # to the update, which may leave weights out
    weights = ceil(layer.weights * touched_share(step, part)) if straight else layer.weights
    for tensor, values in (("gradient", weights), ("param", params)):
        traffic += _accumulate(step, site, tensor, values, (micro, last), mode)  # type: ignore[arg-type]
    users = step.graph.users[part.whole.name]
    reads = step.rule.path == "direct" and users
    above = step.ids("error", users[:1] if reads else users, micro) if users else [task_id("error", LOSS, micro)]
    after = [*above, task_id("forward", part.name, micro)]
    return gemm_task("gradient", part.name, array.name, shape_of(product), traffic, after, (), product.macs, micro)


def _accumulate(
    step: StepContext, site: Site, tensor: Tensor, values: int, place: tuple[int, bool], mode: str
) -> Traffic:
    """Add `values` to those of earlier micro-batches, and round them with the last."""
    if not values:
        return Traffic()
    (micro, last), acc, array = place, step.bits("accumulator"), site.array("gradient")
    traffic = Traffic()
    if micro:
        traffic += site.accesses.read(site.home(tensor, "gradient"), tensor, [(1, values)], acc)
        traffic += vector.operations(array, tensor, [("add", values, (acc,))])
    if last:
        traffic += vector.exponents(site, "gradient", tensor, values, acc)
        traffic += vector.rounding(step.chip, array, tensor, values, mode, acc)  # type: ignore[arg-type]
        if step.chip.update_options.fused:
            return traffic
    bits = step.bits("gradient") if last else acc
    return traffic + site.accesses.write(site.home(tensor, "gradient"), tensor, [(1, values)], bits)


def touched_share(step: StepContext, part: Part) -> float:
    """Share of weights whose gradient over the batch is not zero, where the update skips the others. Zeros are taken to
    fall independently of each other. Raises ConfigError where their share is not known."""
    if not step.chip.update_options.skip_zeros or step.rule.decay or step.descent.decays:
        return 1.0
    kinds, user = ("zero_activations", "zero_errors"), "the update skips weights without a gradient"
    activations, errors = (step.share(kind, part.whole, user) for kind in kinds)
    return 1 - (1 - (1 - activations) * (1 - errors)) ** (sum(step.sizes) * part.layer.positions)
