"""from_torch: what it reads from a module, against torch's own counts, and what it refuses."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as fn
from torch.utils.flop_counter import FlopCounterMode

from fahw.errors import ConfigError
from fahw.learn.capture import from_torch
from fahw.learn.wrap import apply_rule
from fahw.network import load_model
from fahw.rules import RULES


class LeNet(nn.Module):
    """Modules, functions and methods mixed; one pooling module is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5, padding="same")
        self.c2 = nn.Conv2d(6, 16, (5, 3), stride=(1, 2), bias=False)
        self.pool = nn.MaxPool2d(2)
        self.skip = nn.Identity()
        self.net = nn.Sequential(nn.Linear(240, 120), nn.Tanh(), nn.Sequential(nn.Linear(120, 10, bias=False)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.skip(self.pool(fn.relu(self.c1(x))))
        x = self.pool(torch.relu(self.c2(x)))
        return self.net(x.view(x.size(0), -1))


def alexnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 64, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(3, 2),
        nn.Flatten(), nn.Linear(2304, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


NETS = {"lenet": (LeNet, (1, 28, 28)), "alexnet": (alexnet, (3, 224, 224))}


@pytest.mark.parametrize("kind", NETS)
def test_macs_parameters_and_shapes_are_torch_s(kind: str) -> None:
    make, shape = NETS[kind]
    module = make()
    network = from_torch(module, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = module(torch.zeros(3, *shape))
    assert sum(layer.macs for layer in network.layers) == counter.get_total_flops() // 2 // 3
    assert network.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert (network.input_shape, network.classes) == (shape, out.shape[1])
    assert network.layers[0].in_shape == shape
    for below, above in pairwise(network.layers):
        assert below.out_shape == above.in_shape
    for layer in network.weighted:
        assert layer.weight_shape == module.get_submodule(layer.name).weight.shape
        bound = layer.xavier_bound
        weight = nn.init.xavier_uniform_(torch.empty(layer.weight_shape))
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(layer.xavier_std, rel=0.2)


def test_names_kinds_and_geometry() -> None:
    layers = {layer.name: layer for layer in from_torch(LeNet(), (1, 28, 28)).layers}
    assert [(layer.name, layer.kind) for layer in layers.values()] == [
        ("c1", "conv2d"), ("relu1", "relu"), ("pool", "maxpool2d"), ("c2", "conv2d"), ("relu2", "relu"),
        ("pool2", "maxpool2d"), ("flatten1", "flatten"), ("net.0", "linear"), ("net.1", "tanh"), ("net.2.0", "linear"),
    ]  # fmt: skip
    c2, pool = layers["c2"], layers["pool2"]
    assert (c2.kernel, c2.stride, c2.padding, c2.bias) == ((5, 3), (1, 2), (0, 0), False)
    assert (c2.in_shape, c2.out_shape) == ((6, 14, 14), (16, 10, 6))
    assert (pool.kernel, pool.stride) == ((2, 2), (2, 2))
    assert layers["c1"].padding == (2, 2)
    assert (layers["net.0"].bias, layers["net.2.0"].bias) == (True, False)


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu1 = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = fn.avg_pool2d(fn.max_pool2d(x.relu(), kernel_size=3, stride=(2, 1)), 2)
        x = torch.tanh(x).tanh()
        x = torch.flatten(x, 1).flatten(1).reshape(x.shape[0], -1).view(-1, 8)
        return self.head(fn.tanh(self.relu1(x)))


def test_every_function_and_method() -> None:
    layers = from_torch(Calls(), (2, 11, 7)).layers
    assert [layer.kind for layer in layers] == [
        "relu", "maxpool2d", "avgpool2d", "tanh", "tanh", "flatten", "flatten", "flatten", "flatten", "linear", "tanh",
        "linear",
    ]  # fmt: skip
    assert len({layer.name for layer in layers}) == len(layers)
    assert (layers[0].name, layers[9].name) == ("relu1", "relu12")  # the module's name was taken
    assert layers[1].stride == (2, 1)
    assert layers[1].out_shape == (2, 5, 5)


def test_a_shipped_model_has_the_layers_of_its_torch_twin() -> None:
    model = load_model("mlp_digits")
    shape = model.input_shape
    sizes = [math.prod(shape), *(layer.outputs for layer in model.weighted)]
    twin: list[nn.Module] = [nn.Flatten()]
    for inside, outside in pairwise(sizes):
        twin += [nn.Linear(inside, outside), nn.ReLU()]
    network = from_torch(nn.Sequential(*twin[:-1]), shape)
    assert [(a.kind, a.in_shape, a.out_shape, a.kernel, a.stride, a.padding, a.bias) for a in network.layers] == [
        (b.kind, b.in_shape, b.out_shape, b.kernel, b.stride, b.padding, b.bias) for b in model.layers
    ]


@pytest.mark.parametrize("rule", RULES)
def test_a_module_with_a_rule_is_captured_alike_and_left_alone(rule: str) -> None:
    plain = LeNet()
    ruled = apply_rule(plain, rule)
    assert from_torch(ruled, (1, 28, 28)).layers == from_torch(plain, (1, 28, 28)).layers
    assert ruled.c1.fahw.draws == 0
    assert ruled.training
    assert next(ruled.parameters()).device.type == "cpu"


def test_a_lone_layer_and_double_precision() -> None:
    assert from_torch(nn.Linear(3, 2), (3,)).layers[0].weight_shape == (2, 3)
    assert from_torch(LeNet().double(), (1, 28, 28), name="mine").name == "mine"
    assert from_torch(LeNet(), (1, 28, 28)).name == "lenet"


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)


class Shortcut(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + x


class Branches(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 0 else x


class Twice(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(torch.relu(self.a(x)))


class Bypass(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return fn.linear(x, self.a.weight)


class Fork(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        self.a(x)
        return self.a(x.relu())


class Early(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        out = self.a(x)
        torch.relu(out)
        return out


class Pair(OneLayer):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.a(x),)


class TwoInputs(OneLayer):
    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.a(x)


class Own(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


IMAGE = (1, 9, 9)
REFUSED = {
    "dropout": (lambda: chain(nn.Dropout()), IMAGE, r"module '0': Dropout is not supported; leave it out"),
    "softmax": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LogSoftmax(1)), (4,), r"module '1': LogSoftmax .* the loss"),
    "norm": (lambda: chain(nn.BatchNorm2d(1)), IMAGE, r"module '0': BatchNorm2d is not supported"),
    "groups": (lambda: chain(nn.Conv2d(2, 2, 3, groups=2)), (2, 9, 9), r"module '0': has groups=2 \(supported: 1\)"),
    "dilation": (lambda: chain(nn.Conv2d(1, 2, 3, dilation=2)), IMAGE, r"has dilation=\(2, 2\)"),
    "padding mode": (lambda: chain(nn.Conv2d(1, 2, 3, 1, 1, padding_mode="reflect")), IMAGE, "mode=reflect"),
    "pool padding": (lambda: chain(nn.AvgPool2d(3, padding=1)), IMAGE, r"module '0': has padding=\(1, 1\)"),
    "ceil": (lambda: chain(nn.MaxPool2d(4, ceil_mode=True)), IMAGE, r"yields \(3, 3\) pixels, not \(2, 2\); ceil_mode"),
    "pool dilation": (lambda: chain(nn.MaxPool2d(2, dilation=2)), IMAGE, r"has dilation=\(2, 2\)"),
    "divisor": (lambda: chain(nn.AvgPool2d(2, divisor_override=3)), IMAGE, "has divisor_override=3"),
    "flattened batch": (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(8, 2)), (4,), "keep the batch axis"),
    "half flat": (lambda: nn.Sequential(nn.Flatten(2), nn.Linear(16, 2)), (3, 4, 4), r"one row of 48 values"),
    "pixels": (lambda: nn.Sequential(nn.Linear(9, 2)), IMAGE, r"a linear layer takes 1 axes per sample"),
    "size": (lambda: nn.Sequential(nn.Linear(5, 2)), (4,), r"module '0': does not fit a sample of shape \(4,\)"),
    "end": (lambda: nn.Sequential(nn.Linear(4, 2), nn.ReLU()), (4,), r"ends with relu '1'; the last layer must"),
    "nothing": (nn.Identity, (4,), "has no layers"),
    "own": (lambda: nn.Sequential(Own(4, 4)), (4,), r"module '0': Own is not supported"),
    "shortcut": (Shortcut, (4,), r"operation 'add': add is not supported"),
    "branch": (Branches, (4,), r"cannot be traced .* must not branch"),
    "twice": (Twice, (4,), r"module 'a': is used twice"),
    "bypass": (Bypass, (4,), r"parameter 'a.weight': is used as a value"),
    "fork": (Fork, (4,), r"takes 'x', not only 'a' before it; supported: a chain"),
    "early": (Early, (4,), "must return the output of its last layer"),
    "pair": (Pair, (4,), "must return the output of its last layer"),
    "inputs": (TwoInputs, (4,), "takes 2 inputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_named(case: str) -> None:
    make, shape, message = REFUSED[case]
    module = make()
    if isinstance(module, nn.Sequential) and isinstance(module[-1], nn.LazyLinear):
        module.eval()(torch.zeros(1, *shape))
    with pytest.raises(ConfigError, match=message):
        from_torch(module, shape)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_an_uneven_padding_is_refused() -> None:
    layer = nn.Conv2d(1, 1, 2, padding="same")
    with pytest.raises(ConfigError, match="pads unevenly"):
        from_torch(nn.Sequential(layer, nn.Flatten(), nn.Linear(81, 2)), IMAGE)


def test_all_unsupported_layers_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        from_torch(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Softmax(1)), (4,))
    assert len(caught.value.problems) == 3
    assert "supported: Linear, Conv2d" in str(caught.value)
