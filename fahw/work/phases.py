"""The tasks of one training step: what each phase computes, reads, writes and sends for one part of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

from fahw.config.chip import Array, Tensor
from fahw.layers import INPUT, NORMS
from fahw.work import learned, needs, rows, vector
from fahw.work.memory import Traffic
from fahw.work.mesh import Part
from fahw.work.product import Product
from fahw.work.products import Step, error_product, feedback_operand, forward_product, gradient_product, traffic_of
from fahw.work.records import Task, task_id
from fahw.work.site import Site
from fahw.work.tasks import decay, descend, product_task, shape_of, spread, vector_task

LOSS = "loss"
"""Layer name of the task between forward and error; that before forward is called `input`."""
IO = "io"
"""The part that brings samples in."""


def input_task(step: Step, micro: int) -> Task:
    """Bring samples and labels on chip, through the layers without weights that come first, if any."""
    samples, bits = step.sizes[micro], step.bits("activation")
    ends = step.readers(step.graph.users[INPUT], ("forward",))
    site, tail = step.sites[ends[0]], step.graph.tails[INPUT]
    raw = samples * prod(step.network.input_shape)
    traffic = site.accesses.dram("read", "io", raw * bits + samples * 8)
    ops = vector.forward_operations(tail, samples, bits)
    traffic += vector.operations(site.array("forward"), "activation", ops)
    values = samples * sum(item.outputs for item in needs.stored(step.network, tail, None)) if tail else raw
    traffic += spread(step, "activation", values, bits, site.core, ends)
    if step.rule.signal == "targets":
        cores = step.readers(step.graph.senders, ("error",))
        traffic += spread(step, "error", samples, needs.LABEL_BITS, site.core, cores)
    return product_task("forward", INPUT, f"{site.prefix}{IO}", (samples, 0, 0), traffic, [], micro=micro)


def forward(step: Step, part: Part, micro: int) -> Task:
    """The product, bias, rounding, the tail of layers without weights, and results to where they are read."""
    site, samples = step.site(part, "forward"), step.sizes[micro]
    array, name = site.array("forward"), part.whole.name
    traffic, shape, macs = _forward_product(step, part, samples)
    outputs, a_bits, acc = samples * part.layer.outputs, step.bits("activation"), step.bits("accumulator")
    tail = step.graph.tails[name]
    params = part.layer.biases + part.share(needs.norm_params(tail))
    if params:
        memory = site.home("param", "forward")
        traffic += site.accesses.read(memory, "param", [(1, params)], step.bits("master"))
    if part.layer.biases:
        traffic += vector.operations(array, "param", [("add", outputs, (acc,))])
    traffic += vector.exponents(site, "forward", "activation", outputs, acc)
    traffic += vector.rounding(step.chip, array, "activation", outputs, step.chip.rounding.activation, acc)
    traffic += _tail_traffic(step, site, part, samples)
    stored = samples * part.share(sum(item.outputs for item in needs.stored(step.network, tail, part.whole)))
    users = step.graph.users[name]
    again = ("error",) if step.recomputes else ()  # inputs for the gradient of the feedback weights
    ends = step.readers(users, ("forward", *again)) if users else [step.last.core]
    traffic += spread(step, "activation", stored, a_bits, site.core, ends)
    masks = samples * part.share(needs.mask_bits(tail))
    if masks and users and step.receives(part):
        readers = step.readers(users[:1], ("error",))
        traffic += spread(step, "mask", masks, 1, site.core, readers)
    below = step.graph.below[name]
    after = step.ids("forward", below, micro) if below else [task_id("forward", INPUT, micro)]
    before = [task_id("update", part.name)] if step.learns(part) and not step.chip.update_delay else []
    return product_task("forward", part.name, array.name, shape, traffic, after, before, macs, micro)


def _forward_product(step: Step, part: Part, samples: int) -> tuple[Traffic, tuple[int, int, int], int]:
    """Traffic, shape and multiply-accumulates under the array's dataflow."""
    site = step.site(part, "forward")
    if site.array("forward").phases.forward == "rs":
        return rows.forward(step, part, samples)
    product = forward_product(step, part, samples)
    return traffic_of(site, product, "forward"), shape_of(product), product.macs


