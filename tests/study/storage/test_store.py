"""The store: nothing half-written is read, nothing finished is lost, nothing is done twice."""

import csv
import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.config.sweep import Sweep
from fahw.errors import ConfigError, Problem
from fahw.files import process_mark
from fahw.study import training
from fahw.study.costs import cost_record
from fahw.study.storage import executors
from fahw.study.storage.line_file import LineFile, read_lines
from fahw.study.storage.store import Store
from fahw.study.sweeps.sweep import sweep
from tests.support.sweeps import SLOW, tables

GRID = {"rule": ("bp", "dfa"), "chip.precision.weight": (8, 4)}
COSTS = {"rule": ("bp", "dfa", "usf"), "chip.clock_mhz": (100, 200, 300, 400)}


def spec(**changes):
    return Sweep(**({"name": "s", "grid": GRID, "epochs": 1} | changes))


@pytest.fixture
def trained(monkeypatch):
    """Names of what is trained, as it is trained."""
    found = []
    real = training.run_training

    def run(setup, *rest, **named):
        found.append((setup.rule.name, setup.seed))
        return real(setup, *rest, **named)

    monkeypatch.setattr(training, "run_training", run)
    return found


def test_a_changed_energy_retrains_nothing(tmp_path, trained):
    """The energy of one memory and the clock change every cost and no training; a seed adds its own."""
    sweep(spec(), out=tmp_path, workers=1)
    before = tables(tmp_path)
    assert len(trained) == 4
    energy = {"read_pj": 99.0, "write_pj": 99.0, "leak_mw": 1.0, "area_mm2": 1.0}
    dear = spec(set={"chip.memories.weight_sram.energy": energy, "chip.clock_mhz": 123})
    sweep(dear, out=tmp_path, workers=1)
    assert len(trained) == 4
    assert tables(tmp_path)["summary.csv"] != before["summary.csv"]
    sweep(spec(seeds=2), out=tmp_path, workers=1)
    assert sorted(trained[4:]) == [("bp", 1), ("bp", 1), ("dfa", 1), ("dfa", 1)]


def test_sweeps_share_a_store(tmp_path, trained, monkeypatch):
    """What one has done, another with the same store reads; costs too."""
    sweep(spec(), out=tmp_path / "a", store=tmp_path / "store", workers=1)
    monkeypatch.setattr(cost_record, "simulate", None)
    sweep(spec(grid=GRID | {"seed": (0,)}), out=tmp_path / "b", store=tmp_path / "store", workers=1)
    assert len(trained) == 4
    assert not (tmp_path / "a" / "runs").exists()


lines = st.lists(st.tuples(st.text("abc0", min_size=1, max_size=4), st.integers()), min_size=1, max_size=6)


@given(lines, st.data())
def test_a_line_file_cut_or_changed_anywhere_yields_only_what_was_written(tmp_path_factory, written, data):
    """Torn at any byte, or with any byte changed: whole lines come back, broken ones do not."""
    folder = tmp_path_factory.mktemp("lines")
    file = LineFile(folder)
    file.append([(key, json.dumps(value)) for key, value in written])
    file.close()
    (path,) = folder.glob("*.jsonl")
    text = path.read_bytes()
    wanted = {key for key, _ in written}
    assert list(read_lines(folder, wanted)) == written
    cut = data.draw(st.integers(0, len(text)))
    path.write_bytes(text[:cut])
    assert list(read_lines(folder, wanted)) == written[: text[:cut].count(b"\n")]
    at, new = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 255))
    path.write_bytes(text[:at] + bytes([new]) + text[at + 1 :])
    assert set(read_lines(folder, wanted)) <= set(written)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_are_read_whatever_their_ends_and_written_with_one(tmp_path, end):
    """A platform that writes text with its own line ends would make every stored result absent."""
    file = LineFile(tmp_path)
    file.append([("a", "1"), ("b", "[2]")])
    file.close()
    (path,) = tmp_path.glob("*.jsonl")
    content = path.read_bytes()
    assert (content.count(b"\n"), content.count(b"\r")) == (2, 0)
    path.write_bytes(content.replace(b"\n", end))
    assert list(read_lines(tmp_path, {"a", "b"})) == [("a", 1), ("b", [2])]


def test_new_files_of_lines_do_not_ask_a_clock_that_stands(tmp_path, monkeypatch):
    """Nor one that is set back: two stores of one process have a file each, and none is written over."""
    monkeypatch.setattr("time.time_ns", lambda: 5)
    for value in ("1", "2", "3"):
        file = LineFile(tmp_path)
        file.append([(value, value)])
        file.close()
    assert sorted(read_lines(tmp_path, {"1", "2", "3"})) == [("1", 1), ("2", 2), ("3", 3)]


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES"])
def test_lines_that_cannot_be_written_name_their_file(tmp_path, monkeypatch, error):
    """What the system says of an open file names none."""
    code = getattr(errno, error)
    monkeypatch.setattr(os, "fsync", raiser(OSError(code, os.strerror(code))))
    with pytest.raises(OSError, match=f"{os.strerror(code)}.*{tmp_path}.*jsonl"):
        LineFile(tmp_path).append([("a", "1")])


