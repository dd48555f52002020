"""What is seen inside a training: zeros, changed words, angles; and that looking changes nothing."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from fahw.activity import Activity, LayerActivity, mean_activity
from fahw.formats.precision import FP32, Precision, RoundingModes
from fahw.learn.samples.batches import Probe
from fahw.learn.step import errors, forward, step
from fahw.learn.watch.activity_monitor import ActivityMonitor
from fahw.learn.watch.alignment import alignments, gradient_angles, plain_copy
from fahw.network.recipe import Ranges, Tuning
from fahw.prng import derive
from fahw.rules.catalogue import RULES
from tests.support.models import (
    batch_of,
    convolutional,
    everything,
    float_model,
    graph,
    integer_model,
    mlp,
    same_states,
    states,
)
from tests.support.trainings import run

STOCHASTIC = RoundingModes(activation="stochastic", error="stochastic", gradient="stochastic", update="stochastic")
NETWORKS = {"mlp": mlp(16, 12, 8, 5), "convolutional": convolutional()}


def steps_of(model, count, monitor=None):
    """The same batches, with or without somebody looking."""
    for draw in range(count):
        pixels, labels = batch_of(model.network, 4, draw)
        x = model.arithmetic.encode(pixels, 255)
        if monitor is None:
            step(model, x, labels, 0.05, draw)
        else:
            monitor.step(x, labels, 0.05, draw)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", ["bp", "brsf", "dfa"])
@pytest.mark.parametrize("kind", ["integer", "float"])
def test_looking_changes_no_bit(network, rule, kind):
    def fresh():
        if kind == "float":
            return float_model(NETWORKS[network], RULES[rule])
        return integer_model(NETWORKS[network], RULES[rule], rounding=STOCHASTIC)[0]

    seen, alone = fresh(), fresh()
    steps_of(seen, 9, ActivityMonitor(seen, 9))
    steps_of(alone, 9)

    assert same_states(seen, alone)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_shares_are_those_of_the_steps_tensors(network, rule):
    """Counted again from the public parts of a step, on a twin."""
    model, twin = (float_model(NETWORKS[network], RULES[rule], dtype=torch.float32) for _ in range(2))
    monitor, counted = ActivityMonitor(model, 4), {layer.name: [] for layer in model.network.weighted}
    steps_of(model, 4, monitor)
    for draw in range(4):
        pixels, labels = batch_of(twin.network, 4, draw)
        x = twin.arithmetic.encode(pixels, 255)
        trace = forward(twin.network, twin.arithmetic, twin.parameters, x)
        error = twin.arithmetic.loss(trace.logits, labels)[0]
        deltas, _ = errors(twin, trace, error, error, draw)
        before = states(twin)
        step(twin, x, labels, 0.05, draw)
        after = states(twin)
        for name, row in counted.items():
            old, new = (state[name, "weight"].numpy() for state in (before, after))
            tensors = [t.numpy() == 0 for t in (trace.saved[name], deltas[name])]
            row.append([np.mean(t) for t in (*tensors, (old < 0) != (new < 0), old != new)])

    found = monitor.activity()
    assert found.steps == 4
    for name, rows in counted.items():
        assert list(asdict(found.layers[name]).values()) == pytest.approx(np.mean(rows, axis=0).tolist()), name
    hidden = found.layers[model.network.weighted[-1].name]
    assert 0.1 < hidden.zero_activations < 0.95  # a ReLU lies below


def test_narrow_weights_change_rarely_and_wide_ones_in_every_update():
    changed = {}
    for bits in (2, 8):
        model, _ = integer_model(mlp(16, 12, 5), RULES["bp"], precision=Precision(weight=bits))
        monitor = ActivityMonitor(model, 6)
        steps_of(model, 6, monitor)
        changed[bits] = monitor.activity().layers["linear2"]

    assert changed[2].changed_words < 0.5 * changed[8].changed_words
    assert all(share.sign_flips <= share.changed_words for share in changed.values())


def test_only_a_few_steps_of_an_epoch_are_measured_spread_over_it(monkeypatch):
    model = float_model(mlp(16, 12, 5), RULES["bp"])
    monitor = ActivityMonitor(model, 100)
    steps_of(model, 100, monitor)

    assert monitor.activity().steps == 4
    assert sorted(monitor._monitored_steps) == [12, 37, 62, 87]


@pytest.mark.parametrize("precision", [Precision(), FP32], ids=["integer", "float"])
def test_every_epoch_has_its_record_and_it_survives_storage(precision):
    result = run("fa", precision=precision, epochs=2)

    for row in result.epochs:
        assert list(row.activity.layers) == ["linear0", "linear2", "linear4"]
        assert list(row.gradient_angles) == ["linear0", "linear2", "linear4"]
        assert all(0 <= share <= 1 for layer in row.activity.layers.values() for share in asdict(layer).values())
        assert TypeAdapter(Activity).validate_python(asdict(row.activity)) == row.activity
    assert mean_activity([row.activity for row in result.epochs]).steps == 8


def test_the_mean_over_epochs_is_by_layer():
    records = [Activity({"fc": LayerActivity(*(np.arange(4.0) / (4 + i)).tolist())}, 2) for i in range(2)]

    mean = mean_activity([*records, Activity({}, 0)])
    assert mean.layers["fc"].changed_words == pytest.approx((3 / 4 + 3 / 5) / 2)
    assert mean.steps == 4
    assert mean_activity([]) is None


# Angles


def probe_of(network, seeds=(0, 1)):
    return [Probe(*batch_of(network, 4, seed), 255) for seed in seeds]


def test_backpropagations_gradient_is_at_no_angle_to_itself():
    network = convolutional()
    model = float_model(network, RULES["bp"], dtype=torch.float32)

    angles = gradient_angles(model, model.arithmetic, probe_of(network), 0)
    assert angles == dict.fromkeys((layer.name for layer in network.weighted), pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize("rule", ["fa", "usf", "frsf", "dfa"])
def test_gradient_angles_are_those_of_the_closed_form(rule):
    """Two layers by hand, in numpy: dW1 = ((e B) * relu')^T x, dW2 = e^T h."""
    network = mlp(20, 30, 6)
    model = float_model(network, RULES[rule], dtype=torch.float64)
    w1, w2 = (model.parameters[layer.name].weight.numpy() for layer in network.weighted)
    probe = probe_of(network)
    x = np.concatenate([batch.pixels for batch in probe]) / 255
    labels = np.concatenate([batch.labels.numpy() for batch in probe])
    h = np.maximum(x @ w1.T, 0)
    z = h @ w2.T
    e = np.exp(z) / np.exp(z).sum(1, keepdims=True) - np.eye(6)[labels]
    b = model.feedback.words(network.weighted[1], model.parameters["linear2"].weight, 0).numpy()
    own, true = (((e @ matrix) * (h > 0)).T @ x for matrix in (b, w2))
    cosine = (own * true).sum() / np.linalg.norm(own) / np.linalg.norm(true)

    angles = gradient_angles(model, model.arithmetic, probe, 0)
    assert angles["linear0"] == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-3)
    assert angles["linear2"] == pytest.approx(0, abs=1e-3)
    assert angles["linear0"] > 10


