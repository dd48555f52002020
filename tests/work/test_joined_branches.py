"""A tail that joins another branch's results waits for the tasks that compute them, wherever these run."""

import pytest

from fahw.hardware.load import load_chip
from fahw.rules.catalogue import RULES
from fahw.work.graph import graph_of
from tests.support.models import CROSSING, everything, graph
from tests.support.steps import step

NETWORKS = {
    "shortcut": everything(), "projection": everything("projection"), "crossing": graph((4,), *CROSSING),
}  # fmt: skip


def all_before(tasks, name):
    """The tasks that have ended when one begins."""
    awaited, found, pending = {task.id: task.after for task in tasks}, set(), [name]
    while pending:
        more = set(awaited[pending.pop()]) - found
        found |= more
        pending += more
    return found


@pytest.mark.parametrize("chip", ["edge_dual", "neurocore_mesh"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_forward_task_waits_for_all_that_its_tail_reads(network, chip):
    """Of every layer: the tasks that compute the sources of what it and its tail compute."""
    network = NETWORKS[network]
    work = step(load_chip(chip, {"micro_batch": 2}), network, "bp", 4)
    by_layer = {}
    for task in work.tasks:
        if task.phase == "forward" and task.micro == 1:
            by_layer.setdefault(task.layer.split("[")[0], []).append(task.id)
    relations = graph_of(network, RULES["bp"])
    for layer in network.weighted:
        read = [layer, *relations.tails[layer.name]]
        owners = {relations.owners[source] for item in read for source in item.sources} - {layer.name}
        wanted = {name for owner in owners for name in by_layer[owner]}
        for name in by_layer[layer.name]:
            assert wanted <= all_before(work.tasks, name), name
