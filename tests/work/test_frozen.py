"""Frozen layers in costs: no gradient, update or transport, no error below the lowest layer that learns, no room for
what only their gradients would read."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.error_path import roles_of
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from tests.support.models import chain, everything
from tests.support.steps import step
from tests.support.strategies import ROOT

DOCS = Path(ROOT) / "docs"


def product(macs, idle):
    """pJ of a product in docs/model.md section 9: a cycle of an element with a MAC is 0.3 + 0.144 + 0.288 = 0.732, of
    which 48 register bits clock themselves (48 x 0.00794 = 0.38112); the clock's tree takes half of the rest, and an
    idle cycle a tenth of both."""
    busy = 0.732 + (0.732 - 48 * 0.00794) / 2
    return macs * busy + idle * busy / 10


ADD, SHIFT, COMPARE = 1.5 * 0.1, 1.5 * 0.416, 1.5 * 0.00736
"""pJ of a lane's 32-bit addition and shift and 8-bit comparison, each with half of it for the clock."""
INPUT, LOSS = 8, 47.19416
FORWARD = (
    16 + 12 * 2 + product(24, 24) + 6 + 6 * (ADD + SHIFT + COMPARE) + 6 + 1  # the ReLU's mask is one write of 1 pJ
    + 6 + 6 * 2 + product(12, 8) + 4 + 4 * (ADD + SHIFT) + 4
)  # fmt: skip
GRADIENT = {
    "linear1": 12 + 16 + product(24, 40) + 12 * SHIFT + 24 + 6 * ADD + 3 * SHIFT + 6,
    "linear2": 8 + 6 + product(12, 20) + 6 * SHIFT + 12 + 4 * ADD + 2 * SHIFT + 4,
}
UPDATE = {"linear1": 224.034, "linear2": 118.16}
ERROR = 8 + 6 * 2 + product(12, 20) + 6 * SHIFT + 1 + 6 * COMPARE + 6


def freeze(network, *names):
    """The network with the layers of these names frozen, and the batch norms behind convolutions among them."""
    layers = tuple(replace(layer, frozen=True) if layer.name in names else layer for layer in network.layers)
    return replace(network, layers=layers)


def dynamic(cost):
    return sum(row.energy_pj for row in cost.ledger if not row.static)


@pytest.mark.parametrize(
    ("frozen", "rule", "energy"),
    [("linear1", "bp", INPUT + FORWARD - 1 + LOSS + GRADIENT["linear2"] + UPDATE["linear2"]),
     ("linear1", "dfa", INPUT + FORWARD - 1 + LOSS + GRADIENT["linear2"] + UPDATE["linear2"]),
     ("linear2", "bp", INPUT + FORWARD + LOSS + ERROR + GRADIENT["linear1"] + UPDATE["linear1"]),
     ("linear2", "dfa", INPUT + FORWARD + LOSS + ERROR + GRADIENT["linear1"] + UPDATE["linear1"])],
)  # fmt: skip
def test_the_worked_network_with_a_frozen_layer(frozen, rule, energy):
    """What docs/model.md works out by hand, without the tasks that a frozen layer has not."""
    network = freeze(load_model(DOCS / "worked_model.yaml"), frozen)
    cost = simulate(DOCS / "worked_chip.yaml", network, rule, 2)
    assert dynamic(cost) == pytest.approx(energy, abs=1e-6)
    assert cost.transported_bits == 0
    if (frozen, rule) == ("linear1", "bp"):
        assert f"= {energy:.3f} pJ before static" in (DOCS / "model.md").read_text()


@pytest.mark.parametrize("chip", ["edge_dual", "edge_shared", "tpu_like", "loihi_like"])
@pytest.mark.parametrize("model", ["lenet5", "mlp_digits"])
def test_rules_that_freeze_are_backpropagation_on_frozen_networks(chip, model):
    """frozen_conv and last cost to the bit what bp costs where the same layers are frozen."""
    network = load_model(model)
    convolutions = [layer.name for layer in network.weighted if layer.convolutional]
    below = [layer.name for layer in network.weighted[:-1]]
    for rule, names in (("frozen_conv", convolutions), ("last", below)):
        by_rule, by_network = simulate(chip, network, rule, 8), simulate(chip, freeze(network, *names), "bp", 8)
        assert by_rule.ledger == by_network.ledger
        assert (by_rule.cycles, by_rule.placements) == (by_network.cycles, by_network.placements)


def test_with_the_last_layer_alone_all_rules_are_one():
    """Nothing is sent back, so that no rule stores, moves or reads feedback."""
    network = load_model("lenet5")
    frozen = freeze(network, *(layer.name for layer in network.weighted[:-1]))
    energies = {simulate("edge_dual", frozen, rule, 8).energy_pj for rule in RULES}
    assert len(energies) == 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("frozen", [("linear0",), ("linear2",), ("linear4",), ("linear0", "linear2")], ids=str)
