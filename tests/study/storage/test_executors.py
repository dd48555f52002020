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
