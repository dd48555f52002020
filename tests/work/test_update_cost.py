"""What each optimizer's update keeps, moves and computes on the default chip, counted by hand."""

from dataclasses import replace

import pytest

import fahw
from fahw.errors import ConfigError
from fahw.formats.number import FLOATS
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.network.recipe import Recipe, RuleTuning
from fahw.optimizers import OPTIMIZERS
from fahw.rules.catalogue import RULES
from fahw.study.costs.cost_record import network_key
from fahw.technology import operations as ops
from tests.support.steps import step

WEIGHTS, BIASES = 64 * 128 + 128 * 64 + 64 * 10, 128 + 64 + 10
"""Of mlp_digits: 64-128-64-10."""

# per weight and bias: operations of the lanes without roundings and the shift into the forward word, and roundings
BY_HAND = {
    "sgd": ({("multiply", (16, 8)): 1, ("subtract", (16,)): 1}, 1),
    "momentum": ({("multiply", (16, 8)): 2, ("accumulate", (16,)): 1, ("subtract", (16,)): 1}, 2),
    "nesterov": ({("multiply", (16, 8)): 3, ("accumulate", (16,)): 2, ("subtract", (16,)): 1}, 3),
    "sign_sgd": ({("compare", (16,)): 1, ("subtract", (16,)): 1}, 1),
    "adam": (
        {
            ("float_multiply", (32,)): 7, ("float_add", (32,)): 3, ("float_divide", (32,)): 1, ("float_root", (32,)): 1,
            ("subtract", (16,)): 1,
        },
        1,
    ),
}  # fmt: skip
STEP_BITS = {"sgd": 16 + 8, "momentum": 16 + 8, "nesterov": 16 + 8, "sign_sgd": 1 + 8, "adam": 32}
"""Width of the step before it is rounded: gradient or velocity times 8 bits, a sign times 8 bits, a float."""
STATE_BITS = {"sgd": 0, "momentum": 16, "nesterov": 16, "sign_sgd": 0, "adam": 64}


def network(**recipe):
    return replace(load_model("mlp_digits"), recipe=Recipe(**recipe))


def update_of(net, overrides=None, rule="dfa"):
    """Lane operations of the update by (action, widths), words by (action, tensor), and the work."""
    chip = load_chip("edge_dual", overrides or {})
    work = step(chip, net, RULES[rule], 16)
    lanes, words = {}, {}
    for count in (count for task in work.tasks if task.phase == "update" for count in task.counts):
        if count.action in ("read", "write"):
            key = (count.action, count.tensor)
            words[key] = words.get(key, 0) + count.count
        elif not count.action.startswith("clock"):
            lanes[count.action, count.widths] = lanes.get((count.action, count.widths), 0) + count.count
    return lanes, words, work


def test_the_network_is_the_one_counted():
    net = network()
    assert (sum(layer.weights for layer in net.weighted), sum(layer.biases for layer in net.weighted)) == (
        WEIGHTS, BIASES
    )  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_operations_by_hand(name):
    """Stochastic rounding: a shift, an addition of 8 bits and 8 random bits each; of sums with a state at 8 bits more
    than it."""
    lanes, _, _ = update_of(network(optimizer=name))
    per_value, roundings = BY_HAND[name]
    wanted = {key: n * (WEIGHTS + BIASES) for key, n in per_value.items()}
    wanted |= {("add", (8,)): roundings * (WEIGHTS + BIASES)}
    for bits in [24] * (roundings - 1) + [STEP_BITS[name]]:
        wanted["shift", (bits,)] = wanted.get(("shift", (bits,)), 0) + WEIGHTS + BIASES
    wanted |= {("shift", (16,)): WEIGHTS, ("generate", ()): 8 * roundings * (WEIGHTS + BIASES)}
    assert lanes == wanted


@pytest.mark.parametrize(("name", "bits"), [("sgd", 12 + 8), ("sign_sgd", 1 + 8), ("momentum", 14 + 8)])
def test_what_keeps_no_state_rounds_at_no_width_of_a_state(name, bits):
    """Gradients of 12 bits, states of 14, which only momentum has; the forward words are shifted at 16."""
    lanes, _, _ = update_of(network(optimizer=name), {"precision.gradient": "12", "precision.optimizer": "14"})
    shifts = {widths for action, widths in lanes if action == "shift"}
    assert shifts == {(bits,), (16,)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_by_hand(name):
    """Bits that lie in memory, and words of 64 bits read and written, layer by layer."""
    _, words, work = update_of(network(optimizer=name))
    bits = STATE_BITS[name]
    assert sum(placed.bits for placed in work.placements if placed.tensor == "optimizer") == WEIGHTS * bits
    placed = {placed.tensor: placed.bits for placed in work.placements}
    assert placed["param"] == BIASES * (16 + 16 + bits)
    memory = load_chip("edge_dual").home("optimizer")
    moved = sum(-(-layer.weights * bits // memory.width_bits) for layer in load_model("mlp_digits").weighted)
    assert words.get(("read", "optimizer"), 0) == words.get(("write", "optimizer"), 0) == moved


def test_decay_clipping_and_powers_of_two_by_hand():
    """On SGD: weights alone decay, every component is compared with both ends, the rate is a shift."""
    lanes, _, _ = update_of(network(optimizer="sgd", weight_decay=1e-4, clip=0.1, power_of_two_rates=True))
    both = WEIGHTS + BIASES
    assert lanes["multiply", (16, 8)] == WEIGHTS
    assert lanes["subtract", (16,)] == both + WEIGHTS
    assert lanes["compare", (16,)] == 2 * both
    assert lanes["shift", (16,)] == both + WEIGHTS  # the rate, and the forward word
    assert lanes["shift", (24,)] == both + WEIGHTS  # the step's rounding, and the decay's


def test_a_rules_own_optimizer_is_the_one_priced():
    net = network(rules={"dfa": RuleTuning(optimizer="sgd")})
    assert ("accumulate", (16,)) not in update_of(net, rule="dfa")[0]
    assert ("accumulate", (16,)) in update_of(net, rule="bp")[0]
    assert network_key(net) != network_key(network())


def test_the_ledger_prices_adams_unit_as_fp32():
    cost = fahw.simulate("edge_dual", network(optimizer="adam"), rule="fa", batch_size=16)
    node = load_chip("edge_dual").technology.node_nm
    units = {row.action: row.unit_pj for row in cost.ledger if row.phase == "update"}
    assert units["float_multiply"] == ops.multiply_pj(32, 32, node, FLOATS["fp32"]).value
    assert units["float_divide"] == units["float_root"] == ops.divide_pj(32, node, FLOATS["fp32"]).value


def test_energy_of_the_update_rises_with_what_is_kept():
    """On the same chip and network."""
    energies = []
    for name in ("sign_sgd", "sgd", "momentum", "nesterov", "adam"):
        cost = fahw.simulate("edge_dual", network(optimizer=name), rule="fa", batch_size=16)
        energies.append(sum(row.energy_pj for row in cost.ledger if row.phase == "update"))
    assert energies == sorted(energies)


def test_a_chip_without_velocity_prices_momentum_as_sgd_and_refuses_adam():
    without = {"update_options.momentum": "false"}
    assert update_of(network(), without)[0] == update_of(network(optimizer="sgd"))[0]
    with pytest.raises(ConfigError, match=r"recipe.optimizer: adam keeps 2 states per weight, edge_dual keeps none"):
        update_of(network(optimizer="adam"), without)
