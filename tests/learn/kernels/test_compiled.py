"""Compiled loops compute what torch's passes do; where there are none, nothing changes but the time."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.formats.fixed_point import Format, requantise_
from fahw.formats.precision import Precision, RoundingModes
from fahw.formats.rounding import Noise
from fahw.learn.arithmetic.softmax import relu_error, softmax_error
from fahw.learn.error_path.signals import pruned_words
from fahw.learn.kernels import compiled
from fahw.learn.step import gradients, step
from fahw.prng import Lfsr
from fahw.rules.catalogue import RULES
from tests.support.models import batch_of, convolutional, integer_model, mlp
from tests.support.strategies import ROOT

needs_numba = pytest.mark.skipif(compiled.loops() is None, reason="numba is not installed")
MODES = ("nearest", "stochastic")


def both(monkeypatch, run):
    """What `run` yields with compiled loops, and without."""
    found = []
    for setting in ("1", "0"):
        monkeypatch.setenv("FAHW_COMPILED", setting)
        found.append(run())
    return found


def trained(network, rule, rounding, steps=4, batch=6):
    model, _ = integer_model(network, RULES[rule], precision=Precision(), rounding=rounding, batch=batch)
    losses = []
    for number in range(steps):
        pixels, labels = batch_of(network, batch, number)
        losses.append(step(model, model.arithmetic.encode(pixels, 255), labels, 0.3, number))
    return losses, {name: (p.weight, p.master, *p.states, p.bias) for name, p in model.parameters.items()}


@needs_numba
@pytest.mark.parametrize("update", MODES)
@pytest.mark.parametrize("error", [*MODES, "floor"])
@pytest.mark.parametrize("rule", ["bp", "dfa", "brsf", "egrad"])
def test_training_is_the_same_with_and_without_compiled_loops(rule, error, update, monkeypatch):
    for network in (mlp(20, 12, 9, 5), convolutional()):
        rounding = RoundingModes(error=error, update=update)
        (losses, fast), (slow_losses, slow) = both(monkeypatch, lambda n=network, r=rounding: trained(n, rule, r))
        assert losses == slow_losses
        for name, stored in fast.items():
            assert all(torch.equal(x, y) for x, y in zip(stored, slow[name], strict=True)), name


@needs_numba
@settings(max_examples=60)
@given(
    seed=st.integers(0, 99), shift=st.integers(-2, 20), bits=st.integers(2, 8), mode=st.sampled_from(MODES),
    size=st.sampled_from((1 << 8, 1 << 15, 1 << 23)), real=st.sampled_from((torch.float32, torch.float64)),
)  # fmt: skip
def test_words_are_rounded_as_by_passes(seed, shift, bits, mode, size, real):
    """Ties, both ends, sums up to what the float type holds."""
    size = size if real == torch.float64 else min(size, 1 << (15 if shift > 0 else 23))
    generator = np.random.default_rng(seed)
    acc = torch.from_numpy(generator.integers(-size, size, (5, 7), dtype=np.int32))
    bias = torch.from_numpy(generator.integers(-size, size, 5).astype(np.float64))
    wide, noise = acc.double().add_(bias[:, None]), torch.from_numpy(Lfsr(seed).take(35).copy())

    words = compiled.requantised(acc, bias, shift, bits, mode, real, Lfsr(seed))

    assert torch.equal(words.double(), requantise_(wide, shift, bits, mode, noise if mode == "stochastic" else None))


@needs_numba
@settings(max_examples=60)
@given(seed=st.integers(0, 999), spread=st.sampled_from((0, 1, 3, 20, 128)), bits=st.integers(2, 8))
def test_pruning_by_loops_is_that_by_passes(seed, spread, bits):
    generator = np.random.default_rng(seed)
    limit = min(spread, 1 << (bits - 1))
    error = torch.from_numpy(generator.integers(-limit, max(1, limit), (6, 9), dtype=np.int8))
    random = torch.from_numpy(generator.integers(0, 256, 54, dtype=np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        fast, slow = both(patch, lambda: pruned_words(error.clone(), RULES["egrad"], random, Format(bits, 0)))

    assert torch.equal(fast, slow)


def test_output_errors_of_a_sample_add_up_to_zero_on_average_only_where_rounded_stochastically():
    """To the nearest, the small probabilities of a confident sample vanish, and the true class's shortfall stays."""
    logits = torch.full((10, 4000), -18, dtype=torch.int8)
    logits[3] = 18  # 4.5 nats below in eight bits of three fraction bits: each other class has a chance of 1.1 percent
    labels = torch.full((4000,), 3)
    form = Format(8, 5)
    noise = Noise(torch.from_numpy(Lfsr(1).take(logits.numel()).copy()).view(logits.shape), 8)

    nearest, _ = softmax_error(logits, labels, 8, 3, form)
    stochastic, _ = softmax_error(logits, labels, 8, 3, form, "stochastic", noise)

    exact = np.exp(-4.5) / (1 + 9 * np.exp(-4.5))
    assert nearest.sum(0).abs().min() > 0
    assert stochastic.double().sum(0).mean().abs() < 0.05
    assert stochastic[:3].double().mean().item() / 32 == pytest.approx(exact, rel=0.05)


