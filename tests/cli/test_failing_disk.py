"""A disk that fails under a command, whatever it is called: one line says so, and the same command ends later."""

import errno
import os
import random
import shutil
import sys
from contextlib import contextmanager

import pytest

from fahw.cli.outcome import exit_code
from fahw.learn.training.checkpoint import Checkpoint

ERRORS = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES")
LOCKED = (errno.EROFS, errno.EACCES, errno.EIO)
"""Errors with which nothing can be removed either."""
SWEEP = "name: s\nmodel: mlp_digits\nchip: edge_dual\nepochs: 1\nseeds: 1\ngrid: {rule: [bp, dfa]}\n"
COMMANDS = {
    "train": "train mlp_digits --rule dfa --epochs 2 --out out",
    "compare": "compare --rules bp --epochs 1 --seeds 1 --jobs 1 --out out",
    "sweep": "sweep s.yaml --jobs 1 --out out",
    "report": "report out",
    "vectors": "export-vectors edge_dual mlp_digits --rule dfa --batch-size 2 --out out",
    "topology": "export-topology mlp_digits --out out/topology.csv",
    "simulate": "simulate edge_dual mlp_digits --trace out/trace.json --plots out",
    "attack": "attack mlp_digits --epochs 1 --images 20 --epsilons 0,0.1 --out out",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Disk:
    """What this process asks of the disk below a folder, to change it, is counted; from call `first` on it fails."""

    def __init__(self):
        self.folder, self.first, self.code, self.calls = "", 0, 0, 0
        sys.addaudithook(self._hear)

    @contextmanager
    def failing(self, folder, first=sys.maxsize, code=0):
        """A context in which it counts, and fails with the error of this number."""
        self.folder, self.first, self.code, self.calls = str(folder), first, code, 0
        try:
            yield self
        finally:
            self.folder = ""

    def _hear(self, event, arguments):
        if not self.folder:
            return
        removes = event in ("os.remove", "os.rmdir")
        if event in ("os.mkdir", "os.rename") or removes or (event == "open" and arguments[2] & _WRITING):
            self.asked(arguments[0], removes)

    def asked(self, path, removes=False):
        """Count a call about a path."""
        name = path if isinstance(path, int) else os.path.abspath(os.fsdecode(path))
        if isinstance(name, int) or not name.startswith(self.folder):
            return
        self.calls += 1
        if self.calls >= self.first and (self.code in LOCKED or not removes):
            raise OSError(self.code, os.strerror(self.code), str(path))


DISK = Disk()


@pytest.fixture
def command(tmp_path, monkeypatch, capsys, finished):
    """A function that runs a command in a folder, on a disk that fails from call `place` on: its exit code, and what it
    said on stderr."""
    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))
    flush = os.fsync

    def fsync(number):
        DISK.asked(os.readlink(f"/proc/self/fd/{number}")) if DISK.folder else None
        flush(number)

    monkeypatch.setattr(os, "fsync", fsync)

    def run(name, folder, place=sys.maxsize, code=0):
        if not folder.exists():
            (folder / "out").mkdir(parents=True)
            (folder / "s.yaml").write_text(SWEEP)
            if name == "report":
                shutil.copytree(finished, folder / "out", dirs_exist_ok=True)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["fahw", *COMMANDS[name].split()])
        capsys.readouterr()
        with DISK.failing(folder / "out", place, code):
            ended = exit_code()
        return ended or 0, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a comparison, without its page."""
    import fahw

    folder = tmp_path_factory.mktemp("finished") / "out"
    fahw.compare("edge_dual", "mlp_digits", out=folder, rules=["bp"], seeds=1, epochs=1, workers=1)
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "plots")
    return folder


def contents(folder):
    """The files by name but for what is named after a process."""
    paths = {path.relative_to(folder): path for path in (folder / "out").rglob("*") if path.is_file()}
    return {
        str(name): path.read_bytes()
        for name, path in paths.items()
        if "costs" not in name.parts and not any(part.startswith(".") for part in name.parts)
    }


def moments(name, calls):
    """The number of a call, of so many, with each error."""
    generator = random.Random(name)
    return [(generator.randint(1, calls), error) for error in ERRORS]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_fails_is_named_and_the_same_command_ends_later(name, command, tmp_path):
    ended, said = command(name, tmp_path / "calm")
    assert ended == 0, said
    whole = contents(tmp_path / "calm")
    for place, error in moments(name, DISK.calls):
        folder, code = tmp_path / f"{error} {place}", getattr(errno, error)
        ended, said = command(name, folder, place, code)
        check_what_is_left(name, code, ended, said, contents(folder), whole)
        assert command(name, folder)[0] == 0
        assert contents(folder) == whole


def check_what_is_left(name, code, ended, said, left, whole):
    """One line, and whole files."""
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if ended:
        assert ended in (1, 2)
        assert errors == said.splitlines()[-1:]
        assert os.strerror(code) in errors[0], errors
        assert "out" in errors[0], errors
    else:
        assert not errors
        assert left == whole, "what could not be done was of no use any more"
    tables = name == "sweep"
    known = {file: content for file, content in left.items() if file in whole and not (tables and "runs" not in file)}
    assert known == {file: whole[file] for file in known}
