"""A training that is stopped and goes on ends with the same bits, and reads no file that is not its own."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.datasets.dataset import load_dataset
from fahw.formats.precision import FP32, Precision, RoundingModes
from fahw.hardware.load import load_chip
from fahw.learn.state.delays import IN_TIME, Delays
from fahw.learn.step import forward, step
from fahw.learn.training.checkpoint import Checkpoint, remove_checkpoint
from fahw.learn.training.model_state import model_state
from fahw.learn.training.tensor_file import packed, unpacked
from fahw.learn.training.train import train_model
from fahw.network.load import load_model
from fahw.network.recipe import Tuning
from fahw.optimizers import OPTIMIZERS
from fahw.rules.catalogue import RULES
from fahw.study.training import UNFINISHED, make_job, run_job, store_result
from tests.support.models import batch_of, built, everything, is_flat, mlp, setup_of
from tests.support.trainings import RECIPE, TOY

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

        def saved(*state):
            save(*state)
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
    path = tmp_path / "run.state"
    for stop in (1, 2):
        with pytest.raises(StopError):
            trained(rule, precision, path, stop, period=period, delay=delay)
        assert path.exists()
    again, resumed, seen = trained(rule, precision, path, period=period, delay=delay)
    assert resumed == result
    assert seen == [1, 2, 3], "the epochs before are told again, not trained again"
    assert all(torch.equal(again[name], value) for name, value in masters.items())


ROUNDED = RoundingModes(activation="stochastic", error="stochastic", gradient="stochastic", update="stochastic")
SMALL = Precision.model_validate(
    dict.fromkeys(Precision.model_fields.keys() - {"scale"}, "fp8_e4m3") | {"accumulator": "fp32"}
)
ARITHMETICS = {
    "float": (FP32, RoundingModes()),
    "integer": (Precision(), ROUNDED),
    "wide integer": (Precision(weight=12, activation=12, error=12, gradient=12, optimizer=12), ROUNDED),
    "emulated": (SMALL, ROUNDED),
}
NETWORKS = {"mlp": mlp(10, 8, 7, 5), "all": everything(), "direct": everything("projection", dfa_residual="biotorch")}


def steps(model, numbers):
    """The model after steps of these numbers."""
    for number in numbers:
        pixels, labels = batch_of(model.network, 4, number)
        step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, number)
    return model


def same(a, b):
    """Whether two models have the same state, to the bit."""
    (plain, tensors), (others, other_tensors) = model_state(a), model_state(b)
    equal = (np.array_equal(x.numpy(), other_tensors[name].numpy(), equal_nan=True) for name, x in tensors.items())
    return plain == others and tensors.keys() == other_tensors.keys() and all(equal)


def states_agree(path, network, rule, precision, rounding, optimizer, delays):
    """Whether a model that was saved after some steps and read into a new one goes on to the same state."""
    tuning = Tuning(optimizer=optimizer, momentum=0.0 if optimizer == "sgd" else 0.9)
    make = partial(built, network, rule, precision, rounding, tuning=tuning, batch=4, delays=delays)
    halfway, again = steps(make(), range(5)), make()
    keeper = Checkpoint(path, "a test", every_s=0)
    keeper.save(halfway, [], 1)
    assert keeper.load(again, 1) == []
    assert path.exists()
    read = same(again, halfway)
    return read and same(steps(again, range(5, 9)), steps(halfway, range(5, 9)))


LATE = Delays(3, 2)
CASES = [
    (network, rule, arithmetic, optimizer, delays)
    for network, rule, arithmetic, optimizer, delays in product(
        NETWORKS, RULES, ARITHMETICS, OPTIMIZERS, (IN_TIME, LATE)
    )
    if arithmetic == "float" or not (RULES[rule].learned or (RULES[rule].pruned and arithmetic == "emulated"))
]
FEW = [case for number, case in enumerate(CASES) if number % 41 == 0]


def check_case(case, folder, caplog):
    network, rule, arithmetic, optimizer, delays = case
    precision, rounding = ARITHMETICS[arithmetic]
    assert states_agree(folder / "x.state", NETWORKS[network], rule, precision, rounding, optimizer, delays)
    assert not caplog.records, "the file was taken"


@pytest.mark.parametrize("case", FEW, ids=str)
def test_a_model_that_is_read_goes_on_to_the_same_state(case, tmp_path, caplog):
    """All that a step changes: weights, optimizers, batch norms, random bits, stale copies, updates that wait."""
    check_case(case, tmp_path, caplog)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_model_that_is_read_goes_on_to_the_same_state(case, tmp_path, caplog):
    check_case(case, tmp_path, caplog)


def checkpoint_of(path, rule="fa", precision=None, delays=IN_TIME, epochs=3, network=None):
    """A file of a training that was stopped after its first epoch, and the setup of the training."""
    recipe = RECIPE.model_copy(update={"epochs": epochs})
    setup = setup_of(network or mlp(16, 12, 8, 4), rule, precision, recipe=recipe, seed=1, delays=delays)
    keeper = Checkpoint(path, "t", 0)
    save = keeper.save

    def saved(*state):
        save(*state)
        raise StopError

    keeper.save = saved
    with pytest.raises(StopError):
        train_model(setup, TOY, checkpoint=keeper)
    return setup


def goes_on(setup, path):
    """How many epochs a training finds in the file; it runs to its end."""
    found = []
    keeper = Checkpoint(path, "t", 1e9)
    load = keeper.load

    def counted(*arguments):
        found.extend(rows := load(*arguments))
        return rows

    keeper.load = counted
    train_model(setup, TOY, checkpoint=keeper)
    return len(found)


@pytest.mark.parametrize("damage", [
    lambda whole: whole[:-1], lambda whole: whole[:40], lambda whole: b"", lambda whole: whole + b"\0",
    lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
    lambda whole: whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
    lambda whole: b"\xff" * 8 + whole[8:], lambda whole: pickle.dumps(os.system),
])  # fmt: skip
def test_a_damaged_file_counts_as_none_and_a_line_says_so(damage, tmp_path, caplog):
    path = tmp_path / "run.state"
    setup = checkpoint_of(path)
    path.write_bytes(damage(path.read_bytes()))
    assert goes_on(setup, path) == 0
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: ")
    assert record.getMessage().endswith("; the training starts anew")


def test_another_trainings_file_counts_as_none(tmp_path, caplog):
    path = tmp_path / "run.state"
    setup = checkpoint_of(path)
    assert goes_on(setup, path) == 1
    checkpoint_of(path)
    model = built(setup.network, "fa", batch=16)
    assert Checkpoint(path, "another", 0).load(model, 3) == []
    assert "of another training, or of another version" in caplog.text


def test_what_is_no_file_of_a_checkpoint_is_not_waited_for(tmp_path):
    """A pipe, a folder, a link to nowhere, an endless device, a file of a terabyte that takes no room on disk."""
    setup = checkpoint_of(tmp_path / "good.state")
    os.mkfifo(tmp_path / "pipe.state")
    (tmp_path / "folder.state").mkdir()
    (tmp_path / "nowhere.state").symlink_to(tmp_path / "missing")
    (tmp_path / "zeros.state").symlink_to("/dev/zero")
    with (tmp_path / "sparse.state").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "folder", "nowhere", "zeros", "sparse"):
        assert goes_on(setup, tmp_path / f"{name}.state") == 0


def test_a_file_of_an_older_version_is_named_not_opened_and_at_last_removed(tmp_path, caplog):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "pwned",)

    setup = checkpoint_of(tmp_path / "good.state")
    content = pickle.dumps(Evil())
    (tmp_path / "run.pt").write_bytes(sha256(content).digest() + content)
    assert goes_on(setup, tmp_path / "run.state") == 0
    assert "run.state: a checkpoint of an older version" in caplog.text
    remove_checkpoint(tmp_path / "run.state")
    assert [path.name for path in tmp_path.iterdir()] == ["good.state"]


def test_the_file_has_the_layout_of_safetensors():
    """As its page describes it: the header's length, the header, and the tensors' bytes, lowest first."""
    content = packed({"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([-1], dtype=torch.int8)}, {"k": "v"}, 1000)
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    assert header.pop("__metadata__").keys() == {"k", "sha256"}
    assert header == {
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "I8", "shape": [1], "data_offsets": [8, 9]},
    }
    assert data == bytes.fromhex("0000803f00000040ff")


# with the right checksum over something else

TENSORS = {"right": torch.arange(6, dtype=torch.float32).view(2, 3)}


def remade(content, change):
    """A file with a header that `change` has changed, or put another in its place, and the right checksum."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    header["__metadata__"].pop("sha256")
    header = change(header) or header
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["sha256"] = sha256(json.dumps(header).encode() + data).hexdigest()
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


