"""What a chip's update keeps and touches: momentum, wide copies, stored gradients, weights without a gradient."""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fahw
import fahw.datasets.dataset
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.study.training import make_jobs
from tests.support.steps import step

SGD = {"update_options.momentum": "false"}
IN_PLACE = {"precision.master": "8", "update_options.in_place": "true"}
FUSED = {"update_options.fused": "true"}
SKIPPING = SGD | {"update_options.skip_zeros": "true"}


def counts(overrides, batch=16, rule="dfa", activity=(0.0, 0.0)):
    """Words by (action, tensor) of all memory accesses of `update` and `gradient`, on edge_dual and mlp_digits."""
    zeros = f"{{zero_activation: {activity[0]}, zero_error: {activity[1]}, assumed: a test}}"
    chip = load_chip("edge_dual", {"activity": zeros} | overrides)
    work = step(chip, load_model("mlp_digits"), RULES[rule], batch)
    found = {}
    for task in work.tasks:
        if task.phase in ("gradient", "update"):
            for count in task.counts:
                if count.action in ("read", "write"):
                    key = (task.phase, count.action, count.tensor)
                    found[key] = found.get(key, 0) + count.count
    return found, work


def stored(work, tensor):
    return sum(placement.bits for placement in work.placements if placement.tensor == tensor)


def test_without_momentum_no_velocity_is_kept_or_moved():
    """Plain SGD drops the velocity's accesses and its place, and nothing else of the weights' traffic."""
    (plain, work), (full, _) = counts(SGD), counts({})
    assert stored(work, "optimizer") == 0
    dropped = {("update", "read", "optimizer"), ("update", "write", "optimizer")}
    assert {key for key in full if key not in plain} == dropped
    assert {key: n for key, n in plain.items() if key[2] != "param"} == {
        key: n for key, n in full.items() if key[2] != "param" and key not in dropped
    }


def test_in_place_the_update_reads_and_writes_the_forward_words():
    """No wide copy: as many reads of forward words as writes."""
    found, work = counts(IN_PLACE)
    assert stored(work, "master") == 0
    assert not any(tensor == "master" for _, _, tensor in found)
    assert found["update", "read", "weight"] == found["update", "write", "weight"] > 0


def test_a_fused_update_stores_no_gradient():
    """The gradient of one batch is never in memory; of four micro-batches three sums are written and read."""
    found, work = counts(FUSED)
    assert stored(work, "gradient") == 0
    assert not any(tensor == "gradient" for _, _, tensor in found)
    found, work = counts(FUSED | {"micro_batch": "4"})
    weights = [layer.weights for layer in load_model("mlp_digits").weighted]
    assert stored(work, "gradient") == 32 * sum(weights)
    assert found["gradient", "write", "gradient"] == 3 * sum(ceil(n * 32 / 64) for n in weights)
    assert found["gradient", "read", "gradient"] == found["gradient", "write", "gradient"]
    assert ("update", "read", "gradient") not in found


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 6))
def test_an_update_that_skips_zeros_touches_the_weights_with_a_gradient(activation, error, batch):
    """With zeros falling independently: 1 - (1 - (1 - za)(1 - ze))^batch of the weights; none skipped without zeros."""
    found, _ = counts(SKIPPING, batch, activity=(activation, error))
    share = 1 - (1 - (1 - activation) * (1 - error)) ** batch
    weights = [layer.weights for layer in load_model("mlp_digits").weighted]
    assert found.get(("update", "write", "weight"), 0) == sum(ceil(ceil(n * share) * 8 / 64) for n in weights)


def test_without_zeros_skipping_them_changes_nothing():
    """The same counts as plain SGD where no value is zero."""
    assert counts(SKIPPING)[0] == counts(SGD)[0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"update_options.in_place": "true"}, "must be as wide as weight"),
        ({"update_options.skip_zeros": "true"}, "set momentum to false"),
        ({"update_delay": "1", "steps_in_flight": "4"}, "0 or at least 3"),
    ],
)
def test_options_that_do_not_fit_are_named(overrides, said):
    """Formats and options that contradict each other are the user's to fix, with the key in question."""
    with pytest.raises(ConfigError, match=said):
        load_chip("edge_dual", overrides)


def test_skipping_needs_known_zeros():
    """Without shares of zeros the cost is refused, with what to do."""
    with pytest.raises(ConfigError, match="activity"):
        fahw.simulate(load_chip("edge_dual", SKIPPING), "mlp_digits", "dfa", 4)


def test_a_chip_without_velocity_refuses_a_recipe_with_momentum():
    """Learning is never quietly another one than the recipe's."""
    chip, network = load_chip("edge_dual", SGD), load_model("mlp_digits")
    data = fahw.datasets.dataset.load_dataset("digits")
    with pytest.raises(ConfigError, match="keeps no velocity"):
        make_jobs(network, network.recipe, ["bp"], chip, [0], data)
    plain = network.recipe.model_copy(update={"momentum": 0.0, "rules": {}})
    assert len(make_jobs(network, plain, ["bp"], chip, [0], data)) == 1


@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_late_updates_let_the_next_step_begin(rule):
    """No forward or error waits for an update of the step before: less time between steps, and the same work."""
    late, prompt = (
        fahw.simulate(load_chip("edge_dual", o), "mlp_digits", rule, 16) for o in ({"update_delay": "1"}, {})
    )
    assert late.interval_cycles < prompt.interval_cycles
    assert late.cycles == prompt.cycles
    assert late.energy_pj - late.static_pj == pytest.approx(prompt.energy_pj - prompt.static_pj, rel=1e-12)
    assert all(not task.after_previous for task in counts({"update_delay": "1"}, rule=rule)[1].tasks)


def test_without_fusing_the_zeros_are_found_in_all_gradients():
    """Every stored gradient is read to see whether it is zero; of the rest only what has one is read and written."""
    found, _ = counts(SKIPPING, 2, activity=(0.9, 0.9))
    weights = [layer.weights for layer in load_model("mlp_digits").weighted]
    touched = [ceil(n * (1 - (1 - 0.1 * 0.1) ** 2)) for n in weights]
    read = found["update", "read", "gradient"]
    assert sum(ceil(n * 16 / 64) for n in weights) <= read <= sum(ceil(n * 16 / 64) + 1 for n in weights)
    assert found["update", "read", "master"] == sum(ceil(n * 16 / 64) for n in touched)


def test_sums_over_micro_batches_have_room_at_the_width_that_is_written():
    """Bias gradients wait at 24 bits between micro-batches, beside masters (and without momentum nothing else)."""
    overrides = SGD | {"micro_batch": "4", "precision.accumulator": "24", "precision.gradient": "12"}
    _, work = counts(overrides)
    biases = 128 + 64 + 10
    assert stored(work, "param") == biases * (24 + 16)
    assert stored(work, "gradient") == 24 * sum(layer.weights for layer in load_model("mlp_digits").weighted)
