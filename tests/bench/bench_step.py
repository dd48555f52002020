"""Milliseconds per training step of every rule in 8-bit integers, beside plain fp32 backpropagation in PyTorch.

    python tests/bench/bench_step.py [rounds]

One process, one thread, the variants of a round in random order; the medians over all rounds and their ratios to plain
PyTorch are printed. MLP 784-512-512-10, batch 128, default widths and rounding.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import numpy as np
import torch

from fahw.config.precision import Precision, RoundingModes
from fahw.config.recipe import Tuning
from fahw.learn.step import step
from fahw.learn.train import build
from fahw.network import Layer, Network
from fahw.rules import RULES

_BATCH, _SIZES, _STEPS = 128, (784, 512, 512, 10), 5


def mlp() -> Network:
    """Linear layers with ReLU between them."""
    layers: list[Layer] = []
    for number, (inputs, outputs) in enumerate(pairwise(_SIZES), 1):
        layers.append(Layer(f"fc{number}", "linear", (inputs,), (outputs,)))
        layers.append(Layer(f"relu{number}", "relu", (outputs,), (outputs,)))
    return Network("mlp", (_SIZES[0],), tuple(layers[:-1]))


def plain_step(pixels: np.ndarray, labels: torch.Tensor) -> Callable[[], None]:
    """Backpropagation as PyTorch users write it."""
    torch.manual_seed(0)
    modules: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(_SIZES):
        modules += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x = torch.from_numpy(pixels).float() / 255

    def run() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return run


def rule_step(name: str, pixels: np.ndarray, labels: torch.Tensor) -> Callable[[], None]:
    """Ours."""
    model, _ = build(mlp(), Tuning(learning_rate=0.05), RULES[name], Precision(), RoundingModes(), _BATCH, 0)
    x = model.arithmetic.encode(pixels, 255)
    draws = iter(range(10**9))
    return lambda: void(step(model, x, labels, 0.05, next(draws)))


def void(_: float) -> None:
    """Drop a value."""


def main(rounds: int) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (_BATCH, _SIZES[0]), dtype=np.uint8)
    labels = torch.from_numpy(generator.integers(0, _SIZES[-1], _BATCH))
    variants = {"pytorch": plain_step(pixels, labels)} | {name: rule_step(name, pixels, labels) for name in RULES}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 3):
        for name in random.sample(sorted(variants), len(variants)):
            start = time.perf_counter()
            for _ in range(_STEPS):
                variants[name]()
            if number >= 3:
                times[name].append((time.perf_counter() - start) / _STEPS * 1e3)
    plain = median(times["pytorch"])
    for name, values in times.items():
        print(f"{name:8} {median(values):7.2f} ms  {median(values) / plain:5.2f}x")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
