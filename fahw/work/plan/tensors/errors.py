"""Lives of errors: at layers' outputs, what a direct rule sends back, and what lies between two products."""

from __future__ import annotations

from fahw.layers.layer import INPUT
from fahw.layers.weighted import Weighted
from fahw.work import tensor_sizes
from fahw.work.counts.record import TaskId, task_id
from fahw.work.mesh import Part
from fahw.work.phases.forward import LOSS
from fahw.work.plan.tensors.lives import Life, Lives, noise_task


def add_errors(lives: Lives) -> None:
    """Add the errors of all layers that need one, and what goes with them."""
    for part in lives.parts:
        if lives.step.receives_error(part):
            _add_output_error(lives, part)
    for part in lives.sending:
        if lives.step.rule.path == "direct":
            _add_signal(lives, part)
        _add_passing(lives, part)


def _add_output_error(lives: Lives, part: Part) -> None:
    """Add the error at a part's output: where its gradient is computed, and where it is sent on from."""
    step, layerwise = lives.step, lives.step.rule.path == "layerwise"
    sends = layerwise and step.sends_error(part)
    values = lives.samples * part.layer.outputs
    bits = step.packed_bits("error", part.whole, values, step.bits("error"))
    for core in dict.fromkeys([part.core, *([part.error_core] if sends else [])]):
        life = lives.at(core, f"error {part.name}", "error", bits)
        _add_writers(lives, part, life)
        if core == part.core and step.learns(part):
            life.read([task_id("gradient", part.name)], is_operand=True)
        if core == part.error_core and sends:
            life.read([task_id("error", part.name)], is_operand=True)
    if step.recomputes_gradient and lives.is_taught(part):
        copy = lives.at(part.error_core, f"error {part.name}", "error", bits)
        _add_writers(lives, part, copy)
        copy.read([task_id("transport", part.name)], is_operand=True)


def _add_writers(lives: Lives, part: Part, life: Life) -> None:
    """Note who makes the error at a part's output: the loss; or the error task of its first reader, which completes it,
    after those of other paths, whose errors are added there."""
    step, name = lives.step, part.whole.name
    readers = step.graph.users[name]
    if not readers:
        life.write([task_id("error", LOSS)])
        return
    makers = [task_id("error", reader.name) for reader in step.parts[readers[0]] if _meets(reader, part)]
    others = _other_paths(lives, part.whole)
    life.write([*makers, *others])
    if step.chip.precision.is_dynamic("error") and not step.rule.sent.names_rows:
        life.read([*makers, *others])
    if others and (step.rule.path == "layerwise" or step.passes_shortcut_errors):
        life.read(makers)


def _meets(reader: Part, part: Part) -> bool:
    """Whether the error task of a reader's part makes errors of a part's outputs."""
    return reader.values_for(part, part.whole.outputs) > 0


def _other_paths(lives: Lives, layer: Weighted) -> list[TaskId]:
    """The error tasks, but those of a layer's first reader, that find errors of what the layer and its tail yield."""
    step, graph = lives.step, lives.step.graph
    first, tail = graph.users[layer.name][0], graph.tails[layer.name]
    own, found = {item.name for item in tail}, dict[str, None]()
    for item in (layer, *tail):
        for user in step.network.users_of(item):
            if user.weighted:
                found[user.name] = None
            elif user.name not in own:
                found |= dict.fromkeys(graph.users[graph.owners[user.name]][:1])
    names = [name for name in found if name != first and name in graph.roles.sends]
    return step.task_ids("error", names, 0)


def _add_signal(lives: Lives, part: Part) -> None:
    """Add what a direct rule sends a part back from the output, on the core that makes the part's error."""
    step, signal, task = lives.step, lives.step.rule.sent, [task_id("error", part.name)]
    core, last, bits = part.error_core, step.network.weighted[-1], step.bits("error")
    if signal.names_rows:
        labels = lives.at(core, "labels", "error", lives.samples * signal.stored_bits(0, bits))
        labels.write([task_id("forward", INPUT)])
        labels.read(task)
        return
    if signal.is_copy:
        copy = lives.at(core, "signal", "error", lives.samples * signal.stored_bits(step.network.classes, bits))
        copy.write([task_id("error", LOSS)])
        copy.read(task, is_operand=True)
        return
    here = [share for share in step.parts[last.name] if share.core == core and step.receives_error(share)]
    for share in here:
        lives.at(core, f"error {share.name}", "error", 0).read(task, is_operand=True)
    rest = lives.samples * (step.network.classes - sum(share.layer.outputs for share in here))
    output = lives.at(core, "output error", "error", step.packed_bits("error", last, rest, bits) if rest else 0)
    output.write([task_id("error", LOSS)])
    output.read(task, is_operand=True)


def _add_passing(lives: Lives, part: Part) -> None:
    """Add the errors that wait for a part's next product alone: between two matrices, answers to noise, and sums that
    the other shares of its layer send."""
    step, task, bits, core = lives.step, [task_id("error", part.name)], lives.step.bits("error"), part.error_core
    narrow = tensor_sizes.narrow_values(step.network, step.rule, part.whole)
    between = lives.at(core, f"narrow error {part.name}", "error", lives.samples * narrow * bits)
    between.write(task)
    between.read(task, is_operand=True)
    if part.count > 1 and step.rule.path == "layerwise":
        values = (part.count - 1) * part.input_share(part.whole.inputs)
        sums = lives.at(core, f"error sums {part.name}", "error", lives.samples * values * step.bits("accumulator"))
        sums.write(task_id("error", other.name) for other in step.parts[part.whole.name] if other is not part)
        sums.read(task)
    if step.rule.learned == "mirror" and step.learns(part):
        samples = tensor_sizes.mirror_samples(step.rule, part.layer)
        answers = lives.at(core, f"answers {part.name}", "error", samples * part.layer.outputs * bits)
        answers.write([noise_task(step, part)])
        answers.read([task_id("transport", part.name)], is_operand=True)
