"""`micro_batch: best`: a batch is split as is best for the rule at hand, and every output says how.

In one order of loops (`mapping: fixed`), where splits differ most, but for the last test.
"""

import csv
import json

import pytest

import fahw
from fahw.chip.cost import SHARED, simulate, splits_of
from fahw.chip.transport_forms import simulate_forms
from fahw.config.sweep import Sweep
from fahw.errors import ConfigError
from fahw.study.costs.verdict import transposed_overhead
from fahw.study.sweeps.sweep import sweep
from fahw.work import training_step

BATCH = 64
FIXED = {"mapping": "fixed"}
BEST = fahw.load_chip("edge_dual", FIXED | {"micro_batch": "best"})


@pytest.fixture(scope="module")
def lenet():
    return fahw.load_model("lenet5")


@pytest.mark.parametrize(("batch", "sizes"), [(1, (1,)), (2, (2, 1)), (13, (13, 7, 4, 2, 1)), (16, (16, 8, 4, 2, 1))])
def test_a_batch_is_halved_until_one_sample_is_left(batch, sizes):
    """Rounded up, so that no size is left out by an odd one."""
    assert splits_of(batch) == sizes


def test_each_rule_and_form_has_a_split_of_its_own(lenet):
    """Backpropagation wants small ones, as its window sums then fit; dfa has none and takes the whole batch."""
    cost, forms = simulate_forms(BEST, lenet, "bp", BATCH)
    assert (cost.micro_batch, simulate(BEST, lenet, "dfa", BATCH).micro_batch) == (16, BATCH)
    for form in forms:
        fixed = fahw.load_chip("edge_dual", FIXED | {"micro_batch": form.cost.micro_batch})
        again = simulate(fixed, lenet, "bp", BATCH, form.transport)
        assert (again.ledger, again.form) == (form.cost.ledger, form.cost.form)
    assert forms[-1].transport == SHARED


def test_splits_of_too_many_tasks_are_left_out(lenet, monkeypatch):
    """One task too few for micro-batches of four: the list ends before them."""
    monkeypatch.setattr(training_step, "MOST_TASKS", BATCH // 4 * 17 + 14)
    assert simulate(BEST, lenet, "bp", BATCH).splits == (64, 32, 16, 8)


def test_where_no_split_fits_the_whole_batch_says_why(lenet):
    """The same problem as without a search."""
    said = []
    for micro_batch in ("best", "null"):
        chip = fahw.load_chip("edge_dual", FIXED | {"feedback_generator": "null", "micro_batch": micro_batch})
        with pytest.raises(ConfigError) as caught:
            simulate(chip, lenet, "brsf", BATCH)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_break_even_is_a_line_of_one_split(lenet):
    """Both ends at the split that is best on the chip as it is: between two splits there is no line."""
    found = transposed_overhead(BEST, lenet, BATCH)
    at_1 = simulate(BEST.without_feedback_memory(), lenet, "bp", BATCH, "transposable")
    fixed = BEST.model_copy(update={"micro_batch": at_1.micro_batch})
    assert (found.at_1_pj, found) == (at_1.energy_pj, transposed_overhead(fixed, lenet, BATCH))


def test_simulate_says_the_split_and_what_it_was_chosen_from(command):
    """In words, in JSON and beside every form of transport; a size that is given is said too, none is not."""
    args = ("simulate", "edge_dual", "lenet5", "--rule", "bp", "--batch-size", BATCH)
    args += ("--set", "chip.mapping=fixed", "--set")
    _, text, _ = command(*args, "chip.micro_batch=best")
    assert "batch size             64, micro-batch 16 (the best for bp, of 64, 32, 16, 8, 4, 2, 1)\n" in text
    assert text.count("  micro-batch 16, ") + text.count(", micro-batch 16, ") == 3
    value = json.loads(command(*args, "chip.micro_batch=best", "--json")[1])
    assert (value["micro_batch"], value["splits"]) == (16, [64, 32, 16, 8, 4, 2, 1])
    assert [form["micro_batch"] for form in value["forms"]] == [16, 16, 16]
    assert "batch size             64, micro-batch 48\n" in command(*args, "chip.micro_batch=48")[1]
    assert "batch size             64\n" in command(*args, "chip.micro_batch=64")[1]


def test_a_sweep_says_the_split_of_every_point(tmp_path, lenet):
    """`best` beside a number on one axis; each rule at its own."""
    grid = {"rule": ("bp", "dfa"), "chip.micro_batch": ("best", 32)}
    settings = {"batch_size": BATCH, "chip.mapping": "fixed"}
    sweep(Sweep(name="s", model="lenet5", set=settings, train=False, grid=grid), out=tmp_path, workers=1)
    rows = csv.DictReader((tmp_path / "summary.csv").read_text(encoding="utf-8").splitlines())
    found = {(row["rule"], row["axis.chip.micro_batch"]): row for row in rows}
    sizes = {key: row["micro_batch"] for key, row in found.items()}
    assert sizes == {("bp", "best"): "16", ("bp", "32"): "32", ("dfa", "best"): "64", ("dfa", "32"): "32"}
    for rule in ("bp", "dfa"):
        energy = simulate(BEST, lenet, rule, BATCH).energy_pj
        assert float(found[rule, "best"]["energy_pj_per_step"]) == energy


@pytest.mark.parametrize("mapping", ["fixed", "best"])
@pytest.mark.parametrize("transport", [None, SHARED])
@pytest.mark.parametrize(
    ("objective", "figure"), [("energy", "energy_pj"), ("latency", "interval_cycles"), ("edp", "energy_delay_js")]
)
def test_the_best_is_no_worse_than_any_split(mapping, transport, objective, figure, lenet):
    """By the chip's objective, whatever else is searched at each: mappings, areas, the baseline's form."""
    settings = {"mapping": mapping, "mapping_objective": objective}
    best = simulate(fahw.load_chip("edge_dual", settings | {"micro_batch": "best"}), lenet, "bp", 8, transport)
    given = BEST.model_copy(update=settings)
    costs = [
        simulate(given.model_copy(update={"micro_batch": size}), lenet, "bp", 8, transport) for size in best.splits
    ]
    assert best.splits == (8, 4, 2, 1)
    assert getattr(best, figure) == min(getattr(cost, figure) for cost in costs)
