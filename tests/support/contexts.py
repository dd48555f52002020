"""What the tasks of a step are made from, and the tasks, for chips and networks by name or as values."""

from fahw.hardware.load import load_chip
from fahw.hardware.memory import Memory
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.work import training_step
from fahw.work.core_contents import CoreContents
from fahw.work.counts.accesses import Accesses
from fahw.work.counts.site import Site
from fahw.work.mesh import core_prefix, parts_of
from fahw.work.training_step import form_of


def roomy(chip):
    """The chip with memories that hold everything."""
    memories = [
        memory.model_copy(update={"size_kib": 1e12}) if isinstance(memory, Memory) and memory.writable else memory
        for memory in chip.memories
    ]
    return chip.model_copy(update={"memories": tuple(memories)})


def context(chip, network, rule, batch=16):
    """The context of a step in which everything fits its innermost memory, and the step's tasks."""
    chip = roomy(load_chip(chip) if isinstance(chip, str) else chip)
    network = load_model(network) if isinstance(network, str) else network
    rule = RULES[rule] if isinstance(rule, str) else rule
    parts = parts_of(chip, network, rule.path == "direct")
    contents = CoreContents(chip, network, rule, batch, form_of(chip, rule, None, network), parts, None)
    sites = {
        core: Site(chip, core, core_prefix(chip, core), Accesses(chip, (), core_prefix(chip, core)))
        for core in contents.bits
    }
    step = contents.context(chip, sites)
    return step, tuple(training_step._tasks(step, {}))
