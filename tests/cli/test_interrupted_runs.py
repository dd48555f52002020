"""Commands that are killed, run out of disk, meet each other or a folder that cannot be written: nothing is lost."""

import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.strategies import ROOT

MAIN = "from fahw.cli.main import main; main()"
OFTEN = f"from fahw.learn.training import checkpoint; checkpoint.Checkpoint.__init__.__defaults__ = (0.0,); {MAIN}"
"""The command with a checkpoint after every epoch, which short trainings else do without."""
CLOCK = "import time; time.time = lambda: {0}; time.time_ns = lambda: int({0} * 1e9); "
"""Lets a command have a clock that stands still at any moment: no clock that is set back or on does more harm."""
COMMANDS = {
    "train": ("train", "mlp_digits", "--rule", "dfa", "--chip", "edge_dual", "--epochs", "8"),
    "compare": ("compare", "--rules", "bp,dfa", "--epochs", "3", "--seeds", "2", "--jobs", "1"),
    "compare in processes": ("compare", "--rules", "bp,dfa", "--epochs", "3", "--seeds", "2", "--jobs", "2"),
    "sweep": ("sweep", "small.yaml", "--jobs", "1"),
}
SWEEP = """
name: small
model: mlp_digits
chip: edge_dual
epochs: 2
seeds: 1
grid:
  rule: [bp, usf, dfa]
  chip.links.transport_link.length_mm: [1, 8]
"""
KILLS, MANY = 3, 20


def start(command, folder, code=MAIN, **given):
    """The command, writing to `out` in the folder."""
    (folder / "small.yaml").write_text(SWEEP)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | given.pop("environment", {})
    words = [*given.pop("before", ()), sys.executable, "-c", code, *COMMANDS[command], "--out", "out"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | given
    return subprocess.Popen(words, cwd=folder, text=True, env=environment, **streams)


def finish(command, folder, code=MAIN, **given):
    """The exit code and what the command said."""
    with start(command, folder, code, **given) as child:
        said, _ = child.communicate(timeout=300)
    return child.returncode, said


def results(folder):
    """The content of every result file by name. Costs in a store are lines in files that are named after processes."""
    files = {path.relative_to(folder / "out"): path for path in (folder / "out").rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in files.items() if name.parts[0] != "costs"}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The result files of each command that nobody disturbs."""
    found = {}

    def of(command):
        if command not in found:
            folder = tmp_path_factory.mktemp("calm")
            assert finish(command, folder)[0] == 0
            found[command] = results(folder)
        return found[command]

    return of


def set_clock(folder, generator):
    """Let the files be of any age, as if the clock had been set back or on between two runs."""
    for path in folder.rglob("*"):
        moment = generator.uniform(0, 4e9)
        os.utime(path, (moment, moment), follow_symlinks=False)


def check_kills(command, folder, kills, wanted):
    """Kill the command after some lines or files, again and again; then let it end."""
    generator = random.Random(command)
    for _ in range(kills):
        most = generator.randrange(12)
        with start(command, folder, CLOCK.format(generator.choice((0, 1.7e9, 4e9))) + OFTEN) as child:
            for number, _ in enumerate(child.stdout):
                if number >= most:
                    break
            child.kill()
        set_clock(folder / "out", generator) if (folder / "out").exists() else None
    assert finish(command, folder, CLOCK.format(5) + OFTEN)[0] == 0
    assert results(folder) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_killed_ends_with_the_same_bits(command, tmp_path, calm):
    check_kills(command, tmp_path, KILLS, calm(command))


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_killed_twenty_times_ends_with_the_same_bits(command, tmp_path, calm):
    check_kills(command, tmp_path, MANY, calm(command))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
def test_two_runs_in_one_folder_both_end_with_the_same_bits(command, tmp_path, calm):
    with start(command, tmp_path) as one, start(command, tmp_path) as other:
        said = one.communicate(timeout=300)[0], other.communicate(timeout=300)[0]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert results(tmp_path) == calm(command)


def limited(size):
    """Files of more than `size` bytes cannot be written, as on a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 300, 3000, 12000])
@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
def test_on_a_full_disk_one_line_says_so_and_the_same_command_ends_later(command, size, tmp_path, calm):
    code, said = finish(command, tmp_path, preexec_fn=limited(size), environment={"FAHW_COMPILED": "0"})
    assert "Traceback" not in said
    if code:
        assert [line for line in said.splitlines() if "rror" in line] == [said.splitlines()[-1]]
        assert said.splitlines()[-1].startswith("error: ")
        whole, known = calm(command), results(tmp_path)
        if command == "sweep":  # its tables are written while it runs, and are those of what is trained by then
            known = {name: content for name, content in known.items() if name.startswith("runs")}
        assert all(whole[name] == content for name, content in known.items() if name in whole)
    assert finish(command, tmp_path)[0] == 0
    assert results(tmp_path) == calm(command)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
def test_a_standard_output_that_is_full_loses_no_result(command, tmp_path, calm):
    with Path("/dev/full").open("w") as full:
        code, said = finish(command, tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert code != 0
    assert "Traceback" not in (said or "")
    assert finish(command, tmp_path)[0] == 0
    assert results(tmp_path) == calm(command)


WITHOUT_RIGHTS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Runs a command as a root to whom permissions apply."""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="gives a folder to somebody else")
@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
def test_a_folder_that_cannot_be_written_is_named_before_anything_is_trained(command, tmp_path):
    """One of somebody else's; neither a home nor a cache folder is missed."""
    (tmp_path / "out").mkdir(mode=0o755)
    os.chown(tmp_path / "out", 65534, 65534)
    environment = {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent/cache", "FAHW_COMPILED": "0"}
    code, said = finish(command, tmp_path, before=WITHOUT_RIGHTS, environment=environment)
    assert code == 2, said
    assert said.splitlines()[-1] == "error: out: cannot write to this folder: Permission denied"
    assert "Traceback" not in said
    assert list((tmp_path / "out").iterdir()) == []
    shutil.rmtree(tmp_path / "out")
    assert finish(command, tmp_path, environment=environment)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
@pytest.mark.parametrize("kind", ["file", "dangling", "below a file", "folder for a file", "file for a folder"])
def test_an_output_that_cannot_be_is_named_before_anything_is_trained(command, kind, tmp_path):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "dangling":
        out.symlink_to(tmp_path / "nowhere" / "x")
    elif kind == "below a file":
        (tmp_path / "x").write_text("mine")
        out.symlink_to(tmp_path / "x" / "y")
    elif kind == "folder for a file":
        (out / {"train": "result.json"}.get(command, "report.html")).mkdir(parents=True)
    else:
        (out / "runs").parent.mkdir()
        (out / "runs").write_text("mine")
    code, said = finish(command, tmp_path)
    assert code == 2, said
    assert len(said.splitlines()) == 1
    assert said.startswith("error: out")
