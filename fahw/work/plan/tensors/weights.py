"""Lives of what belongs to weights: the weights themselves, their masters, states, gradients, and feedback weights."""

from __future__ import annotations

from fahw.hardware.part import Tensor
from fahw.work import tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts.record import TaskId, task_id
from fahw.work.mesh import Part
from fahw.work.norm_constants import scale_is_at_hand
from fahw.work.plan.tensors.lives import Life, Lives, noise_task


def add_weights(lives: Lives) -> None:
    """Add what lies on each core for its layers from step to step, and the gradients."""
    for part in lives.parts:
        _add_weight(lives, part)
        _add_params(lives, part)
        if lives.step.learns(part):
            _add_states(lives, part)
    for part in lives.sending:
        _add_feedback(lives, part)


def _add_weight(lives: Lives, part: Part) -> None:
    step, options = lives.step, lives.step.chip.update_options
    life = lives.at(part.core, f"weight {part.name}", "weight", part.layer.weights * step.bits("weight"), True)
    life.read([task_id("forward", part.name)], is_operand=True)
    update = [task_id("update", part.name)]
    if step.learns(part):
        life.write(update)
        if options.in_place or step.chip.precision.is_dynamic("weight") or _copies_exponents(step):
            life.read(update)
    if step.sends_error(part) and step.rule.reads_weight and step.chip.error_reaches_weights:
        life.read([task_id("error", part.name)], is_operand=not step.rule.sent.names_rows)
    if lives.is_taught(part):
        if step.has_weight_copy and (step.form == "copy" or _compares(step)):
            life.read([task_id("transport", part.name)])
        if step.rule.learned == "mirror":
            life.read([noise_task(step, part)], is_operand=True)


def _copies_exponents(step: StepContext) -> bool:
    """Whether the update looks for the scale of the copy that it sends."""
    return step.has_weight_copy and step.rule.feedback.copies_weight and step.chip.precision.is_dynamic("feedback")


def _compares(step: StepContext) -> bool:
    """Whether transport reads the old weights to send only what changed."""
    options = step.chip.transport_options
    return options.changed_words_only if step.rule.feedback.copies_weight else options.sign_flips_only


def _add_states(lives: Lives, part: Part) -> None:
    """Add a part's master weights, optimizer's states and gradient, as far as the chip keeps them."""
    step, weights, update = lives.step, part.layer.weights, [task_id("update", part.name)]
    state_bits = step.optimizer_costs.optimizer.state_bits(step.bits("optimizer"))
    sizes: dict[Tensor, int] = {
        "master": 0 if step.chip.update_options.in_place else step.bits("master"),
        "optimizer": state_bits,
    }
    for tensor, bits in sizes.items():
        life = lives.at(part.core, f"{tensor} {part.name}", tensor, weights * bits, True)
        life.write(update)
        life.read(update)
    adds_up, bits = len(step.micro_batch_sizes) > 1, tensor_sizes.gradient_bits(step.chip, sum(step.micro_batch_sizes))
    gradient = lives.at(part.core, f"gradient {part.name}", "gradient", weights * bits, adds_up)
    _add_gradient_uses(step, gradient, part)


def _add_gradient_uses(step: StepContext, life: Life, part: Part) -> None:
    """Note how the gradient of a part's weights or parameters comes about, and that the update reads it."""
    fused, adds_up = step.chip.update_options.fused, len(step.micro_batch_sizes) > 1
    task: list[TaskId] = [task_id("gradient", part.name)]
    if adds_up or not fused:
        life.write(task)
    if adds_up or step.chip.precision.is_dynamic(life.tensor):
        life.read(task)
    if not fused:
        life.read([task_id("update", part.name)])


def _add_params(lives: Lives, part: Part) -> None:
    """Add a part's biases and its norms' parameters, with their gradients and states."""
    step, tail = lives.step, lives.step.graph.tails[part.whole.name]
    params = part.layer.biases + part.share(tensor_sizes.norm_params(tail))
    learned = part.layer.biases + part.share(tensor_sizes.learned_norm_params(tail))
    learned *= step.learns(part)
    state_bits = step.optimizer_costs.optimizer.state_bits(step.bits("optimizer"))
    state_bits += tensor_sizes.gradient_bits(step.chip, sum(step.micro_batch_sizes))
    bits = params * step.bits("master") + learned * state_bits
    life = lives.at(part.core, f"param {part.name}", "param", bits, True)
    life.read([task_id("forward", part.name)])
    if learned:
        _add_gradient_uses(step, life, part)
        update = [task_id("update", part.name)]
        life.write(update)
        life.read(update)
    for reader in step.graph.users[part.whole.name][:1]:
        scales = tensor_sizes.norm_constants(tail)[1]
        if scales and step.receives_error(part) and scale_is_at_hand(step, part.whole.name, reader):
            life.read(lives.tasks("error", reader))


def _add_feedback(lives: Lives, part: Part) -> None:
    """Add a part's feedback weights in memories that are written, on the core of its error."""
    step, batch = lives.step, sum(lives.step.micro_batch_sizes)
    bits = tensor_sizes.feedback_bits(step.chip, step.network, step.graph, step.rule, part, batch)
    life = lives.at(part.error_core, f"feedback {part.name}", "feedback", bits, True)
    life.read([task_id("error", part.name)], is_operand=not step.rule.sent.names_rows)
    if not lives.is_taught(part):
        return
    task = [task_id("update" if step.updates_feedback else "transport", part.name)]
    if step.has_weight_copy or step.rule.learned is not None:
        life.write(task)
    if step.rule.learned is not None:
        life.read(task)