def put(*path, to):
    def change(header):
        for name in path[:-1]:
            header = header[name]
        header[path[-1]] = to

    return change


HEADERS = {
    "a list": lambda header: [1, 2],
    "nested deep": lambda header: b"[" * 100_000,
    "no text": lambda header: b"\xff\xfe",
    "texts are numbers": put("__metadata__", to={"identity": 1}),
    "no texts": lambda header: {"right": header["right"]},
    "an entry is a number": put("right", to=3),
    "no shape": put("right", to={"dtype": "F32"}),
    "a type that is none": put("right", "dtype", to="PICKLE"),
    "a type that is a list": put("right", "dtype", to=["F32"]),
    "another type": put("right", "dtype", to="F64"),
    "true is no size": put("right", "shape", to=[True, 6]),
    "a negative size": put("right", "shape", to=[-2, -3]),
    "a huge size": put("right", "shape", to=[1 << 62, 1 << 62]),
    "a huge size beside none": put("right", "shape", to=[0, 1 << 62]),
    "a size of 4000 digits": put("right", "shape", to=[int("9" * 4000)]),
    "a hundred axes": put("right", "shape", to=[1] * 100),
    "a place elsewhere": put("right", "data_offsets", to=[8, 32]),
    "a place beyond": put("right", "data_offsets", to=[0, 1 << 60]),
    "two at one place": lambda header: header | {"again": header["right"]},
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_of_another_form_is_a_value_error(case):
    content = packed(TENSORS, {"identity": "x"}, 1 << 20)
    with pytest.raises(ValueError, match=r"^(?!.*Traceback)"):
        unpacked(bytearray(remade(content, HEADERS[case])), 1 << 20)


def rewritten(path, change):
    """Let `change` change the plain values and tensors of a file, which keeps a right checksum."""
    tensors, texts = unpacked(bytearray(path.read_bytes()), 1 << 30)
    plain = json.loads(texts["plain"])
    changed = change(plain, tensors)
    plain = plain if changed is None else changed
    texts["plain"] = plain if isinstance(plain, str) else json.dumps(plain)
    path.write_bytes(packed(tensors, texts, 1 << 30))


def set_tensor(name, make):
    return lambda plain, tensors: tensors.update({name: make(tensors[name])})


def set_plain(*path, to):
    return lambda plain, tensors: put(*path, to=to)(plain)


WEIGHT, HISTORY, WAITING = "parameters.linear0.master", "random.0", "waiting.0.linear0.weight"
STATES = {
    "no JSON": lambda plain, tensors: "{",
    "nested deep": lambda plain, tensors: "[" * 100_000,
    "another form": lambda plain, tensors: [],
    "a row is a number": set_plain(1, 0, to=1),
    "NaN as text": lambda plain, tensors: json.dumps(plain).replace('"train_loss": ', '"train_loss": NaN, "x": '),
    "an epoch that is none": set_plain(1, 0, "epoch", to=2),
    "an accuracy above 100": set_plain(1, 0, "test_accuracy_pct", to=100.5),
    "an unknown layer": set_plain(1, 0, "angles", to={"x": 1.0}),
    "no activity": set_plain(1, 0, "activity", "layers", to={}),
    "a share as text": set_plain(1, 0, "activity", "steps", to="4"),
    "too many epochs": lambda plain, tensors: [plain[0], [plain[1][0] | {"epoch": n} for n in range(1, 5)]],
    "no generators": set_plain(0, "unused", to=[]),
    "more unused bytes than there are": set_plain(0, "unused", to=[1 << 62]),
    "less than none unused": set_plain(0, "unused", to=[-1]),
    "unknown transports": set_plain(0, "transported", to={"x": 1}),
    "transports without words": set_plain(0, "transported", to={"linear0": 1}),
    "updates of no layer": set_plain(0, "waiting", 0, "layers", to=[]),
    "updates of an unknown layer": set_plain(0, "waiting", 0, "layers", to=["linear0", "linear2", "linear4", "x"]),
    "too many updates": lambda plain, tensors: plain[0]["waiting"].extend(plain[0]["waiting"] * 1000),
    "a rate that is no number": set_plain(0, "waiting", 0, "rate", to="fast"),
    "a tensor is missing": lambda plain, tensors: tensors.__delitem__(WEIGHT),
    "a tensor too many": lambda plain, tensors: tensors.update(extra=torch.ones(3)),
    "another shape": set_tensor(WEIGHT, lambda x: x.t()),
    "no element": set_tensor(WEIGHT, lambda x: x[:0]),
    "another type": set_tensor(WEIGHT, lambda x: x.double()),
    "NaN": set_tensor(WEIGHT, lambda x: x * float("nan")),
    "infinite": set_tensor(WEIGHT, lambda x: x / 0),
    "no word": set_tensor(WEIGHT, lambda x: x * 1e30),
    "a short generator": set_tensor(HISTORY, lambda x: x[:-1]),
    "a generator of floats": set_tensor(HISTORY, lambda x: x.float()),
    "a gradient of another shape": set_tensor(WAITING, lambda x: x.flatten()),
    "a gradient of bytes": set_tensor(WAITING, lambda x: torch.zeros_like(x, dtype=torch.int8)),
    "a gradient of NaN": set_tensor(WAITING, lambda x: x * float("nan")),
}


@pytest.mark.parametrize("case", STATES)
def test_a_right_checksum_over_something_else_is_not_taken(case, tmp_path, caplog):
    """The training starts anew, and ends as one without the file."""
    path = tmp_path / "run.state"
    setup = checkpoint_of(path, "dfa", Precision(activation=12), Delays(1, 2))
    assert goes_on(setup, path) == 1
    checkpoint_of(path, "dfa", Precision(activation=12), Delays(1, 2))
    rewritten(path, STATES[case])
    assert goes_on(setup, path) == 0
    assert len(caplog.records) == 1


def test_negative_variances_are_not_taken(tmp_path):
    """Their root is no number, which no table has an entry for."""
    network = everything()
    model = built(network, "bp", Precision(activation=12), batch=4)
    keeper = Checkpoint(tmp_path / "run.state", "t", 0)
    keeper.save(model, [], 2)
    rewritten(tmp_path / "run.state", set_tensor("parameters.bn2.statistics", lambda x: x - 3))
    before = model_state(model)
    assert keeper.load(model, 2) == []
    assert before[0] == model_state(model)[0]
    assert torch.equal(model.parameters["bn2"].statistics[1], torch.ones(6, dtype=torch.float64))


@settings(max_examples=25)
@given(st.data())
def test_numbers_of_other_sizes_never_stop_a_training(tmp_path_factory, data):
    """Whatever finite numbers a file holds, a training goes on from them or starts anew."""
    path = tmp_path_factory.mktemp("state") / "run.state"
    arithmetic = data.draw(st.sampled_from(sorted(ARITHMETICS)))
    precision, rounding = ARITHMETICS[arithmetic]
    network = NETWORKS[data.draw(st.sampled_from(sorted(NETWORKS)))]
    delays = Delays(1, data.draw(st.integers(0, 1)))
    make = partial(built, network, "dfa", precision, rounding, batch=4, delays=delays)
    keeper = Checkpoint(path, "t", 0)
    keeper.save(steps(make(), range(2)), [], 2)
    tensors, texts = unpacked(bytearray(path.read_bytes()), 1 << 30)
    for name in data.draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=4)):
        factor = data.draw(st.sampled_from([0.0, -1.0, 0.3, 1e3, 1e15, -1e15, 1e38, 1e300, float("nan")]))
        tensors[name] = (tensors[name].double() * factor + data.draw(st.sampled_from([0, 0.5, 1e9]))).to(
            tensors[name].dtype
        )
    path.write_bytes(packed(tensors, texts, 1 << 30))
    model = make()
    keeper.load(model, 2)
    steps(model, range(2, 4))
    pixels, _ = batch_of(network, 4)
    forward(network, model.arithmetic.evaluator(0), model.parameters, model.arithmetic.encode(pixels, 255))


