"""Rules beyond the six in learning: closed forms in float64, and what each of them promises."""

from dataclasses import replace
from math import atan2, degrees

import pytest
import torch
from torch import nn
from torch.nn import functional as fn

from fahw.errors import ConfigError
from fahw.formats.precision import FP32, Precision, RoundingModes
from fahw.learn.error_path.signals import pruned
from fahw.learn.step import gradients, step
from fahw.learn.torch_modules.apply_rule import apply_rule, feedback_weights
from fahw.learn.training.checkpoint import Checkpoint
from fahw.learn.watch.alignment import alignments
from fahw.network.recipe import Recipe
from fahw.rules.catalogue import COMPARED, RULES
from fahw.rules.rule import FEEDBACK_DECAY
from fahw.study.training import make_jobs
from tests.support.closed_forms import Values
from tests.support.models import batch_of, built, convolutional, everything, float_model, integer_model, mlp
from tests.support.trainings import TOY, run

ADDED = [name for name in RULES if name not in COMPARED]
NETWORKS = {"mlp": mlp(12, 9, 7, 5), "conv": convolutional()}


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def close(a, b, tolerance=1e-12):
    return float((a - b).norm()) <= tolerance * float(b.norm()) + 1e-300


def model_of(network, rule, **given):
    model = float_model(network, RULES[rule] if isinstance(rule, str) else rule, **given)
    pixels, labels = batch_of(network, 6)
    return model, model.arithmetic.encode(pixels, 255), labels


def sent(rule, logits, labels):
    """What the rule sends back, as its paper writes it: targets one-hot; -1, 0 and 1 quarters beyond an eighth."""
    one_hot = fn.one_hot(labels, logits.shape[1]).to(logits.dtype)
    error = logits.softmax(1) - one_hot
    if rule == "drtp":
        return error, one_hot
    if rule == "tdfa":
        return error, 0.25 * ((error > 0.125).to(error.dtype) - (error < -0.125).to(error.dtype))
    return error, error


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("rule", ["bdfa", "tdfa", "drtp", "kp", "wm", "last", "frozen_conv"])
def test_gradients_are_the_closed_forms(rule, network):
    """Products with B written out tap by tap; the signal of a direct rule by its paper's definition."""
    model, x, labels = model_of(network, rule)
    found = gradients(model, x, labels)
    values = Values(network, {n: (p.weight, p.bias) for n, p in model.parameters.items()})
    error, signal = sent(rule, values.forward(x), labels)
    direct = rule in ("bdfa", "tdfa", "drtp")
    words = {
        layer.name: model.feedback.words(layer, model.parameters[layer.name].weight, 0)
        for layer in network.weighted[1:]
    }
    wanted = values.backward(signal if direct else error, words, direct=direct)
    last = network.weighted[-1].name
    wanted |= {k: v for k, v in values.backward(error, words, direct=direct).items() if k.startswith(f"{last}.")}
    learns = {layer.name for layer in network.weighted if rule not in ("last", "frozen_conv")} | {last}
    learns |= {layer.name for layer in network.weighted if rule == "frozen_conv" and layer.kind == "linear"}
    assert set(found) == learns
    for name in learns:
        assert close(found[name].weight, wanted[f"{name}.weight"]), name
        if found[name].bias is not None:
            assert close(found[name].bias, wanted[f"{name}.bias"]), name


def test_frozen_layers_of_a_residual_network_have_no_gradient_and_stay():
    network = everything()
    for rule in ("last", "frozen_conv"):
        model, x, labels = model_of(network, rule)
        before = {name: p.weight.clone() for name, p in model.parameters.items()}
        step(model, x, labels, 0.1, 0)
        moved = {name for name, p in model.parameters.items() if not torch.equal(p.weight, before[name])}
        assert moved == ({"l2"} if rule == "last" else {"l1", "bn3", "l2"}), rule


def test_binary_feedback_has_one_magnitude_and_both_signs():
    network = mlp(40, 60, 50, 10)
    for model in (model_of(network, "bdfa")[0], integer_model(network, RULES["bdfa"])[0]):
        for layer in network.weighted[1:]:
            words = model.feedback.words(layer, model.parameters[layer.name].weight, 0).double()
            assert len(words.abs().unique()) == 1
            assert abs(float(words.sign().mean())) < 4 / words.numel() ** 0.5
    unit = 2.0 ** -integer_model(network, RULES["bdfa"])[1]["linear2"].feedback.frac
    assert 0.7 < unit / (2 / (60 + 10)) ** 0.5 < 1.42, "the nearest power of two of Xavier's deviation"


