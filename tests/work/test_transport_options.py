"""Cheaper weight transport: only what changed, only signs that flipped, stale copies, the copy in another layout."""

from math import ceil, log2

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fahw.activity import Activity, LayerActivity
from fahw.chip.cost import simulate
from fahw.chip.timing.clock import time_step
from fahw.chip.usage import uses
from fahw.errors import ConfigError
from fahw.formats.precision import FP32, Precision
from fahw.hardware.load import load_chip
from fahw.learn.error_path.feedback import Feedback
from fahw.learn.error_path.feedback_words import FloatWords
from fahw.learn.state.delays import Delays
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from fahw.study.training import make_job
from fahw.work.counts.record import Task
from fahw.work.transport import touched_words
from tests.support.models import built, chain
from tests.support.steps import counts, step

WEIGHTS = {"linear2": 128 * 64, "linear3": 64 * 10}
"""Weights of mlp_digits that the error path reads."""


def work_of(rule, options, share=None, form=None):
    chip = load_chip("edge_dual", {f"transport_options.{name}": value for name, value in options.items()})
    network, value = load_model("mlp_digits"), RULES[rule]
    layer = share and LayerActivity(0.0, 0.0, share, share)
    activity = share and Activity({name.name: layer for name in network.weighted}, 1)
    return step(chip, network, value, 16, form, activity)


@pytest.mark.parametrize("share", [0.01, 0.2, 1.0])
def test_changed_words_are_compared_addressed_and_sent(share):
    """Of each layer the changed words cross the link, with the shorter of an address each and a bitmap over all."""
    work = work_of("bp", {"changed_words_only": "true"}, share)
    for layer, n in WEIGHTS.items():
        sent = ceil(n * share)
        where = min(sent * ceil(log2(n)), n)
        at = {"phase": "transport", "layer": layer}
        assert counts(work, **at, action="compare", widths=(8,)) == n
        assert counts(work, **at, action="send") == sent * 8 + where
        assert counts(work, **at, action="transpose") == sent
        old = n * 8 // 64  # whole words, to compare the new values with
        changed = ceil(n / 8 * (1 - (1 - share) ** 8))  # the words around the changed values
        assert counts(work, **at, action="read") == old + changed
        assert counts(work, **at, action="write") == changed


@pytest.mark.parametrize(("share", "sent"), [(0.01, 1), (0.07, 7), (0.14, 14), (0.28, 28), (0.285, 29), (1.0, 100)])
def test_a_share_is_not_rounded_up_by_what_floats_add(share, sent):
    """Of 100 weights 7 % are 7, though floats make 7.000000000000001 of it."""
    assumed = {"zero_activation": 0, "zero_error": 0, "sign_flip": share, "changed_weight": share}
    settings = {"transport_options.changed_words_only": "true"} | {f"activity.{key}": n for key, n in assumed.items()}
    network = chain((3,), ("linear", {"out": 10}), ("linear", {"out": 10}))
    cost = simulate(load_chip("edge_dual", settings), network, "bp", 2)
    assert cost.transported_bits == sent * 8 + min(sent * 7, 100)


