"""Training on another device: the same bits in integers, and no tensor of a step on the wrong side.

Most of it runs on a device that every machine has (`far_device`); what needs CUDA is skipped where there is none.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import fahw
from fahw.config.sweep import Sweep
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.formats.precision import FP32, Precision, RoundingModes
from fahw.hardware.load import load_chip
from fahw.learn.kernels import device as devices
from fahw.learn.kernels.device import CPU, device_of, torch_settings
from fahw.learn.kernels.matmul import exact_matmul, is_exact
from fahw.learn.samples.batches import Probe
from fahw.learn.step import step
from fahw.learn.training.checkpoint import Checkpoint
from fahw.learn.training.train import train_model
from fahw.learn.watch.attack import robustness
from fahw.network.load import load_model
from fahw.network.recipe import Tuning
from fahw.rules.catalogue import RULES
from fahw.study import attack as attacks
from fahw.study import training
from fahw.study.training import make_job
from tests.support.far_device import DEVICE, far, near
from tests.support.models import batch_of, built, convolutional, everything, mlp, setup_of, states

BATCH = 5
EMULATED = Precision(
    weight="fp8_e4m3", feedback=4, activation="fp8_e5m2", error="fp8_e5m2", gradient="fp16", master="fp16",
    optimizer="fp16", accumulator="fp32",
)  # fmt: skip
NETWORKS = {
    "mlp": mlp(20, 12, 9, 5),
    "conv": convolutional(),
    "average": convolutional(pool="avgpool2d"),
    "everything": everything(),
    "tiled": everything("projection", dfa_feedback="tiled", dfa_residual="biotorch"),
}
INTEGER_RULES = [name for name, rule in RULES.items() if not rule.learned]
FLOATS = [*((rule, FP32) for rule in RULES), ("bp", EMULATED), ("dfa", EMULATED)]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
CUDA = torch.device("cuda", 0)


def trained(device, network, rule, precision=None, tuning=None, rounding=None, steps=3, norm_samples=None):
    """The losses of some steps, and every stored number afterwards, in host memory."""
    given = {"tuning": tuning or Tuning(), "batch": BATCH, "seed": 3, "norm_samples": norm_samples}
    model = built(network, rule, precision, rounding, device=device, **given)
    losses = []
    for number in range(steps):
        pixels, labels = batch_of(network, BATCH, number)
        x = model.arithmetic.encode(pixels, 255).to(device)
        losses.append(step(model, x, labels.to(device), 0.05, number))
    found = states(model)
    assert {x.device for x in found.values()} == {device}, "what is stored stays on the device"
    return losses, {name: near(x).cpu() for name, x in found.items()}


def swept(rules):
    """A sweep over rules on digits."""
    return Sweep.model_validate({"name": "rules", "epochs": 1, "grid": {"rule": tuple(rules)}})


def same(found, wanted):
    return found[0] == wanted[0] and all(torch.equal(found[1][name], x) for name, x in wanted[1].items())


def test_the_far_device_refuses_what_cuda_refuses():
    """Else nothing here could fail."""
    with far() as device:
        x, words = torch.ones(8, 8, device=device), torch.ones(8, 8, dtype=torch.int8, device=device)
        for wrong in (
            lambda: x + torch.ones(8), lambda: x[torch.tensor([1])], lambda: torch.cat([x, torch.ones(1, 8)]),
            lambda: x.numpy(), lambda: x.long() @ x.long(), lambda: torch._int_mm(words, words),
        ):  # fmt: skip
            with pytest.raises(RuntimeError):
                wrong()
        thirds = torch.arange(1.0, 9.0, device=device)
        assert not torch.equal((thirds / 3).cpu(), thirds.cpu() / 3), "CUDA multiplies by the reciprocal"
        assert torch.equal((thirds / torch.full((), 3.0, device=device)).cpu(), thirds.cpu() / 3)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", INTEGER_RULES)
def test_integers_are_the_same_bits_on_another_device(rule, network):
    """Losses, words, masters, velocities and running statistics of batch norms after three steps."""
    wanted = trained(CPU, NETWORKS[network], rule)
    with far() as device:
        found = trained(device, NETWORKS[network], rule)
    assert same(found, wanted)


def test_statistics_of_micro_batches_are_the_same_bits_on_another_device():
    """Of three samples, and of the two that are left."""
    wanted = trained(CPU, NETWORKS["everything"], "bp", norm_samples=3)
    with far() as device:
        assert same(trained(device, NETWORKS["everything"], "bp", norm_samples=3), wanted)
    assert not same(trained(CPU, NETWORKS["everything"], "bp"), wanted)


@pytest.mark.parametrize(
    "tuning",
    [
        Tuning(optimizer="adam"),
        Tuning(optimizer="nesterov", weight_decay=0.01),
        Tuning(optimizer="sign_sgd"),
        Tuning(clip=0.1),
    ],
    ids=["adam", "nesterov and decay", "sign", "clip"],
)
def test_optimizers_are_the_same_bits_on_another_device(tuning):
    """Batch norms' float64 updates too; the batch of 5 has a reciprocal that is no number of a float."""
    wanted = trained(CPU, NETWORKS["everything"], "bp", tuning=tuning)
    with far() as device:
        assert same(trained(device, NETWORKS["everything"], "bp", tuning=tuning), wanted)