def test_a_file_that_would_be_too_large_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="more than 100"):
        packed(TENSORS, {"plain": "x" * 200}, 100)


def test_short_trainings_write_none(tmp_path):
    """Below half a minute starting again costs less than looking after a file."""
    path = tmp_path / "run.state"
    Checkpoint(path, "one").save(pytest.fail, [], 1)
    assert not path.exists()


def test_a_disk_that_is_full_does_not_stop_a_training(tmp_path):
    """Where a checkpoint cannot be written the training goes on without."""
    (tmp_path / "file").write_text("not a folder")
    Checkpoint(tmp_path / "file" / "run.state", "one", 0).save(built(mlp(4, 3), "bp"), [], 1)


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa"])
@pytest.mark.parametrize("precision", [FP32, Precision()], ids=["float", "integer"])
@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_every_model_can_be_kept(rule, precision, name, tmp_path):
    """Convolutions, batch norms and shortcuts: what is read back is what was saved."""
    network = load_model(name)
    model = built(network, rule, precision, batch=8)
    keeper = Checkpoint(tmp_path / "run.state", "x", 0)
    keeper.save(model, [], 1)
    found = built(network, rule, precision, batch=8, seed=1)
    assert not same(found, model)
    keeper.load(found, 1)
    assert same(found, model)
    for layer, old in model.parameters.items():
        new = found.parameters[layer]
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
store_result(Path(sys.argv[1]), run_job(job, None, Path(sys.argv[1]) / "unfinished.state"))
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
        kept += (disturbed / "unfinished.state").exists()
    with started(disturbed) as child:
        assert child.wait() == 0
    assert kept, "some of them went on from a checkpoint"
    assert (disturbed / "result.json").read_bytes() == (calm / "result.json").read_bytes()
    assert [path.name for path in disturbed.iterdir() if not path.name.startswith(".")] == ["result.json"]


def test_a_checkpoint_stays_until_the_result_is_stored(tmp_path, monkeypatch):
    """Who cannot store it, as the disk is full, goes on from there; afterwards nothing is left behind."""
    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))
    job = make_job("mlp_digits", "fa", load_chip("edge_dual"), data=None, epochs=2, seed=0, data_dir=None)
    result = run_job(job, None, tmp_path / UNFINISHED)
    assert [path.name for path in tmp_path.iterdir()] == [UNFINISHED]
    assert run_job(job, None, tmp_path / UNFINISHED) == result
    store_result(tmp_path, result)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
