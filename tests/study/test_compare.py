"""The main job: the run folder, resuming, and what it says of rules that cannot be hosted."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import fsum
from pathlib import Path

import pytest

import fahw
import fahw.datasets.dataset
from fahw.study.compare import compare
from fahw.study.storage.result_files import SUMMARY_COLUMNS
from fahw.study.training import make_jobs

SMALL = {"rules": ["fa", "usf", "dfa"], "seeds": 2, "epochs": 2, "workers": 1}


def digest(folder):
    """Hash of every file below a folder, by name."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small comparison on the bundled digits."""
    folder = tmp_path_factory.mktemp("compare")
    return compare("edge_dual", "mlp_digits", out=folder, **SMALL)


def test_the_run_folder_is_complete(run):
    """Every promised file is there, and summary.csv has the promised columns."""
    names = {path.name for path in run.folder.iterdir()}
    assert {"manifest.json", "summary.csv", "ledger.csv", "epochs.csv", "report.html", "plots"} <= names
    with (run.folder / "summary.csv").open() as file:
        assert tuple(next(csv.reader(file))) == SUMMARY_COLUMNS


def test_the_report_shows_how_a_step_uses_the_chip(run):
    """Timeline, energy map, a roofline of either side and the bandwidth table; every hosted line has its points; the
    page stays small."""
    page = (run.folder / "report.html").read_text()
    for name in ("timeline", "energy_map", "roofline", "roofline_rival"):
        assert f'id="plot-{name}"' in page
        assert (run.folder / "plots" / f"{name}.svg").is_file()
    assert 'id="table-bandwidth"' in page
    lines = {(row["rule"], row["transport"]) for row in rows(run.folder / "summary.csv")}
    assert {(row["rule"], row["transport"]) for row in rows(run.folder / "roofline.csv")} == lines
    assert len(page.encode()) < 5_000_000


def test_backpropagation_is_always_there_with_its_fair_baseline(run):
    """bp was not asked for: it is added under every form of the chip and on the chip with one weight memory."""
    found = {(row["rule"], row["transport"]) for row in rows(run.folder / "summary.csv")}
    assert {("bp", "copy"), ("bp", "write_through"), ("bp", "shared"), ("fa", "none"), ("dfa", "none")} <= found
    assert ("usf", "write_through") in found


def test_what_is_seen_inside_is_in_the_epochs_and_the_report(run):
    """Angles and activity of each layer are columns; direct rules have gradient angles, but no matrix to compare."""
    epochs = rows(run.folder / "epochs.csv")
    kinds = {"angle_deg", "norm_ratio", "gradient_angle_deg", "zero_activations", "zero_errors", "sign_flips"}
    assert kinds | {"changed_words"} <= {name.partition(".")[0] for name in epochs[0]}
    for row in epochs:
        last = [float(row[name]) for name in row if name.startswith("gradient_angle_deg.")][-1]
        assert last < 30 or row["epoch"] != "1"  # the last layer's gradient is exact in every rule, roundings aside
        assert all((row[name] == "") == (row["rule"] == "dfa") for name in row if name.startswith("angle_deg."))
        assert 0 < float(row["changed_words.linear1"]) < 1
    plots = {path.stem for path in (run.folder / "plots").iterdir()}
    assert {"angles", "gradient_angles"} <= plots


def test_summary_and_ledger_agree(run):
    """Energy per step in summary.csv is the correctly rounded sum of that rule's ledger rows."""
    ledger = rows(run.folder / "ledger.csv")
    for row in rows(run.folder / "summary.csv"):
        mine = [r for r in ledger if (r["rule"], r["transport"]) == (row["rule"], row["transport"])]
        assert float(row["energy_pj_per_step"]) == fsum(float(r["energy_pj"]) for r in mine)


def test_energy_to_target_is_steps_times_energy(run):
    """And it is empty where no seed reached the target."""
    for row in rows(run.folder / "summary.csv"):
        if row["steps_to_target"]:
            joules = float(row["steps_to_target"]) * float(row["energy_pj_per_step"]) * 1e-12
            assert float(row["energy_to_target_j"]) == pytest.approx(joules, rel=1e-12)
        else:
            assert row["energy_to_target_j"] == ""