@pytest.mark.parametrize(("bits", "width", "values"), [(6, 64, 100), (5, 32, 7), (12, 64, 641), (9, 8, 30), (3, 64, 1)])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.6])
def test_words_that_hold_a_changed_value(bits, width, values, share):
    """Drawn 4,000 times: values of `bits`, close together, of which each changes by chance."""
    changed = np.random.default_rng(1).random((4000, values)) < share
    words = np.zeros((4000, ceil(values * bits / width)), bool)
    for value in range(values):
        for word in range(value * bits // width, ((value + 1) * bits - 1) // width + 1):
            words[:, word] |= changed[:, value]
    drawn = words.sum(1)
    mean, error = drawn.mean(), 4 * drawn.std() / 4000**0.5
    assert mean - error <= touched_words(values, bits, width, share) <= mean + error + 1


@given(st.integers(1, 2000), st.integers(1, 16), st.integers(1, 128))
def test_never_more_words_than_the_whole_copy(values, bits, width):
    assert touched_words(values, bits, width, 1.0) == ceil(values * bits / width)
    assert touched_words(values, bits, width, 0.999) <= ceil(values * bits / width)
    assert touched_words(values, bits, width, 0.0) == 0


def test_odd_widths_write_no_more_than_a_whole_copy():
    """Feedback and weights of 6 bits in words of 64: ten whole ones to a word would take more words than all."""
    options = {"precision.weight": "6", "precision.feedback": "6"}
    plain, changed = (
        step(chip, network, RULES["bp"], 16, activity=activity)
        for chip, network, activity in (
            (load_chip("edge_dual", options), load_model("mlp_digits"), None),
            (load_chip("edge_dual", options | {"transport_options.changed_words_only": "true"}),
             load_model("mlp_digits"), Activity({f"linear{i}": LayerActivity(0, 0, 1, 1) for i in (1, 2, 3)}, 1)),
        )
    )  # fmt: skip
    written = [counts(work, phase="transport", action="write") for work in (plain, changed)]
    assert written[0] == written[1] == sum(ceil(n * 6 / 64) for n in WEIGHTS.values())


# a copy is no wider than what it is a copy of


@pytest.mark.parametrize(("weight", "feedback", "moved"), [(2, 8, 2), (8, 4, 4), (4, 4, 4), (2, 16, 2), (5, 8, 5)])
def test_a_copy_has_the_smaller_of_both_widths(weight, feedback, moved):
    """What is moved, stored, read and multiplied of a forward weight has no more bits than it, nor than the copy."""
    chip = load_chip("edge_dual", {"precision.weight": str(weight), "precision.feedback": str(feedback)})
    network = load_model("mlp_digits")
    work = step(chip, network, RULES["bp"], 16)
    copied = sum(WEIGHTS.values())
    assert work.transported_bits == work.feedback_bits == moved * copied
    assert counts(work, phase="transport", action="write") == sum(ceil(n * moved / 64) for n in WEIGHTS.values())
    macs = 16 * copied
    assert counts(work, phase="error", action="mac", widths=(8, moved, 32)) == macs
    shared = load_chip("edge_shared", {"precision.weight": str(weight), "precision.feedback": str(feedback)})
    work = step(shared, network, RULES["bp"], 16)
    assert counts(work, phase="error", action="mac", widths=(8, moved, 32)) == macs
    own = step(chip, network, "fa", 16)
    assert own.feedback_bits == feedback * copied
    assert counts(own, phase="error", action="mac", widths=(8, feedback, 32)) == macs


def test_a_narrow_float_weight_is_multiplied_in_its_own_format():
    """fp8 weights times fp8 errors are fp8 products, although feedback weights of other rules are bf16."""
    narrow, wide = (
        load_chip("edge_dual", {f"precision.{name}": form for name, form in formats.items()})
        for formats in (
            dict.fromkeys(("weight", "error", "feedback"), "fp8_e4m3") | {"accumulator": "fp32"},
            dict.fromkeys(("weight", "error"), "fp8_e4m3") | {"feedback": "bf16", "accumulator": "fp32"},
        )
    )
    energies = [
        sum(row.energy_pj for row in simulate(chip, "mlp_digits", "bp", 16).ledger if row.action == "mac")
        for chip in (narrow, wide)
    ]
    assert energies[0] == energies[1]


def test_everything_changed_costs_more_than_sending_everything():
    """Where every word changes, comparing them and saying so is a loss: the option is no free lunch."""
    plain, compared = work_of("bp", {}), work_of("bp", {"changed_words_only": "true"}, 1.0)
    assert compared.transported_bits > plain.transported_bits


@pytest.mark.parametrize("share", [0.001, 0.3])
def test_flipped_signs_need_no_value(share):
    """A flip is said by its place alone."""
    work = work_of("usf", {"sign_flips_only": "true"}, share)
    for layer, n in WEIGHTS.items():
        flips = ceil(n * share)
        where = min(flips * ceil(log2(n)), n)
        assert counts(work, phase="transport", layer=layer, action="send") == where


def test_a_share_that_nobody_knows_is_asked_for():
    """Neither measured nor assumed: the error says how to give it."""
    with pytest.raises(ConfigError, match=r"the share of changed words is not known.*activity"):
        work_of("bp", {"changed_words_only": "true"})
    with pytest.raises(ConfigError, match="measured on another network: nothing of linear1"):
        simulate("edge_dual", "mlp_digits", "bp", 8, None, Activity({}, 1))


def test_assumed_shares_hold_for_every_layer_and_measured_ones_win():
    """`activity` of the chip file stands in for a training, and gives way to one."""
    options = {
        "transport_options.changed_words_only": "true",
        "activity.changed_weight": "0.25",
        "activity.assumed": "x",
    }
    chip, network = load_chip("edge_dual", options), load_model("mlp_digits")
    assumed = simulate(chip, network, "bp", 16)
    same = Activity({layer.name: LayerActivity(0, 0, 1, 0.25) for layer in network.weighted}, 1)
    less = Activity({layer.name: LayerActivity(0, 0, 1, 0.01) for layer in network.weighted}, 1)
    assert simulate(chip, network, "bp", 16, None, same).transported_bits == assumed.transported_bits
    assert simulate(chip, network, "bp", 16, None, less).transported_bits < assumed.transported_bits / 10


def test_layout_same_needs_no_transposer_but_a_row_dataflow():
    """The copy stored as the weights are: no registers turn it, and the error array runs as `accumulate` does."""
    turned, same = work_of("bp", {}), work_of("bp", {"layout": "same"})
    assert counts(turned, action="transpose") > 0
    assert counts(same, action="transpose") == 0
    shared = load_chip("edge_dual").without_feedback_memory()
    rows = step(shared, "mlp_digits", "bp", 16, "accumulate")
    errors = [{t.layer: t.cycles for t in w.tasks if t.phase == "error"} for w in (same, rows)]
    assert errors[0] == errors[1]


# stale copies


def test_moved_bits_of_a_period_are_the_mean_of_its_steps():
    """8,832 weights of 8 bits, once in 7 steps: 70,656 / 7 bits per step, not a whole number per layer."""
    chip = load_chip("edge_dual", {"transport_options.period": "7"})
    assert simulate(chip, "mlp_digits", "bp", 16).transported_bits == 8 * 8832 / 7


def test_energy_of_a_period_is_shared_by_its_steps():
    """Transport once in k steps costs a k-th per step; everything else is dynamic energy as before."""
    for k in (2, 5):
        chips = [load_chip("edge_dual", {"mapping": "fixed", "transport_options.period": p}) for p in ("1", str(k))]
        often, seldom = (simulate(chip, "mlp_digits", "bp", 16) for chip in chips)
        phases = [
            {
                "transport" if row.phase == "transport" else "other": 0.0
                for row in cost.ledger
            } for cost in (often, seldom)
        ]  # fmt: skip
        for sums, cost in zip(phases, (often, seldom), strict=True):
            for row in cost.ledger:
                if not row.static:
                    sums["transport" if row.phase == "transport" else "other"] += row.energy_pj
        assert phases[1]["transport"] == pytest.approx(phases[0]["transport"] / k)
        assert phases[1]["other"] == pytest.approx(phases[0]["other"])
        assert seldom.transported_bits == often.transported_bits / k


def test_interval_of_a_period_is_the_mean_of_its_steps():
    """A chain of two tasks of 10 cycles, the second one step in four: 20 cycles once, 10 three times."""

    def task(phase, every, after):
        return Task(phase, "a", phase, 1, 10, (), (), (), after, (), every=every)

    tasks = [task("update", 1, ()), task("transport", 4, (("update", "a"),))]
    timing = time_step(tasks, 4, 1)
    assert timing.cycles == 20
    assert timing.interval_cycles == (20 + 3 * 10) / 4
    assert timing.busy == {"update": 10, "transport": 2}


@pytest.mark.parametrize("rule", ["bp", "usf", "brsf", "frsf", "fa"])
def test_words_of_a_period_are_those_of_its_first_step(rule):
    """Steps 0..k-1 see the weights as they were before step 0, k..2k-1 those before step k; own numbers do not age."""
    network = load_model("mlp_digits")
    layer, value, k = network.weighted[1], RULES[rule], 3
    words = FloatWords(network, value, 1.0, 7, torch.float32)
    stale, fresh = Feedback(value, words, period=k), Feedback(value, words)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(layer.weight_shape, generator=generator)
    history = []
    for draw in range(8):
        history.append(weight.clone())
        found = stale.words(layer, weight, draw)
        expected = fresh.words(layer, history[draw - draw % k], draw)
        assert torch.equal(found, expected), draw
        weight.add_(torch.randn(layer.weight_shape, generator=generator))  # in place, as an update does
        assert torch.equal(stale.words(layer, weight, draw), expected), "looking again after the update changes nothing"


def test_training_follows_the_period_of_separate_memories_alone():
    """A stale copy is another training for rules that follow W; not for own numbers, nor where the error reads W."""
    chip = load_chip("edge_dual", {"transport_options.period": "4"})
    plain = load_chip("edge_dual")

    def job(rule, on):
        return make_job("mlp_digits", rule, on, data=None, epochs=1, seed=0, data_dir=None)

    assert job("bp", chip).setup.delays == Delays(transport_period=4)
    assert job("bp", chip).key != job("bp", plain).key
    assert job("fa", chip).key == job("fa", plain).key
    assert job("bp", chip.without_feedback_memory()).key == job("bp", plain).key


@pytest.mark.parametrize("precision", [FP32, Precision()], ids=["float", "integer"])
def test_a_model_is_built_with_its_period(precision):
    """Both arithmetics hand the period to the feedback words."""
    network = load_model("mlp_digits")
    model = built(network, "bp", precision, batch=16, delays=Delays(2))
    layer = network.weighted[1]
    weight = model.parameters[layer.name].weight
    first = model.feedback.words(layer, weight, 0).clone()
    weight.add_(1)
    assert torch.equal(model.feedback.words(layer, weight, 1), first)
    assert not torch.equal(model.feedback.words(layer, weight, 2), first)


def test_parts_tell_the_means_of_a_period():
    """What passes the link per step, and its busy time, is a k-th; its bandwidth while it works is what it was."""

    def option(period):
        return {"transport_options.period": period}

    often, seldom = (
        {use.part: use for use in uses(simulate(load_chip("edge_dual", option(k)), "mlp_digits", "bp"))} for k in "14"
    )
    link = "transport_link"
    assert seldom[link].amount == often[link].amount / 4
    assert seldom[link].busy_cycles == often[link].busy_cycles // 4
    assert seldom[link].per_cycle == often[link].per_cycle
