"""Direct feedback on residual networks: errors wait for the loss alone, or for those through shortcuts."""

from dataclasses import replace
from graphlib import TopologicalSorter

import pytest

from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from tests.support.models import CROSSING, everything, graph
from tests.support.steps import step


def errors_of(residual, model="resnet20"):
    """Error tasks by layer, and the lanes' additions of errors in them."""
    chip, network = load_chip("edge_dual"), replace(load_model(model), dfa_residual=residual)
    work = step(chip, network, RULES["dfa"], 4)
    tasks = {task.layer: task for task in work.tasks if task.phase == "error" and task.layer != "loss"}
    bits = chip.precision.bits("error")
    added = {
        name: sum(c.count for c in task.counts if (c.action, c.tensor, c.widths) == ("add", "error", (bits,)))
        for name, task in tasks.items()
    }
    return tasks, added


def test_blocked_errors_wait_for_the_loss_alone():
    tasks, _ = errors_of("blocked")
    assert all(len(task.after) == 1 and "loss" in str(task.after[0]) for task in tasks.values())


@pytest.mark.parametrize(
    ("layer", "above"),
    [("layer1_1_conv1", "layer1_2_conv1"), ("layer2_0_conv1", "layer2_1_conv1"), ("layer3_1_conv1", "layer3_2_conv1")],
)
def test_through_shortcuts_a_blocks_error_waits_for_the_block_above(layer, above):
    """The first layer of a block completes the error of what the block and its shortcut read."""
    tasks, _ = errors_of("biotorch")
    assert any(above in str(waited) for waited in tasks[layer].after)
    assert any("loss" in str(waited) for waited in tasks[layer].after)


def test_inner_layers_of_a_block_wait_for_nothing_more():
    tasks, _ = errors_of("biotorch")
    assert len(tasks["layer1_1_conv2"].after) == 1


def test_each_shortcut_adds_its_errors_once():
    """16 x 32 x 32 values of each of 4 samples where a block of the first stage begins."""
    (_, blocked), (_, passed) = errors_of("blocked"), errors_of("biotorch")
    assert passed["layer1_1_conv1"] - blocked["layer1_1_conv1"] == 4 * 16 * 32 * 32
    assert passed["layer1_1_conv2"] == blocked["layer1_1_conv2"]


@pytest.mark.parametrize("rule", ["dfa", "tdfa", "drtp"])
@pytest.mark.parametrize(
    "network",
    [everything("projection"), everything(), graph((4,), *CROSSING)],
    ids=["projection", "option_a", "crossing"],
)
def test_no_error_waits_for_itself(rule, network):
    """Also where the shortcut is a convolution, whose error the same layer makes as the block's."""
    work = step("edge_dual", replace(network, dfa_residual="biotorch"), rule, 4)
    order = list(TopologicalSorter({task.id: task.after for task in work.tasks}).static_order())
    assert {task.id for task in work.tasks} == set(order)


def test_targets_wait_for_the_errors_of_shortcuts_too():
    """drtp makes its errors without the output, and adds those of the block above all the same."""
    network = replace(load_model("resnet20"), dfa_residual="biotorch")
    work = step("edge_dual", network, "drtp", 4)
    (found,) = (task for task in work.tasks if task.id == ("error", "layer1_1_conv1"))
    assert ("error", "layer1_2_conv1") in found.after
