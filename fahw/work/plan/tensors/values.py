"""Lives of what the way forward leaves: activations, values that tails save, constants of norms, masks, and noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

from fahw.layers.layer import INPUT, Layer
from fahw.work import tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts.record import TaskId, task_id
from fahw.work.mesh import Part
from fahw.work.phases.forward import LOSS
from fahw.work.plan.tensors.lives import Life, Lives, noise_task


def add_values(lives: Lives) -> None:
    """Add what the tasks of the way forward leave for others."""
    for part in lives.parts:
        _add_inputs(lives, part)
    for part in lives.parts:
        _add_saved(lives, part)
        _add_constants(lives, part)
    for part in lives.sending:
        _add_masks(lives, part)
        _add_derivatives(lives, part)
    if lives.step.rule.learned == "mirror":
        for part in filter(lives.is_taught, lives.parts):
            _add_noise(lives, part)


def _joined(step: StepContext, part: Part) -> set[str]:
    """The layers of other tails that a part's tail joins with its own."""
    tail = step.graph.tails[part.whole.name]
    own = {part.whole.name, *(item.name for item in tail)}
    return {source for item in tail if len(item.sources) > 1 for source in item.sources} - own


def _add_inputs(lives: Lives, part: Part) -> None:
    """Add what a part and its tail read, on the part's core; and the logits, where it is the last."""
    step, forward = lives.step, [task_id("forward", part.name)]
    again = lives.again(part.whole.name)
    for source in part.whole.sources:
        _output(lives, part.core, source).read(forward, is_operand=True)
        later = [*again, *([task_id("gradient", part.name)] if step.learns(part) else [])]
        if later:
            _output(lives, part.core, source, again=True).read(later, is_operand=True)
        if step.recomputes_gradient and lives.is_taught(part):
            life = _output(lives, part.error_core, source, again=True)
            life.read([task_id("transport", part.name)], is_operand=True)
    for source in sorted(_joined(step, part)):
        _output(lives, part.core, source).read(forward)
        if again:
            _output(lives, part.core, source, again=True).read(again)
    if not step.graph.users[part.whole.name]:
        bits = lives.samples * part.layer.outputs * step.bits("activation")
        logits = lives.at(part.core, f"activation {part.name}", "activation", bits)
        _written(step, logits, forward)
        logits.read([task_id("error", LOSS)] if step.trains else forward)


def _key(kind: str, name: str, again: object) -> str:
    """The name of what a layer leaves: of what it leaves when it runs again, where that is another tensor."""
    return f"{kind} {name}{' again' if again else ''}"


def _output(lives: Lives, core: int, name: str, again: bool = False) -> Life:
    """The output of the layer called `name`, or the samples, as it lies on a core that reads it. `again`: as the way
    back reads it, which is another tensor where the layer is computed again."""
    step = lives.step
    repeated = lives.again(step.graph.owners[name]) if again else []
    key = _key("activation", name, repeated)
    known = lives.known(core, key)
    if known is not None:
        return known
    item, owner = None if name == INPUT else step.network.layer(name), step.graph.owners[name]
    values = prod(step.network.input_shape) if item is None else item.outputs
    bits = lives.samples * step.packed_bits("activation", step.first_reader(item), values, step.bits("activation"))
    life = lives.at(core, key, "activation", bits)
    life.from_dram = step.chip.dram is not None and _is_sample(step, item)
    if owner == INPUT:
        life.write([task_id("forward", INPUT)])
    else:
        _written(step, life, repeated or lives.tasks("forward", owner))
    return life


def _is_sample(step: StepContext, item: Layer | None) -> bool:
    """Whether a layer's values (None: the input's) are those of the samples."""
    while item is not None and item.same_values and item.sources[0] != INPUT:
        item = step.network.layer(item.sources[0])
    return item is None or (item.same_values and item.sources[0] == INPUT)


def _written(step: StepContext, life: Life, tasks: list[TaskId]) -> None:
    """Note tasks that round what they write; where the scale follows the values, these wait in memory for it."""
    life.write(tasks)
    if step.chip.precision.is_dynamic(life.tensor):
        life.read(tasks)