def raiser(error):
    def call(*arguments, **named):
        raise error

    return call


def test_a_training_that_its_process_cannot_store_is_not_lost(tmp_path, monkeypatch):
    """It comes back to who asked for it, who stores it or says why not; it is no failed training."""
    spec_of_one = spec(grid={"rule": ("bp",)})
    refused = ConfigError(Problem("x", "cannot write to this folder: Disk quota exceeded"))
    monkeypatch.setattr("fahw.study.training.Store", raiser(refused))
    result = sweep(spec_of_one, out=tmp_path, workers=1)
    assert not result.failed
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_whole_line_that_holds_another_thing_is_priced_again(tmp_path):
    """Its checksum is right, its value is no cost, or is nested without end."""
    value = spec(grid=COSTS, train=False)
    sweep(value, out=tmp_path, workers=1)
    before = tables(tmp_path)
    (path,) = (tmp_path / "costs").glob("*.jsonl")
    keys = re.findall(r'"key":"([^"]+)"', path.read_text(encoding="utf-8"))
    path.unlink()
    forged = LineFile(tmp_path / "costs")
    others = ["[1]", '{"ledger": 3}', '{"reason": 1}', "[" * 100_000, "NaN", "{}"]
    forged.append(list(zip(keys, others * 2, strict=False)))
    forged.close()
    sweep(value, out=tmp_path, workers=1)
    assert tables(tmp_path) == before


def test_a_torn_line_is_priced_again(tmp_path):
    """The rest of the file is used; the tables are the same."""
    value = spec(grid=COSTS, train=False)
    sweep(value, out=tmp_path, workers=1)
    before = tables(tmp_path)
    (path,) = (tmp_path / "costs").glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    sweep(value, out=tmp_path, workers=1)
    assert tables(tmp_path) == before
    fresh = [p for p in (tmp_path / "costs").glob("*.jsonl") if p != path]
    assert [len(p.read_text().splitlines()) for p in fresh] == [1]


