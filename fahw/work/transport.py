"""Weight transport to a separate feedback memory: what moves after an update, and in which form.

`copy`: the stored weight words are read whole, sent and written. `write_through`: the updated values are sent on as
they are written, so they are not read again. Sign rules send one bit per weight and write full words of signs.

Layout `transposed`: the copy is stored as the error array reads it, turned by registers at the end of the link. Layout
`same`: no such registers; the error runs in a dataflow that consumes rows as they are stored.

`changed_words_only` and `sign_flips_only` send what an update changed: each new value is compared with the old one,
which is read for it, and what is sent says where it belongs, by an address each or by a bitmap over all, whichever is
shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from fahw.errors import ConfigError, Problem
from fahw.hardware.chip import Chip
from fahw.hardware.interconnect import Link
from fahw.rules.rule import Rule
from fahw.technology.operations import index_bits
from fahw.work.context import StepContext
from fahw.work.counts import lanes as vector
from fahw.work.counts.accesses import Traffic, home
from fahw.work.counts.record import Count, Flow, Task, merge_flows, task_id
from fahw.work.mesh import Part, send


def link_of(chip: Chip, rule: Rule) -> Link:
    """The link from the weight memory to the feedback memory. Raises ConfigError where there is none."""
    start = home(chip, "weight", None, "weight transport").name
    end = home(chip, "feedback", None, f"{rule.name} (a copy of the weights for the error array)").name
    for link in chip.links:
        if (link.from_, link.to) == (start, end):
            return link
    message = f"{rule.name} moves weights from {start} to {end} after every update: the chip needs a link between them"
    raise ConfigError(Problem(chip.name, message, "links"))


@dataclass(frozen=True)
class _Message:
    """What moves for one part of a layer: `sent` of its `values`, `bits` each in the copy, in `payload_bits` in all.

    `target_words` of the copy are written. `compared`: only what changed is sent.
    """

    values: int
    sent: int
    bits: int
    payload_bits: int
    target_words: int
    compared: bool


def transport_task(step: StepContext, part: Part) -> Task:
    """Transport of one part's weights; the payload counts bits, the energy counts words.

    It waits for the update that made the weights, and for the error path to have read the old copy.
    """
    chip, link = step.chip, link_of(step.chip, step.rule)
    source, target = step.sites[part.core], step.sites[part.error_core]
    message = _message(step, part)
    traffic = Traffic()
    w_bits, weights = step.bits("weight"), home(chip, "weight", None, "transport")
    if message.compared:  # the old values, to compare the new ones with
        traffic += source.accesses.read(weights, "weight", [(1, message.values)], w_bits)
        traffic += vector.operations(source.array("update"), "weight", [("compare", message.values, (message.bits,))])
    if step.form == "copy":
        traffic += source.accesses.read(weights, "weight", [(1, _read(step, message))], w_bits)
    name = f"{source.prefix}{link.name}"
    counts = [Count(name, "send", "feedback", message.payload_bits)]
    if chip.transport_options.layout == "transposed":
        counts.append(Count(name, "transpose", "feedback", message.sent, (message.bits,)))
    traffic += Traffic(tuple(counts))
    traffic += send(chip, "feedback", message.payload_bits, source.core, [target.core])
    memory = home(chip, "feedback", None, "transport")
    per_word = max(1, memory.width_bits // message.bits)
    traffic += (
        target.accesses.write(memory, "feedback", [(message.target_words, per_word)], message.bits)
        if message.compared
        else target.accesses.write(memory, "feedback", [(1, message.values)], message.bits)
    )
    loads, drains = merge_flows(traffic.loads), merge_flows(traffic.drains)
    after = [task_id("update", part.name), *(task_id("error", part.name, micro) for micro in step.micros)]
    return Task(
        "transport", part.name, name, max(1, ceil(message.payload_bits / link.width_bits)), 1, loads, drains,
        traffic.counts, tuple(after), payload_bits=message.payload_bits, every=chip.transport_options.period,
        settle_cycles=max((f.latency_cycles for f in drains if _hop(f)), default=0),
    )  # fmt: skip


def _hop(flow: Flow) -> bool:
    return flow.part.startswith("noc:")


def _message(step: StepContext, part: Part) -> _Message:
    options, rule, bits = step.chip.transport_options, step.rule, step.rule.transported_bits(step.bits("feedback"))
    values = part.layer.weights
    memory = home(step.chip, "feedback", None, "transport")
    whole = rule.magnitude == "weight"
    per_word = max(1, memory.width_bits // bits)
    words = ceil(values / per_word)
    if not (options.changed_words_only if whole else options.sign_flips_only):
        return _Message(values, values, bits, values * bits, words, False)
    share = step.share("changed_words" if whole else "sign_flips", part.whole, "only what changed is sent")
    sent = ceil(values * share)
    where = min(sent * index_bits(values), values)
    touched = ceil(words * (1 - (1 - share) ** per_word))
    return _Message(values, sent, bits, where + (sent * bits if whole else 0), touched, True)  # a flip needs no value


def _read(step: StepContext, message: _Message) -> int:
    """Values that `copy` reads: all of them, or whole words around those that changed."""
    if not message.compared:
        return message.values
    per_word = max(1, home(step.chip, "weight", None, "transport").width_bits // step.bits("weight"))
    return min(message.values, message.sent * per_word)