def test_formats_alone_turn_backpropagations_gradient_a_little_and_narrow_ones_more():
    network, angles = mlp(64, 40, 10), {}
    for bits in (16, 8, 4):
        precision = Precision(weight=bits, feedback=bits, activation=bits, error=bits, gradient=16, accumulator=48)
        model, _ = integer_model(network, RULES["bp"], precision=precision, batch=4)
        angles[bits] = gradient_angles(model, model.arithmetic.evaluator(1), probe_of(network), 0)["linear0"]

    assert angles[16] < 0.5 < angles[8] < 10 < angles[4] < 90


def test_angles_leave_the_trainings_random_stream_alone():
    modes = RoundingModes(activation="nearest", error="stochastic", gradient="nearest", update="nearest")
    model, _ = integer_model(mlp(16, 12, 5), RULES["bp"], rounding=modes)
    before = model.arithmetic._random.state()
    aside = model.arithmetic.evaluator(derive(0, "probe", 1))

    first, again = (gradient_angles(model, aside, probe_of(model.network), 0) for _ in range(2))
    after = model.arithmetic._random.state()
    assert (after[0] == before[0]).all()
    assert after[1] == before[1]
    assert first != again  # it does round, with bytes of its own


@pytest.mark.parametrize(("rule", "degrees"), [("fa", 90), ("usf", 30), ("brsf", 41.4), ("frsf", 41.4)])
def test_initial_angles_in_integers(rule, degrees):
    """The theory's angles, of the signed words that the chip holds, in every layer of at least ten thousand weights."""
    network = mlp(64, 120, 120, 100)
    model, _ = integer_model(network, RULES[rule])

    found = alignments(model, 0)
    assert list(found) == ["linear2", "linear4"]
    for layer in found.values():
        assert layer.angle_deg == pytest.approx(degrees, abs=3)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_plain_copy_computes_what_wide_integers_compute(network):
    """Biases included: some steps are trained first."""
    precision = Precision(weight=16, feedback=16, activation=16, error=16, accumulator=48)
    model, scales = integer_model(NETWORKS[network], RULES["bp"], precision=precision)
    steps_of(model, 5)
    pixels, _ = batch_of(model.network, 4, 9)
    copy = plain_copy(model)

    logits = forward(model.network, model.arithmetic, model.parameters, model.arithmetic.encode(pixels, 255)).logits
    values = logits.double() * 2.0 ** -scales[model.network.weighted[-1].name].output.frac
    plain = forward(copy.network, copy.arithmetic, copy.parameters, copy.arithmetic.encode(pixels, 255)).logits
    assert torch.allclose(values, plain.double(), atol=0.01)
    assert float(values.std()) > 0.05
    assert float(model.parameters[model.network.weighted[-1].name].bias.abs().max()) > 0


