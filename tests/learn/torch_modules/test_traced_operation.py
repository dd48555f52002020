"""Torch operations as the kinds of layers name them: what is found under the names, products, and a new kind."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from inspect import signature
from typing import ClassVar, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as fn

from fahw.errors import ConfigError
from fahw.layers.catalogue import KINDS
from fahw.layers.layer import Layer, TorchOperation
from fahw.layers.schema import Named
from fahw.learn.torch_modules.from_torch import from_torch
from fahw.learn.torch_modules.traced_operation import supported

OPERATIONS = [operation for kind in KINDS.values() for operation in kind.torch]


def test_layers_load_no_torch() -> None:
    """The kinds name torch operations by text: neither they nor `import fahw` wait for torch."""
    code = "import sys, fahw, fahw.layers.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize("field", ["modules", "functions", "methods"])
def test_no_operation_belongs_to_two_kinds(field: str) -> None:
    """A module, function or method is named by one kind, once."""
    counts = Counter(name for operation in OPERATIONS for name in getattr(operation, field))
    assert counts.most_common(1)[0][1] == 1


def test_methods_and_options_are_torch_s() -> None:
    """Methods are those of a tensor, and a module has the attributes that are read of it, or its functions do."""
    assert all(hasattr(Tensor, method) for operation in OPERATIONS for method in operation.methods)
    for operation in OPERATIONS:
        for name in operation.modules:
            arguments = signature(getattr(nn, name)).parameters.values()
            needed = [
                each for each in arguments if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
            ]
            module = getattr(nn, name)(*[1] * len(needed))
            assert {option for option in operation.options if not hasattr(module, option)} <= {"training"}


def test_what_is_supported_is_said_by_the_kinds() -> None:
    """The text lists modules, then functions and methods with what of them is supported."""
    text = supported()
    assert text.startswith("Linear, Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d,")
    assert "Flatten, ReLU, Tanh, Sigmoid," in text
    assert (
        "Identity; as functions or methods max_pool2d, avg_pool2d, adaptive_avg_pool2d, mean (over the image)" in text
    )
    assert not {"iadd", "imul", "relu_", "tanh_"} & set(text.replace(",", "").split())


class Gated(nn.Module):
    """A gate of one value per channel on an image, then on a row; every spelling of a product."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())
        self.head = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.mul(x.tanh(), other=self.gate(x))
        z = x.relu()
        z *= y
        z = fn.relu(y.mul(z)).mul_(x)
        row = z.flatten(1)
        return self.head(row * row)


def test_every_product() -> None:
    """Products are layers with both factors as sources, in torch's order, and the image's shape."""
    layers = from_torch(Gated(), (3, 4, 4)).layers
    assert [(layer.kind, layer.sources) for layer in layers] == [
        ("tanh", ("input",)), ("avgpool2d", ("input",)), ("conv2d", ("gate.0",)), ("sigmoid", ("gate.1",)),
        ("mul", ("tanh1", "gate.2")), ("relu", ("input",)), ("mul", ("relu1", "mul1")), ("mul", ("mul1", "mul2")),
        ("relu", ("mul3",)), ("mul", ("relu2", "input")), ("flatten", ("mul4",)), ("mul", ("flatten1", "flatten1")),
        ("linear", ("mul5",)),
    ]  # fmt: skip
    assert layers[4].in_shapes == ((3, 4, 4), (3, 1, 1))
    assert [layer.out_shape for layer in layers if layer.kind == "mul"] == [(3, 4, 4)] * 4 + [(48,)]


class Factors(nn.Module):
    """The product of two images of given shapes."""

    def __init__(self, *shapes: tuple[int, int, int]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, c, 1), nn.AdaptiveAvgPool2d((h, w))) for c, h, w in shapes
        )
        self.head = nn.LazyLinear(2)

    def product(self, x: Tensor) -> Tensor:
        return self.paths[0](x) * self.paths[1](x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.product(x).flatten(1))


images = st.tuples(st.integers(1, 3), st.sampled_from((1, 2, 4)), st.sampled_from((1, 2, 4)))


@given(images, st.one_of(images, st.just("same"), st.just("gate")), st.booleans())
def test_a_product_is_torch_s_or_refused(
    first: tuple[int, int, int], second: tuple[int, int, int] | str, swapped: bool
) -> None:
    """Of images of one shape, and of an image and one pixel per channel, the product is taken, with torch's shape; what
    torch broadcasts otherwise is refused."""
    other = first if second == "same" else (first[0], 1, 1) if second == "gate" else second
    shapes = (other, first) if swapped else (first, other)
    try:
        broadcast = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        return
    module = Factors(*shapes)
    module(torch.zeros(1, 1, 4, 4))
    large = max(shapes, key=math.prod)
    if set(shapes) <= {large, (large[0], 1, 1)}:
        assert from_torch(module, (1, 4, 4)).layer("mul1").out_shape == broadcast
    else:
        with pytest.raises(ConfigError, match="operation 'mul': mul needs two inputs of one shape"):
            from_torch(module, (1, 4, 4))


class Zeros(nn.Module):
    """Every second pixel is read beside what zeros are added to, through a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Identity()
        self.a, self.b, self.head = nn.Conv2d(2, 1, 1), nn.Conv2d(4, 1, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        picked = x[:, :, ::2, ::2]
        padded = fn.pad(self.same(picked), (0, 0, 0, 0, 1, 1))
        return self.head((self.b(padded) + self.a(picked)).flatten(1))


def test_a_shortcut_that_something_else_reads_stays_as_it_is() -> None:
    """Picked pixels that two layers read get no channels of zeros; those go into a layer of their own."""
    network = from_torch(Zeros(), (2, 4, 4))
    assert [(layer.sources, layer.out_shape) for layer in network.layers[:2]] == [
        (("input",), (2, 2, 2)), (("shortcut1",), (4, 2, 2)),
    ]  # fmt: skip
    assert network.layer("a").sources == ("shortcut1",)


class MishSpec(Named):
    """x sigmoid(x)."""

    kind: Literal["mish"]


@dataclass(frozen=True)
class Mish(Layer):
    """x sigmoid(x)."""

    kind: ClassVar[str] = "mish"
    spec: ClassVar[type[Named]] = MishSpec
    torch: ClassVar[tuple[TorchOperation, ...]] = (
        TorchOperation(modules=("Mish",), functions=("torch.nn.functional.mish",), options=("inplace",)),
    )


class NewKinds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mish, self.head = nn.Mish(inplace=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(fn.mish(self.mish(x)) + x)


def test_a_new_kind_is_captured_without_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind in the catalogue is taken from the torch operations that it names, in place where they are."""
    with pytest.raises(ConfigError, match=r"operation 'mish_1': mish is not supported"):
        from_torch(NewKinds(), (4,))
    monkeypatch.setitem(KINDS, "mish", Mish)
    layers = from_torch(NewKinds(), (4,)).layers
    assert [(layer.name, layer.kind, layer.sources) for layer in layers[:3]] == [
        ("mish", "mish", ("input",)), ("mish1", "mish", ("mish",)), ("add1", "add", ("mish1", "mish")),
    ]  # fmt: skip
    assert "Mish" in supported()
