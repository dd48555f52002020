"""Updates that come late: the training is that of a chip whose steps do not wait for them."""

import pytest
import torch

from fahw.config.sweep import Sweep
from fahw.errors import ConfigError
from fahw.formats.precision import FP32, Precision
from fahw.hardware.load import load_chip
from fahw.learn.state.delays import Delays
from fahw.learn.step import gradients, step
from fahw.network.load import load_model
from fahw.study.training import make_job
from fahw.study.vectors import export_vectors
from tests.support.models import built
from tests.support.strategies import setups_of

NETWORK = load_model("mlp_digits")
BATCH, RATE = 8, 0.05


def model_of(precision, rule, delay):
    return built(NETWORK, rule, precision, batch=BATCH, seed=3, delays=Delays(update_delay=delay))


def batches(count):
    generator = torch.Generator().manual_seed(2)
    for _ in range(count):
        pixels = torch.randint(0, 17, (BATCH, 1, 8, 8), generator=generator, dtype=torch.uint8)
        yield pixels.reshape(BATCH, *NETWORK.input_shape).numpy(), torch.randint(0, 10, (BATCH,), generator=generator)


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_late_updates_are_sgd_on_old_gradients(rule, delay):
    """In floating point: w(t+1) = w(t) - rate / batch * v(t), v(t) = mu v(t-1) + g(t - delay), g(t) at w(t); none in
    the first steps. Written out here with gradients of a twin whose weights are set by hand."""
    model, twin = model_of(FP32, rule, delay), model_of(FP32, rule, 0)
    mu, name = NETWORK.recipe.tuning(rule).momentum, "linear2"
    weights = {n: p.weight.clone() for n, p in twin.parameters.items()}
    biases = {n: p.bias.clone() for n, p in twin.parameters.items()}
    velocity = {n: torch.zeros_like(w) for n, w in weights.items()}
    bias_velocity = {n: torch.zeros_like(b) for n, b in biases.items()}
    waiting = []
    for t, (pixels, labels) in enumerate(batches(8)):
        for n, p in twin.parameters.items():
            p.weight.copy_(weights[n])
            p.bias.copy_(biases[n])
        waiting.append(gradients(twin, twin.arithmetic.encode(pixels, 16), labels, t))
        step(model, model.arithmetic.encode(pixels, 16), labels, RATE, t)
        if t >= delay:
            found = waiting.pop(0)
            for n in weights:
                velocity[n] = mu * velocity[n] + found[n].weight
                bias_velocity[n] = mu * bias_velocity[n] + found[n].bias
                weights[n] = weights[n] - RATE / BATCH * velocity[n]
                biases[n] = biases[n] - RATE / BATCH * bias_velocity[n]
        torch.testing.assert_close(model.parameters[name].weight, weights[name], rtol=1e-5, atol=1e-6)
        assert (t < delay) == torch.equal(weights[name], model_of(FP32, rule, 0).parameters[name].weight)


@pytest.mark.parametrize("delay", [0, 2])
def test_integer_updates_come_late_by_the_same_steps(delay):
    """The words change for the first time with update number `delay`."""
    model = model_of(Precision(), "bp", delay)
    first = model.parameters["linear2"].master.clone()
    changed = []
    for t, (pixels, labels) in enumerate(batches(4)):
        step(model, model.arithmetic.encode(pixels, 16), labels, RATE, t)
        changed.append(not torch.equal(model.parameters["linear2"].master, first))
    assert changed == [t >= delay for t in range(4)]


def test_a_chip_with_late_updates_is_another_training():
    """Its accuracy is never taken from a chip whose updates come in time."""
    late, prompt = (load_chip("edge_dual", {"update_delay": delay}) for delay in ("1", "0"))
    jobs = [make_job("mlp_digits", "dfa", c, data=None, epochs=1, seed=0, data_dir=None) for c in (late, prompt)]
    assert jobs[0].setup.delays == Delays(update_delay=1)
    assert jobs[0].key != jobs[1].key


@pytest.mark.parametrize("setting", [{"update_delay": "1"}, {"transport_options.period": "2"}])
def test_golden_vectors_are_of_steps_in_time(setting, tmp_path):
    """What a designer checks against is the plain step; other chips are refused."""
    with pytest.raises(ConfigError, match="come in time"):
        export_vectors(load_chip("edge_dual", setting), "mlp_digits", "bp", 1, tmp_path / "out")


def test_a_sweep_over_late_updates_trains_each_of_them():
    """Points that differ in nothing but the delay are other trainings."""
    spec = Sweep(name="s", model="mlp_digits", grid={"chip.update_delay": (0, 1, 2)})
    made = setups_of(spec)
    assert [job.setup.delays.update_delay for point in made for job in point.jobs] == [0, 1, 2]
    assert len({job.key for point in made for job in point.jobs}) == 3