@pytest.mark.parametrize(
    "precision",
    [
        Precision(weight=16, activation=16, error=16, gradient=16, accumulator=48),
        Precision(weight=1, feedback=1, activation=1, error=4),
        Precision(accumulator=12),
    ],
    ids=["wide", "one bit", "wrapping"],
)
def test_widths_are_the_same_bits_on_another_device(precision):
    """Words carried in floats, signs, accumulators that wrap; everything rounded at random."""
    modes = RoundingModes(activation="stochastic", error="stochastic", gradient="stochastic", update="stochastic")
    wanted = trained(CPU, NETWORKS["tiled"], "dfa", precision, rounding=modes)
    with far() as device:
        assert same(trained(device, NETWORKS["tiled"], "dfa", precision, rounding=modes), wanted)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("rule", "precision"), FLOATS)
def test_floats_are_close_on_another_device(rule, precision, network):
    """Every rule, also those that learn their feedback; the draws are the same ones."""
    wanted = trained(CPU, NETWORKS[network], rule, precision)
    with far() as device:
        found = trained(device, NETWORKS[network], rule, precision)
    assert found[0] == pytest.approx(wanted[0], rel=1e-4)
    for name, x in wanted[1].items():
        assert float((found[1][name] - x).norm()) <= 0.01 * float(x.norm()) + 1e-4, name


@pytest.mark.parametrize("precision", [Precision(), FP32], ids=["integer", "float"])
def test_a_whole_training_on_another_device(precision):
    """Batches, evaluation, angles, activity and losses of rounding: the same record."""
    network, data = load_model("mlp_digits"), load_dataset("digits", None, None)

    def result(device):
        recipe = network.recipe.model_copy(update={"epochs": 1})
        return train_model(setup_of(network, "fa", precision, recipe=recipe, seed=2, device=device), data)[1]

    wanted = result(CPU)
    with far() as device:
        found = result(device)
    if precision is FP32:
        assert found.epochs[0].train_loss == pytest.approx(wanted.epochs[0].train_loss, rel=1e-3)
        return
    angles = {"angles", "norm_ratios", "gradient_angles"}
    for name in set(vars(wanted.epochs[0])) - angles:
        assert getattr(found.epochs[0], name) == getattr(wanted.epochs[0], name), name
    for name in angles:
        assert getattr(found.epochs[0], name) == pytest.approx(getattr(wanted.epochs[0], name), rel=1e-5)


def test_attacks_on_another_device():
    """Gradients of images, and images judged in integers."""
    network = NETWORKS["mlp"]
    pixels, labels = batch_of(network, 40)

    def rows(device):
        models = [
            built(network, "fa", precision, tuning=Tuning(), batch=BATCH, seed=seed, device=device)
            for seed, precision in enumerate((Precision(), FP32))
        ]
        return robustness(*models, Probe(pixels, labels.to(device), 255), (0.0, 0.1), 1, 2)

    wanted = rows(CPU)
    with far() as device:
        assert rows(device) == wanted


