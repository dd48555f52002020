"""What the way back through a batch norm needs besides its input: the batch's statistics, and its scale.

The forward pass leaves the statistics where activations lie. The scale lies with the parameters, at the forward array;
an error array (or core) that does not reach them gets it with the statistics, of every batch and under every rule: no
rule has it for free.
"""

from __future__ import annotations

from fahw.optimizers import FLOAT_BITS
from fahw.work import tensor_sizes
from fahw.work.context import StepContext
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.site import Site
from fahw.work.mesh import Part
from fahw.work.tasks import multicast


def left_traffic(step: StepContext, site: Site, part: Part) -> Traffic:
    """Traffic of leaving the constants of a part's tail for the error task of its first reader."""
    name, readers = part.whole.name, step.graph.users[part.whole.name][:1]
    constants = tensor_sizes.norm_constants(step.graph.tails[name])
    if not readers or not any(constants) or not step.receives_error(part):
        return Traffic()
    statistics, scales = map(part.share, constants)
    cores = step.reader_cores(readers, ("error",))
    traffic = multicast(step, "activation", statistics, FLOAT_BITS, site.core, cores)
    if not scale_is_at_hand(step, name, readers[0]):
        traffic += multicast(step, "activation", scales, step.bits("master"), site.core, cores)
    return traffic


def read_traffic(step: StepContext, site: Site, part: Part) -> Traffic:
    """Traffic of reading the constants of the tails whose derivatives are the work of a part's error task."""
    reader, traffic = part.whole.name, Traffic()
    for owner in step.graph.completed_errors[reader]:
        constants = tensor_sizes.norm_constants(step.graph.tails[owner.name])
        if not any(constants):
            continue
        statistics, scales = ([(1, part.input_share(number))] for number in constants)
        memory = site.home("activation", "error")
        traffic += site.accesses.read(memory, "activation", statistics, FLOAT_BITS)
        if scale_is_at_hand(step, owner.name, reader):
            traffic += site.accesses.read(site.home("param", "error"), "param", scales, step.bits("master"))
        else:
            traffic += site.accesses.read(memory, "param", scales, step.bits("master"), stored="activation")
    return traffic


def scale_is_at_hand(step: StepContext, owner: str, reader: str) -> bool:
    """Whether the error task of `reader` reaches the parameters of the tail of `owner` where they lie."""
    if not step.reaches_params:
        return False
    return len({part.core for part in step.parts[owner]} | {part.error_core for part in step.parts[reader]}) == 1
