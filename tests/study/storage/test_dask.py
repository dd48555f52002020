"""A sweep on Dask: a real scheduler and worker processes over TCP on loopback, one of them killed on the way."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fahw.errors import ConfigError
from fahw.study.storage.executors import named_executor
from fahw.study.sweeps.sweep import sweep
from tests.support.sweeps import SLOW, tables


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler, and two worker processes without a nanny that would restart them."""
    pytest.importorskip("distributed", reason="needs the extra 'dask'")
    log = tmp_path / "scheduler.log"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    with log.open("w") as out:
        arguments = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        processes = [subprocess.Popen([*dask, *arguments], stdout=out, stderr=out, cwd=tmp_path)]
    try:
        while not (found := re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text())):
            assert processes[0].poll() is None, log.read_text()
            time.sleep(0.1)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", found[0], "--no-nanny", "--nthreads", "1"]
        worker += ["--host", "127.0.0.1", "--no-dashboard", "--local-directory", str(tmp_path)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
        processes += [subprocess.Popen(worker, **quiet) for _ in range(2)]
        yield found[0], processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_sweep_on_dask_survives_a_killed_worker_with_the_same_bits(tmp_path, cluster):
    """Costs and trainings; the tables equal those of this process, byte for byte."""
    address, workers = cluster
    path = tmp_path / "s.yaml"
    path.write_text(SLOW)
    command = [sys.executable, "-m", "fahw.cli", "sweep", str(path), "--out", str(tmp_path / "there")]
    command += ["--executor", "dask", "--address", address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(Path(tmp_path).glob("there/runs/[!.]*/result.json")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    os.kill(workers[0].pid, signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    sweep(path, out=tmp_path / "here", workers=1)
    assert tables(tmp_path / "there") == tables(tmp_path / "here")


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("dusk", None, "did you mean 'dask'?"),
        ("dask", None, "where is Dask's scheduler?"),
        (None, "tcp://x:1", "is for --executor dask"),
        ("dask", "nonsense://x", "no scheduler answers"),
    ],
)
def test_wrong_executors_are_said(name, address, said):
    """Before anything runs."""
    if "answers" in said:
        pytest.importorskip("distributed", reason="needs the extra 'dask'")
    with pytest.raises(ConfigError) as caught, named_executor(name, address):
        pass
    assert said in caught.value.problems[0].message