@pytest.mark.parametrize("file", ["result.json", "manifest.json"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", None])
def test_a_damaged_training_is_set_aside_and_trained_again(tmp_path, trained, file, damage):
    """Emptied, replaced, binary, or with one digit changed: the same bits in the end, the damaged one is kept."""
    sweep(spec(grid={"rule": ("bp",)}), out=tmp_path, workers=1)
    before = tables(tmp_path)
    (path,) = tmp_path.glob(f"runs/*/{file}")
    text = path.read_bytes()
    digit = next(i for i, c in enumerate(text) if chr(c) in "12345678")
    path.write_bytes(text[:digit] + b"9" + text[digit + 1 :] if damage is None else damage)
    sweep(spec(grid={"rule": ("bp",)}), out=tmp_path, workers=1)
    assert len(trained) == 2
    assert tables(tmp_path) == before
    assert len(list(tmp_path.glob("damaged/*"))) == 1


def test_a_store_of_another_version_is_refused(tmp_path):
    """Nothing is written into it."""
    (tmp_path / "store.json").write_text('{"layout": 99}')
    with pytest.raises(fahw.ConfigError, match="a store of layout 99"):
        sweep(spec(), out=tmp_path, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_a_failed_training_is_recorded_and_tried_again(tmp_path, monkeypatch):
    """The others are done; the next run of the same sweep completes it with the same bits as an undisturbed one."""
    real = training.run_training

    def run(setup, *rest, **named):
        if setup.rule.name == "dfa":
            raise RuntimeError("out of luck")
        return real(setup, *rest, **named)

    monkeypatch.setattr(training, "run_training", run)
    result = sweep(spec(), out=tmp_path / "a", workers=1)
    reasons = [point.reason for point in result.failed]
    wanted = re.compile(r"training with seed 0 failed: RuntimeError: out of luck \(test_store\.py:[0-9]+\)")
    assert [bool(wanted.fullmatch(reason)) for reason in reasons] == [True] * 2
    rows = list(csv.DictReader((tmp_path / "a" / "summary.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["done", "done", "failed", "failed"]
    assert "out of luck" in (tmp_path / "a" / "report.html").read_text()
    monkeypatch.setattr(training, "run_training", real)
    assert not sweep(spec(), out=tmp_path / "a", workers=1).failed
    sweep(spec(), out=tmp_path / "b", workers=1)
    assert tables(tmp_path / "a") == tables(tmp_path / "b")


def test_a_fault_while_pricing_costs_its_point_only(tmp_path, monkeypatch):
    """It is not stored: the next run prices it."""
    real = cost_record.simulate

    def simulate(chip, network, rule, *rest):
        if rule == "usf":
            raise AssertionError("no such thing")
        return real(chip, network, rule, *rest)

    monkeypatch.setattr(cost_record, "simulate", simulate)
    value = spec(grid=COSTS, train=False)
    (reason,) = {point.reason for point in sweep(value, out=tmp_path, workers=1).failed}
    assert re.fullmatch(r"fahw failed: AssertionError: no such thing \(test_store\.py:[0-9]+\)", reason)
    monkeypatch.setattr(cost_record, "simulate", real)
    assert not sweep(value, out=tmp_path, workers=1).failed


def test_any_executor_gives_the_same_bits(tmp_path):
    """Threads of another pool, in whatever order they finish."""
    value = spec(grid=GRID | {"batch_size": (16, 32)})
    sweep(value, out=tmp_path / "here", workers=1)
    with ThreadPoolExecutor(3) as pool:
        sweep(value, out=tmp_path / "there", executor=pool)
    assert tables(tmp_path / "here") == tables(tmp_path / "there")


def command(path, folder, *more):
    return [sys.executable, "-m", "fahw.cli", "sweep", str(path), "--out", str(folder), *more]


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    """kill -9 of the sweep or of one of its workers, 20 times; then finished. Nothing finished is ever done again."""
    path = tmp_path / "s.yaml"
    path.write_text(SLOW)
    sweep(path, out=tmp_path / "whole", workers=1)
    moments = [0.4 + 6 * ((7 * i) % 20) / 20 for i in range(20)]
    for number, moment in enumerate(moments):
        process = subprocess.Popen(command(path, tmp_path / "killed", "--jobs", "2"), stderr=subprocess.DEVNULL)
        time.sleep(moment)
        kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob("killed/runs/[!.]*/result.json")}
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        victim = int(children[-1]) if number % 2 and children else process.pid
        os.kill(victim, signal.SIGKILL)
        if victim == process.pid:
            process.wait()
        else:
            assert process.wait() == 0
        assert all(p.stat().st_mtime_ns == at for p, at in kept.items())
    assert subprocess.run(command(path, tmp_path / "killed"), stderr=subprocess.DEVNULL).returncode == 0
    assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
    assert not list(tmp_path.glob("killed/runs/.*"))


@pytest.mark.slow
def test_two_sweeps_at_once_into_one_folder(tmp_path):
    """Both end well, with the bits of a single one."""
    path = tmp_path / "s.yaml"
    path.write_text(SLOW)
    sweep(path, out=tmp_path / "whole", workers=1)
    two = [subprocess.Popen(command(path, tmp_path / "both", "--jobs", "1")) for _ in range(2)]
    assert [process.wait() for process in two] == [0, 0]
    assert tables(tmp_path / "both") == tables(tmp_path / "whole")


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_is_finished(tmp_path):
    """On a small tmpfs: the sweep says so and ends with 1; with room again it completes with the same bits."""
    path = tmp_path / "s.yaml"
    path.write_text(SLOW)
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        first = subprocess.run(command(path, small / "out", "--jobs", "2"), capture_output=True, text=True)
        assert first.returncode == 1
        assert "No space left" in first.stderr
        assert "Traceback" not in first.stderr
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        assert subprocess.run(command(path, small / "out", "--jobs", "2")).returncode == 0
        sweep(path, out=tmp_path / "whole", workers=1)
        assert tables(small / "out") == tables(tmp_path / "whole")
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_store_is_cleared_of_what_killed_processes_left(tmp_path):
    """A folder aside of a process that is gone is removed; that of a living one, or of another machine, stays."""
    store = Store(tmp_path)
    store.add_run("k", {"a": 1}, {})
    host, _ = process_mark().rsplit(".", 1)
    names = f".x.0.{host}.999999999", f".y.0.{process_mark()}", ".z.0.another-machine.999999999"
    for name in names:
        (tmp_path / "runs" / name).mkdir()
    assert Store(tmp_path).run("k") == {"a": 1}
    assert [(tmp_path / "runs" / name).exists() for name in names] == [False, True, True]


def test_processes_started_early_train_the_same_and_may_die(tmp_path, monkeypatch):
    """A new sweep with many trainings starts its processes before it has planned; one that dies costs nothing."""
    begun = []

    @contextmanager
    def watched(workers, prepare):
        with executors.started_processes(workers, prepare) as pool:
            begun.append(pool)
            pool.submit(os._exit, 1)
            yield pool

    many = spec(seeds=3, name="many")
    sweep(many, out=tmp_path / "one", workers=1)
    monkeypatch.setattr("fahw.study.sweeps.sweep.started_processes", watched)
    result = sweep(many, out=tmp_path / "two", workers=2)
    assert len(begun) == 1
    assert not result.failed
    assert tables(tmp_path / "one") == tables(tmp_path / "two")
    sweep(spec(seeds=4, name="many"), out=tmp_path / "two", workers=2)
    assert len(begun) == 1  # the store is not new: perhaps nothing is left to train


def test_a_wrong_sweep_leaves_no_process_behind(tmp_path, monkeypatch):
    """Asked of the system: a child that another thread has waited for still says that it is alive."""
    children = set()

    @contextmanager
    def watched(workers, prepare):
        with executors.started_processes(workers, prepare) as pool:
            children.update(child.pid for child in multiprocessing.active_children())
            yield pool

    monkeypatch.setattr("fahw.study.sweeps.sweep.started_processes", watched)
    with pytest.raises(fahw.ConfigError):
        sweep(spec(seeds=3, chip="nowhere"), out=tmp_path, workers=2)
    assert len(children) >= 2
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