@pytest.mark.parametrize("kind", ["float", "integer"])
def test_targets_do_not_depend_on_the_output(kind):
    """drtp's hidden gradients are the same whatever the last layer holds; dfa's are not."""
    network = mlp(12, 9, 7, 5)
    for rule, same in (("drtp", True), ("dfa", False)):
        found = []
        for factor in (1, -3):
            model, x, labels = model_of(network, rule)
            if kind == "integer":
                model = integer_model(network, RULES[rule], rounding=RoundingModes(error="nearest"))[0]
                pixels, labels = batch_of(network, 6)
                x = model.arithmetic.encode(pixels, 255)
            model.parameters["linear4"].weight.mul_(factor)
            found.append(gradients(model, x, labels)["linear2"].weight.double())
        assert torch.equal(*found) == same, rule


def test_kolen_pollack_draws_both_together():
    """W - B loses the same share at every step, whatever the gradients; so B becomes W."""
    network = mlp(12, 9, 7, 5)
    model, *_ = model_of(network, "kp")

    def apart():
        return {
            layer.name: model.parameters[layer.name].weight - model.feedback.stored_matrix(layer)
            for layer in network.weighted[1:]
        }

    start, steps = apart(), 40
    for number in range(steps):
        pixels, labels = batch_of(network, 4, number)
        step(model, model.arithmetic.encode(pixels, 255), labels, 0.3, number)
    for name, left in apart().items():
        assert close(left, start[name] * (1 - FEEDBACK_DECAY) ** steps, 1e-10), name
    moved = model.parameters["linear2"].weight - start["linear2"]
    assert float(moved.norm()) > 0


def test_kolen_pollack_moves_w_as_feedback_alignment_with_a_decay():
    """One step of kp is fa's from the decayed weights."""
    network = mlp(12, 9, 7, 5)
    kp, x, labels = model_of(network, "kp")
    fa, *_ = model_of(network, "fa")
    expected = {name: p.weight.clone() for name, p in fa.parameters.items()}
    found = gradients(fa, x, labels)
    step(kp, x, labels, 0.2, 0)
    for layer in network.weighted:
        keep = 1 if layer is network.weighted[0] else 1 - FEEDBACK_DECAY
        wanted = expected[layer.name] * keep - 0.2 / 4 * found[layer.name].weight
        assert close(kp.parameters[layer.name].weight, wanted)


@pytest.mark.parametrize("network", [mlp(12, 40, 30, 10), convolutional(padding=(0, 0))], ids=["mlp", "conv"])
def test_a_mirror_finds_the_weights(network):
    """The angle between B and W falls from 90 degrees while W stays, and B's size becomes W's."""
    model, x, labels = model_of(network, "wm")
    before, angles = alignments(model, 0), []
    for number in range(600):
        step(model, x, labels, 0.0, number)
        if number % 200 == 199:
            angles.append(alignments(model, 0))
    for layer in network.weighted[1:]:
        path = [found[layer.name].angle_deg for found in (before, *angles)]
        assert path[0] > 60
        assert path[1] < 45, (layer.name, path)
        assert path[-1] < 25, (layer.name, path)
        assert angles[-1][layer.name].norm_ratio == pytest.approx(1, abs=0.15)


def test_a_mirror_has_no_bias_and_no_activation():
    """Biases and weights of other layers do not change what it shows."""
    network = mlp(12, 9, 7, 5)
    one, x, labels = model_of(network, "wm")
    two, *_ = model_of(network, "wm")
    two.parameters["linear2"].bias.add_(3)
    two.parameters["linear0"].weight.mul_(2)
    for model in (one, two):
        step(model, x, labels, 0.0, 0)
    layer = network.weighted[1]
    assert torch.equal(one.feedback.stored_matrix(layer), two.feedback.stored_matrix(layer))


def test_pruning_keeps_the_mean_and_makes_the_zeros_of_the_formula():
    """Of normal errors: those above the threshold as they are, the others 0 or the threshold, unbiased."""
    rule, sigma = RULES["egrad"], 0.02
    error = torch.randn(200_000, generator=torch.Generator().manual_seed(0)) * sigma
    found = pruned(error, rule, torch.Generator().manual_seed(1))
    threshold = found.abs()[found != 0].min()
    assert float(threshold) == pytest.approx(rule.pruning_threshold * sigma, rel=0.02)
    assert torch.equal(found[error.abs() >= threshold], error[error.abs() >= threshold])
    assert set(found[error.abs() < threshold].abs().unique().tolist()) == {0.0, float(threshold)}
    assert float((found == 0).double().mean()) == pytest.approx(rule.pruned_zeros, abs=0.01)
    small = error.abs() < threshold
    weights = torch.linspace(0, 1, small.sum())
    assert float((found[small] * weights).sum()) == pytest.approx(
        float((error[small] * weights).sum()), abs=5 * float(threshold) * len(weights) ** 0.5
    )
    assert float((found[small].abs()).mean()) == pytest.approx(float(error[small].abs().mean()), rel=0.02)