@pytest.mark.parametrize("kind", ["float", "integer"])
def test_on_batch_norms_angles_are_of_the_batchs_statistics_and_leave_the_running_ones(kind):
    network = graph(
        (2, 7, 6),
        {"kind": "conv2d", "name": "c0", "out": 6, "kernel": 3, "padding": 1},
        {"kind": "batchnorm2d", "name": "b0"},
        {"kind": "relu", "name": "r0"},
        {"kind": "conv2d", "name": "c1", "out": 6, "kernel": 3, "padding": 1},
        {"kind": "batchnorm2d", "name": "b1"},
        {"kind": "add", "name": "a", "from": ("b1", "r0")},
        {"kind": "flatten", "name": "f"},
        {"kind": "linear", "name": "l", "out": 5},
    )
    precision = Precision(weight=16, feedback=16, activation=16, error=16, gradient=16, accumulator=48)
    tuning = Tuning(ranges=Ranges(error=16, activation=16))
    if kind == "float":
        model = float_model(network, RULES["bp"], dtype=torch.float32)
    else:
        model, _ = integer_model(network, RULES["bp"], precision=precision, tuning=tuning)
    steps_of(model, 2)
    before = {name: p.statistics.clone() for name, p in model.parameters.items() if p.statistics is not None}

    angles = gradient_angles(model, model.arithmetic.evaluator(1, batch_statistics=True), probe_of(network), 0)
    assert list(angles) == [layer.name for layer in network.weighted]
    assert max(angles.values()) < (0.1 if kind == "float" else 3)
    assert all(torch.equal(p.statistics, before[name]) for name, p in model.parameters.items() if name in before)
    running = gradient_angles(model, model.arithmetic.evaluator(1), probe_of(network), 0)
    assert max(running.values()) > 10  # against the batch's: another gradient


def test_the_plain_copy_of_batch_norms_evaluates_by_the_running_statistics():
    network = everything("projection", "zeros")
    model = float_model(network, RULES["fa"])
    steps_of(model, 3)
    copy, pixels = plain_copy(model), batch_of(network, 4, 9)[0]

    logits = forward(
        network, model.arithmetic.evaluator(0), model.parameters, model.arithmetic.encode(pixels, 255)
    ).logits
    plain = forward(network, copy.arithmetic, copy.parameters, copy.arithmetic.encode(pixels, 255)).logits
    assert torch.allclose(logits, plain.double(), atol=1e-4)
