"""from_torch: what it reads from a module, against torch's own counts, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as fn
from torch.utils.flop_counter import FlopCounterMode

import fahw
from fahw.errors import ConfigError
from fahw.layers.layer import Layer
from fahw.learn.torch_modules.apply_rule import apply_rule
from fahw.learn.torch_modules.from_torch import from_torch
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.rules.catalogue import COMPARED


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
    assert unnamed(from_torch(nn.Sequential(*twin[:-1]), shape)) == unnamed(model)


def unnamed(network: Network) -> list[Layer]:
    """The layers under the names of their places, each behind the layers that it reads, first sources first."""
    order: dict[str, str] = {"input": "input"}
    found = []

    def visit(layer: Layer) -> None:
        if layer.name not in order:
            for source in network.sources_of(layer):
                visit(source)
            order[layer.name] = str(len(order))
            found.append(replace(layer, name=order[layer.name], sources=tuple(order[name] for name in layer.sources)))

    visit(network.layers[-1])
    assert len(found) == len(network.layers)
    return found


class CifarBlock(nn.Module):
    """He et al.'s basic block with shortcuts of option A, as public code writes it."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.quarter = out // 4 if inside != out else 0

    def forward(self, x: Tensor) -> Tensor:
        out = fn.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        q = self.quarter
        out += fn.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, q, q), "constant", 0) if q else x
        return fn.relu(out)


