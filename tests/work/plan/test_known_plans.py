"""Plans that are remembered: the search runs once for a step, and again for any other."""

from dataclasses import replace

import pytest

import fahw
from fahw.activity import Activity, LayerActivity
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.work import training_step
from fahw.work.plan.search import known_plans


@pytest.fixture
def searches(monkeypatch):
    """The steps that were searched a plan for, on the chip itself."""
    seen, real = [], training_step.planned

    def noted(step, *rest):
        seen.append(step)
        return real(step, *rest)

    monkeypatch.setattr(training_step, "planned", noted)
    monkeypatch.setattr("fahw.chip.cost.with_feedback_fitted", lambda chip, *_: chip)
    return seen


def test_a_step_is_searched_once(searches):
    """Equal files, loaded again: the same ledger, times and decisions."""
    best = {"mapping": "best"}
    first, again = (fahw.simulate(load_chip("edge_dual", best), load_model("lenet5"), "dfa", 32) for _ in range(2))
    assert len(searches) == 1
    assert (first.ledger, first.timing, first.work.plan) == (again.ledger, again.timing, again.work.plan)


def test_another_step_is_searched_anew(searches):
    """Another network, batch, rule, chip or activity."""
    chip, model = load_chip("edge_dual", {"mapping": "best"}), load_model("mlp_digits")
    half = {layer.name: LayerActivity(0.5, 0.5, 0.5, 0.5) for layer in model.weighted}
    fahw.simulate(chip, model, "dfa", 32)
    fahw.simulate(chip, replace(model, dfa_residual="biotorch"), "dfa", 32)
    fahw.simulate(chip, model, "dfa", 33)
    fahw.simulate(chip, model, "bp", 32)
    fahw.simulate(chip.model_copy(update={"clock_mhz": 100.0}), model, "dfa", 32)
    fahw.simulate(chip, model, "dfa", 32, activity=Activity(half, 1))
    assert len(searches) == 6


def test_few_plans_are_remembered_of_a_chip(searches):
    """Networks that are all of the same rule and batch: the latest four."""
    chip, model = load_chip("edge_dual", {"mapping": "best"}), load_model("mlp_digits")
    for number in range(9):
        fahw.simulate(chip, replace(model, name=str(number)), "bp", 32)
    step = searches[-1]
    plans = known_plans(step.chip, step.rule, step.micro_batch_sizes, step.form, step.trains)
    assert [network.name for network, _, _ in plans] == ["5", "6", "7", "8"]
