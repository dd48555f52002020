"""Into what a batch is split where training has to know it: keys, trainings, sweeps, and a comparison of all rules at
backpropagation's best split beside their own."""

import csv
import json

import pytest

import fahw
from fahw.chip.cost import SHARED, simulate
from fahw.config.sweep import Sweep
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.study.compare import compare
from fahw.study.splits import best_split
from fahw.study.sweeps.sweep import sweep
from fahw.study.training import make_jobs, run_job
from fahw.study.vectors import export_vectors
from tests.support.strategies import network_of, setups_of

NORMS = """name: norms
input: [1, 8, 8]
layers:
  - {kind: conv2d, out: 8, kernel: 3, padding: 1}
  - {kind: batchnorm2d}
  - {kind: relu}
  - {kind: conv2d, out: 8, kernel: 3, padding: 1}
  - {kind: batchnorm2d}
  - {kind: relu}
  - {kind: avgpool2d, kernel: 2}
  - {kind: flatten}
  - {kind: linear, out: 10}
recipe: {data: digits, epochs: 1, batch_size: 32, learning_rate: 0.05}
"""
BEST = {"mapping": "fixed", "micro_batch": "best"}
"""In one order of loops, where the splits of rules differ most."""


@pytest.fixture(scope="module")
def norms(tmp_path_factory):
    return network_of(tmp_path_factory.mktemp("norms"), NORMS)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def job(network, data, rule="bp", chip="edge_dual", **settings):
    return make_jobs(network, network.recipe, [rule], load_chip(chip, settings), [0], data)[0]


@pytest.mark.parametrize("size", ["1", "16", "48", "best"])
def test_without_batch_norms_no_key_knows_the_split(size, digits):
    """What is stored stays valid, and a search of costs trains nothing again."""
    network = fahw.load_model("mlp_digits")
    assert job(network, digits, micro_batch=size).key == job(network, digits).key
    assert job(network, digits, micro_batch=size).setup.norm_samples is None


def test_with_batch_norms_the_split_is_part_of_the_key(norms, digits):
    """Of a micro-batch that is smaller than the batch; else the key is what it was."""
    whole = job(norms, digits)
    assert "norm_samples" not in whole.inputs
    assert {job(norms, digits, micro_batch=size).key for size in ("32", "1000")} == {whole.key}
    keys = {size: job(norms, digits, micro_batch=str(size)) for size in (1, 8, 16)}
    assert {size: made.inputs["norm_samples"] for size, made in keys.items()} == {size: size for size in keys}
    assert len({whole.key, *(made.key for made in keys.values())}) == 4


def test_frozen_batch_norms_count_too(tmp_path, digits):
    """They keep scale and shift, and take the statistics of what goes through together all the same."""
    text = NORMS.replace("kernel: 3, padding: 1}", "kernel: 3, padding: 1, frozen: true}")
    network = network_of(tmp_path, text.replace("{kind: batchnorm2d}", "{kind: batchnorm2d, frozen: true}"))
    assert job(network, digits, micro_batch="8").setup.norm_samples == 8


@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_the_best_split_is_that_of_the_cost(rule, norms, digits):
    """By the same search, so that what is priced is what is trained."""
    chip = load_chip("edge_dual", BEST)
    size = simulate(chip, norms, rule, 32).micro_batch
    assert size < 32
    assert job(norms, digits, rule, **BEST).key == job(norms, digits, rule, micro_batch=str(size)).key


def test_before_a_training_a_chip_that_skips_zeros_is_taken_to_have_none(norms, digits):
    """What it will measure is not known yet, and what its file assumes wins."""
    skipping = load_chip("neurocore_mesh", BEST)
    assert skipping.uses_activity
    assert job(norms, digits, "dfa", "neurocore_mesh", **BEST).setup.norm_samples in (None, 1, 2, 4, 8, 16)
    known = skipping.model_copy(update={"activity": None})
    assert best_split(known, norms, "dfa", 32) in (1, 2, 4, 8, 16, 32)


def test_a_split_that_is_best_for_a_rule_that_is_not_hosted_is_refused(norms, digits):
    """`fahw train` would have to guess it."""
    without = {"feedback_generator": "null"}
    assert job(norms, digits, "brsf", **without).key == job(norms, digits, "brsf").key
    with pytest.raises(ConfigError, match="the chip needs a feedback_generator"):
        job(norms, digits, "brsf", **without, **BEST)


