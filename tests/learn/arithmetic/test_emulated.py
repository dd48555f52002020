"""Training in small floats, ternary words and dynamic scales: emulation beside the integer step and beside float32."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.datasets.dataset import load_dataset
from fahw.formats.number import FLOATS, Fixed
from fahw.formats.precision import FP32, TENSORS, Precision, RoundingModes, Scaling
from fahw.formats.quantise import quantise
from fahw.learn.arithmetic.floating import Floating
from fahw.learn.error_path.feedback import Feedback
from fahw.learn.error_path.feedback_words import FloatWords
from fahw.learn.model import Model
from fahw.learn.state.scales import network_scales
from fahw.learn.step import errors, forward, step
from fahw.network.load import load_model
from fahw.network.recipe import Tuning
from fahw.rules.catalogue import RULES
from tests.support.emulation import emulated_model
from tests.support.models import batch_of, built, chain, convolutional, integer_model, mlp, same_states, states
from tests.support.trainings import run

EXACT_MODES = RoundingModes(activation="nearest", error="nearest", gradient="nearest", update="nearest")
FLOOR_MODES = RoundingModes(activation="floor", error="floor", gradient="floor", update="floor")


def all_of(name, **others):
    """One format for every tensor, accumulated in fp32."""
    return Precision(**(dict.fromkeys(TENSORS, name) | {"accumulator": "fp32"} | others))


DYNAMIC = Scaling(
    weight="per_channel", feedback="per_channel", activation="per_tensor", error="per_tensor", gradient="per_tensor",
    master="per_tensor", optimizer="per_channel",
)  # fmt: skip
CASES = {
    "bf16": all_of("bf16"),
    "fp16": all_of("fp16", accumulator="fp16"),
    "fp8": all_of("fp8_e4m3", error="fp8_e5m2", gradient="bf16", master="fp16", optimizer="bf16"),
    "ternary weight": Precision(weight="ternary", feedback="ternary"),
    "dynamic": Precision(scale=DYNAMIC),
    "float errors": Precision(error="fp8_e5m2", accumulator="fp32"),
}


def numbers(words, form, samples_last=True):
    """Integer words as values, samples first."""
    return (words.movedim(-1, 0) if samples_last else words).double() * 2.0**-form.frac


@given(
    rule=st.sampled_from(["bp", "fa", "usf", "frsf", "dfa", "bdfa", "tdfa", "drtp"]),
    rounding=st.sampled_from([EXACT_MODES, FLOOR_MODES]),
    network=st.sampled_from(
        [mlp(6, 5, 4), mlp(6, 5, 5, 4, act="tanh"), convolutional(), convolutional(pool="avgpool2d")]
    ),
    weight=st.integers(1, 8), feedback=st.integers(1, 8), activation=st.integers(5, 9), error=st.integers(3, 9),
    seed=st.integers(0, 50), optimizer=st.sampled_from(["sgd", "momentum", "nesterov", "sign_sgd"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_fixed_point_in_emulation_is_the_integer_step(
    rule, rounding, network, weight, feedback, activation, error, seed, optimizer
):
    """The same words, step by step."""
    tuning = Tuning(optimizer=optimizer, weight_decay=0.01, clip=0.5)
    widths = {"weight": weight, "feedback": feedback, "activation": activation, "error": error}
    precision = Precision(master=10, gradient=12, optimizer=13, accumulator=48, **widths)
    integer, scales = integer_model(
        network, RULES[rule], tuning=tuning, precision=precision, rounding=rounding, seed=seed
    )
    emulated, _ = emulated_model(network, RULES[rule], precision, rounding, seed=seed, tuning=tuning)
    pixels, labels = batch_of(network, 4, seed)

    for draw in range(2):
        traces = [
            forward(network, model.arithmetic, model.parameters, model.arithmetic.encode(pixels, 255))
            for model in (integer, emulated)
        ]
        last = network.weighted[-1].name
        assert torch.equal(numbers(traces[0].output, scales[last].output), traces[1].output)
        (first, nats), (second, theirs) = (
            model.arithmetic.loss(trace.output, labels)
            for model, trace in zip((integer, emulated), traces, strict=True)
        )
        assert torch.equal(numbers(first, scales[last].delta), second)
        assert nats == theirs
        deltas = [
            errors(model, trace, error, model.arithmetic.signal(RULES[rule], error, labels), draw)[0]
            for model, trace, error in zip((integer, emulated), traces, (first, second), strict=True)
        ]
        for name, s in scales.items():
            assert torch.equal(numbers(deltas[0][name], s.delta), deltas[1][name]), name
        for model, trace, delta in zip((integer, emulated), traces, deltas, strict=True):
            found = {
                layer.name: model.arithmetic.gradient(layer, delta[layer.name], trace.saved[layer.name])
                for layer in network.weighted
            }
            model.arithmetic.update(model.parameters, found, 0.1, draw)
        for name, s in scales.items():
            a, b = integer.parameters[name], emulated.parameters[name]
            mine, theirs = ((x.weight, x.master, *x.states, x.bias, *x.bias_states) for x in (b, a))
            count = len(integer.parameters[name].states)
            forms = s.weight, s.master, *[s.velocity] * count, s.bias, *[s.bias_velocity] * count
            for found, words, form in zip(mine, theirs, forms, strict=True):
                assert torch.equal(found, numbers(words, form, False)), (name, form, draw)


@pytest.mark.parametrize("rule", ["bp", "fa", "usf", "dfa"])
def test_fp32_in_emulation_is_plain_float(rule):
    """But for the last bit of the update, which PyTorch may compute in one go."""
    network = convolutional()
    emulated, _ = emulated_model(network, RULES[rule], FP32)
    plain = Floating(0.9, 4)
    parameters = plain.initial(network, 0)
    words = FloatWords(network, RULES[rule], 1.0, 0, torch.float32)
    floating = Model(network, plain, parameters, Feedback(RULES[rule], words))
    pixels, labels = batch_of(network, 4)

    for draw in range(3):
        for model in (emulated, floating):
            step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, draw)

    mine, theirs = states(emulated), states(floating)
    assert all(torch.allclose(mine[key], theirs[key], rtol=1e-5, atol=1e-6) for key in theirs)


def is_of(x, form, channel=None):
    """Whether all of x are numbers of the format, under a shared unit where it needs one."""
    unit = form.unit_of(x, channel) if isinstance(form, Fixed) else 1.0
    return torch.equal(quantise(x, form, unit), x)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("rule", ["bp", "fa", "usf", "brsf", "frsf", "dfa"])
def test_every_operand_and_every_result_is_a_number_of_its_format(name, rule):
    """What the products read, and what is stored; fixed point as far as its scale is known."""
    network = chain(
        (2, 8, 8), ("conv2d", {"out": 4, "kernel": (3, 3), "padding": (1, 1)}), ("batchnorm2d", {}), ("relu", {}),
        ("avgpool2d", {"kernel": (2, 2), "stride": (2, 2)}), ("conv2d", {"out": 4, "kernel": (3, 3)}), ("tanh", {}),
        ("maxpool2d", {"kernel": (2, 2), "stride": (1, 1)}), ("flatten", {}), ("linear", {"out": 6}), ("sigmoid", {}),
        ("linear", {"out": 3}),
    )  # fmt: skip
    precision = CASES[name]
    model, _ = emulated_model(network, RULES[rule], precision)
    pixels, labels = batch_of(network, 4)
    read = {"activation": [], "error": []}
    inner_operand, inner_gradient = model.arithmetic.operand, model.arithmetic.gradient
    model.arithmetic.operand = lambda layer, x: (read["activation"].append(x), inner_operand(layer, x))[1]
    model.arithmetic.gradient = lambda layer, d, x: (read["error"].append(d), inner_gradient(layer, d, x))[1]

    for draw in range(2):
        loss = step(model, model.arithmetic.encode(pixels, 255), labels, 0.05, draw)
        assert loss == loss

    for kind, tensors in read.items():
        form = precision.number(kind)
        assert all(is_of(x, form) for x in tensors) or isinstance(form, Fixed)
        if isinstance(form, Fixed) and form.bits > 1:
            words = [x / form.unit_of(x) for x in tensors]
            assert all(len(x.unique()) <= 2**form.bits for x in words), kind
    for layer in network.weighted:
        p = model.parameters[layer.name]
        for kind, x in (("weight", p.weight), ("master", p.master), *(("optimizer", x) for x in p.states)):
            form, scale = precision.number(kind), getattr(precision.scale, kind)
            assert is_of(x, form, 0 if scale == "per_channel" else None), (layer.name, kind)
        words = model.feedback.words(layer, p.weight, 1)
        form = precision.number("feedback")
        if isinstance(form, Fixed):
            rows = words.transpose(0, 1).flatten(1) if words.dim() > 1 else words
            assert all(len(row.unique()) <= 2**form.bits for row in rows)
        else:
            assert is_of(words, form)


@pytest.mark.parametrize(("name", "least"), [("bf16", 90), ("fp8", 90), ("ternary weight", 75), ("dynamic", 90)])
def test_digits_are_learnt_in_every_kind_of_format(name, least):
    network, data = load_model("mlp_digits"), load_dataset("digits", None, None)

    result = run("bp", network, network.recipe, CASES[name], data, epochs=4)

    assert result.epochs[-1].test_accuracy_pct >= least


def test_two_trainings_in_emulation_are_the_same_to_the_bit():
    network = mlp(6, 5, 4)
    pixels, labels = batch_of(network, 4)
    models = [built(network, "dfa", CASES["fp8"], tuning=Tuning(), batch=4, seed=3) for _ in range(2)]

    for draw in range(4):
        for model in models:
            step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, draw)

    assert same_states(*models)


def test_only_what_integers_cover_trains_in_integers():
    assert Precision().is_integer
    assert Precision(scale=Scaling(weight=5, activation=3, error=7)).is_integer
    assert not Precision(scale=Scaling(gradient=5)).is_integer
    assert not Precision(feedback="ternary").is_integer
    assert not FP32.is_integer
    assert FP32.is_float
    assert not all_of("bf16").is_float
    assert Precision(feedback="binary") == Precision(feedback=1)
    assert {all_of(name, accumulator="fp32").bits("weight") for name in FLOATS} == {8, 16, 32}


def test_a_given_scale_holds_in_every_layer_and_logits_keep_their_headroom():
    network, precision = mlp(6, 5, 4), Precision(scale=Scaling(weight=5, activation=3, error=6))

    hidden, last = network_scales(network, precision, Tuning(), RULES["bp"], 4).values()

    assert (hidden.weight.frac, hidden.master.frac, hidden.output.frac, hidden.error.frac) == (5, 13, 3, 6)
    assert (last.weight.frac, last.output.frac) == (5, 1)
