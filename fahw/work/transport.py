"""Weight transport to a separate feedback memory: what moves after every update, and in which form.

`copy`: the stored weight words are read whole, sent and written. `write_through`: the updated values are sent on as
they are written, so they are not read again. Sign rules send one bit per weight and write full words of signs. The
copy is stored transposed, as the error array reads it: a register transposer sits at the end of the link.
"""

from __future__ import annotations

from fahw.config.chip import Chip, Form, Link
from fahw.errors import ConfigError, Problem
from fahw.network import Layer
from fahw.rules import Rule
from fahw.work.memory import Accesses, Traffic, home
from fahw.work.records import Count, Task, merge_flows


def link_of(chip: Chip, rule: Rule) -> Link:
    """The link from the weight memory to the feedback memory. Raises ConfigError where there is none."""
    start = home(chip, "weight", None, "weight transport").name
    end = home(chip, "feedback", None, f"{rule.name} (a copy of the weights for the error array)").name
    for link in chip.links:
        if (link.from_, link.to) == (start, end):
            return link
    message = f"{rule.name} moves weights from {start} to {end} after every update: the chip needs a link between them"
    raise ConfigError(Problem(chip.name, message, "links"))


def task(chip: Chip, rule: Rule, layer: Layer, form: Form | None, accesses: Accesses) -> Task:
    """Transport of one layer's weights; the payload counts bits, the energy counts words.

    It waits for the update that made the weights, and for the error path to have read the old copy.
    """
    link = link_of(chip, rule)
    bits = rule.transported_bits(chip.precision.bits("feedback"))
    payload = layer.weights * bits
    source, target = home(chip, "weight", None, "transport"), home(chip, "feedback", None, "transport")
    traffic = Traffic()
    if form == "copy":
        traffic += accesses.read(source, "weight", [(1, layer.weights)], chip.precision.bits("weight"))
    counts = (
        Count(link.name, "send", "feedback", payload),
        Count(link.name, "transpose", "feedback", layer.weights, (bits,)),
    )
    traffic += Traffic(counts)
    traffic += accesses.write(target, "feedback", [(1, layer.weights)], bits)
    loads, drains = merge_flows(traffic.loads), merge_flows(traffic.drains)
    after = (("update", layer.name), ("error", layer.name))
    return Task(
        "transport",
        layer.name,
        link.name,
        -(-payload // link.width_bits),
        1,
        loads,
        drains,
        traffic.counts,
        after,
        payload_bits=payload,
    )