def _add_saved(lives: Lives, part: Part) -> None:
    """Add what a part's tail keeps although no other layer reads it."""
    step, tail = lives.step, lives.step.graph.tails[part.whole.name]
    again, receives, rereads = lives.again(part.whole.name), step.receives_error(part), _rereads(tail)
    runs = [([task_id("forward", part.name)], receives and not again, rereads)]
    runs += [(again, receives, rereads and not receives)] if again else []
    for number, (tasks, saves, reads) in enumerate(runs):
        values = tensor_sizes.saved_values(step.network, tail, part.whole, saves)
        bits = lives.samples * part.share(values) * step.bits("activation")
        saved = lives.at(part.core, _key("saved", part.name, number), "activation", bits)
        saved.write(tasks)
        if reads:
            saved.read(tasks)


def _rereads(tail: Iterable[Layer]) -> bool:
    """Whether a layer of a tail goes over its input twice."""
    return any(item.rereads_input for item in tail)


def _add_constants(lives: Lives, part: Part) -> None:
    """Add the statistics of a part's norms, and scales that the way back does not reach, for its first reader."""
    step, name = lives.step, part.whole.name
    readers = step.graph.users[name][:1]
    if not readers or not step.receives_error(part):
        return
    bits = tensor_sizes.constant_bits(step.chip, step.graph, [part])
    constants = lives.at(part.core, f"norm constants {part.name}", "activation", bits)
    constants.write([task_id("forward", part.name)])
    constants.read([*lives.again(name), *lives.tasks("error", readers[0])])


def _add_masks(lives: Lives, part: Part) -> None:
    """Add the masks of the tails whose derivatives are the work of a part's error task, on its core."""
    step = lives.step
    for owner in step.graph.completed_errors[part.whole.name]:
        bits = lives.samples * part.input_share(tensor_sizes.mask_bits(step.graph.tails[owner.name]))
        mask = lives.at(part.error_core, f"mask {owner.name} for {part.name}", "mask", bits)
        mask.write(lives.again(owner.name) or lives.tasks("forward", owner.name))
        mask.read([task_id("error", part.name)])


def _add_derivatives(lives: Lives, part: Part) -> None:
    """Note the values that a part's error task reads for derivatives: outputs where they are stored, else saved
    ones."""
    step, task = lives.step, [task_id("error", part.name)]
    for owner in step.graph.completed_errors[part.whole.name]:
        for name in _read_for_derivatives(step, owner):
            if name is None:
                for share in step.parts[owner.name]:
                    key = _key("saved", share.name, lives.again(owner.name))
                    lives.at(share.core, key, "activation", 0).read(task)
                continue
            key = _key("activation", name, lives.again(step.graph.owners[name]))
            near = lives.known(part.core, key) or lives.known(part.error_core, key)
            for life in [near] if near is not None else lives.everywhere(key)[:1]:
                life.read(task)


def _read_for_derivatives(step: StepContext, owner: Layer) -> Iterator[str | None]:
    """Yield the stored layers that derivatives of an owner's tail read, None for what the tail saves."""
    tail = step.graph.tails[owner.name]
    own, stored = {owner.name, *(item.name for item in tail)}, _stored_values(step, owner)
    for item in tail:
        sizes = zip(item.sources, item.saved_inputs, strict=True)
        names = [item.name] * bool(item.saved_outputs) + [name for name, size in sizes if size]
        for name in names:
            if item.rereads_input:
                yield None
            else:
                yield stored.get(name) if name in own else name


def _stored_values(step: StepContext, owner: Layer) -> dict[str, str]:
    """The layers of an owner and its tail whose values are stored, with the name of the one that is: itself, or
    one that only reshapes it."""
    names: dict[str, str] = {}
    for stored in tensor_sizes.stored_outputs(step.network, step.graph.tails[owner.name], owner):
        item = stored
        names.setdefault(item.name, stored.name)
        while item.same_values and step.network.sources_of(item):
            item = step.network.sources_of(item)[0]
            names.setdefault(item.name, stored.name)
    return names


def _add_noise(lives: Lives, part: Part) -> None:
    """Add the noise that shows a part's weights: where it passes them, and where its answers are compared with it."""
    step, sent = lives.step, noise_task(lives.step, part)
    bits = tensor_sizes.mirror_samples(step.rule, part.layer) * part.whole.inputs * tensor_sizes.NOISE_BITS
    for core, reader in ((part.core, sent), (part.error_core, task_id("transport", part.name))):
        noise = lives.at(core, f"noise {part.name}", "activation", bits)
        noise.write([sent])
        noise.read([reader], is_operand=True)
