"""A command that is stopped says what comes next, in one line, with the exit code that shells have; nothing is lost."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from fahw.cli.stops import farewell
from tests.support.strategies import ROOT

SWEEP = """\
name: s
chip: edge_dual
model: mlp_digits
epochs: 400
grid:
  rule: [bp, dfa]
  batch_size: [8, 16]
"""
GOES_ON = "stopped; the same command goes on where it stopped\n"
COMPARE = ["compare", "edge_dual", "mlp_digits", "--rules", "bp,dfa", "--epochs", "400", "--jobs", "2", "--out", "o"]


@pytest.fixture(autouse=True)
def heeded():
    """Signals are not ignored, as they are below nohup and in the background of a script: commands would inherit it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def started(tmp_path):
    """A function that starts a command in a group of its own, in a folder with s.yaml; what still runs is killed."""
    running = []
    (tmp_path / "s.yaml").write_text(SWEEP)

    def start(*arguments):
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "fahw.cli", *arguments], cwd=tmp_path, env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process, number):
    """The exit code and stderr of a command whose whole group is told to end, as a terminal does."""
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def is_alive(group):
    """Whether the group has a process, a moment later."""
    time.sleep(0.05)
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_training_that_is_stopped_says_so(started, number, code):
    """At an epoch of its own: one line on stderr, and the code of the signal."""
    training = started("train", "mlp_digits", "--epochs", "4000", "--out", "o")
    assert training.stdout.readline().startswith("epoch   1")
    assert ended(training, number) == (code, GOES_ON)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [COMPARE, ["sweep", "s.yaml", "--jobs", "2", "--out", "o"]], ids=lambda a: a[0])
@pytest.mark.parametrize("later", [0.0, 0.3, 1.0, 3.0])
def test_a_study_is_stopped_while_its_processes_start_and_work(started, arguments, later):
    """Its processes are told too, as at a terminal: they say nothing, and none is left."""
    study = started(*arguments)
    while "trainings" not in study.stderr.readline():
        pass
    time.sleep(later)  # any moment will do
    assert ended(study, signal.SIGINT) == (130, GOES_ON)
    limit = time.monotonic() + 60
    while is_alive(study.pid):
        assert time.monotonic() < limit


def test_a_command_is_stopped_while_it_loads_a_module_that_goes_on_whatever_comes(tmp_path, started):
    """Many a library catches everything while it tries what there is."""
    text = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    pass\n"
    (tmp_path / "simpy.py").write_text(text)
    command = started("simulate", "edge_dual", "mlp_digits")
    _, err = command.communicate(timeout=120)
    assert (command.returncode, err) == (130, "stopped; nothing is half-written\n")


STOPPED_TWICE = """\
import os, signal, sys, time
from fahw.cli.stops import stoppable
sys.argv = ["fahw", "compare"]
with stoppable():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1000)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1000)
"""
UNDER_NOHUP = """\
import os, signal
from fahw.cli.stops import stoppable
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with stoppable():
    os.kill(os.getpid(), signal.SIGHUP)
"""


@pytest.mark.parametrize(("text", "outcome"), [(STOPPED_TWICE, (130, GOES_ON)), (UNDER_NOHUP, (0, ""))])
def test_a_second_signal_ends_the_command_at_once_and_an_ignored_one_stays_so(text, outcome):
    """However long it would take to clean up; and as nohup has it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == outcome


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "--out", "o"], "goes on where it stopped"),
        (["sweep", "s.yaml", "--out", "o"], "goes on where it stopped"),
        (["data", "fetch", "mnist"], "goes on where it stopped"),
        (["train", "mlp_digits", "--out=o"], "goes on where it stopped"),
        (["train", "mlp_digits"], "nothing is stored: with --out DIR"),
        (["attack", "mlp_digits", "--out", "o"], "nothing is stored"),
        (["simulate", "edge_dual", "mlp_digits"], "nothing is half-written"),
        ([], "nothing is half-written"),
    ],
    ids=str,
)
def test_only_verbs_that_store_promise_to_go_on(arguments, said):
    """In one line."""
    assert said in farewell(arguments)
    assert re.fullmatch(r"stopped; [^\n]+", farewell(arguments))
