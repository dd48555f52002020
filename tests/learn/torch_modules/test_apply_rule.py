"""apply_rule against closed forms, written here without autograd: what is linear is applied to a basis."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from math import sqrt

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

import fahw
from fahw.errors import ConfigError
from fahw.learn.torch_modules.apply_rule import apply_rule, feedback_weights
from fahw.rules.catalogue import COMPARED, RULES

SIGN_RULES = ("usf", "brsf", "frsf")


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(7, 6), nn.Tanh(), nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 8, bias=False)), nn.Tanh(),
        nn.Linear(8, 4),
    )  # fmt: skip


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=(1, 0), bias=False), nn.Tanh(),
        nn.Conv2d(6, 5, (2, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 4),
    )  # fmt: skip


class Functional(nn.Module):
    """The weighted layers are registered in another order than they are used in."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.middle = nn.Linear(18, 6)
        self.stem = nn.Conv2d(2, 2, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = fn.relu(self.stem(x), inplace=True).flatten(1)
        return fn.log_softmax(self.head(torch.tanh(self.middle(hidden))), 1)


NETS = {"mlp": (mlp, (7,)), "cnn": (cnn, (2, 8, 12))}


def batch(shape: tuple[int, ...], n: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(n, *shape), torch.arange(n) % 4


def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Gradients of one backward pass, by parameter name."""
    net.zero_grad()
    fn.cross_entropy(net(x), y).backward()
    return {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= 1e-12 * b.norm() + 1e-300)


# Closed forms


def product(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return fn.conv2d(x, weight, None, layer.stride, layer.padding)
    return x @ weight.T


def local_gradient(layer: nn.Module, x: Tensor, g: Tensor) -> Tensor:
    """dW: the product is linear in the weight, so its transpose is read off one weight at a time."""
    basis = torch.eye(layer.weight.numel()).reshape(-1, *layer.weight.shape)
    return torch.stack([(product(layer, x, one) * g).sum() for one in basis]).reshape(layer.weight.shape)


def sent_down(layer: nn.Module, x: Tensor, g: Tensor, feedback: Tensor) -> Tensor:
    """The transpose of the product with `feedback`, read off one input value at a time."""
    basis = torch.eye(x[0].numel()).reshape(-1, *x.shape[1:])
    operator = product(layer, basis, feedback).flatten(1)
    return (g.flatten(1) @ operator.T).reshape(x.shape)


def through(layer: nn.Module, x: Tensor, out: Tensor, g: Tensor) -> Tensor:
    """The error through a layer without weights."""
    if isinstance(layer, nn.ReLU):
        return g * (x > 0)
    if isinstance(layer, nn.Tanh):
        return g * (1 - out**2)
    if isinstance(layer, nn.MaxPool2d):
        where = fn.max_pool2d(x, 2, return_indices=True)[1].flatten(2)
        return torch.zeros_like(x).flatten(2).scatter(2, where, g.flatten(2)).reshape(x.shape)
    assert isinstance(layer, nn.Flatten)
    return g.reshape(x.shape)


def closed_form(net: nn.Module, x: Tensor, y: Tensor, rule: str, feedback: dict[str, Tensor]) -> dict[str, Tensor]:
    chain = [(name, layer) for name, layer in net.named_modules() if not list(layer.children())]
    values = [x.detach()]
    for _, layer in chain:
        values.append(layer(values[-1]).detach())
    error = g = (values[-1].softmax(1) - fn.one_hot(y, 4)) / len(x)
    out = {}
    for index, (name, layer) in reversed(list(enumerate(chain))):
        below = values[index]
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            g = through(layer, below, values[index + 1], g)
            continue
        out[f"{name}.weight"] = local_gradient(layer, below, g)
        if layer.bias is not None:
            out[f"{name}.bias"] = g.sum([axis for axis in range(g.ndim) if axis != 1])
        if name in feedback and RULES[rule].path == "direct":
            g = (error @ feedback[name]).reshape(below.shape)
        elif name in feedback:
            g = sent_down(layer, below, g, feedback[name])
    return out


@pytest.mark.parametrize("rule", RULES)
def test_the_memory_format_of_images_changes_no_gradient(rule: str) -> None:
    x, y = batch((2, 8, 12))
    plain, turned = apply_rule(cnn(), rule, seed=3), apply_rule(cnn(), rule, seed=3)
    turned.load_state_dict(plain.state_dict())
    turned.to(memory_format=torch.channels_last)

    fn.cross_entropy(plain(x), y).backward()
    fn.cross_entropy(turned(x.contiguous(memory_format=torch.channels_last)), y).backward()

    for one, other in zip(plain.parameters(), turned.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or close(other.grad, one.grad)


@pytest.mark.parametrize("rule", COMPARED)
@pytest.mark.parametrize("kind", NETS)
def test_gradients_equal_the_closed_form(kind: str, rule: str) -> None:
    make, shape = NETS[kind]
    net = make()
    x, y = batch(shape)
    ruled = apply_rule(net, rule, seed=3)
    found = step(ruled, x, y)
    feedback = feedback_weights(ruled)
    weighted = [n for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert list(feedback) == weighted[1:]
    wanted = closed_form(net, x, y, rule, feedback)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert close(found[name], wanted[name]), name


@pytest.mark.parametrize("kind", NETS)
def test_feedback_weights_are_the_rule_s(kind: str) -> None:
    make, shape = NETS[kind]
    net, (x, y) = make(), batch(shape)
    inputs: dict[str, Tensor] = {}
    for name, layer in net.named_modules():
        layer.register_forward_pre_hook(lambda m, args, name=name: inputs.update({name: args[0]}))
    used = {}
    for rule in COMPARED:
        ruled = apply_rule(net, rule, seed=1)
        step(ruled, x, y)
        used[rule] = feedback_weights(ruled)
    for name, weight in used["bp"].items():
        layer = net.get_submodule(name)
        fans = sum(nn.init._calculate_fan_in_and_fan_out(layer.weight))
        bound, sign = sqrt(6 / fans), torch.where(layer.weight < 0, -1.0, 1.0)
        assert torch.equal(weight, layer.weight)
        assert torch.allclose(used["usf"][name], sign * sqrt(2 / fans), rtol=1e-15, atol=0)
        for rule in ("brsf", "frsf"):
            assert torch.equal(used[rule][name].sign(), sign)
        for rule in ("fa", "brsf", "frsf"):
            assert used[rule][name].shape == layer.weight.shape
            assert 0.5 * bound < used[rule][name].abs().max() <= bound
        size = inputs[name][0].numel()
        assert used["dfa"][name].shape == (4, size)
        assert 0.5 * sqrt(6 / (4 + size)) < used["dfa"][name].abs().max() <= sqrt(6 / (4 + size))


@pytest.mark.parametrize("make", [mlp, cnn, Functional])
def test_bp_is_autograd(make: type[nn.Module]) -> None:
    net = make()
    x, y = batch({mlp: (7,), cnn: (2, 8, 12)}.get(make, (2, 8, 8)))
    plain, ruled = step(net, x, y), step(apply_rule(net, "bp"), x, y)
    assert all(close(ruled[name], plain[name]) for name in plain)


# What a rule may depend on


def changed_above(rule: str, factor: float) -> bool:
    """Whether the first gradient changes with the last weights; the error of the output stays the same."""
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 4))
    x, ruled = torch.randn(5, 6), apply_rule(net, rule).eval()
    output_error = torch.randn(5, 4)

    def first() -> Tensor:
        ruled.zero_grad()
        ruled(x).backward(output_error)
        return ruled[0].weight.grad.clone()

    before = first()
    with torch.no_grad():
        ruled[4].weight *= factor
    return not torch.equal(before, first())


@pytest.mark.parametrize("rule", COMPARED)
def test_what_depends_on_the_weights_above(rule: str) -> None:
    assert changed_above(rule, 1.5) == (rule == "bp")
    assert changed_above(rule, -1.0) == (rule == "bp" or rule in SIGN_RULES)


@pytest.mark.parametrize("rule", SIGN_RULES)
def test_flipping_a_sign_flips_the_feedback_weight_at_once(rule: str) -> None:
    net, (x, y) = mlp(), batch((7,))
    ruled = apply_rule(net, rule).eval()
    before, feedback = step(ruled, x, y), feedback_weights(ruled)
    with torch.no_grad():
        ruled[4].weight[1, 2] *= -1
    after, changed = step(ruled, x, y), feedback_weights(ruled)
    assert changed["4"][1, 2] == -feedback["4"][1, 2]
    assert (changed["4"] != feedback["4"]).sum() == 1
    assert not torch.equal(before["2.2.weight"], after["2.2.weight"])


def test_zero_counts_as_plus() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 4))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0] = -0.0
    for rule in SIGN_RULES:
        ruled = apply_rule(net, rule)
        step(ruled, *batch((3,)))
        assert (feedback_weights(ruled)["1"] > 0).all()


@pytest.mark.parametrize("rule", COMPARED)
def test_no_stale_weight_is_used(rule: str) -> None:
    net, (x, y) = cnn(), batch((2, 8, 12))
    ruled = apply_rule(net, rule)
    step(ruled, x, y)
    optimizer = torch.optim.SGD(ruled.parameters(), lr=0.5)
    optimizer.step()
    before = feedback_weights(ruled)
    found, feedback = step(ruled, x, y), feedback_weights(ruled)
    now = cnn()
    now.load_state_dict(ruled.state_dict())
    wanted = closed_form(now, x, y, rule, feedback)
    assert all(close(found[name], wanted[name]) for name in wanted)
    for name, matrix in feedback.items():
        weight = ruled.get_submodule(name).weight
        if rule == "bp":
            assert torch.equal(matrix, weight)
            assert not torch.equal(matrix, before[name])  # what was used is kept, not what became of it
        elif rule in SIGN_RULES:
            assert torch.equal(matrix < 0, weight < 0)
        else:
            assert torch.equal(matrix, before[name])


def test_brsf_redraws_in_training_and_not_in_evaluation() -> None:
    net, (x, y) = mlp(), batch((7,))

    def drawn(ruled: nn.Module) -> Tensor:
        step(ruled, x, y)
        return feedback_weights(ruled)["4"]

    ruled, twin, other = apply_rule(net, "brsf", 5), apply_rule(net, "brsf", 5), apply_rule(net, "brsf", 6)
    runs = [drawn(ruled) for _ in range(3)]
    assert not torch.equal(runs[0], runs[1])
    ruled.eval()
    with torch.no_grad():
        ruled(x)
    assert torch.equal(drawn(ruled), runs[2])
    assert torch.equal(drawn(ruled), runs[2])
    ruled.train()
    following = drawn(ruled)
    assert not torch.equal(following, runs[2])
    again = [drawn(twin) for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(again, [*runs, following], strict=True))
    assert not torch.equal(drawn(other), runs[0])


def test_brsf_uses_the_draw_of_its_own_forward_pass() -> None:
    net, (x, y) = mlp(), batch((7,))
    one, two = apply_rule(net, "brsf"), apply_rule(net, "brsf")
    first, second = fn.cross_entropy(one(x), y), fn.cross_entropy(one(x), y)
    second.backward()
    first.backward()
    summed = [step(two, x, y), step(two, x, y)]
    for name, parameter in one.named_parameters():
        assert close(parameter.grad, summed[0][name] + summed[1][name])


@pytest.mark.parametrize(("rule", "degrees"), [("bp", 0), ("fa", 90), ("usf", 30), ("brsf", 41.4), ("frsf", 41.4)])
def test_angles_at_the_start(rule: str, degrees: float) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Conv2d(40, 40, 3), nn.Flatten(), nn.Linear(1440, 64), nn.Linear(64, 4)
    )
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
    ruled = apply_rule(net, rule)
    step(ruled, *batch((3, 10, 10)))
    for name, matrix in feedback_weights(ruled).items():
        weight = net.get_submodule(name).weight
        if weight.numel() < 1000:
            continue
        cosine = (matrix * weight).sum() / matrix.norm() / weight.norm()
        assert torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).item() == pytest.approx(degrees, abs=3)
        assert (matrix.norm() / weight.norm()).item() == pytest.approx(1, abs=0.03)


# Feedback weights are drawn by seed and name


@pytest.mark.parametrize("rule", ["fa", "frsf", "dfa"])
def test_fixed_weights_follow_from_seed_and_name_alone(rule: str) -> None:
    net, (x, y) = cnn(), batch((2, 8, 12))
    one, two, other = apply_rule(net, rule, 1), apply_rule(net, rule, 1), apply_rule(net, rule, 2)
    step(one, x, y)
    torch.rand(100)  # the global generator plays no part, nor does the size of the batch
    step(two, x[:2], y[:2])
    step(other, x, y)
    for name, matrix in feedback_weights(one).items():
        assert torch.equal(matrix, feedback_weights(two)[name])
        assert not torch.equal(matrix, feedback_weights(other)[name])
    step(one.eval(), x, y)
    assert all(torch.equal(feedback_weights(one)[name], feedback_weights(two)[name]) for name in feedback_weights(two))


def test_the_global_generator_is_not_touched() -> None:
    net, (x, y) = mlp(), batch((7,))
    state = torch.get_rng_state()
    for rule in COMPARED:
        step(apply_rule(net, rule), x, y)
    assert torch.equal(state, torch.get_rng_state())


# A module like any other


@pytest.mark.parametrize("rule", COMPARED)
def test_the_module_is_left_alone_and_names_are_kept(rule: str) -> None:
    net = cnn()
    before = pickle.dumps(net.state_dict())
    x, y = batch((2, 8, 12))
    step(net, x, y)
    plain = {name: p.grad.clone() for name, p in net.named_parameters()}
    ruled = apply_rule(net, rule)
    step(ruled, x, y)
    torch.optim.SGD(ruled.parameters(), lr=1.0).step()
    assert pickle.dumps(net.state_dict()) == before
    assert [type(m) for m in net.modules()] == [type(m) for m in cnn().modules()]
    assert all(close(net.get_parameter(name).grad, plain[name]) for name in plain)
    assert all(close(step(net, x, y)[name], plain[name]) for name in plain)
    assert list(ruled.state_dict()) == list(net.state_dict())
    assert [n for n, _ in ruled.named_parameters()] == [n for n, _ in net.named_parameters()]
    ruled.load_state_dict(net.state_dict())
    net.load_state_dict(ruled.state_dict())
    assert torch.equal(ruled(x), net(x))


@pytest.mark.parametrize("rule", COMPARED)
def test_copies_go_on_alike(rule: str) -> None:
    net, (x, y) = cnn(), batch((2, 8, 12))
    ruled = apply_rule(net, rule)
    for wake in (False, True):
        if wake:
            step(ruled, x, y)
        twins = [copy.deepcopy(ruled), pickle.loads(pickle.dumps(ruled))]
        wanted = step(copy.deepcopy(ruled), x, y)
        for twin in twins:
            found = step(twin, x, y)
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_rule_can_be_exchanged() -> None:
    net, (x, y) = mlp(), batch((7,))
    other = apply_rule(apply_rule(net, "fa"), "dfa")
    wanted = step(apply_rule(net, "dfa"), x, y)
    assert all(torch.equal(grad, wanted[name]) for name, grad in step(other, x, y).items())


@pytest.mark.parametrize("rule", ["bp", "fa", "usf", "frsf", "dfa"])
def test_gradients_add_up_over_backward_passes(rule: str) -> None:
    net, (x, y) = cnn(), batch((2, 8, 12), 6)
    ruled = apply_rule(net, rule)
    whole = step(ruled, x, y)
    ruled.zero_grad()
    for part in (slice(0, 2), slice(2, 6)):  # the batch size changes too
        (fn.cross_entropy(ruled(x[part]), y[part], reduction="sum") / 6).backward()
    assert all(close(p.grad, whole[name]) for name, p in ruled.named_parameters())
    loss = fn.cross_entropy(ruled(x), y)
    ruled.zero_grad()
    loss.backward(retain_graph=True)
    loss.backward()
    assert all(close(p.grad, 2 * whole[name]) for name, p in ruled.named_parameters())


@pytest.mark.parametrize("rule", COMPARED)
def test_evaluation_in_between_changes_nothing(rule: str) -> None:
    net, (x, y) = cnn(), batch((2, 8, 12))
    ruled, twin = apply_rule(net, rule), apply_rule(net, rule)
    loss = fn.cross_entropy(ruled(x), y)
    ruled.eval()
    with torch.no_grad():
        assert not ruled(x[:1]).requires_grad
        assert torch.equal(ruled(x), net(x))
    ruled.train()
    ruled.zero_grad()
    loss.backward()
    wanted = step(twin, x, y)
    assert all(torch.equal(p.grad, wanted[name]) for name, p in ruled.named_parameters())


@pytest.mark.parametrize("rule", COMPARED)
def test_an_input_that_asks_for_a_gradient(rule: str) -> None:
    """It changes no other gradient, and gets the first layer's error through that layer's weights."""
    net, (x, y) = cnn(), batch((2, 8, 12))
    plain = step(apply_rule(net, rule), x, y)
    asking = x.clone().requires_grad_()
    ruled = apply_rule(net, rule)
    errors = []
    ruled[1].register_full_backward_hook(lambda m, grad_in, grad_out: errors.append(grad_in[0]))
    found = step(ruled, asking * 1.0, y)
    assert all(close(found[name], plain[name]) for name in plain)
    assert "0" not in feedback_weights(ruled)
    assert close(asking.grad, sent_down(net[0], x, errors[0], net[0].weight.detach()))


def test_log_softmax_at_the_end_and_layers_registered_out_of_order() -> None:
    net, (x, y) = Functional(), batch((2, 8, 8))
    ruled = apply_rule(net, "dfa")
    found = ruled(x)
    fn.nll_loss(found, y).backward()
    feedback = feedback_weights(ruled)
    assert set(feedback) == {"head", "middle"}
    with torch.no_grad():
        stem = net.stem(x).relu()
        hidden = net.middle(stem.flatten(1)).tanh()
        e = (net.head(hidden).softmax(1) - fn.one_hot(y, 4)) / len(x)
        g_middle = (e @ feedback["head"]) * (1 - hidden**2)
        g_stem = (e @ feedback["middle"]).reshape(stem.shape) * (stem > 0)
    assert close(ruled.head.weight.grad, e.T @ hidden)
    assert close(ruled.middle.weight.grad, g_middle.T @ stem.flatten(1))
    assert close(ruled.stem.weight.grad, local_gradient(net.stem, x, g_stem))


def test_frozen_layers() -> None:
    net, (x, y) = mlp(), batch((7,))
    full = step(apply_rule(net, "fa"), x, y)
    net[0].requires_grad_(False)
    net[2][0].requires_grad_(False)
    ruled = apply_rule(net, "fa")
    fn.cross_entropy(ruled(x), y).backward()
    assert ruled[0].weight.grad is None
    assert close(ruled[2][2].weight.grad, full["2.2.weight"])
    assert set(feedback_weights(ruled)) == {"4"}  # nothing below 2.2 learns, so nothing is sent there


@pytest.mark.parametrize("rule", COMPARED)
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 2, padding="same", dilation=2),
        nn.Conv2d(4, 4, 3, padding=(2, 1), padding_mode="circular", stride=2),
        nn.Conv2d(4, 4, 3, groups=2, padding="valid"),
    ],
    ids=["reflect", "same", "circular", "groups"],
)
def test_every_kind_of_convolution(layer: nn.Conv2d, rule: str) -> None:
    """The products are those of the layer with its feedback weights in the place of its weights."""
    layer = copy.deepcopy(layer).double()
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), layer, nn.Flatten(), nn.LazyLinear(4))
    x, y = batch((2, 8, 8))
    net(x)
    ruled = apply_rule(net, rule)
    found = step(ruled, x, y)
    feedback = feedback_weights(ruled)
    with torch.no_grad():
        hidden = net[:2](x)
        out = net[2](hidden)
        e = (net(x).softmax(1) - fn.one_hot(y, 4)) / len(x)
    direct = RULES[rule].path == "direct"
    g = (e @ feedback["4"]).reshape(out.shape)
    stand_in = copy.deepcopy(layer)
    leaf = hidden.clone().requires_grad_()
    stand_in(leaf).backward(g)
    assert close(found["2.weight"], stand_in.weight.grad)
    if direct:
        down = (e @ feedback["2"]).reshape(hidden.shape)
    else:
        with torch.no_grad():
            stand_in.weight.copy_(feedback["2"])
        leaf.grad = None
        stand_in(leaf).backward(g)
        down = leaf.grad
    assert close(found["0.weight"], local_gradient(net[0], x, down * (1 - hidden**2)))


@pytest.mark.parametrize("rule", COMPARED)
def test_one_sample_without_a_batch_axis(rule: str) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(0), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 4)
    )
    x, y = batch((2, 4, 4), 1)
    found = step(apply_rule(net, rule), x[0], y[0])
    net[2] = nn.Flatten()
    wanted = step(apply_rule(net, rule), x, y)
    assert all(close(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("rule", COMPARED)
def test_single_precision_moved_and_mixed(rule: str) -> None:
    net, (x, y) = cnn(), batch((2, 8, 12))
    wanted = step(apply_rule(net, rule), x, y)
    single = step(apply_rule(net, rule).float(), x.float(), y)
    for name in wanted:
        assert single[name].dtype == torch.float32
        assert (single[name] - wanted[name]).norm() < 1e-4 * wanted[name].norm()
    mixed = apply_rule(net.float(), rule)
    with torch.autocast("cpu", torch.bfloat16):
        loss = fn.cross_entropy(mixed(x.float()), y)
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in mixed.parameters())


@pytest.mark.parametrize("rule", ["wm", "kp"])
def test_learned_feedback_stays_in_the_weights_precision_under_autocast(rule: str) -> None:
    """What is learned in a mixed pass comes in bfloat16."""
    net = cnn().float()
    mixed = apply_rule(net, rule)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            loss = fn.cross_entropy(mixed(batch((2, 8, 12))[0].float()), batch((2, 8, 12))[1])
        loss.backward()
    assert {words.dtype for words in feedback_weights(mixed).values()} == {torch.float32}


@pytest.mark.parametrize("rule", ["dfa", "drtp", "fa"])
@pytest.mark.parametrize("first", ["grad of a later layer", "backward to later layers"])
def test_a_backward_pass_of_some_layers_leaves_nothing_for_the_next(rule: str, first: str) -> None:
    """Signals that a partial pass computed for tensors that it did not reach are not added to those of the next."""
    net = mlp()
    x, y = batch((7,))
    wanted = step(apply_rule(net, rule), x, y)
    ruled = apply_rule(net, rule)
    loss = fn.cross_entropy(ruled(x), y)
    late = [p for name, p in ruled.named_parameters() if p.dim() == 2][1:]
    if first == "grad of a later layer":
        torch.autograd.grad(loss, late[-1], retain_graph=True)
    else:
        loss.backward(inputs=late, retain_graph=True)
        ruled.zero_grad()
    loss.backward()
    for name, p in ruled.named_parameters():
        assert torch.equal(p.grad, wanted[name]), name


def test_a_module_that_holds_a_graph_is_refused_plainly() -> None:
    """An output stored by an earlier pass cannot be copied; a detached one can."""

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.out(x)
            return self.last

    net = Keeps()
    net(torch.ones(1, 3))
    for call in (lambda: apply_rule(net, "fa"), lambda: fahw.from_torch(net, (3,))):
        with pytest.raises(ConfigError, match=r"module: cannot be copied .*detach it"):
            call()
    net.last = net.last.detach()
    apply_rule(net, "fa")


@pytest.mark.parametrize("residual", ["blocked", "biotorch"])
def test_two_layers_on_one_tensor_and_a_shortcut(residual: str) -> None:
    """Signals that meet at one tensor add up, as gradients do; several inputs have a first layer each."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.stem, self.side, self.out = (nn.Linear(6, 6) for _ in range(5))

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            h = torch.tanh(self.stem(x) + self.side(z))
            return self.out(self.a(h) + self.b(h) + h)

    x, z = torch.randn(5, 6), torch.randn(5, 6)
    net, error = Block(), torch.randn(5, 6)
    ruled = apply_rule(net, "dfa", dfa_residual=residual)
    ruled(x, z).backward(error)
    feedback = feedback_weights(ruled)
    assert set(feedback) == {"a", "b", "out"}
    with torch.no_grad():
        h = torch.tanh(net.stem(x) + net.side(z))
        through_shortcut = feedback["out"] if residual == "biotorch" else 0
        g = error @ (feedback["a"] + feedback["b"] + through_shortcut) * (1 - h**2)
    assert close(ruled.stem.weight.grad, g.T @ x)
    assert close(ruled.side.weight.grad, g.T @ z)


def test_networks_that_feed_each_other_stay_apart() -> None:
    below, above = (
        apply_rule(mlp(), "dfa"),
        apply_rule(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4)), "dfa"),
    )
    x, y = batch((7,))
    below.zero_grad()
    fn.cross_entropy(above(below(x)), y).backward()
    assert set(feedback_weights(above)) == {"2"}
    assert set(feedback_weights(below)) == {"2.0", "2.2", "4"}