def test_unpruned_it_is_the_fixed_sign_rule():
    """With a share of zero nothing is pruned: frsf to the bit; pruned errors differ but for the last layer's."""
    network = convolutional()
    found = {}
    for name, rule in (
        ("frsf", RULES["frsf"]),
        ("none", replace(RULES["egrad"], pruned=0.0)),
        ("egrad", RULES["egrad"]),
    ):
        model, x, labels = model_of(network, rule)
        found[name] = gradients(model, x, labels)
    for layer in network.weighted:
        plain, none, much = (found[n][layer.name].weight for n in ("frsf", "none", "egrad"))
        assert torch.equal(plain, none)
        assert torch.equal(plain, much) == (layer is network.weighted[-1])


@pytest.mark.parametrize("rule", ADDED)
def test_the_seed_decides_every_number(rule):
    network = mlp(10, 8, 7, 5)

    def trained(seed):
        model = float_model(network, RULES[rule], seed=seed)
        for number in range(3):
            pixels, labels = batch_of(network, 4, number)
            step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, number)
        return torch.cat([p.weight.flatten() for p in model.parameters.values()])

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


@pytest.mark.parametrize("rule", ["kp", "wm", "egrad", "last"])
def test_a_checkpoint_holds_what_feedback_has_learnt(rule, tmp_path):
    """A model that is saved and read in the middle goes on to the same bits."""

    def steps(model, numbers):
        for number in numbers:
            pixels, labels = batch_of(network, 4, number)
            step(model, model.arithmetic.encode(pixels, 255), labels, 0.1, number)
        return model

    network = mlp(10, 8, 7, 5)
    halfway, again = steps(float_model(network, RULES[rule]), range(3)), float_model(network, RULES[rule])
    file = Checkpoint(tmp_path / "state", "a test", every_s=0)
    file.save(halfway, [], 1)
    file.load(again, 1)
    again, straight = steps(again, range(3, 6)), steps(halfway, range(3, 6))
    for layer in network.weighted:
        assert torch.equal(again.parameters[layer.name].weight, straight.parameters[layer.name].weight)
        if RULES[rule].learned and layer is not network.weighted[0]:
            assert torch.equal(again.feedback.stored_matrix(layer), straight.feedback.stored_matrix(layer))


# whole trainings

RATES = {"tdfa": 0.05, "bdfa": 0.02, "drtp": 0.05, "wm": 0.02, "kp": 0.02, "egrad": 0.02}


@pytest.mark.parametrize("precision", [Precision(), FP32], ids=["integer", "float"])
@pytest.mark.parametrize("rule", ADDED)
def test_every_rule_learns_an_easy_task(rule, precision):
    """Or says before training that it does so in floating point only."""
    recipe = Recipe(learning_rate=RATES.get(rule, 0.05), momentum=0.8, batch_size=16)
    arguments = {"network": mlp(16, 40, 4), "recipe": recipe, "precision": precision, "epochs": 8}
    if precision is not FP32 and rule in ("kp", "wm"):
        with pytest.raises(ConfigError, match=f"{rule} trains in floating point only"):
            run(rule, **arguments)
        return
    result = run(rule, **arguments)
    assert result.test_accuracy_pct >= 90


def test_all_rules_that_a_chip_cannot_train_are_named_before_any_is_trained():
    recipe = Recipe()
    with pytest.raises(ConfigError) as caught:
        make_jobs(replace(mlp(16, 8, 4), precision=Precision()), recipe, ["bp", "kp", "wm"], None, [0], TOY)
    assert [problem.message.split()[0] for problem in caught.value.problems] == ["kp", "wm"]
    with pytest.raises(ConfigError, match="price it alone"):
        built(mlp(16, 8, 4), "wm", batch=4)


# apply_rule


def chain():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(64, 7),
        nn.ReLU(), nn.Linear(7, 5),
    )  # fmt: skip


def data(n=6):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, 6, 6, generator=generator), torch.arange(n) % 5


def wrapped_gradients(rule, net=None):
    ruled = apply_rule(net or chain(), rule, seed=3)
    x, y = data()
    fn.cross_entropy(ruled(x), y).backward()
    return ruled, {name: p.grad for name, p in ruled.named_parameters()}