def test_without_numba_the_package_trains():
    """A process in which numba cannot be imported."""
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from fahw.learn.kernels import compiled\n"
        "assert compiled.loops() is None\n"
        "from fahw.learn.kernels.generator import lfsr_codes; import numpy as np\n"
        "print(lfsr_codes(np.array([1], np.uint32), 4, 8).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(by_hand())), done.stderr


def by_hand():
    x = 1
    x = (x ^ (x << 13)) & 0xFFFFFFFF
    x ^= x >> 17
    x = (x ^ (x << 5)) & 0xFFFFFFFF
    return [[x >> 8 * byte & 255 for byte in range(4)]]


def test_gradients_asked_for_twice_are_two():
    """A step may use its memory again; what was asked for stays."""
    network = mlp(20, 12, 9, 5)
    model, _ = integer_model(network, RULES["bp"], precision=Precision(), rounding=RoundingModes(), batch=6)
    found = []
    for number in range(2):
        pixels, labels = batch_of(network, 6, number)
        found.append(gradients(model, model.arithmetic.encode(pixels, 255), labels)["linear0"].weight)
    assert not torch.equal(*found)


def test_evaluation_takes_no_bytes_of_an_output_error_rounded_on_its_own():
    """Errors to the nearest, the output's stochastically: what looks at a training rounds with other bytes."""
    network, rounding = mlp(20, 12, 9, 5), RoundingModes(error="nearest", output_error="stochastic", update="nearest")
    model, _ = integer_model(network, RULES["bp"], precision=Precision(), rounding=rounding, batch=6)
    labels = batch_of(network, 6, 0)[1]
    before = model.arithmetic._random.state()[1]

    other = model.arithmetic.evaluator(3)
    other.loss(torch.zeros(5, 6, dtype=torch.int8), labels)

    assert model.arithmetic._random.state()[1] == before


@needs_numba
@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 99))
def test_errors_below_a_relu_are_the_same_with_and_without_compiled_loops(bits, count, seed):
    draw = np.random.default_rng(seed)
    output = torch.from_numpy(draw.integers(0, max(2, 1 << bits - 1), count, dtype=np.int8))
    error = torch.from_numpy(draw.integers(-128, 128, count, dtype=np.int8))
    with pytest.MonkeyPatch.context() as patch:
        fast, slow = both(patch, lambda: relu_error(output, error.clone(), bits))
    assert torch.equal(fast, slow)


_WITHOUT_ROOM = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
from fahw.study.training import train
print(train("mlp_digits", "dfa", "edge_dual", epochs=1).test_accuracy_pct)
"""


@needs_numba
@pytest.mark.slow
def test_a_full_disk_where_compiled_code_is_kept_stops_no_training(tmp_path):
    """Nor does a file of it that is empty, as after a power cut: the loops are compiled again."""

    def trained_with(code):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-B", "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    full = trained_with(_WITHOUT_ROOM)
    kept = trained_with("\n".join(_WITHOUT_ROOM.splitlines()[3:]))
    for path in tmp_path.rglob("*.nbi"):
        path.write_bytes(b"")
    assert full == kept == trained_with("\n".join(_WITHOUT_ROOM.splitlines()[3:]))