def _tail_traffic(step: Step, site: Site, part: Part, samples: int) -> Traffic:
    """Operations of the tail, second operands of adds, and values that derivatives or a second pass need."""
    array, bits, tail = site.array("forward"), step.bits("activation"), step.graph.tails[part.whole.name]
    ops = [
        (action, part.share(count), widths) for action, count, widths in vector.forward_operations(tail, samples, bits)
    ]
    traffic = vector.operations(array, "activation", ops)
    own = {part.whole.name, *(item.name for item in tail)}
    adds = [(item.outputs, source) for item in tail if item.kind == "add" for source in item.sources]
    others = sum(values for values, source in adds if source not in own)
    norms = sum(item.outputs for item in tail if item.kind in NORMS)
    saved = samples * part.share(needs.saved_values(step.network, tail, part.whole, step.receives(part)))
    memory = site.home("activation", "forward")
    read = samples * part.share(others + norms)
    if read:
        traffic += site.accesses.read(memory, "activation", [(1, read)], bits)
    if saved:
        traffic += site.accesses.write(memory, "activation", [(1, saved)], bits)
    dropped = samples * part.share(sum(item.outputs for item in tail if item.kind == "dropout"))
    return traffic + vector.random_bits(step.chip, array, "mask", dropped, "dropout")


def loss(step: Step, micro: int) -> Task:
    """Softmax and its difference to the label: exponential table, sum, integer division."""
    site = step.sites[step.last.core]
    array, memory = site.array("forward"), site.home("activation", "forward")
    values, bits = step.sizes[micro] * step.network.classes, step.bits("error")
    traffic = site.accesses.read(memory, "activation", [(1, values)], step.bits("activation"))
    ops = [
        ("compare", values, (step.bits("activation"),)), ("table", values, (16,)), ("add", values, (32,)),
        ("divide", values, (16,)), ("subtract", values, (bits,)),
    ]  # fmt: skip
    last, signal = step.network.weighted[-1].name, step.rule.signal
    readers = step.graph.senders if step.rule.path == "direct" else (last,)
    learning, sending = step.readers((last,), ("gradient",)), step.readers(readers, ("error",))
    if signal == "ternary":
        ops.append(("compare", 2 * values, (bits,)))
        traffic += spread(step, "error", values, step.rule.signal_bits(bits), site.core, sending)
    additions, drawn = vector.dither(step.chip, array, "error", values, step.chip.rounding.of_output_error)
    traffic += vector.operations(array, "error", [*ops, *additions]) + drawn
    ends = list(dict.fromkeys([*learning, *sending])) if signal == "error" else learning
    traffic += spread(step, "error", values, bits, site.core, ends)
    return vector_task("error", LOSS, array, traffic, step.ids("forward", (last,), micro), micro)


def error(step: Step, part: Part, micro: int) -> Task:
    """The product, rounding, the derivatives of the tails below, and errors to where they are read."""
    if step.rule.signal == "targets":
        return _target(step, part, micro)
    site, samples, name = step.site(part, "error"), step.sizes[micro], part.whole.name
    array, graph, layer = site.array("error"), step.graph, part.whole
    product = error_product(step, part, samples)
    traffic = traffic_of(site, product, "error")
    acc, direct = step.bits("accumulator"), step.rule.path == "direct"
    if not direct and needs.overlapping(layer):
        traffic += _add_windows(site, product, array, acc)
    values = samples * (part.share(layer.inputs) if direct else layer.inputs)
    traffic += vector.exponents(site, "error", "error", values, acc)
    traffic += vector.rounding(step.chip, array, "error", values, step.chip.rounding.error, acc)
    traffic += _derivatives(step, site, part, samples)
    several = len(step.parts[name]) > 1 and not direct
    traffic += _hand_on(step, site, part, samples, several)
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
    return product_task("error", part.name, array.name, shape_of(product), traffic, after, before, product.macs, micro)


def _hand_on(step: Step, site: Site, part: Part, samples: int, several: bool = False) -> Traffic:
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
    traffic += spread(step, "error", result, bits, site.core, ends)
    if several:
        traffic += vector.operations(array, "error", [("add", result, (bits,))])
    return traffic


def _target(step: Step, part: Part, micro: int) -> Task:
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
    traffic += _hand_on(step, site, part, samples)
    after = [task_id("forward", INPUT, micro), *step.ids("forward", graph.below[name], micro)]
    return vector_task("error", part.name, array, traffic, after, micro)


def _derivatives(step: Step, site: Site, part: Part, samples: int) -> Traffic:
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


def _add_windows(site: Site, product: Product, array: Array, bits: int) -> Traffic:
    """Errors of overlapping windows are added up in memory at accumulator width: read, add and write."""
    values = product.mapping.m * product.mapping.n * product.repeats
    memory = site.home("psum", "error")
    traffic = site.accesses.read(memory, "psum", [(1, values)], bits)
    traffic += site.accesses.write(memory, "psum", [(1, values)], bits)
    return traffic + vector.operations(array, "psum", [("add", values, (bits,))])