def test_direct_rules_skip_the_product_with_the_layer_above() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    net = nn.Sequential(nn.Linear(30, 50), nn.Tanh(), nn.Linear(50, 40), nn.Tanh(), nn.Linear(40, 4))
    x, y = batch((30,))
    macs = {}
    for rule in ("fa", "dfa"):
        ruled = apply_rule(net, rule)
        loss = fn.cross_entropy(ruled(x), y)
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        macs[rule] = counter.get_total_flops() // 2 // len(x)
    gradient = 30 * 50 + 50 * 40 + 40 * 4
    assert macs["fa"] == gradient + 40 * 4 + 50 * 40
    assert macs["dfa"] == gradient + 4 * 40 + 4 * 50


# What cannot be taken


def shared() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def scaled() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4))
    net.scale = nn.Parameter(torch.ones(1))
    return net


class Own(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


REFUSED = {
    "shared": (shared, r"module '0': is also '2'"),
    "norm": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
        r"module '1': is a LayerNorm with parameters",
    ),
    "rnn": (lambda: nn.Sequential(nn.Linear(4, 4), nn.GRU(4, 4)), r"module '1': is a GRU with parameters"),
    "conv1d": (lambda: nn.Sequential(nn.Sequential(nn.Conv1d(1, 1, 1)), nn.Linear(4, 4)), r"module '0.0': is a Conv1d"),
    "own": (lambda: nn.Sequential(Own(4, 4)), r"module '0': is a Own with changed parameters or forward pass"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(4)), r"module '0': is a LazyLinear with changed"),
    "norm of weights": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))),
        r"module '0': is a ParametrizedLinear",
    ),
    "loose parameter": (scaled, r"the module itself: is a Sequential with parameters \(scale\)"),
    "nothing": (lambda: nn.Sequential(nn.ReLU()), "no Linear or Conv2d layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_named(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        apply_rule(make(), "fa")


def test_unknown_rule_and_plain_module() -> None:
    with pytest.raises(ConfigError, match=r"no rule 'dfaa' \(did you mean 'dfa'\?\); known: bp, fa, usf"):
        apply_rule(mlp(), "dfaa")
    with pytest.raises(ConfigError, match="use what apply_rule returns"):
        feedback_weights(mlp())
    assert feedback_weights(apply_rule(mlp(), "fa")) == {}


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(torch.relu(self.layer(x))))


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.body(x))
        return self.one(hidden), self.two(hidden)


