"""apply_rule on batch norms, residual adds, grouped convolutions and all else that a graph can hold, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as fn

from fahw.errors import ConfigError
from fahw.learn.error_path.tiled import axes, tiling
from fahw.learn.torch_modules.apply_rule import apply_rule, feedback_weights
from fahw.learn.torch_modules.from_torch import from_torch
from fahw.network.load import load_model
from fahw.rules.catalogue import COMPARED, RULES
from tests.support.closed_forms import Values


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Block(nn.Module):
    """A residual block; `way`: the shortcut is an identity, of option A, a projection, or strided through a pool."""

    def __init__(self, inside: int, out: int, way: str) -> None:
        super().__init__()
        stride = 1 if way == "identity" else 2
        self.conv1, self.bn1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.way, self.out, self.added = way, out, out - inside
        self.down = nn.Sequential(nn.Conv2d(inside, out, 1, 2, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(fn.relu(self.bn1(self.conv1(x)))))
        if self.way == "identity":
            return fn.relu(y + x)
        if self.way == "projection":
            y += self.down(x)
            return fn.relu(y)
        low = self.added // 2
        return fn.relu(y + fn.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, low, self.added - low)))


def without_projection(block: Block) -> Block:
    if block.way != "projection":
        block.down = nn.Identity()
    return block


def residual(way: str) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(inplace=True),
        without_projection(Block(3, 3, "identity")), without_projection(Block(3, 3 if way == "identity" else 6, way)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3 if way == "identity" else 6, 4),
    )  # fmt: skip


def mixed() -> nn.Module:
    """Groups, dilation, padding modes, poolings with padding, all activations, batch norms before and behind."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=(2, 1), padding_mode="circular", bias=False), nn.BatchNorm2d(4), nn.Hardtanh(),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=1, groups=2, bias=False), nn.Sigmoid(),
        nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 4, 2, dilation=(1, 2), padding=(0, 1)), nn.Tanh(),
        nn.AvgPool2d(2, 1, padding=1), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", groups=4), nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.LazyLinear(6, bias=False), nn.BatchNorm1d(6), nn.Dropout(0.4), nn.Linear(6, 4)),
    )  # fmt: skip


NETS = {
    "identity": lambda: residual("identity"), "option A": lambda: residual("option A"),
    "projection": lambda: residual("projection"), "mixed": mixed,
}  # fmt: skip
SHAPE = (2, 9, 8)


def ready(net: nn.Module) -> nn.Module:
    """All parameters drawn, batch norms' too."""
    net(torch.zeros(2, *SHAPE))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.randn(parameter.shape) + ("weight" in name))
    return net


