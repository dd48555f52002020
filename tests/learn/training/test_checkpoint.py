"""A training that is stopped and goes on ends with the same bits, and reads no file that is not its own."""

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fahw.datasets.dataset import load_dataset
from fahw.files import write_bytes
from fahw.formats.precision import FP32, Precision
from fahw.hardware.load import load_chip
from fahw.learn.kernels.device import CPU
from fahw.learn.state.delays import Delays
from fahw.learn.training.checkpoint import Checkpoint, _plain
from fahw.learn.training.train import train_model
from fahw.network.load import load_model
from fahw.study.training import make_job, run_job
from tests.support.models import built, is_flat, setup_of

DIGITS = load_dataset("digits", None, None)


class StopError(Exception):
    """A training is interrupted."""


def trained(rule, precision, path, stop_after=None, epochs=3, period=1, delay=0, model="mlp_digits"):
    def on_epoch(row):
        seen.append(row.epoch)

    seen = []
    network = load_model(model)
    keeper = path and Checkpoint(path, "this training", every_s=0)
    if stop_after:
        save = keeper.save

        def saved(state):
            save(state)
            if len(seen) == stop_after:
                raise StopError

        keeper.save = saved
    recipe = network.recipe.model_copy(update={"epochs": epochs})
    setup = setup_of(network, rule, precision, recipe=recipe, seed=5, delays=Delays(period, delay))
    model, result = train_model(setup, DIGITS, on_epoch=on_epoch, checkpoint=keeper)
    return {name: p.master.clone() for name, p in model.parameters.items()}, result, seen


@pytest.mark.parametrize("precision", [FP32, Precision()], ids=["float", "integer"])
@pytest.mark.parametrize(("rule", "period", "delay"), [("bp", 1, 0), ("bp", 7, 0), ("brsf", 1, 0), ("dfa", 1, 3)])
def test_a_training_that_goes_on_ends_with_the_same_bits(precision, rule, period, delay, tmp_path):
    """Stopped after its first and again after its second epoch: the weights and the whole record are those of one run.

    Seven steps between transports cut across epochs: the stale copy is part of what is kept, and so are
    updates that come three steps late.
    """
    masters, result, _ = trained(rule, precision, None, period=period, delay=delay)
    path = tmp_path / "run.pt"
    for stop in (1, 2):
        with pytest.raises(StopError):
            trained(rule, precision, path, stop, period=period, delay=delay)
        assert path.exists()
    again, resumed, seen = trained(rule, precision, path, period=period, delay=delay)
    assert resumed == result
    assert seen == [1, 2, 3], "the epochs before are told again, not trained again"
    assert all(torch.equal(again[name], value) for name, value in masters.items())
    assert not path.exists(), "nothing is left of a training that is done"


def test_another_trainings_file_counts_as_none(tmp_path):
    """Another identity, a flipped bit, a cut or empty file: the training starts from the beginning."""
    path = tmp_path / "run.pt"
    Checkpoint(path, "one", 0).save(lambda: ("state", 1))
    whole = path.read_bytes()
    assert Checkpoint(path, "one", 0).load() == ("state", 1)
    assert Checkpoint(path, "two", 0).load() is None
    for damaged in (whole[:-1], whole[:40], b"", whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        path.write_bytes(damaged)
        assert Checkpoint(path, "one", 0).load() is None
    path.unlink()
    assert Checkpoint(path, "one", 0).load() is None


THINGS = (os.system, subprocess.Popen, eval, getattr, torch.load, pickle.loads, Path, write_bytes)


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.__name__)
def test_a_checkpoint_names_nothing_that_could_run(thing):
    """A file made by someone else cannot call functions: they are not read, fahw's own neither."""
    buffer = io.BytesIO()
    torch.save(thing, buffer, pickle_protocol=4)
    buffer.seek(0)
    if thing is getattr:  # pickles name bound methods by it: what stands for it knows fahw's objects alone
        found = torch.load(buffer, weights_only=False, pickle_module=_plain(CPU))
        with pytest.raises(pickle.UnpicklingError):
            found("text", "join")
        return
    with pytest.raises(pickle.UnpicklingError, match="not data"):
        torch.load(buffer, weights_only=False, pickle_module=_plain(CPU))