@pytest.mark.parametrize("rule", ["bdfa", "tdfa", "drtp"])
def test_direct_rules_on_a_module(rule):
    """Hidden gradients by autograd through each layer alone, from what the paper sends through the matrix."""
    ruled, found = wrapped_gradients(rule)
    x, y = data()
    values = [x]
    with torch.no_grad():
        for layer in ruled:
            values.append(layer(values[-1]))
    _, signal = sent(rule, values[-1], y)
    signal, matrices = signal / len(x), feedback_weights(ruled)
    for below, above in (("0", "2"), ("2", "5"), ("5", "7")):
        part = ruled[int(below) : int(above)]
        weight = chain()[int(below)].weight.detach().requires_grad_()
        plain = nn.Sequential(*chain()[int(below) : int(above)])
        out = torch.func.functional_call(plain, {"0.weight": weight}, values[int(below)])
        (wanted,) = torch.autograd.grad(out, weight, (signal @ matrices[above]).view(out.shape))
        assert len(part) == len(plain)
        assert close(found[f"{below}.weight"], wanted), below
    last = apply_rule(chain(), "bp")
    fn.cross_entropy(last(x), y).backward()
    assert close(found["7.weight"], last[7].weight.grad)


def test_kolen_pollack_on_a_module_is_for_any_optimizer():
    """B's gradient is W's, so any optimizer moves them alike; a weight decay makes them equal."""
    ruled, found = wrapped_gradients("kp")
    assert found["0.fahw_feedback"] is None, "the first layer sends nothing"
    for name in ("2", "5", "7"):
        assert torch.equal(found[f"{name}.fahw_feedback"], found[f"{name}.weight"])
    x, y = data()

    def apart(name):
        return ruled[int(name)].weight.detach() - ruled[int(name)].fahw_feedback.detach()

    def train_with(optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            fn.cross_entropy(ruled(x), y).backward()
            optimizer.step()

    for optimizer in (torch.optim.SGD(ruled.parameters(), 0.1, 0.9), torch.optim.Adam(ruled.parameters(), 1e-3)):
        before = {name: apart(name) for name in ("2", "5", "7")}
        train_with(optimizer, 5)
        assert all(close(apart(name), was, 1e-9) for name, was in before.items())
    before = float(apart("5").norm())
    train_with(torch.optim.SGD(ruled.parameters(), 0.1, weight_decay=0.5), 20)
    assert float(apart("5").norm()) == pytest.approx(before * 0.95**20, rel=1e-9)


def test_a_mirror_in_a_module_turns_to_the_weights_in_training_mode_only():
    ruled = apply_rule(chain(), "wm", seed=3)
    x, _ = data()

    def angle(layer: nn.Module) -> float:
        b, w = (t.detach() / t.detach().norm() for t in (layer.fahw_feedback, layer.weight))
        return degrees(2 * atan2(float((b - w).norm()), float((b + w).norm())))

    first = [angle(ruled[n]) for n in (2, 5, 7)]
    for _ in range(400):
        ruled(x)
    assert all(angle(ruled[n]) < 30 < before for n, before in zip((2, 5, 7), first, strict=True))
    kept = ruled[5].fahw_feedback.clone()
    ruled.eval()(x)
    assert torch.equal(ruled[5].fahw_feedback, kept)
    assert {"2.fahw_feedback", "5.fahw_feedback", "7.fahw_feedback"} <= set(ruled.state_dict())


@pytest.mark.parametrize(("rule", "learns"), [("last", {"7"}), ("frozen_conv", {"5", "7"})])
def test_frozen_layers_of_a_module_have_no_gradient(rule, learns):
    ruled, found = wrapped_gradients(rule)
    plain = apply_rule(chain(), "bp", seed=3)
    x, y = data()
    fn.cross_entropy(plain(x), y).backward()
    for name, parameter in plain.named_parameters():
        if name.split(".")[0] in learns:
            assert close(found[name], parameter.grad), name
        else:
            assert found[name] is None, name
    assert set(feedback_weights(ruled)) == ({"7"} if rule == "frozen_conv" else set())


def test_pruned_errors_of_a_module_are_mostly_zero():
    """The bias gradient of a linear layer sums its errors: one sample's are the errors themselves."""
    ruled = apply_rule(nn.Sequential(nn.Linear(20, 2000), nn.Tanh(), nn.Linear(2000, 5)), "egrad", seed=1)
    x = torch.randn(1, 20, generator=torch.Generator().manual_seed(0))
    fn.cross_entropy(ruled(x), torch.tensor([1])).backward()
    zeros = float((ruled[0].bias.grad == 0).double().mean())
    assert 0.4 < zeros < 0.75
    assert not bool((ruled[2].bias.grad == 0).any())


@pytest.mark.parametrize("rule", ADDED)
def test_a_module_can_take_another_rule_afterwards(rule):
    """Nothing is left of the rule before: parameters, buffers and gradients are the plain ones."""
    net = chain()
    again = apply_rule(apply_rule(net, rule, seed=1), "bp", seed=2)
    assert list(again.state_dict()) == list(net.state_dict())
    x, y = data()
    fn.cross_entropy(again(x), y).backward()
    fn.cross_entropy(net(x), y).backward()
    for ours, theirs in zip(again.parameters(), net.parameters(), strict=True):
        assert close(ours.grad, theirs.grad)