def test_the_verbs_train_on_the_device_that_they_are_given(monkeypatch, tmp_path):
    """train, compare, sweep and attack: integers come to the same figures there, and nothing is trained here."""
    given = []
    for module in (training, attacks):
        monkeypatch.setattr(module, "device_of", lambda name: given.append(name) or DEVICE if name != "cpu" else CPU)
    monkeypatch.setattr("fahw.study.compare.device_of", lambda name: DEVICE)
    monkeypatch.setattr("fahw.learn.kernels.device.device_of", lambda name: DEVICE)
    chip = load_chip("edge_dual")

    def figures(device, folder):
        result = fahw.train("mlp_digits", "bp", chip, epochs=1, device=device)
        compared = fahw.compare(chip, "mlp_digits", out=folder / "c", rules=["bp"], epochs=1, seeds=1, device=device)
        sweep = fahw.sweep(swept(["dfa"]), out=folder / "s", device=device)
        attacked = attacks.attack("mlp_digits", ["fa"], chip, epochs=1, epsilons=[0.0, 0.1], images=50, device=device)
        return (
            result.test_accuracy_pct,
            [line.accuracy for line in compared.lines],
            [point.runs[0].test_pct for point in sweep.points],
            attacked[0].rows[:2],
        )

    with far():
        found = figures("cuda:1", tmp_path / "there")
    assert set(given) == {"cuda:1"}
    assert found == figures("cpu", tmp_path / "here")


@pytest.mark.parametrize("rule", RULES)
def test_a_module_under_a_rule_is_moved_like_any_other(rule):
    """`apply_rule`: feedback that is drawn before or after the module moves is the same."""
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, 2),
        nn.ReLU(), nn.Flatten(), nn.Linear(54, 8), nn.ReLU(), nn.Linear(8, 4),
    )  # fmt: skip
    pixels, labels = torch.randn(6, 2, 8, 8), torch.arange(6) % 4
    here, there = (fahw.apply_rule(net, rule, seed=1, dfa_feedback="tiled") for _ in range(2))

    def gradients(module, x, labels):
        module(x)
        nn.functional.cross_entropy(module(x), labels).backward()
        return {name: near(p.grad) for name, p in module.named_parameters() if p.grad is not None}

    wanted = gradients(here, pixels, labels)
    with far() as device:
        for part in there.modules():  # `Module.to` exchanges the storage of tensors, which these here have not
            part._buffers = {name: x if x is None else x.to(device) for name, x in part._buffers.items()}
            part._parameters = {
                name: x if x is None else nn.Parameter(x.detach().to(device), x.requires_grad)
                for name, x in part._parameters.items()
            }
        found = gradients(there, pixels.to(device), labels.to(device))
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], x, atol=1e-5) for name, x in wanted.items())


def test_products_follow_the_device():
    """A way that the processor has may be missing there (8-bit products of few rows), or be inexact (TF32)."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-128, 128, shape, generator=generator).to(torch.int8) for shape in ((9, 30), (30, 20)))
    wanted = a.long() @ b.long()
    assert is_exact("float32", 9, 30, 20, False, False)
    with far() as device:
        assert not is_exact("int8", 9, 30, 20, False, False, (), device)
        there = exact_matmul(a.to(device), b.to(device), 30 << 14)
        assert there.dtype == torch.float32
        assert torch.equal(there.cpu().long(), wanted)
        large = exact_matmul(a.to(device).double(), b.to(device).double(), 1 << 60)
        assert (large.dtype, large.device) == (torch.int64, device)
        assert torch.equal(large.cpu(), wanted)
    is_exact.cache_clear()
    with far(tf32=True) as device:
        there = exact_matmul(a.to(device), b.to(device), 30 << 14)
        assert there.dtype == torch.float64, "float32 products that lose bits are not used"
        assert torch.equal(there.cpu().long(), wanted)
    is_exact.cache_clear()


@pytest.mark.parametrize("precision", [FP32, Precision()], ids=["float", "integer"])
def test_a_checkpoint_is_read_onto_any_device(precision, tmp_path):
    """The model's device is that of the training that goes on, whichever wrote the file."""
    network = load_model("mlp_digits")
    with far() as device:
        for there, here in ((device, CPU), (CPU, device)):
            written = built(network, "bp", precision, seed=1, device=there)
            keeper = Checkpoint(tmp_path / "run.state", "x", 0)
            keeper.save(written, [], 1)
            found = built(network, "bp", precision, seed=2, device=here)
            keeper.load(found, 1)
            for name, p in found.parameters.items():
                assert p.master.device.type == here.type
                assert torch.equal(p.master.cpu(), written.parameters[name].master.cpu())


@pytest.mark.parametrize(
    ("name", "said"), [("gpu", "did you mean 'cuda'"), ("cuda:", "known: cpu, cuda"), ("cuda:-1", "known"), (1, "must")]
)
def test_an_unknown_device_is_named(name, said):
    with pytest.raises(ConfigError, match=said):
        device_of(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"no 'cuda'.*: (install|see)"):
        device_of("cuda")
    with pytest.raises(ConfigError, match="no 'cuda:2'"):
        fahw.compare("edge_dual", "mlp_digits", out="never", device="cuda:2")