def test_a_layer_used_twice_is_named() -> None:
    with pytest.raises(ConfigError, match="layer 'layer': is used twice in one forward pass"):
        apply_rule(Twice(), "fa")(torch.randn(2, 4))


def test_direct_rules_refuse_what_has_no_single_output_error() -> None:
    net = apply_rule(Heads(), "dfa")
    one, two = net(torch.randn(2, 4))
    with pytest.raises(ConfigError, match=r"layer '(one|two)': and '(one|two)' are both outputs"):
        (one.sum() + two.sum()).backward()
    seen = []
    net = apply_rule(mlp(), "dfa")
    net[2].register_forward_hook(lambda m, args, out: seen.append(out))
    net(torch.randn(2, 7))
    with pytest.raises(ConfigError, match="does not depend on the network's last weighted layer"):
        seen[0].sum().backward()


def test_direct_rules_refuse_another_image_size_and_a_moved_batch_axis() -> None:
    net = apply_rule(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)),
        "dfa",
    )
    step(net, *batch((2, 8, 8)))
    with pytest.raises(ConfigError, match=r"layer '1': its feedback matrix is \(4, 108\)"):
        step(net, *batch((2, 9, 9)))
    net = apply_rule(
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Unflatten(0, (2, 3)), nn.Flatten(), nn.Linear(12, 4)), "dfa"
    )
    with pytest.raises(ConfigError, match="a batch of 6 at its input but 2 at the network's output"):
        net(torch.randn(6, 4)).sum().backward()


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa"])
def test_second_derivatives_are_refused_rather_than_wrong(rule):
    net = apply_rule(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), rule)
    loss = net(torch.ones(2, 3)).square().sum()

    (gradient,) = torch.autograd.grad(loss, net[0].weight, create_graph=True)

    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.trains == "all" and not rule.pruned])
@pytest.mark.parametrize("frozen", ["0", "2.0", "4"])
def test_frozen_layers_get_no_gradient_and_change_no_other(rule: str, frozen: str) -> None:
    """requires_grad=False of a layer leaves the gradients of the others as they are; of wm, whose feedback weights
    follow weights that learn, at least those above it."""
    module = mlp()
    x, y = torch.randn(5, 7), torch.randint(4, (5,))

    def gradients(net: nn.Module) -> dict[str, Tensor | None]:
        wrapped = apply_rule(net, rule, seed=3)
        fn.cross_entropy(wrapped(x), y).backward()
        return {name: p.grad for name, p in wrapped.named_parameters() if "fahw" not in name}

    whole = gradients(module)
    module.get_submodule(frozen).requires_grad_(False)
    found = gradients(module)
    for name, gradient in found.items():
        wanted = whole[name]
        if name.rpartition(".")[0] == frozen:
            assert gradient is None
        elif rule != "wm" or name > frozen:
            assert gradient is not None
            assert wanted is not None
            assert torch.allclose(gradient, wanted)
