"""Wrong arguments of the library are a ConfigError that names them and says what they may be, before anything runs."""

import os
import subprocess
import sys

import pytest
from torch import nn

import fahw
from fahw.datasets.fetch import fetch
from fahw.files import process_mark, remove_abandoned, write_bytes, write_text
from fahw.study.storage.result_files import make_folder

NET = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
PAIR = ("edge_dual", "mlp_digits")
CALLS = {
    "chip: None": (lambda: fahw.load_chip(None), "chip: must be the name of a shipped chip or the path of a file"),
    "chip: number": (lambda: fahw.simulate(7, "mlp_digits"), "chip: must be the name"),
    "model: list": (lambda: fahw.load_model([]), "model: must be the name"),
    "overrides: object": (lambda: fahw.load_chip("edge_dual", {"clock_mhz": object()}), "clock_mhz: must be YAML text"),
    "overrides: list": (lambda: fahw.load_chip("edge_dual", ["clock_mhz=5"]), "overrides: must be a mapping"),
    "batch size: switch": (lambda: fahw.simulate(*PAIR, batch_size=True), "batch_size: must be a whole number"),
    "batch size: fraction": (lambda: fahw.simulate(*PAIR, batch_size=2.5), "batch_size: must be a whole number"),
    "rule: None": (lambda: fahw.simulate(*PAIR, rule=None), "rule: must be one of bp"),
    "rule: list": (lambda: fahw.simulate(*PAIR, rule=["bp"]), "rule: must be one of bp"),
    "transport: number": (lambda: fahw.simulate(*PAIR, rule="bp", transport=1), "transport: must be one of copy"),
    "train: seed": (lambda: fahw.train("mlp_digits", seed="x"), "seed: must be a whole number"),
    "train: epochs": (lambda: fahw.train("mlp_digits", epochs=1e9), "epochs: must be a whole number"),
    "train: data": (lambda: fahw.train("mlp_digits", data=[]), "data: must be the name of a data set"),
    "train: folder": (lambda: fahw.train("mlp_digits", data_dir=3), "data_dir: must be the path"),
    "compare: out": (lambda: fahw.compare(out=None), "out: must be the path of a folder"),
    "compare: rules": (lambda: fahw.compare(out="o", rules=5), "rules: name at least one rule"),
    "sensitivity: rules": (lambda: fahw.sensitivity(*PAIR, rules="fa"), "rules: name at least one rule"),
    "sensitivity: batch size": (lambda: fahw.sensitivity(*PAIR, batch_size=0), "batch_size: must be a whole number"),
    "compare: target": (lambda: fahw.compare(out="o", target_points="x"), "target: must be a number from 0 to 100"),
    "compare: nan": (lambda: fahw.compare(out="o", target_points=float("nan")), "target: must be a number"),
    "compare: workers": (lambda: fahw.compare(out="o", workers=0), "workers: must be a whole number"),
    "compare: seeds": (lambda: fahw.compare(out="o", seeds=True), "seeds: must be a whole number"),
    "export_vectors: out": (lambda: fahw.export_vectors(*PAIR, "bp", 1, 7), "out: must be the path of a folder"),
    "sweep: None": (lambda: fahw.sweep(None, out="o"), "sweep: must be a Sweep or the path"),
    "apply_rule: module": (lambda: fahw.apply_rule("net", "dfa"), "module: must be a torch.nn.Module"),
    "apply_rule: rule": (lambda: fahw.apply_rule(NET, None), "rule: must be one of bp"),
    "apply_rule: seed": (lambda: fahw.apply_rule(NET, "dfa", seed="x"), "seed: must be a whole number"),
    "feedback_weights": (lambda: fahw.feedback_weights(None), "module: must be a torch.nn.Module"),
    "from_torch: module": (lambda: fahw.from_torch(print, (4,)), "module: must be a torch.nn.Module"),
    "from_torch: number": (lambda: fahw.from_torch(NET, 4), "input_shape: must be the shape of one sample"),
    "from_torch: text": (lambda: fahw.from_torch(NET, ("4",)), "input_shape: must be a whole number"),
    "from_torch: zero": (lambda: fahw.from_torch(NET, (0,)), "input_shape: must be a whole number"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_argument_is_named_and_what_it_may_be(call, tmp_path, monkeypatch):
    """One style for all: `argument: must be ... (got ...)`; nothing is written."""
    monkeypatch.chdir(tmp_path)
    run, said = CALLS[call]
    with pytest.raises(fahw.ConfigError) as caught:
        run()
    assert str(caught.value).startswith(said)
    assert list(tmp_path.iterdir()) == []


# files that a killed run leaves


def dead_process():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_what_a_killed_run_left_aside_is_removed_when_the_folder_is_used_again(tmp_path):
    """In the folder and below; what lives, is another machine's or the user's, or is whole, stays."""
    (here, _), dead, alive = process_mark().rsplit(".", 1), dead_process(), os.getpid()
    left = {f".bashrc.{here}.{dead}", f".summary.csv.{here}.{alive}", "result.json", ".x.json.old"}
    left |= {f".summary.csv.another-machine.{dead}"}
    for folder in (tmp_path, tmp_path / "plots", tmp_path / "runs" / "abc"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (f".summary.csv.{here}.{dead}", *left):
            (folder / name).touch()
    (tmp_path / f".probe.{here}.{dead}").touch()
    make_folder(tmp_path)
    for folder in (tmp_path, tmp_path / "plots", tmp_path / "runs" / "abc"):
        assert {path.name for path in folder.iterdir() if path.is_file()} == left


def test_a_write_that_fails_leaves_nothing_aside(tmp_path):
    """Whatever stops it; the old file stays."""
    write_text(tmp_path / "a.json", "old")

    with pytest.raises(TypeError):
        write_bytes(tmp_path / "a.json", "not bytes")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"
    remove_abandoned(tmp_path / "nowhere")


# downloads


def test_a_refused_connection_leaves_no_folder(tmp_path):
    """Nothing came, nothing is there: neither the folder nor those above it."""
    with pytest.raises(fahw.ConfigError, match="not fetched"):
        fetch("mnist", tmp_path / "a" / "b", base_url="http://127.0.0.1:9/")
    assert list(tmp_path.iterdir()) == []