def test_short_trainings_write_none(tmp_path):
    """Below half a minute starting again costs less than looking after a file."""
    path = tmp_path / "run.pt"
    Checkpoint(path, "one").save(lambda: pytest.fail("not asked for"))
    assert not path.exists()


def test_a_disk_that_is_full_does_not_stop_a_training(tmp_path):
    """Where a checkpoint cannot be written the training goes on without."""
    (tmp_path / "file").write_text("not a folder")
    Checkpoint(tmp_path / "file" / "run.pt", "one", 0).save(lambda: 1)


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa"])
@pytest.mark.parametrize("precision", [FP32, Precision()], ids=["float", "integer"])
@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_every_model_can_be_kept(rule, precision, name, tmp_path):
    """Convolutions, batch norms and shortcuts: what is read back is what was saved."""
    network = load_model(name)
    model = built(network, rule, precision, batch=8)
    keeper = Checkpoint(tmp_path / "run.pt", "x", 0)
    keeper.save(lambda: model)
    found = keeper.load()
    for layer, old in model.parameters.items():
        new = found.parameters[layer]
        assert torch.equal(new.master, old.master)
        assert (new.weight is new.master) == (old.weight is old.master)
    if precision is not FP32:
        assert is_flat(found), "tensors that shared memory still do"


_CHILD = """
import sys
from pathlib import Path
from fahw.learn.training import checkpoint
checkpoint.SAVE_EVERY_S = 0.0
checkpoint.Checkpoint.__init__.__defaults__ = (0.0,)
from fahw.study.training import make_job, run_job, store_result
job = make_job("mlp_digits", sys.argv[2], sys.argv[3] or None, data=None, epochs=60, seed=1, data_dir=None)
print("ready", flush=True)
store_result(Path(sys.argv[1]), run_job(job, None, Path(sys.argv[1]) / "unfinished.pt"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "chip"), [("bp", "edge_dual"), ("dfa", "edge_dual"), ("frsf", "")])
def test_killed_at_random_moments(rule, chip, tmp_path):
    """kill -9 ten times, then to the end: the same final bits as a training that nobody disturbed."""
    generator = torch.Generator().manual_seed(3)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}

    @contextmanager
    def started(folder):
        arguments = [sys.executable, "-c", _CHILD, str(folder), rule, chip]
        with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "ready\n"
            yield child

    disturbed, calm = tmp_path / "disturbed", tmp_path / "calm"
    disturbed.mkdir()
    calm.mkdir()
    with started(calm) as child:
        begun = time.monotonic()
        assert child.wait() == 0
    whole_s = time.monotonic() - begun
    kept = 0
    for _ in range(10):
        with started(disturbed) as child:
            time.sleep(float(torch.rand(1, generator=generator)) * whole_s / 3)
            child.send_signal(signal.SIGKILL)
        kept += (disturbed / "unfinished.pt").exists()
    with started(disturbed) as child:
        assert child.wait() == 0
    assert kept, "some of them went on from a checkpoint"
    assert (disturbed / "result.json").read_bytes() == (calm / "result.json").read_bytes()
    assert [path.name for path in disturbed.iterdir() if not path.name.startswith(".")] == ["result.json"]


def test_a_store_forgets_what_is_finished(tmp_path):
    """run_job with a checkpoint leaves nothing behind."""
    job = make_job("mlp_digits", "fa", load_chip("edge_dual"), data=None, epochs=1, seed=0, data_dir=None)
    path = tmp_path / "unfinished" / "x.pt"
    assert run_job(job, None, path) == run_job(job)
    assert not path.exists()