def test_another_split_trains_to_another_network(norms, digits):
    """The first epoch is already different; the same split gives the same."""
    found = [run_job(job(norms, digits, micro_batch=size)).epochs[0].train_loss for size in ("32", "4", "4")]
    assert found[0] != found[1] == found[2]


@pytest.mark.parametrize(("size", "said"), [("8", True), ("32", False), ("best", True)])
def test_fahw_train_says_over_what_the_statistics_are(size, said, command, tmp_path):
    """Where it is not the batch."""
    model = tmp_path / "norms.yaml"
    model.write_text(NORMS)
    code, text, _ = command("train", model, "--chip", "edge_dual", "--rule", "bp", "--set", f"chip.micro_batch={size}")
    assert (code, "batch norms take their statistics over micro-batches of" in text) == (0, said)


# --- a comparison ----------------------------------------------------------------------------------------------------


def first_loss(line):
    return line.results[0].epochs[0].train_loss


def table(folder, name):
    with (folder / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def compared(norms, tmp_path_factory):
    chip, folder = load_chip("edge_dual", BEST), tmp_path_factory.mktemp("compare")
    return compare(chip, norms, out=folder, rules=["fa", "dfa"], seeds=1, epochs=1, workers=1)


def test_all_rules_stand_at_the_split_of_backpropagation_beside_their_own(compared, norms):
    """Two lines where they differ, one where they do not; each priced at its micro-batch."""
    chip = load_chip("edge_dual", BEST)
    own = {(rule, None): simulate(chip, norms, rule, 32) for rule in ("bp", "fa", "dfa")}
    costs = {("bp", "copy"): own["bp", None], ("fa", "none"): own["fa", None], ("dfa", "none"): own["dfa", None]}
    costs |= {("bp", form): simulate(chip, norms, "bp", 32, form) for form in ("write_through", SHARED)}
    split = min((costs[key] for key in costs if key[0] == "bp"), key=lambda cost: cost.energy_pj).micro_batch
    fixed = load_chip("edge_dual", BEST | {"micro_batch": split})
    for rule in ("fa", "dfa"):
        if costs[rule, "none"].micro_batch != split:
            costs[f"{rule}@{split}", "none"] = simulate(fixed, norms, rule, 32)
    assert compared.baseline_split == split
    found = {(line.name, line.transport): line.cost for line in compared.lines}
    assert {key: (cost.micro_batch, cost.energy_pj) for key, cost in found.items()} == {
        key: (cost.micro_batch, cost.energy_pj) for key, cost in costs.items()
    }
    assert any("@" in name for name, _ in found), "the case shows both kinds"


def test_each_line_has_the_accuracy_of_its_split(compared, norms, digits):
    """A training for each number; forms of one rule with different ones too."""
    for line in compared.lines:
        split = {"micro_batch": str(line.cost.micro_batch)}
        alone = run_job(job(norms, digits, line.rule, **split))
        assert line.results[0].epochs == alone.epochs
    losses = {line.cost.micro_batch: first_loss(line) for line in compared.lines if line.rule == "fa"}
    assert len(set(losses.values())) == len(losses) == 2


def test_the_folder_and_the_texts_say_the_splits(compared, norms):
    """summary.csv, epochs.csv, manifest, page and terminal."""
    from fahw.cli.texts import compare_text

    folder, split = compared.folder, compared.baseline_split
    rows = {(row["rule"], row["transport"]): row for row in table(folder, "summary.csv")}
    names = [(line.name, line.transport) for line in compared.lines]
    assert list(rows) == names
    assert [rows[name]["micro_batch"] for name in names] == [str(line.cost.micro_batch) for line in compared.lines]
    assert {(row["rule"], row["transport"]) for row in table(folder, "ledger.csv")} == set(names)
    curves = {row["rule"]: row["train_loss"] for row in table(folder, "epochs.csv")}
    assert len(set(curves.values())) == len(curves) == len(set(map(first_loss, compared.lines)))
    trainings = json.loads((folder / "manifest.json").read_text())["inputs"]["trainings"]
    assert {name.rpartition("/")[0] for name in trainings} == set(curves)
    text = compare_text(compared)
    for line in compared.lines:
        assert any(
            row.startswith(f"{line.name} ") and row.endswith(f" {line.cost.micro_batch}") for row in text.split("\n")
        )
    words = " ".join(text.split())
    assert f"fa@{split} is fa at {split}, the best of backpropagation. Batch norms take their statistics" in words
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"fa@{split}" in page
    assert "Micro-batch: the best for each" in page
    assert "the micro-batch that is best for it (least energy)" in page


@pytest.mark.slow
def test_without_batch_norms_both_lines_share_their_training(tmp_path):
    """Costs differ, accuracies do not, and the text says so."""
    from fahw.cli.texts import compare_text

    chip = load_chip("edge_dual", BEST | {"memories.buffer_sram.size_kib": "64"})
    network = network_of(tmp_path, NORMS.replace("  - {kind: batchnorm2d}\n", ""))
    found = compare(chip, network, out=tmp_path / "out", rules=["fa", "dfa"], seeds=1, epochs=1, workers=1)
    by_rule = {}
    for line in found.lines:
        by_rule.setdefault(line.rule, set()).add(first_loss(line))
    assert all(len(losses) == 1 for losses in by_rule.values())
    assert len(table(tmp_path / "out", "epochs.csv")) == len({line.name for line in found.lines})
    assert "No accuracy depends on it: there are no batch norms." in " ".join(compare_text(found).split())


@pytest.mark.slow
def test_a_given_split_is_said_where_it_is_learned(norms, tmp_path):
    """Nothing is searched: one line for each rule and form."""
    from fahw.cli.texts import compare_text

    chip = load_chip("edge_dual", {"micro_batch": "8"})
    found = compare(chip, norms, out=tmp_path, rules=["dfa"], seeds=1, epochs=1, workers=1)
    assert [line.name for line in found.lines] == ["bp", "bp", "bp", "dfa"]
    assert found.baseline_split is None
    assert "Micro-batch: 8 of 32 samples" in compare_text(found)


# --- a sweep ---------------------------------------------------------------------------------------------------------


def test_a_sweep_trains_each_point_at_the_split_at_which_it_is_priced(tmp_path, norms):
    """And backpropagation that is added to it has its own best."""
    model = tmp_path / "norms.yaml"
    model.write_text(NORMS)
    grid = {"rule": ("bp", "dfa"), "chip.micro_batch": ("best", 32, 8)}
    spec = Sweep(name="s", model=str(model), epochs=1, set={"chip.mapping": "fixed"}, grid=grid)
    made = {(setup.request.rule, setup.values["chip.micro_batch"]): setup for setup in setups_of(spec)}
    sizes = {key: setup.jobs[0].setup.norm_samples for key, setup in made.items()}
    best = {rule: simulate(load_chip("edge_dual", BEST), norms, rule, 32).micro_batch for rule in ("bp", "dfa")}
    wanted = {(rule, size): size if size < 32 else None for rule in best for size in (32, 8)}
    assert sizes == wanted | {(rule, "best"): size for rule, size in best.items()}
    result = sweep(spec, out=tmp_path / "out", workers=1)
    assert not result.failed
    rows = {(row["rule"], row["axis.chip.micro_batch"]): row for row in table(tmp_path / "out", "summary.csv")}
    for rule, size in best.items():
        assert rows[rule, "best"]["micro_batch"] == str(size)
    forms = load_chip("edge_dual", BEST).transport
    energies = [simulate(load_chip("edge_dual", BEST), norms, "bp", 32, form).energy_pj for form in (*forms, SHARED)]
    row = rows["dfa", "best"]
    assert float(row["saving_per_step"]) == pytest.approx(1 - float(row["energy_pj_per_step"]) / min(energies))


def test_a_sweep_of_costs_has_no_need_to_know(tmp_path):
    """Where nothing is trained the search is left to the pricing."""
    model = tmp_path / "norms.yaml"
    model.write_text(NORMS)
    spec = Sweep(name="s", model=str(model), train=False, grid={"chip.micro_batch": ("best", 8)})
    assert [setup.request.micro_batch for setup in setups_of(spec)] == [None, None]


def test_golden_vectors_have_no_batch_norms_to_split(norms, tmp_path):
    """They are refused as before."""
    with pytest.raises(ConfigError, match="batchnorm2d"):
        export_vectors(load_chip("edge_dual", BEST), norms, "bp", 1, tmp_path / "out")