class CifarNet(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [(16, 16), *[(16, 16)] * (blocks - 1), (16, 32), *[(32, 32)] * (blocks - 1), (32, 64)]
        widths += [(64, 64)] * (blocks - 1)
        self.body = nn.Sequential(*[CifarBlock(i, o, 1 if i == o else 2) for i, o in widths])
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(fn.relu(self.bn1(self.conv1(x))))
        out = fn.avg_pool2d(out, out.size()[3])
        return self.fc(out.view(out.size(0), -1))


class ImageBlock(nn.Module):
    """The basic block with a projection where the image halves, in the manner of torchvision."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


def resnet18() -> nn.Module:
    pairs = [(64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
        *[ImageBlock(i, o, 1 if i == o else 2) for i, o in pairs],
        nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(512, 1000),
    )  # fmt: skip


def vgg8() -> nn.Module:
    layers: list[nn.Module] = []
    inside = 3
    for out, pool in ((128, False), (128, True), (256, False), (256, True), (512, False), (512, True)):
        layers += [nn.Conv2d(inside, out, 3, padding="same", bias=False), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
        inside = out
    head = [nn.Flatten(), nn.Linear(8192, 1024, bias=False), nn.ReLU(), nn.Linear(1024, 10, bias=False)]
    return nn.Sequential(nn.Sequential(*layers), *head)


def two_gpus() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


TWINS = {
    "resnet20": lambda: CifarNet(3), "resnet56": lambda: CifarNet(9), "resnet18_imagenet": resnet18, "vgg8": vgg8,
    "alexnet": two_gpus,
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_shipped_models_have_the_layers_of_their_torch_twins(name: str) -> None:
    """Written down again as torch modules, the shipped networks are the same graph with the same parameters."""
    model = load_model(name)
    with torch.device("meta"):
        twin = TWINS[name]()
    network = from_torch(twin, model.input_shape)
    assert unnamed(network) == unnamed(model)
    assert network.parameters == sum(parameter.numel() for parameter in twin.parameters())


class Drawn(nn.Module):
    """A random network: every layer reads one that was drawn before it."""

    def __init__(self, image: tuple[int, int, int], plan: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        self.reads: list[int] = []
        shapes = [image]
        for kind, at, size in plan:
            at %= len(shapes)
            shape = shapes[at]
            module = self.module(kind, shape, size)
            if module is None:
                continue
            with torch.no_grad():
                shapes.append(tuple(module(torch.zeros(2, *shape)).shape[1:]))
            self.steps.append(module)
            self.reads.append(at)
        unread = set(range(1, len(shapes) - 1)) - set(self.reads)
        self.added = [number for number in sorted(unread) if shapes[number] == shapes[-1]]
        self.idle = unread - set(self.added)
        self.head = nn.Linear(math.prod(shapes[-1]), 3)

    @staticmethod
    def module(kind: str, shape: tuple[int, ...], size: int) -> nn.Module | None:
        channels, smallest = shape[0], min(shape[1:])
        if kind == "conv":
            kernel, groups = 1 + size % min(3, smallest), 1 + size % 2 if channels % 2 == 0 else 1
            out = groups * (1 + size % 3)
            return nn.Conv2d(channels, out, kernel, 1 + size % 2, size % 2, groups=groups, bias=size % 3 > 0)
        if kind == "pool":
            pools = (nn.MaxPool2d(2, 1 + size % 2), nn.AvgPool2d(2, padding=1), nn.AdaptiveAvgPool2d(1))
            return pools[size % 3] if smallest > 1 else None
        if kind == "norm":
            return nn.BatchNorm2d(channels).eval()
        plain = (nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.Hardtanh(), nn.Dropout(0.1))
        return plain[size % 5]

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for at, module in zip(self.reads, self.steps, strict=True):
            values.append(module(values[at]))
        last = values[-1]
        for number in self.added:
            last = last + values[number]
        return self.head(last.flatten(1))


plans = st.lists(
    st.tuples(st.sampled_from(("conv", "pool", "norm", "plain")), st.integers(0, 9), st.integers(0, 11)), max_size=8
)


@settings(max_examples=40)
@given(st.tuples(st.integers(1, 4), st.integers(3, 9), st.integers(3, 9)), plans)
def test_random_networks_have_torch_s_shapes_and_parameters(
    image: tuple[int, int, int], plan: list[tuple[str, int, int]]
) -> None:
    """Of networks that branch and meet, shapes layer by layer, parameters and MACs are those that torch gives."""
    module = Drawn(image, plan).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in module.named_modules():
        layer.register_forward_hook(lambda m, args, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(2, *image))
    if module.idle:
        with pytest.raises(ConfigError, match="nothing reads its result"):
            from_torch(module, image)
        return
    network = from_torch(module, image)
    assert network.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert sum(layer.macs for layer in network.layers) == counter.get_total_flops() // 2 // 2
    for layer in network.layers:
        assert layer.out_shape == shapes.get(layer.name, layer.out_shape)
        assert layer.in_shape == (network.layer(layer.sources[0]).out_shape if layer.sources != ("input",) else image)


class Everything(nn.Module):
    """Functions and methods of the newer kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.add(x.sigmoid(), fn.hardtanh(x)).add(torch.sigmoid(x))
        y = fn.dropout(y + fn.pad(x[..., ::1, ::1], (0,) * 6), p=0.2, training=self.training)
        y = fn.adaptive_avg_pool2d(y, (3, None))
        y = torch.mean(y, dim=(-1, -2), keepdim=True).mean([2, 3])
        return self.head(self.norm(y))


def test_functions_and_methods_of_graphs() -> None:
    layers = from_torch(Everything(), (4, 6, 6)).layers
    assert [(layer.kind, layer.sources) for layer in layers] == [
        ("sigmoid", ("input",)), ("hardtanh", ("input",)), ("add", ("sigmoid1", "hardtanh1")), ("sigmoid", ("input",)),
        ("add", ("add1", "sigmoid2")), ("shortcut", ("input",)), ("shortcut", ("shortcut1",)),
        ("add", ("add2", "shortcut2")), ("dropout", ("add3",)), ("avgpool2d", ("dropout1",)),
        ("avgpool2d", ("avgpool2d1",)), ("avgpool2d", ("avgpool2d2",)), ("flatten", ("avgpool2d3",)),
        ("batchnorm1d", ("flatten1",)), ("linear", ("norm",)),
    ]  # fmt: skip
    assert layers[8].probability == 0.2
    assert [layer.kernel for layer in layers[9:12]] == [(2, 1), (3, 6), (1, 1)]


class Overwrites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu, self.a, self.b = nn.ReLU(inplace=True), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(self.relu(x) + x)


def test_what_is_overwritten_is_read_as_it_was_left() -> None:
    """After an operation in place, its input has the values of its result."""
    assert from_torch(Overwrites(), (4,)).layer("add1").sources == ("relu", "relu")


class OverwritesTwice(Overwrites):
    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = self.same(x)
        self.relu(y).tanh_()
        y *= x
        return self.b(x)


def test_what_is_overwritten_is_so_under_all_its_names() -> None:
    """All that names one tensor, an identity's result too, is read as the last operation in place left it."""
    layers = from_torch(OverwritesTwice(), (4,)).layers
    assert [(layer.kind, layer.sources) for layer in layers[1:]] == [
        ("relu", ("a",)), ("tanh", ("relu",)), ("mul", ("tanh1", "tanh1")), ("linear", ("mul1",)),
    ]  # fmt: skip


@pytest.mark.parametrize("rule", COMPARED)
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


class Loose(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(nn.ReLU()(x))


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


class Mean(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x.mean(3))


class Index(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x[:, :, 1::2, :4].flatten(1))


class Frame(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(fn.pad(x, (1, 1, 1, 1)))


class Constant(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x + 1.0)


class Broadcast(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x + x.flatten(1))


class Scaled(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(torch.add(x, x, alpha=2))


class Factor(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x * 0.5)


class Power(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x**2)


class Unread(OneLayer):
    def forward(self, x: Tensor) -> Tensor:
        torch.relu(x)
        return self.a(x)


IMAGE = (1, 9, 9)
REFUSED = {
    "dropout": (lambda: chain(nn.Dropout2d()), IMAGE, r"module '0': Dropout2d is not supported"),
    "softmax": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LogSoftmax(1)), (4,), r"module '1': LogSoftmax .* the loss"),
    "norm": (lambda: chain(nn.BatchNorm2d(1, affine=False)), IMAGE, r"module '0': has affine=False"),
    "sequence norm": (lambda: chain(nn.BatchNorm1d(1)), (1, 9), r"batchnorm1d layer takes 1 axes"),
    "group norm": (lambda: chain(nn.GroupNorm(1, 1)), IMAGE, r"module '0': GroupNorm is not supported"),
    "hardtanh": (lambda: chain(nn.Hardtanh(0.0, 4.0)), IMAGE, r"has min_val=0.0 \(supported: -1.0\), max_val=4.0"),
    "pool padding": (lambda: chain(nn.AvgPool2d(3, padding=1, count_include_pad=False)), IMAGE, "count_include_pad"),
    "adaptive": (lambda: chain(nn.AdaptiveAvgPool2d(4)), IMAGE, r"pools \(9, 9\) pixels to \(4, 4\); .* divide"),
    "mean": (Mean, (1, 4, 4), r"operation 'mean': averages over 3; supported: both axes"),
    "index": (Index, (1, 3, 4), r"operation 'getitem': is an index other than"),
    "frame": (Frame, (1, 2, 2), r"operation 'pad': pads otherwise than"),
    "constant": (Constant, (4,), r"operation 'add': takes 1 tensors; supported: two"),
    "broadcast": (Broadcast, (4, 1, 1), r"operation 'add': adds shapes \(4, 1, 1\) and \(4,\)"),
    "scaled": (Scaled, (4,), r"operation 'add': has alpha=2"),
    "unread": (Unread, (4,), r"operation 'relu': nothing reads its result"),
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
    "factor": (Factor, (4,), r"operation 'mul': takes 1 tensors; supported: two"),
    "power": (Power, (4,), r"operation 'pow_1': pow is not supported"),
    "always dropped": (lambda: chain(nn.Dropout(1.0)), IMAGE, r"module '0': has p=1.0 \(supported: a number"),
    "shortcut": (Shortcut, (4,), r"ends with add 'add1'; the last layer must be linear"),
    "branch": (Branches, (4,), r"cannot be traced .* must not branch"),
    "loose": (Loose, (4,), r"cannot be traced \(module is not installed"),
    "twice": (Twice, (4,), r"module 'a': is used twice"),
    "bypass": (Bypass, (4,), r"parameter 'a.weight': is used as a value"),
    "fork": (Fork, (4,), r"module 'a': is used twice"),
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
        from_torch(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4), nn.Softmax(1)), (4,))
    assert len(caught.value.problems) == 3
    assert "supported: Linear, Conv2d" in str(caught.value)


def test_frozen_parameters_make_frozen_layers() -> None:
    """requires_grad=False is captured, and such a network costs under bp what training the last layer alone costs."""
    module = cifar_like()
    trained = from_torch(module, (3, 8, 8))
    assert not any(layer.frozen for layer in trained.layers)
    module.requires_grad_(False)
    module[-1].requires_grad_(True)
    frozen = from_torch(module, (3, 8, 8))
    assert {layer.name for layer in frozen.layers if layer.frozen} == {"0", "1", "3"}
    costs = [fahw.simulate("edge_dual", net, rule, 8) for net, rule in ((frozen, "bp"), (trained, "last"))]
    assert costs[0].energy_pj == costs[1].energy_pj < fahw.simulate("edge_dual", trained, "bp", 8).energy_pj / 2


def cifar_like() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(288, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("frozen", "message"),
    [(("0.weight", "1.weight", "1.bias", "3.weight"), r"module '3': is frozen in part \(weight without requires"),
     (("0.weight",), r"module '1': '0', which it normalises, is frozen.*set frozen: true here too"),
     (("0.weight", "1.weight", "1.bias", "3.weight", "3.bias", "6.weight", "6.bias"), "nothing is trained")],
)  # fmt: skip
def test_what_cannot_be_frozen_is_refused(frozen: tuple[str, ...], message: str) -> None:
    module = cifar_like()
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    with pytest.raises(ConfigError, match=message):
        from_torch(module, (3, 8, 8))
