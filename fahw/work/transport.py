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
from math import ceil, gcd

from fahw.activity import share_of
from fahw.errors import ConfigError, Problem
from fahw.hardware.arrays.mapping import Burst
from fahw.hardware.chip import Chip
from fahw.hardware.interconnect import Link
from fahw.hardware.memory import Memory
from fahw.rules.rule import Rule
from fahw.technology.operations import index_bits
from fahw.work.context import StepContext
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Traffic, required_memory
from fahw.work.counts.record import Count, Task, merge_flows, task_id
from fahw.work.mesh import Part, hops_latency, message_traffic


def transport_link(chip: Chip, rule: Rule) -> Link:
    """The link from the weight memory to the feedback memory. Raises ConfigError where there is none."""
    start = required_memory(chip, "weight", None, "weight transport").name
    end = required_memory(chip, "feedback", None, f"{rule.name} (a copy of the weights for the error array)").name
    for link in chip.links:
        if (link.from_, link.to) == (start, end):
            return link
    message = f"{rule.name} moves weights from {start} to {end} after every update: the chip needs a link between them"
    raise ConfigError(Problem(chip.name, message, "links"))


@dataclass(frozen=True)
class _Message:
    """A message that moves one part of a layer: `sent` of its `values`, a `share`, `bits` each in the copy, in
    `payload_bits` in all. `compared`: only what changed is sent.
    """

    values: int
    sent: int
    bits: int
    payload_bits: int
    share: float
    compared: bool


def transport_task(step: StepContext, part: Part) -> Task:
    """The task that transports one part's weights; the payload counts bits, the energy counts words.

    It waits for the update that made the weights, and for the error path to have read the old copy.
    """
    chip, link = step.chip, transport_link(step.chip, step.rule)
    source, target = step.sites[part.core], step.sites[part.error_core]
    message = _message(step, part)
    traffic = Traffic()
    weight_bits, weight_memory = step.bits("weight"), required_memory(chip, "weight", None, "transport")
    if message.compared:  # the old values, to compare the new ones with
        traffic += source.accesses.read(weight_memory, "weight", [(1, message.values)], weight_bits)
        traffic += lanes.operations(source.array("update"), "weight", [("compare", message.values, (message.bits,))])
    if step.form == "copy":
        traffic += source.accesses.read(weight_memory, "weight", *_bursts(message, weight_bits, weight_memory))
    name = f"{source.prefix}{link.name}"
    counts = [Count(name, "send", "feedback", message.payload_bits)]
    if chip.transport_options.layout == "transposed":
        counts.append(Count(name, "transpose", "feedback", message.sent, (message.bits,)))
    traffic += Traffic(tuple(counts))
    traffic += message_traffic(chip, "feedback", message.payload_bits, source.core, [target.core])
    memory = required_memory(chip, "feedback", None, "transport")
    traffic += target.accesses.write(memory, "feedback", *_bursts(message, message.bits, memory))
    loads, drains = merge_flows(traffic.loads), merge_flows(traffic.drains)
    after = [task_id("update", part.name), *(task_id("error", part.name, micro) for micro in step.micro_batches)]
    return Task(
        "transport", part.name, name, max(1, ceil(message.payload_bits / link.width_bits)), 1, loads, drains,
        traffic.counts, tuple(after), payload_bits=message.payload_bits, every=chip.transport_options.period,
        settle_cycles=hops_latency(drains),
    )  # fmt: skip


def _message(step: StepContext, part: Part) -> _Message:
    options, rule, bits = step.chip.transport_options, step.rule, step.rule.transported_bits(step.feedback_width)
    values = part.layer.weights
    moves_words = rule.feedback.copies_weight
    if not (options.changed_words_only if moves_words else options.sign_flips_only):
        return _Message(values, values, bits, values * bits, 1.0, False)
    share = step.activity_share(
        "changed_words" if moves_words else "sign_flips", part.whole, "only what changed is sent"
    )
    sent = share_of(values, share)
    address_bits = min(sent * index_bits(values), values)
    payload_bits = address_bits + (sent * bits if moves_words else 0)  # a flip needs no value
    return _Message(values, sent, bits, payload_bits, share, True)


def _bursts(message: _Message, bits: int, memory: Memory) -> tuple[list[Burst], int]:
    """What is read or written of `memory`, where values have `bits`, and the bits of each: all values in one burst, or
    one by one the words that hold some of those that changed."""
    if not message.compared:
        return [(1, message.values)], bits
    return [(touched_words(message.values, bits, memory.width_bits, message.share), 1)], memory.width_bits


def touched_words(values: int, bits: int, width: int, share: float) -> int:
    """How many of the words of `width`, in which `values` of `bits` lie close together, hold some of those that
    changed: the mean where any one changed with a chance of `share`, rounded up.

    Words of one kind, by where values begin and end in them, come again after `bits` / gcd(`bits`, `width`) words.
    """
    words, period = ceil(values * bits / width), bits // gcd(bits, width)
    touched = 0.0
    for first in range(min(period, words)):
        start, end = first * width // bits, -(-(first + 1) * width // bits)
        touched += len(range(first, words, period)) * (1 - (1 - share) ** (end - start))
    held = values - (words - 1) * width // bits  # by the last word, which may be shorter
    last = (words - 1) % period
    full = -(-(last + 1) * width // bits) - last * width // bits
    return ceil(touched - (1 - share) ** held + (1 - share) ** full - 1e-9)