def test_a_number_too_large_is_told_which_there_are(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("cuda") == torch.device("cuda", 0)
    assert device_of("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="there is cuda:0, cuda:1"):
        device_of("cuda:2")


@pytest.mark.parametrize("verb", ["train mlp_digits", "compare --out x", "sweep bits_digits --out x", "attack lenet5"])
def test_the_command_line_says_so(verb, tmp_path):
    """Exit code 2, one line, nothing written."""
    command = [sys.executable, "-m", "fahw.cli", *verb.split(), "--device", "tpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: device: no device 'tpu'")
    assert not list(tmp_path.iterdir())


def test_workers_elsewhere_look_for_the_device_themselves(tmp_path):
    """A sweep on other machines is not refused for what this one lacks; who lacks it says so."""
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with ThreadPoolExecutor(1) as pool:
        result = fahw.sweep(swept(["bp"]), out=tmp_path / "s", device="cuda", executor=pool)
    assert "knows no 'cuda'" in result.failed[0].reason
    with pytest.raises(ConfigError, match="knows no 'cuda'"):
        fahw.sweep(swept(["bp"]), out=tmp_path / "t", device="cuda")


def test_keys_of_results(monkeypatch):
    """Integers: one result, wherever it was trained. Floats add in another order on CUDA: another result there."""
    monkeypatch.setattr(training, "device_of", lambda name: CPU)

    def key(chip, device):
        return make_job("mlp_digits", "dfa", chip, data=None, epochs=1, seed=0, data_dir=None, device=device).key

    chip = load_chip("edge_dual")
    assert key(chip, "cpu") == key(chip, "cuda") == key(chip, "cuda:1")
    assert key(None, "cpu") != key(None, "cuda") == key(None, "cuda:1")
    emulated = chip.model_copy(update={"precision": EMULATED})
    assert key(emulated, "cpu") != key(emulated, "cuda")


def test_cuda_computes_plainly_while_it_trains():
    """No TF32, fixed orders of sums; afterwards everything is as the user had it."""
    wanted = devices._wanted_of_cuda()
    before = [getattr(place, name) for place, name, _ in wanted]
    with torch_settings(CUDA):
        assert [getattr(place, name) for place, name, _ in wanted] == [value for *_, value in wanted]
        assert torch.get_num_threads() == 1
    assert [getattr(place, name) for place, name, _ in wanted] == before


@needs_cuda
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", INTEGER_RULES)
def test_cuda_trains_integers_to_the_same_bits(rule, network):
    assert same(trained(CUDA, NETWORKS[network], rule), trained(CPU, NETWORKS[network], rule))


@needs_cuda
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("rule", "precision"), FLOATS)
def test_cuda_trains_floats_closely(rule, precision, network):
    wanted = trained(CPU, NETWORKS[network], rule, precision)
    with torch_settings(CUDA):
        found = trained(CUDA, NETWORKS[network], rule, precision)
    assert found[0] == pytest.approx(wanted[0], rel=1e-3)


@needs_cuda
@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_cuda_trains_shipped_models_to_the_same_bits(name):
    """Sizes at which CUDA has 8-bit products."""
    network = load_model(name)
    found = trained(CUDA, network, "dfa", steps=2), trained(CPU, network, "dfa", steps=2)
    assert same(*found)


@needs_cuda
@pytest.mark.parametrize("order", [(CPU, CUDA), (CUDA, CPU)], ids=["to cuda", "from cuda"])
def test_a_training_goes_on_on_another_device(order, tmp_path):
    """Integers end with the bits of a training that stayed where it was."""
    network, data = load_model("mlp_digits"), load_dataset("digits", None, None)

    def run(epochs, device, keeper=None):
        recipe = network.recipe.model_copy(update={"epochs": epochs})
        setup = setup_of(network, "brsf", recipe=recipe, seed=5, device=device)
        return train_model(setup, data, checkpoint=keeper)[0]

    class Stopped(Checkpoint):
        def save(self, *state):
            super().save(*state)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(2, order[0], Stopped(tmp_path / "run.state", "x", 0))
    wanted, found = run(2, CPU), run(2, order[1], Checkpoint(tmp_path / "run.state", "x", 0))
    for name, p in wanted.parameters.items():
        assert torch.equal(found.parameters[name].master.cpu(), p.master)
