"""Energy per value of what a training chip does beside products: activations, batch norm, optimizers.

Each is a list of operations, counted here (assumed: as many as the formula needs, none shared) and priced by width.
"""

from __future__ import annotations

from collections.abc import Callable

from fahw import optimizers
from fahw.errors import ConfigError, Problem, suggestion
from fahw.formats.number import FLOATS
from fahw.optimizers import Optimizer
from fahw.technology.constant import Constant
from fahw.technology.operations import (
    add_pj,
    bitwise_pj,
    compare_pj,
    divide_pj,
    multiply_pj,
    register_pj,
    shift_pj,
    table_pj,
    weighted_sum,
)

Recipe = dict[str, int]
"""Number of operations by kind."""

ACTIVATIONS: dict[tuple[str, str], Recipe] = {
    ("relu", "forward"): {"compare": 1},
    ("relu", "backward"): {"mask": 1},
    ("hardtanh", "forward"): {"compare": 2},
    ("hardtanh", "backward"): {"mask": 1},
    ("tanh", "forward"): {"table": 1},
    ("tanh", "backward"): {"multiply": 2, "add": 1},  # (1 - y^2) e
    ("sigmoid", "forward"): {"table": 1},
    ("sigmoid", "backward"): {"multiply": 2, "add": 1},  # y (1 - y) e
}
BATCH_NORM: dict[str, Recipe] = {
    "forward": {"multiply": 2, "add": 3},  # sum and sum of squares; scale and shift
    "inference": {"multiply": 1, "add": 1},
    "backward": {"multiply": 3, "add": 4},  # two sums over the batch; scale, and subtract both means
    "channel": {"divide": 2},  # 1 / sqrt(variance) as one, the mean as another; once per channel and batch
}


def _operations(optimizer: Optimizer) -> Recipe:
    """Operations per weight: sums with states, the rate's product, the step; a root is priced as a division."""
    counts = {
        "compare": optimizer.compares,
        "multiply": optimizer.blends + optimizer.linear,
        "add": optimizer.blends + 1,
    }
    for kind, number in optimizer.float_operations.items():
        name = "divide" if kind == "root" else kind
        counts[name] = counts.get(name, 0) + number
    return {kind: number for kind, number in counts.items() if number}


OPTIMIZERS: dict[str, Recipe] = {name: _operations(optimizer) for name, optimizer in optimizers.OPTIMIZERS.items()}
OPTIMIZERS["sgd_power_of_two"] = {"shift": 1, "add": 1}


def activation_pj(kind: str, direction: str, bits: int, node_nm: int) -> Constant:
    """Energy of one value through relu, hardtanh, tanh or sigmoid, `forward` or `backward` (mask bits are memory)."""
    kinds = {name for name, _ in ACTIVATIONS}
    if (kind, direction) not in ACTIVATIONS:
        message = f"no activation '{kind}' {direction}{suggestion(kind, kinds)}; known: {', '.join(sorted(kinds))}"
        raise ConfigError(Problem("activation", message))
    return _recipe_energy(ACTIVATIONS[kind, direction], bits, node_nm, False)


def batch_norm_pj(direction: str, bits: int, node_nm: int, is_float: bool = False) -> Constant:
    """Energy of batch norm: `forward` (training), `inference`, `backward` per value; `channel` once each."""
    if direction not in BATCH_NORM:
        message = f"no such part '{direction}'{suggestion(direction, BATCH_NORM)}; known: {', '.join(BATCH_NORM)}"
        raise ConfigError(Problem("batch_norm", message))
    return _recipe_energy(BATCH_NORM[direction], bits, node_nm, is_float)


def optimizer_pj(kind: str, bits: int, node_nm: int, is_float: bool = False) -> Constant:
    """Energy of one weight's update, its memory accesses apart; all operands `bits` wide, fp32 where `is_float`."""
    if kind not in OPTIMIZERS:
        message = f"no optimizer '{kind}'{suggestion(kind, OPTIMIZERS)}; known: {', '.join(OPTIMIZERS)}"
        raise ConfigError(Problem("optimizer", message))
    return _recipe_energy(OPTIMIZERS[kind], bits, node_nm, is_float)


def _recipe_energy(recipe: Recipe, bits: int, node_nm: int, is_float: bool) -> Constant:
    form = FLOATS["fp32"] if is_float else None
    prices: dict[str, Callable[[], Constant]] = {
        "add": lambda: add_pj(bits, node_nm, form),
        "multiply": lambda: multiply_pj(bits, bits, node_nm, form),
        "divide": lambda: divide_pj(bits, node_nm, form),
        "compare": lambda: compare_pj(bits, node_nm),
        "mask": lambda: bitwise_pj(bits, node_nm),
        "shift": lambda: shift_pj(bits, node_nm),
        "table": lambda: table_pj(bits, node_nm),
        "register": lambda: register_pj(bits, node_nm),
    }
    parts = [(float(number), prices[name]()) for name, number in recipe.items()]
    operation_list = ", ".join(f"{number} {name}" for name, number in recipe.items())
    sources = "; ".join(dict.fromkeys(part.source for _, part in parts))
    return weighted_sum(parts, f"{operation_list} (counted): {sources}")