def test_a_frozen_layer_has_no_gradient_update_or_transport(rule, frozen):
    """Errors pass it where a layer below learns, and go nowhere below the lowest."""
    network = freeze(chain((6,), ("linear", {"out": 8}), ("relu", {}), ("linear", {"out": 7}), ("relu", {}),
                           ("linear", {"out": 3})), *frozen)  # fmt: skip
    if RULES[rule].trains == "last" and "linear4" in frozen:
        return  # refused, see below
    work = step("edge_dual", network, rule, 4)
    tasks = {(task.phase, task.layer) for task in work.tasks}
    learns = {"linear0", "linear2", "linear4"} - set(frozen)
    if RULES[rule].trains == "last":
        learns &= {"linear4"}
    for phase in ("gradient", "update"):
        assert {layer for name, layer in tasks if name == phase} == learns
    assert {layer for phase, layer in tasks if phase == "transport"} <= learns
    order = ["linear0", "linear2", "linear4"]
    lowest = min(map(order.index, learns))
    senders = order[lowest + 1 :] if RULES[rule].path == "layerwise" else [
        above for below, above in pairwise(order) if below in learns
    ]  # fmt: skip
    assert {layer for phase, layer in tasks if phase == "error"} == {"loss", *senders}


def test_only_what_the_way_back_reads_waits_for_it():
    """6-5-4-3, batch 10, two steps in flight, 8 bits: input 6, first ReLU 5, second ReLU 4, logits 3.

    All learn: all of it waits, in both steps. The last alone: the second ReLU and the logits, and as they come and go
    at most the 6 + 5 of the first layer. The middle one is frozen: nothing reads the first ReLU on the way back.
    """
    network = chain((6,), ("linear", {"out": 5}), ("relu", {}), ("linear", {"out": 4}), ("relu", {}),
                    ("linear", {"out": 3}))  # fmt: skip
    chip = load_chip("edge_dual", {"mapping": "fixed", "steps_in_flight": "2"})

    def bits(network, rule="bp"):
        placements = simulate(chip, network, rule, 10).placements
        return {placed.tensor: placed.bits for placed in placements}

    assert bits(network)["activation"] == 10 * 2 * (6 + 5 + 4 + 3) * 8
    last = bits(freeze(network, "linear0", "linear2"))
    assert last["activation"] == 10 * (2 * (4 + 3) + 6 + 5) * 8
    assert bits(network, "last") == last
    assert bits(freeze(network, "linear2"))["activation"] == 10 * (2 * (6 + 4 + 3) + 5) * 8
    assert "mask" not in last
    assert last["master"] == 4 * 3 * 16
    assert bits(freeze(network, "linear4"), "dfa")["error"] == 10 * (5 + 4 + 3) * 8


@pytest.mark.parametrize("rule", RULES)
def test_convolutions_with_norms_and_shortcuts_can_be_frozen(rule):
    network = everything("projection")
    below = ("conv0", "bn0", "conv1")
    frozen = freeze(network, *below)
    costs = [simulate("edge_dual", net, rule, 2) for net in (network, frozen)]
    assert costs[1].energy_pj <= costs[0].energy_pj
    rows = {(row.phase, row.layer) for row in costs[1].ledger}
    assert not rows & {(phase, layer) for phase in ("gradient", "update", "transport") for layer in below}


def test_a_frozen_norm_has_no_gradient_and_no_update():
    """bn2 of six channels: 12 parameters fewer."""
    network = everything("projection")

    def params(net):
        work = step("edge_dual", net, "bp", 2)
        return sum(
            count.count for task in work.tasks if task.phase == "update" and task.layer == "conv2"
            for count in task.counts if count.tensor == "param" and count.action == "subtract"
        )  # fmt: skip

    assert params(network) - params(freeze(network, "bn2")) == 12


def test_nothing_trained_is_refused():
    network = load_model("mlp_digits")
    with pytest.raises(ConfigError, match=r"nothing is trained under last: frozen are all .* \(layer 'linear3'\)"):
        simulate("edge_dual", freeze(network, "linear3"), "last", 8)
    with pytest.raises(ConfigError, match="nothing is trained under dfa"):
        simulate("edge_dual", freeze(network, "linear1", "linear2", "linear3"), "dfa", 8)


def test_roles_with_a_frozen_layer_in_between():
    """A direct rule's error passes no layer, so that a frozen one in between gets none."""
    network = freeze(load_model("mlp_digits"), "linear2")
    by_layer, direct = roles_of(network, RULES["bp"]), roles_of(network, RULES["dfa"])
    assert by_layer.learns == direct.learns == {"linear1", "linear3"}
    assert (by_layer.receives, by_layer.sends) == ({"linear1", "linear2", "linear3"}, {"linear2", "linear3"})
    assert (direct.receives, direct.sends) == ({"linear1", "linear3"}, {"linear2"})


def test_a_frozen_norms_input_waits_for_its_own_layer_alone():
    """By hand, 8 bits: 2 x 6 x 6 pixels, then 3 x 4 x 4 and 4 x 2 x 2 with norms, then 3 logits. Only the last learns:
    72 inputs, 48 before and 48 behind the first norm wait at most; 16 + 3 values are kept for two steps."""
    network = chain(
        (2, 6, 6), ("conv2d", {"out": 3, "kernel": 3}), ("batchnorm2d", {}), ("relu", {}),
        ("conv2d", {"out": 4, "kernel": 3}), ("batchnorm2d", {}), ("relu", {}), ("flatten", {}), ("linear", {"out": 3}),
    )  # fmt: skip
    cost = simulate(load_chip("edge_dual", {"mapping": "fixed", "steps_in_flight": 2}), network, "last", 5)
    held = next(placement.bits for placement in cost.placements if placement.tensor == "activation")
    assert held == 5 * 8 * (72 + 48 + 48) + 2 * 5 * 8 * (16 + 3)