def test_the_accuracy_is_the_test_accuracy_at_the_best_validation_epoch(run):
    """Nothing is chosen on the test set."""
    for line in run.lines:
        for result in line.results:
            best = max(result.epochs, key=lambda row: (row.validation_accuracy_pct, -row.epoch))
            assert result.best_epoch == best.epoch
            assert result.test_accuracy_pct == best.test_accuracy_pct


def test_the_same_inputs_give_the_same_bytes(run, tmp_path):
    """A second run, on two processes and with the rules in another order of work, writes identical files."""
    settings = SMALL | {"workers": 2}
    compare("edge_dual", "mlp_digits", out=tmp_path / "again", **settings)
    assert digest(tmp_path / "again") == digest(run.folder)


def test_finished_trainings_are_not_repeated(run):
    """A second call in the same folder trains nothing."""
    before = {path: path.stat().st_mtime_ns for path in run.folder.glob("runs/*/result.json")}
    compare("edge_dual", "mlp_digits", out=run.folder, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in run.folder.glob("runs/*/result.json")} == before


def test_the_key_of_a_training_ignores_clock_and_memories_but_not_formats():
    """Changing the clock or a memory retrains nothing; changing a format does."""
    network = fahw.load_model("mlp_digits")
    data = fahw.datasets.dataset.load_dataset("digits")

    def key(**overrides):
        chip = fahw.load_chip("edge_dual", {name.replace("__", "."): value for name, value in overrides.items()})
        return make_jobs(network, network.recipe, ["dfa"], chip, [0], data)[0].key

    assert key() == key(clock_mhz="400") == key(memories__weight_sram__size_kib="1024")
    assert len({key(), key(precision__weight="4"), key(rounding__update="nearest")}) == 3


def test_the_key_of_a_direct_rule_s_training_covers_how_errors_reach_the_layers():
    """Dense or tiled, blocked or added: other trainings under dfa; under rules that go layer by layer the same."""
    data = fahw.datasets.dataset.load_dataset("digits")
    chip = fahw.load_chip("edge_dual")

    def key(rule, **changes):
        network = replace(fahw.load_model("lenet5"), **changes)
        return make_jobs(network, network.recipe, [rule], chip, [0], data)[0].key

    ways = ({}, {"dfa_feedback": "tiled"}, {"dfa_residual": "biotorch"})
    assert len({key("dfa", **way) for way in ways}) == len({key("drtp", **way) for way in ways}) == 3
    assert len({key("bp", **way) for way in ways}) == len({key("fa", **way) for way in ways}) == 1


def test_a_rule_that_the_chip_cannot_host_keeps_its_row(tmp_path):
    """Its cells are empty, the report says why, and the others are priced."""
    chip = fahw.load_chip("edge_dual", {"feedback_generator": "null"})
    run = compare(chip, "mlp_digits", out=tmp_path, rules=["brsf", "fa"], seeds=1, epochs=1, workers=1)
    by_rule = {row["rule"]: row for row in rows(tmp_path / "summary.csv")}
    assert by_rule["brsf"]["energy_pj_per_step"] == ""
    assert float(by_rule["fa"]["energy_pj_per_step"]) > 0
    assert "feedback_generator" in next(line.reason for line in run.lines if line.rule == "brsf")
    assert "feedback_generator" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    """SIGKILL in the middle, three times: finished results are kept, and the files end up the same."""
    command = [sys.executable, "-m", "fahw.cli", "compare", "edge_dual", "mlp_digits", "--rules", "bp,fa,usf"]
    command += ["--seeds", "2", "--epochs", "4", "--jobs", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", tmp_path / "whole"], check=True, env=environment, capture_output=True)
    for wanted in (1, 3, 5):
        process = subprocess.Popen(
            [*command, "--out", tmp_path / "killed"], env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and len(list(tmp_path.glob("killed/runs/[!.]*/result.json"))) < wanted:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
    kept = {path: path.read_bytes() for path in tmp_path.glob("killed/runs/[!.]*/result.json")}
    assert kept
    subprocess.run([*command, "--out", tmp_path / "killed"], check=True, env=environment, capture_output=True)
    assert {path: path.read_bytes() for path in kept} == kept
    found = {name: value for name, value in digest(tmp_path / "killed").items() if "/." not in f"/{name}"}
    assert found == digest(tmp_path / "whole")
