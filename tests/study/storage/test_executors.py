"""Pools of processes that are left early end, whatever their workers were doing; nothing is waited for without end."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.support.strategies import ROOT

_LEFT = """
import os, signal, struct, sys, time
from pathlib import Path
from fahw.study.storage import executors

executors._MOST_ENDING_S = 3.0


def cut_off():
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    os.write(frame.f_locals["result_queue"]._writer.fileno(), struct.pack("!i", 100_000) + b"x")
    busy()


def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    busy()


def busy():
    Path("begun").touch()
    time.sleep(1000)


if __name__ == "__main__":
    with executors.started_processes(2, globals()[sys.argv[1]]):
        while not Path("begun").exists():
            time.sleep(0.01)
        raise SystemExit(3)
"""


_STOPPED = """
import os, signal, sys
from multiprocessing import resource_tracker
from fahw.cli.stops import stoppable
from fahw.study.storage import executors

made, register = [], resource_tracker.register


def registered(name, kind):
    register(name, kind)
    made.append(name)
    if len(made) == int(sys.argv[1]):
        if sys.argv[2] == "at once":
            os._exit(130)
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    resource_tracker.register = registered
    with stoppable(), executors.started_processes(2, print):
        print("made")
"""


@pytest.mark.parametrize("how", ["in good order", "at once"])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_stop_while_a_pool_is_made_leaves_nothing_to_warn_of(number, how, tmp_path):
    """Between any two of its semaphores: it waits until all are made, and no half of them is left."""
    (tmp_path / "stopped.py").write_text(_STOPPED)
    words, environment = [sys.executable, "stopped.py", str(number), how], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("work", ["busy", "deaf", "cut_off"])
def test_a_pool_that_is_left_ends_whatever_its_workers_do(work, tmp_path):
    """They work, hear of no signal to end, or are ended in the middle of saying what came of a task."""
    (tmp_path / "left.py").write_text(_LEFT)
    words, environment = [sys.executable, "left.py", work], os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True) as process:
        try:
            assert process.wait(120) == 3
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
