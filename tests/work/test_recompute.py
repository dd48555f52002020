"""What is computed again on the way back (`recompute`): which layers, when, and what it costs, by hand."""

from itertools import pairwise

import pytest

from fahw.chip.cost import simulate
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.study.training import make_jobs
from fahw.work import training_step
from fahw.work.plan.order.precedence import sorted_tasks
from fahw.work.plan.order.short_lives import with_short_lives
from fahw.work.plan.tensors.kept_tensors import kept_tensors
from tests.support.contexts import context
from tests.support.models import convolutional, everything, mlp

NETWORKS = {"chain": convolutional(), "projection": everything("projection"), "everything": everything()}


def chip(every, **more):
    """A chip on which everything fits, that keeps the results of one layer in so many."""
    return load_chip("edge_dual", {"mapping": "best", "recompute": every, "steps_in_flight": 1, **more})


def again(work):
    """The layers that are computed again, in the order of tasks."""
    return [task.layer for task in work.tasks if task.phase == "recompute"]


def room(cost, kind):
    """Bits that the memories of a kind of tensor must hold."""
    return sum(place.bits for place in cost.work.placements if place.tensor == kind)


@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_every_second_of_three_layers_by_hand(rule):
    """6-5-4-3 with 16 samples: the first layer's 5 outputs and their signs are dropped; its 16 x 6 x 5
    multiply-accumulates run twice."""
    whole, half = (simulate(chip(every), mlp(6, 5, 4, 3), rule, 16) for every in (1, 2))
    assert again(half.work) == ["linear0"]
    assert half.work.macs - whole.work.macs == 16 * 6 * 5
    assert room(half, "activation") < room(whole, "activation")
    assert room(whole, "mask") - room(half, "mask") == 16 * 4


@pytest.mark.parametrize("every", [2, 3, 4, 99])
@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_of_a_chain_one_layer_in_so_many_is_kept(rule, every):
    """A walk from the first layer: every k-th, and the last, stays; the others run once more."""
    sizes, samples = (9, 8, 7, 6, 5, 4, 3, 2), 4
    whole, some = (simulate(chip(each), mlp(*sizes), rule, samples).work for each in (1, every))
    dropped, more, since = [], 0, 0
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        since += 1
        if since == every or number == len(sizes) - 2:
            since = 0
        else:
            dropped.append(f"linear{2 * number}")  # relus between
            more += samples * inputs * outputs
    assert set(again(some)) == set(dropped)
    assert some.macs - whole.macs == more


def test_it_is_in_no_key_of_a_training():
    """What is learned is the same, whatever is computed twice."""
    network, data = load_model("mlp_digits"), load_dataset("digits")
    jobs = [make_jobs(network, network.recipe, ["bp"], chip(every), [0], data)[0] for every in (1, 2, 99)]
    assert len({job.key for job in jobs}) == 1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rule", ["bp", "dfa", "usf"])
def test_what_runs_again_is_the_same_product(name, rule):
    """As many multiply-accumulates, cycles of the array and words of weights as on the way forward."""
    work = simulate(chip(3), NETWORKS[name], rule, 4).work
    tasks = {task.id: task for task in work.tasks}
    assert again(work)
    for layer in again(work):
        first, second = tasks["forward", layer], tasks["recompute", layer]
        assert (first.macs, first.part) == (second.macs, second.part)


def test_nothing_runs_again_where_every_layer_keeps_its_results():
    """Residual networks too, whose branches would make longer segments."""
    costs = [simulate(load_chip("edge_dual", {"mapping": "best"} | keys), everything(), "bp", 4)
             for keys in ({}, {"recompute": 1})]  # fmt: skip
    assert not again(costs[1].work)
    assert costs[0].energy_pj == costs[1].energy_pj
    assert costs[0].cycles == costs[1].cycles


def test_other_phases_cost_the_same_where_all_fits():
    """Errors, gradients, updates and transports; the way forward saves masks that nobody reads."""
    energies = []
    for every in (1, 2):
        cost = simulate(chip(every), mlp(6, 5, 4, 3), "bp", 16)
        assert sum(row.energy_pj for row in cost.ledger) == pytest.approx(cost.energy_pj)
        phases = dict.fromkeys((row.phase for row in cost.ledger), 0.0)
        for row in cost.ledger:
            phases[row.phase] += row.energy_pj
        energies.append(phases)
    for phase in ("error", "gradient", "update", "transport"):
        assert energies[0][phase] == pytest.approx(energies[1][phase], rel=1e-9)
    assert energies[1]["recompute"] > 0
    assert energies[1]["forward"] < energies[0]["forward"]


def test_a_residual_network_is_cut_where_one_tensor_passes():
    """Of each block of resnet20 the inner convolution runs again; what a shortcut carries is kept."""
    step, _ = context(chip(2), "resnet20", "bp", 4)
    blocks = [f"layer{stage}_{block}_conv1" for stage in (1, 2, 3) for block in (0, 1, 2)]
    assert step.segments.again == {"conv1", *blocks}


@pytest.mark.parametrize("every", [2, 99])
@pytest.mark.parametrize("rule", ["bp", "dfa", "drtp", "kp"])
@pytest.mark.parametrize("name", NETWORKS)
def test_tasks_do_not_wait_in_a_circle(name, rule, every):
    """With the waits that keep lives short, too."""
    step, _ = context(chip(every, micro_batch=2), NETWORKS[name], rule, 4)
    tasks = training_step._checked_tasks(step)
    assert len(with_short_lives(sorted_tasks(tasks), step, kept_tensors(step))) == len(tasks)


@pytest.mark.parametrize(
    ("name", "keys"),
    [("edge_dual", {"mapping": "fixed"}), ("edge_dual", {"update_delay": 1}), ("neurocore_mesh", {})],
)
def test_it_is_refused_where_it_cannot_be_priced(name, keys):
    """Without a search, with late updates, on a mesh."""
    with pytest.raises(ConfigError) as caught:
        load_chip(name, {"mapping": "best", "recompute": 2} | keys)
    assert [problem.key for problem in caught.value.problems] == ["recompute"]
