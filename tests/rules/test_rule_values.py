"""Rules by value: every combination of choices is refused, or the same rule to all that read it."""

from dataclasses import replace
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as fn

from fahw.errors import ConfigError
from fahw.formats.precision import Precision, RoundingModes
from fahw.learn.error_path.feedback import check_trained
from fahw.learn.step import errors, forward, gradients, step
from fahw.learn.torch_modules.apply_rule import apply_rule
from fahw.rules.catalogue import RULES
from fahw.rules.rule import Rule
from tests.reference.compare import assert_same_training
from tests.support import steps
from tests.support.emulation import emulated_model
from tests.support.models import batch_of, everything, float_model, integer_model, modes, precisions
from tests.support.rules import NETWORKS, RULE_VALUES, all_choices, chip_of_width, described, entries, made, module_of

SAMPLE = RULE_VALUES[:: len(RULE_VALUES) // 24]
"""Some rules of every kind."""
NAMED = [pytest.param(rule, id=name) for name, rule in RULES.items()]
SAMPLED = [*NAMED, *(pytest.param(rule, id=described(rule)) for rule in SAMPLE)]
ALL = [pytest.param(rule, id=described(rule)) for rule in RULE_VALUES]
BATCH = 3

on_networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# what can be made


def test_choices_make_a_rule_or_are_refused_with_a_reason():
    """Ten of the 16 combinations of path, sign and magnitude have a meaning: a direct path, and signs that no weight
    has, need magnitudes of their own."""
    found = {(c["path"], c["sign"], c["magnitude"]) for c in all_choices() if isinstance(made(c), Rule)}
    assert found == {
        *(("layerwise", sign, magnitude) for sign in ("weight", "own") for magnitude in ("own", "constant", "redrawn")),
        ("layerwise", "weight", "weight"),
        *(("direct", "own", magnitude) for magnitude in ("own", "constant", "redrawn")),
    }
    assert all(made(c).startswith("x: ") for c in all_choices() if not isinstance(made(c), Rule))


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"magnitude": "weight"}, "magnitudes go with their signs"),
        ({"path": "direct", "sign": "weight"}, "no forward weight belongs"),
        ({"path": "direct", "sign": "weight", "magnitude": "weight"}, "no forward weight belongs"),
        ({"trains": "last"}, "would mean nothing"),
        ({"trains": "last", "sign": "weight", "magnitude": "weight", "pruned": 0.5}, "pruned would mean nothing"),
        ({"density": 0.5, "sign": "weight"}, "follow the forward weights"),
        ({"rank": 3, "learned": "mirror"}, "these learn"),
        ({"rank": 3, "path": "direct", "signal": "targets"}, "reads one row"),
        ({"density": 0.5, "rank": 3}, "not both"),
        ({"density": 0.0}, r"lies in \(0, 1\]"),
        ({"density": 1.5}, r"lies in \(0, 1\]"),
        ({"rank": 0}, "whole number from 1"),
        ({"rank": 2.5}, "whole number from 1"),
        ({"path": "sideways"}, "no path 'sideways'; known: layerwise, direct"),
        ({"learned": "hebb"}, "no learned 'hebb'"),
    ],
)
def test_what_is_refused_says_why(choices, reason):
    with pytest.raises(ValueError, match=reason):
        Rule("x", "X", **({"path": "layerwise", "sign": "own", "magnitude": "own"} | choices), source="")


def test_every_contradiction_is_named_at_once():
    with pytest.raises(ValueError, match=r"reads one row.*reads one row.*not both"):
        replace(RULES["drtp"], density=0.5, rank=2)


# float: the step and a torch module


