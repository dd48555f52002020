"""Time per training step beside plain fp32 backpropagation in PyTorch: every rule in 8-bit integers and in float.

    python tests/bench/bench_step.py [network ...] [--rounds N] [--only TEXT ...]

Networks: mlp (784-512-512-10, batch 128), lenet5 (batch 64), resnet20 (batch 128). One process, one thread. A round
times every variant once, in random order; what is printed is the least and the median time over all rounds, each
divided by that of plain PyTorch (of the faster memory format, where there are convolutions). Times are the process's
processor time, which is what the one thread takes on a machine that does nothing else; other load disturbs only the
caches, and the ratio of the least times little.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from torch import nn

from fahw.formats.precision import Precision
from fahw.layers.activation import Relu
from fahw.layers.layer import INPUT, Layer
from fahw.layers.weighted import Linear
from fahw.learn.step import step
from fahw.learn.torch_modules.apply_rule import apply_rule
from fahw.learn.training.build import build
from fahw.learn.training.setup import TrainingSetup
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.network.recipe import Tuning
from fahw.rules.catalogue import RULES

Step = Callable[[], None]
BATCHES = {"mlp": 128, "lenet5": 64, "resnet20": 128}
FLOAT_RULES = ("bp", "fa", "dfa")
_WARM_UP, _SECONDS = 3, 0.02


def mlp(*sizes: int) -> Network:
    """Linear layers with ReLU between them."""
    layers: list[Layer] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layers.append(Linear(f"fc{number}", ((inputs,),), (outputs,)))
        layers.append(Relu(f"relu{number}", ((outputs,),), (outputs,)))
    return Network("mlp", (sizes[0],), tuple(layers[:-1]))


def torch_layer(layer: Layer) -> nn.Module:
    """The layer as PyTorch has it."""
    windows = (layer.kernel, layer.stride, layer.padding)
    if layer.kind == "linear":
        return nn.Linear(layer.inputs, layer.outputs, layer.bias)
    if layer.kind == "conv2d":
        return nn.Conv2d(layer.in_shape[0], layer.out_shape[0], *windows, bias=layer.bias)
    made: dict[str, Callable[[], nn.Module]] = {
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "flatten": nn.Flatten,
        "maxpool2d": lambda: nn.MaxPool2d(*windows),
        "avgpool2d": lambda: nn.AvgPool2d(*windows),
        "batchnorm2d": lambda: nn.BatchNorm2d(layer.in_shape[0]),
        "add": nn.Identity,
        "shortcut": lambda: Shortcut(layer),
    }
    return made[layer.kind]()


class Shortcut(nn.Module):
    """Every other pixel, with channels of zeros on both sides."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        added = layer.out_shape[0] - layer.in_shape[0]
        self._stride, self._channels = layer.stride[0], (added // 2, added - added // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width)."""
        return nn.functional.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, *self._channels))


class Twin(nn.Module):
    """A network of any graph as PyTorch has it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network
        self._last = {source: layer.name for layer in network.layers for source in layer.sources}
        self.parts = nn.ModuleDict({layer.name: torch_layer(layer) for layer in network.layers})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes)."""
        values = {INPUT: x}
        for layer in self._network.layers:
            read = [values[source] for source in layer.sources]
            values[layer.name] = self.parts[layer.name](sum(read[1:], read[0]))
            for source in layer.sources:
                if self._last[source] == layer.name:
                    values.pop(source, None)
        return values[self._network.layers[-1].name]


def module_step(module: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> Step:
    """A training step as PyTorch users write it."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), labels).backward()
        optimizer.step()

    return run


def integer_step(network: Network, rule: str, pixels: np.ndarray, labels: torch.Tensor) -> Step:
    """Ours, in the default widths and roundings."""
    tuning = network.recipe.tuning(rule) if network.name != "mlp" else Tuning(learning_rate=0.05)
    recipe = network.recipe.model_copy(update={"rules": {}, "batch_size": len(labels)} | dict(tuning))
    model, _ = build(TrainingSetup(network, recipe, RULES[rule], Precision()))
    x = model.arithmetic.encode(pixels, 255)
    draws = iter(range(10**9))
    return lambda: void(step(model, x, labels, tuning.learning_rate, next(draws)))


def void(_: float) -> None:
    """Drop a value."""


def variants(name: str) -> dict[str, Step]:
    """Every way to train one network, on the same batch."""
    network = mlp(784, 512, 512, 10) if name == "mlp" else load_model(name)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (BATCHES[name], *network.input_shape), dtype=np.uint8)
    labels = torch.from_numpy(generator.integers(0, network.classes, BATCHES[name]))
    x = torch.from_numpy(pixels).float() / 255

    def module() -> nn.Module:
        torch.manual_seed(0)
        simple = all(layer.kind not in ("add", "shortcut") for layer in network.layers)
        return nn.Sequential(*(torch_layer(layer) for layer in network.layers)) if simple else Twin(network)

    steps = {"pytorch": module_step(module(), x, labels)}
    if x.ndim == 4:
        last = torch.channels_last
        steps["pytorch channels_last"] = module_step(
            module().to(memory_format=last), x.contiguous(memory_format=last), labels
        )
    trained = [rule for rule in RULES.values() if not rule.learned]  # what those learn has no integer arithmetic
    steps |= {f"int8 {rule.name}": integer_step(network, rule.name, pixels, labels) for rule in trained}
    for rule in FLOAT_RULES:
        wrapped = apply_rule(module(), rule)
        steps[f"float {rule}"] = module_step(wrapped, x, labels)
        if x.ndim == 4:
            steps[f"float {rule} channels_last"] = module_step(
                apply_rule(module(), rule).to(memory_format=last), x.contiguous(memory_format=last), labels
            )
    return steps


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per step, one value per round."""
    for run in steps.values():
        for _ in range(_WARM_UP):
            run()
    start = time.process_time()
    for run in steps.values():
        run()
    repeats = max(1, round(_SECONDS * len(steps) / (time.process_time() - start)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name in random.sample(sorted(steps), len(steps)):
            start = time.process_time()
            for _ in range(repeats):
                steps[name]()
            times[name].append((time.process_time() - start) / repeats * 1e3)
    return times


def report(name: str, times: dict[str, list[float]]) -> None:
    """The table of one network."""
    plain = [values for variant, values in times.items() if variant.startswith("pytorch")]
    least, middle = min(map(min, plain)), min(map(median, plain))
    print(f"{name}, batch {BATCHES[name]}: least ms, ratio; median ms, ratio")  # noqa: T201
    for variant, values in times.items():
        low, mid = min(values), median(values)
        print(f"  {variant:22} {low:8.2f} {low / least:6.2f} {mid:9.2f} {mid / middle:6.2f}")  # noqa: T201


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["mlp", "lenet5"], help=", ".join(BATCHES))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", nargs="+", help="variants whose name contains one of these; plain PyTorch always")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.networks:
        steps = variants(name)
        wanted = ("pytorch", *(given.only or [""]))
        steps = {variant: run for variant, run in steps.items() if any(text in variant for text in wanted)}
        report(name, measure(steps, given.rounds))


if __name__ == "__main__":
    main()