def found_and_wanted(net: nn.Module, rule: str, **options: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    network = from_torch(net, SHAPE)
    ruled = apply_rule(net, rule, seed=3, **options)
    kept: dict[str, Tensor] = {}
    for name, layer in ruled.named_modules():
        if isinstance(layer, nn.Dropout):
            layer.register_forward_hook(lambda m, args, out, name=name: kept.update({name: out / args[0]}))
    x, y = torch.randn(5, *SHAPE), torch.arange(5) % 4
    out = ruled(x)
    fn.cross_entropy(out, y).backward()
    weights = {name: (layer.weight.detach(), layer.bias) for name, layer in net.named_modules()
               if getattr(layer, "weight", None) is not None}  # fmt: skip
    values = Values(network, weights, {name: factor.detach() for name, factor in kept.items()})
    with torch.no_grad():
        logits = values.forward(x)
        assert torch.allclose(logits, out, rtol=1e-12, atol=1e-12)
        error = (logits.softmax(1) - fn.one_hot(y, 4)) / len(x)
        blocked = options.get("dfa_residual", "blocked") == "blocked"
        wanted = values.backward(
            error, feedback_weights(ruled), direct=RULES[rule].path == "direct", blocked=blocked
        )  # fmt: skip
    return {name: p.grad for name, p in ruled.named_parameters()}, wanted


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Within 1e-10 of the norm, tensor by tensor; of the largest norm where a gradient is as good as zero."""
    assert found.keys() == wanted.keys()
    least = 1e-3 * max(g.norm() for g in wanted.values())
    worst = {name: float((found[name] - g).norm() / max(g.norm(), least)) for name, g in wanted.items()}
    assert max(worst.values()) <= 1e-10, worst
    return True


@pytest.mark.parametrize("rule", COMPARED)
@pytest.mark.parametrize("kind", NETS)
def test_gradients_equal_the_closed_form(kind: str, rule: str) -> None:
    """Weights, biases, scales and shifts, at most 1e-10 off."""
    assert same(*found_and_wanted(ready(NETS[kind]()), rule))


@pytest.mark.parametrize("residual", ["blocked", "biotorch"])
@pytest.mark.parametrize("feedback", ["dense", "tiled"])
@pytest.mark.parametrize("kind", NETS)
def test_gradients_of_dfa_in_all_forms(kind: str, feedback: str, residual: str) -> None:
    """Dense and tiled matrices, shortcuts blocked or not."""
    net = ready(NETS[kind]())
    assert same(*found_and_wanted(net, "dfa", dfa_feedback=feedback, dfa_residual=residual))


@pytest.mark.parametrize("kind", NETS)
def test_bp_is_autograd(kind: str) -> None:
    net = ready(NETS[kind]())
    x, y = torch.randn(5, *SHAPE), torch.arange(5) % 4
    ruled = apply_rule(net, "bp")
    for module in (net, ruled):
        torch.manual_seed(1)  # the same units are dropped
        fn.cross_entropy(module(x), y).backward()
    found, wanted = ({name: p.grad for name, p in module.named_parameters()} for module in (ruled, net))
    assert same(found, wanted)


def test_blocked_errors_do_not_depend_on_any_weight_above() -> None:
    """With shortcuts blocked, changing every weight above leaves a block's gradients alone; else it does not."""

    def first(residual: str, factor: float) -> Tensor:
        torch.manual_seed(0)
        net = ready(NETS["identity"]())
        ruled = apply_rule(net, "dfa", dfa_residual=residual).eval()
        with torch.no_grad():
            ruled[4].conv2.weight *= factor
            ruled[4].bn2.weight *= factor
        torch.manual_seed(2)
        x = torch.randn(5, *SHAPE)
        ruled(x).backward(torch.randn(5, 4))
        return ruled[0].weight.grad

    assert torch.equal(first("blocked", 1.0), first("blocked", -2.0))
    assert not torch.equal(first("biotorch", 1.0), first("biotorch", -2.0))


def test_batch_norm_keeps_its_scale_in_the_error_path() -> None:
    """Layer by layer rules send the error through a batch norm's true scale, as they do through every derivative."""
    for rule in COMPARED:
        net = ready(NETS["identity"]()).eval()
        ruled = apply_rule(net, rule).eval()
        x, e = torch.randn(5, *SHAPE), torch.randn(5, 4)
        ruled(x).backward(e)
        before = ruled[0].weight.grad.clone()
        ruled.zero_grad()
        with torch.no_grad():
            ruled[1].weight *= 2
            ruled[1].bias *= 2
        ruled(x).backward(e)
        # relu(2 z) has the derivative of relu(z), so that only the scale of the error changes
        if RULES[rule].path == "direct":
            assert torch.allclose(ruled[0].weight.grad, 2 * before, rtol=1e-12)
        assert not torch.equal(ruled[0].weight.grad, before)


@pytest.mark.parametrize("rule", ["fa", "dfa"])
def test_running_statistics_are_torch_s(rule: str) -> None:
    net = ready(NETS["projection"]())
    ruled = apply_rule(net, rule)
    x = torch.randn(5, *SHAPE)
    net(x), ruled(x)
    found, wanted = ruled.state_dict(), net.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


sizes = st.integers(1, 4)
pairs = st.tuples(sizes, sizes)


@settings(max_examples=60)
@given(
    pairs,
    pairs,
    pairs,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_tiled_feedback_is_the_transposed_convolution_of_the_tiled_error(
    kernel, stride, dilation, size, padding
) -> None:
    """Any geometry: e at every output pixel through the kernel is what the shared sums give; integers exactly."""
    out = [
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, p, d, k, t in zip(size, padding, dilation, kernel, stride, strict=True)
    ]
    if min(out) < 1:
        return
    e, b = torch.randint(-9, 10, (2, 3)).double(), torch.randint(-9, 10, (3, 2, *kernel)).double()
    tiles = tiling(*axes(size, out, kernel, stride, padding, dilation))
    found = tiles.spread(torch.einsum("no,ocrs->ncrs", e, tiles.sums(b)))
    tiled = e[:, :, None, None].expand(-1, -1, *out)
    wanted = nn.grad.conv2d_input((2, 2, *size), b, tiled, stride, padding, dilation)
    assert torch.equal(found, wanted)


def test_tiled_matrices_are_kernels_of_any_image_size() -> None:
    """Shaped (outputs, channels, kernel), Xavier of their own fans; they do not change with the image."""
    net = nn.Sequential(
        nn.Conv2d(2, 40, 3), nn.ReLU(), nn.Conv2d(40, 30, (3, 5), groups=5), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(30, 4),
    )  # fmt: skip
    ruled = apply_rule(net, "dfa", dfa_feedback="tiled")
    ruled(torch.randn(3, 2, 9, 9)).sum().backward()
    used = feedback_weights(ruled)
    assert {name: tuple(b.shape) for name, b in used.items()} == {"2": (4, 40, 3, 5), "5": (4, 30)}
    bound = math.sqrt(6 / ((4 + 40) * 15))
    assert 0.9 * bound < used["2"].abs().max() <= bound
    ruled(torch.randn(3, 2, 12, 11)).sum().backward()
    assert torch.equal(feedback_weights(ruled)["2"], used["2"])


@pytest.mark.parametrize(("blocks", "words"), [(3, 57_070), (9, 178_030)])
def test_tiled_feedback_of_the_cifar_resnets_has_the_published_size(blocks: int, words: int) -> None:
    """Feedback words of BioTorch's DFA on ResNet-20 and ResNet-56, its unused ones of the first layer included."""
    network = load_model(f"resnet{6 * blocks + 2}")
    shapes = [(10, layer.in_shape[0], *layer.kernel) for layer in network.weighted if layer.kind == "conv2d"]
    assert sum(map(math.prod, shapes)) + 10 * 64 == words


def test_unknown_options() -> None:
    with pytest.raises(ConfigError, match=r"no dfa_feedback 'tile' \(did you mean 'tiled'\?\); known: dense, tiled"):
        apply_rule(nn.Linear(2, 2), "dfa", dfa_feedback="tile")
    with pytest.raises(ConfigError, match="no dfa_residual 'block'"):
        apply_rule(nn.Linear(2, 2), "dfa", dfa_residual="block")