def same_gradients(rule, network):
    """The gradients of a step in float64 and those of the same network as a torch module draw the same numbers."""
    if rule.feedback.is_constant:  # equal sizes cancel but for rounding, and the mean of those not zero counts them
        rule = replace(rule, pruned=0.0)
    model = float_model(network, rule, batch=BATCH)
    pixels, labels = batch_of(network, BATCH)
    x = model.arithmetic.encode(pixels, 255)
    ruled = apply_rule(module_of(network, {n: (p.weight, p.bias) for n, p in model.parameters.items()}), rule)
    ruled.train(rule.learned != "mirror")  # else B moves before the first backward pass
    loss = fn.cross_entropy(ruled(x), labels)
    for layer in ruled.children():
        if hasattr(layer, "fahw"):
            layer.fahw.draws = 0  # a pruning draws by the number of the step, from 0
    loss.backward()
    found = gradients(model, x, labels)
    for name, layer in ruled.named_children():
        if not hasattr(layer, "fahw"):
            continue
        assert (layer.weight.grad is None) == (name not in found), name
        for grad, mine in ((layer.weight.grad, "weight"), (layer.bias.grad, "bias")):
            if grad is not None:
                wanted = getattr(found[name], mine).view_as(grad) / BATCH
                assert torch.allclose(grad, wanted, rtol=1e-9, atol=1e-12), (name, mine)


@on_networks
@pytest.mark.parametrize("rule", SAMPLED)
def test_a_step_and_a_module_have_the_same_gradients(rule, network):
    same_gradients(rule, network)


@on_networks
def test_tiled_feedback_has_them_too(network):
    for rule in (
        replace(RULES["dfa"], **choice) for choice in ({"density": 0.4}, {"rank": 2}, {"magnitude": "redrawn"})
    ):
        tiled = replace(network, dfa_feedback="tiled")
        model = float_model(tiled, rule, batch=BATCH)
        pixels, labels = batch_of(tiled, BATCH)
        x = model.arithmetic.encode(pixels, 255)
        plain = module_of(tiled, {n: (p.weight, p.bias) for n, p in model.parameters.items()})
        ruled = apply_rule(plain, rule, dfa_feedback="tiled")
        fn.cross_entropy(ruled(x), labels).backward()
        for name, found in gradients(model, x, labels).items():
            grad = dict(ruled.named_children())[name].weight.grad
            assert torch.allclose(grad, found.weight / BATCH, rtol=1e-9, atol=1e-12), name


# integers: the fast step and the slow one, emulation


def same_words(rule, network, precision, rounding, seed=0):
    """The fast integer step is the slow one, or is refused before training."""
    try:
        check_trained([rule], precision)
    except ConfigError:
        assert rule.learned
        return
    assert_same_training(network, rule, precision=precision, rounding=rounding, batch=2, seed=seed)


@settings(max_examples=60)
@given(
    rule=st.sampled_from(RULE_VALUES), network=st.sampled_from((*NETWORKS.values(), everything())),
    precision=precisions(), rounding=modes,
    error_path=st.sampled_from(({}, {"dfa_feedback": "tiled"}, {"dfa_residual": "biotorch"})),
)  # fmt: skip
def test_integers_train_as_the_slow_reference(rule, network, precision, rounding, error_path):
    same_words(rule, replace(network, **error_path), precision, rounding)


def same_emulation(rule, network, feedback):
    """Errors of static integers in emulation are those of the integer step."""
    precision = Precision(feedback=feedback, accumulator=48)
    nearest = RoundingModes(activation="nearest", error="nearest", gradient="nearest", update="nearest")
    integer, scales = integer_model(network, rule, precision=precision, rounding=nearest, batch=BATCH)
    emulated, _ = emulated_model(network, rule, precision, nearest, batch=BATCH)
    pixels, labels = batch_of(network, BATCH)
    found = []
    for model in (integer, emulated):
        x = model.arithmetic.encode(pixels, 255)
        trace = forward(network, model.arithmetic, model.parameters, x)
        error, _ = model.arithmetic.loss(trace.output, labels)
        signal = model.arithmetic.signal(rule, error, labels)
        found.append(errors(model, trace, error, signal, 1)[0])
    assert found[0].keys() == found[1].keys()
    for name, words in found[0].items():
        assert torch.equal(words.movedim(-1, 0).double() * 2.0 ** -scales[name].delta.frac, found[1][name].double()), (
            name
        )


@on_networks
@pytest.mark.parametrize("rule", SAMPLED)
def test_emulation_sends_the_errors_of_the_integer_step(rule, network):
    if not rule.learned and not rule.pruned:  # which are refused in emulation
        same_emulation(rule, network, 3)
        same_emulation(rule, network, 8)


