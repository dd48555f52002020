"""The work of a training step, and how often something happens in it."""

from fahw.chip.cost import simulate
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.work.training_step import form_of, training_step


def step(chip, network, rule, batch=16, form=None, activity=None):
    """The work of one step in the fixed order of loops, which counts by hand are made in, under a form of transport,
    the chip's first where none is given; chip, network and rule by name or as values."""
    chip = load_chip(chip) if isinstance(chip, str) else chip
    network = load_model(network) if isinstance(network, str) else network
    value = RULES[rule] if isinstance(rule, str) else rule
    fixed = chip.model_copy(update={"mapping": "fixed"})
    return training_step(fixed, network, value, batch, form_of(fixed, value, form), activity)


def mapped_step(chip, network, rule, batch=16):
    """The work of one step as a cost has it, at the chip's own mapping."""
    return simulate(chip, network, rule, batch).work


def counts(work, *, phase=None, layer=None, part=None, **wanted):
    """How often, over all records that match; `wanted`: component, action, tensor, widths."""
    return sum(
        count.count
        for task in work.tasks
        if phase in (None, task.phase) and layer in (None, task.layer) and part in (None, task.part)
        for count in task.counts
        if all(getattr(count, name) == value for name, value in wanted.items())
    )