def gradient(step: Step, part: Part, micro: int) -> Task:
    """The product, and its sum: over micro-batches in memory at accumulator width, rounded with the last one."""
    site, samples, layer = step.site(part, "gradient"), step.sizes[micro], part.layer
    array, mode, acc = site.array("gradient"), step.chip.rounding.gradient, step.bits("accumulator")
    product = gradient_product(step, part, samples)
    traffic = traffic_of(site, product, "gradient")
    tail = step.graph.tails[part.whole.name]
    norms, last = part.share(needs.norm_params(tail)), micro + 1 == len(step.sizes)
    params = layer.biases + norms
    adds = samples * layer.positions * layer.biases
    if adds:
        traffic += vector.operations(array, "param", [("add", adds, (acc,))])
    straight = step.chip.update_options.fused and len(step.sizes) == 1  # to the update, which may leave weights out
    weights = ceil(layer.weights * _touched_share(step, part)) if straight else layer.weights
    for tensor, values in (("gradient", weights), ("param", params)):
        traffic += _accumulate(step, site, tensor, values, (micro, last), mode)  # type: ignore[arg-type]
    users = step.graph.users[part.whole.name]
    reads = step.rule.path == "direct" and users
    above = step.ids("error", users[:1] if reads else users, micro) if users else [task_id("error", LOSS, micro)]
    after = [*above, task_id("forward", part.name, micro)]
    return product_task("gradient", part.name, array.name, shape_of(product), traffic, after, (), product.macs, micro)


def _accumulate(step: Step, site: Site, tensor: Tensor, values: int, place: tuple[int, bool], mode: str) -> Traffic:
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


def update(step: Step, part: Part) -> Task:
    """The step on the master weights by the recipe's optimizer, then the rounded copy for the forward memory."""
    site, layer = step.site(part, "update"), part.layer
    array, accesses = site.array("update"), site.accesses
    options = step.chip.update_options
    factor = 1 + step.chip.transposed_access.write_overhead if step.transposable else 1.0
    values = ceil(layer.weights * _touched_share(step, part))
    traffic = _states(step, site, {tensor: tensor for tensor in _kept(step)}, values)
    memory = site.home("weight", "update")
    if options.in_place:  # by rows, as they are stored: no overhead of a transposable memory
        traffic += accesses.read(memory, "weight", [(1, values)], step.bits("weight"))
    traffic += accesses.write(memory, "weight", [(1, values)], step.bits("weight"), factor)
    traffic += descend(step, array, "master", values, decays=True)
    traffic += _update_exponents(step, site, values)
    if not options.in_place:
        traffic += vector.rounding(step.chip, array, "weight", values, "nearest", step.bits("master"))
    params = layer.biases + part.share(needs.norm_params(step.graph.tails[part.whole.name]))
    if params:
        traffic += _states(step, site, dict.fromkeys([*_kept(step), "master"], "param"), params)
        traffic += descend(step, array, "param", params)
    after = [task_id("gradient", part.name, micro) for micro in step.micros]
    if step.sends_error(part):
        if step.rule.decay:
            traffic += decay(step, array, "master", layer.weights)
        if step.together:
            traffic += learned.follow(step, part)
        if step.together or (step.rule.reads_weight and step.chip.error_reaches_weights):
            after += [task_id("error", part.name, micro) for micro in step.micros]
    return vector_task("update", part.name, array, traffic, after)


def _update_exponents(step: Step, site: Site, values: int) -> Traffic:
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


def _touched_share(step: Step, part: Part) -> float:
    """Share of weights whose gradient over the batch is not zero, where the update skips the others. Zeros are taken to
    fall independently of each other. Raises ConfigError where their share is not known."""
    if not step.chip.update_options.skip_zeros or step.rule.decay or step.descent.decays:
        return 1.0
    kinds, user = ("zero_activations", "zero_errors"), "the update skips weights without a gradient"
    activations, errors = (step.share(kind, part.whole, user) for kind in kinds)
    return 1 - (1 - (1 - activations) * (1 - errors)) ** (sum(step.sizes) * part.layer.positions)


def _kept(step: Step) -> list[Tensor]:
    """What the update reads for a weight besides its forward word: gradient, optimizer's states and master, as far as
    they are kept."""
    options = step.chip.update_options
    kept: dict[Tensor, bool] = {
        "gradient": not options.fused, "optimizer": step.descent.optimizer.states > 0, "master": not options.in_place
    }  # fmt: skip
    return [tensor for tensor, is_kept in kept.items() if is_kept]


def _states(step: Step, site: Site, homes: Mapping[Tensor, Tensor], values: int) -> Traffic:
    """Read each state of `values` weights and write it back, save for the gradient. `homes`: what it lies among."""
    traffic = Traffic()
    for state, tensor in homes.items():
        memory = site.home(tensor, "update")
        number, bits = step.descent.words(step.bits(state)) if state == "optimizer" else (1, step.bits(state))
        traffic += site.accesses.read(memory, tensor, [(number, values)], bits)
        if state != "gradient":
            traffic += site.accesses.write(memory, tensor, [(number, values)], bits)
    return traffic