# what is charged, and what is done


def observed(model, layer):
    """The feedback matrices of a layer in steps 0 and 1, and in step 0 with the forward weights negated and doubled."""
    weight = model.parameters[layer.name].weight
    return [
        [words.clone() for _, words in model.feedback.stages(layer, w, draw)]
        for w, draw in ((weight, 0), (weight, 1), (-1 - weight, 0), (weight * 2, 0))
    ]


def charged_as_done(rule, network, feedback=4):
    """Stored, moved and generated bits and multiplications of a step's cost, against the words of the integer step (of
    the float one, where integers do not learn)."""
    chip = chip_of_width(feedback)
    work = steps.step(chip, network, rule, BATCH)
    bits = {"precision": chip.precision, "rounding": chip.rounding, "batch": BATCH}
    model = float_model(network, rule) if rule.learned else integer_model(network, rule, **bits)[0]
    stored = moved = multiplied = 0
    redraws = False
    for layer in (layer for layer in network.weighted if layer.name in model.path.roles.sends):
        stages, *others = observed(model, layer)
        later, negated, doubled = ([not torch.equal(a, b) for a, b in zip(stages, o, strict=True)] for o in others)
        for words, drawn_anew, signed_by_weight, is_copy in zip(stages, later, negated, doubled, strict=True):
            redraws |= drawn_anew
            number, fan_in = (words.numel(), len(words)) if is_copy else entries(words)  # a copy may round to zero
            groups = layer.groups if rule.path == "layerwise" else 1
            rows = len(words) // groups
            place = (ceil(rows * groups / fan_in) - 1).bit_length()
            has_magnitudes = len(words.abs().unique()) > 1 + (number < words.numel()) and not drawn_anew
            stored += number * (1 + (feedback - 1) * (has_magnitudes or is_copy) + place)
            moved += (
                number * (signed_by_weight and (feedback if is_copy else 1)) * (layer.name in model.path.roles.learns)
            )
            places = 1 if rule.path == "direct" else layer.positions
            multiplied += BATCH * places * number * (rule.signal != "targets")
    error_tasks = [task for task in work.tasks if task.phase == "error" and task.layer != "loss"]
    assert {task.layer for task in error_tasks} == model.path.roles.sends
    assert sum(task.macs for task in error_tasks) == multiplied
    assert work.transported_bits == moved
    assert bool(steps.counts(work, component="feedback_generator", action="generate")) == redraws
    if rule.learned != "gradient":  # whose velocity lies beside the feedback weights
        assert work.feedback_bits == stored


def pruned_as_charged(rule, network):
    """A chip draws a byte for every error that training prunes, and for no other."""
    chip = chip_of_width(4)
    drawn = [
        steps.counts(
            steps.step(chip, network, each, BATCH),
            phase="error", component="rounding_generator", action="generate",
        )
        for each in (rule, replace(rule, pruned=0.0))
    ]  # fmt: skip
    model, pruned = float_model(network, rule, batch=BATCH), []
    plain = model.arithmetic.pruned
    model.arithmetic.pruned = lambda layer, error, *others: pruned.append(error.numel()) or plain(layer, error, *others)
    pixels, labels = batch_of(network, BATCH)
    step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, 0)
    assert drawn[0] - drawn[1] == 8 * sum(pruned)


@on_networks
@pytest.mark.parametrize("rule", SAMPLED)
def test_what_is_charged_is_what_is_done(rule, network):
    charged_as_done(rule, network)
    pruned_as_charged(rule, network)


# all of them


@pytest.mark.long
@on_networks
@pytest.mark.parametrize("rule", ALL)
def test_every_rule_value_is_the_same_everywhere(rule, network):
    same_gradients(rule, network)
    charged_as_done(rule, network)
    pruned_as_charged(rule, network)
    for feedback in (1, 3, 8, 11):
        stochastic = RoundingModes(error="stochastic", output_error="nearest")
        same_words(rule, network, Precision(feedback=feedback), stochastic, seed=feedback)
        if not rule.learned and not rule.pruned:
            same_emulation(rule, network, feedback)
