"""A network as a topology file of SCALE-Sim (versions 2 and 3): its matrix products, or its convolutions.

`gemm` files have the columns Layer, M, N, K, where an (M x K) by (K x N) product is meant. `conv` files describe the
forward pass of one sample; SCALE-Sim rounds the number of windows up, so the input's size is given as the part that the
windows cover, (windows - 1) stride + kernel, padding included. Every line ends with a comma, which its reader expects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fahw.errors import ConfigError, Problem, check_integer, suggestion
from fahw.layers.weighted import Weighted
from fahw.network.graph import Network

PHASES = ("forward", "error", "gradient")
FORMATS = ("gemm", "conv")
MOST_PRODUCTS = 1_000_000
"""The most products of a topology: a grouped convolution has one for each of its groups."""
GEMM_HEADER = "Layer,M,N,K,"
CONV_HEADER = "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,"


@dataclass(frozen=True)
class Gemm:
    """An (m x k) by (k x n) product of a layer."""

    layer: str
    m: int
    n: int
    k: int


def gemms(network: Network, phase: str, batch_size: int) -> tuple[Gemm, ...]:
    """The matrix products of a phase, first layer to last; a grouped convolution has one per group.

    In `error` the errors go layer by layer; the first layer sends none down. Raises ConfigError for another phase and
    a batch size below one.
    """
    _check_choice("phase", phase, PHASES)
    check_integer("batch_size", batch_size, 1, 10_000_000)
    _check_amount(network)
    layers = network.weighted[1:] if phase == "error" else network.weighted
    return tuple(gemm for layer in layers for gemm in _layer_gemms(layer, phase, batch_size))


def export(network: Network, phase: str = "forward", batch_size: int | None = None, form: str = "gemm") -> str:
    """The topology file as text; `batch_size` None: the recipe's for `gemm`, one sample for `conv`.

    Raises ConfigError, with every reason, for what the `conv` format cannot say.
    """
    _check_choice("format", form, FORMATS)
    _check_choice("phase", phase, PHASES)
    if form == "gemm":
        products = gemms(network, phase, network.recipe.batch_size if batch_size is None else batch_size)
        lines = [f"{_name(gemm.layer)},{gemm.m},{gemm.n},{gemm.k}," for gemm in products]
        return "\n".join([GEMM_HEADER, *lines]) + "\n"
    _check_amount(network)
    problems = []
    if phase != "forward" or (batch_size or 1) != 1:
        message = f"describes the forward pass of one sample, not {phase} of {batch_size or 1}: use --format gemm"
        problems.append(Problem("format conv", message))
    problems += [Problem(layer.name, reason) for layer in network.weighted for reason in _conv_format_gaps(layer)]
    if problems:
        raise ConfigError(problems)
    return "\n".join([CONV_HEADER, *(line for layer in network.weighted for line in _conv_lines(layer))]) + "\n"


def _check_amount(network: Network) -> None:
    """Raise ConfigError where the network has more products than a file should have lines."""
    products = sum(layer.groups for layer in network.weighted)
    if products > MOST_PRODUCTS:
        raise ConfigError(Problem(network.name, f"{products:,} products, one per group; at most {MOST_PRODUCTS:,}"))


def _layer_gemms(layer: Weighted, phase: str, samples: int) -> list[Gemm]:
    """The products of one layer in a phase, one per group."""
    groups = layer.groups
    outputs, window, values = layer.out_shape[0] // groups, layer.window, samples * layer.positions
    m, n, k = {
        "forward": (values, outputs, window),
        "error": (values, window, outputs),
        "gradient": (outputs, window, values),
    }[phase]
    return [Gemm(name, m, n, k) for name in _group_names(layer)]


def _conv_lines(layer: Weighted) -> list[str]:
    """The lines of one layer in a `conv` file, one per group."""
    axes = zip(_windows(layer), layer.stride, layer.kernel, strict=True)
    covered = [(windows - 1) * stride + kernel for windows, stride, kernel in axes]
    channels = layer.in_shape[0] // layer.groups
    numbers = (*covered, *layer.kernel, channels, layer.out_shape[0] // layer.groups, layer.stride[0])
    return [f"{_name(name)},{','.join(map(str, numbers))}," for name in _group_names(layer)]


def _windows(layer: Weighted) -> tuple[int, int]:
    """Number of windows along both axes of the image; a linear layer has one."""
    return (layer.out_shape[1], layer.out_shape[2]) if layer.convolutional else (1, 1)


def _conv_format_gaps(layer: Weighted) -> list[str]:
    """Every reason why the `conv` format cannot describe the layer."""
    checks: list[tuple[bool, str]] = [
        (layer.stride[0] != layer.stride[1], f"has one stride for both axes (this layer: {list(layer.stride)})"),
        (layer.dilation != (1, 1), f"has no dilation (this layer: {list(layer.dilation)})"),
    ]
    return [f"the conv format {text}: use --format gemm" for wrong, text in checks if wrong]


def _group_names(layer: Weighted) -> list[str]:
    """The names of the layer's groups: its own where there is one, else numbered from 1."""
    return [layer.name] if layer.groups == 1 else [f"{layer.name}_{group + 1}" for group in range(layer.groups)]


def _name(name: str) -> str:
    """The name without commas, and without `DP`, which SCALE-Sim takes for a depth-wise convolution."""
    return re.sub(r"[^\w.-]", "_", name).replace("DP", "dp")


def _check_choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of those allowed."""
    if value not in allowed:
        message = f"must be one of {', '.join(allowed)} (got '{value}'){suggestion(value, allowed)}"
        raise ConfigError(Problem(what, message))
