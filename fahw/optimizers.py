"""The optimizers as values: what each keeps for a weight, what it computes, and how.

An optimizer turns the gradient of a weight into a direction; the weight then moves along it, times the learning rate.
`direction` says how once, in the operations of a `Unit`, one for each arithmetic: floating point, the chip's integers,
their emulation, the slow reference. The traffic (`fahw.work`) and the energy (`fahw.technology`) follow from the
counts. A new optimizer is an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

DirectionFormat = Literal["gradient", "velocity", "sign", "real"]

FLOAT_BITS = 32
"""Width of a state that an update unit in floating point keeps."""
ADAM_EPS = 1e-8
"""Added to the root in Adam's denominator, as in PyTorch."""


class Unit(Protocol):
    """The operations of one arithmetic; values are arrays of any shape, gradients are sums over the batch."""

    momentum: float
    second_moment: float

    def blend(self, state: Any, gradient: Any, keep: bool = False) -> Any:
        """momentum * state + gradient, rounded into the state's format; `keep`: `state` must not be overwritten."""

    def sign(self, gradient: Any) -> Any:
        """The sign of the gradient: -1, 0 or 1."""

    def real(self, gradient: Any) -> Any:
        """The mean gradient of the batch in floating point."""

    def root(self, x: Any) -> Any:
        """The square root of floating-point numbers."""


DirectionFunction = Callable[[Unit, Any, list[Any], int], tuple[Any, list[Any]]]
"""Computes (direction, new states) from (unit, gradient, states, number of the step from 0)."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer: what it stores for a weight and what an update computes.

    `states`: words kept beside the master weight, in the optimizer's format (32-bit floats where the unit is a float
    one). `direction_format`: the gradient's format, the velocity's, a sign, or a real number. `blends`: products with
    an 8-bit constant that are added to a gradient and rounded. `compares`: comparisons of gradients.
    `float_operations`: operations of a unit declared float, the product with the rate included.
    """

    name: str
    title: str
    source: str
    states: int
    direction_format: DirectionFormat
    direction: DirectionFunction
    blends: int = 0
    compares: int = 0
    float_operations: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_float(self) -> bool:
        """Whether it computes in floating point, whatever the chip's formats; its result is rounded into the master."""
        return self.direction_format == "real"

    @property
    def linear(self) -> bool:
        """Whether the direction grows with the gradient, so that the batch's 1/N can be part of the rate."""
        return self.direction_format in ("gradient", "velocity")

    def state_bits(self, bits: int) -> int:
        """Bits of all states of one weight, where the optimizer's format has `bits` bits."""
        return self.states * (FLOAT_BITS if self.is_float else bits)


def _sgd(unit: Unit, gradient: Any, states: list[Any], step: int) -> tuple[Any, list[Any]]:
    return gradient, states


def _momentum(unit: Unit, gradient: Any, states: list[Any], step: int) -> tuple[Any, list[Any]]:
    velocity = unit.blend(states[0], gradient)
    return velocity, [velocity]


def _nesterov(unit: Unit, gradient: Any, states: list[Any], step: int) -> tuple[Any, list[Any]]:
    velocity = unit.blend(states[0], gradient)
    return unit.blend(velocity, gradient, keep=True), [velocity]


def _sign(unit: Unit, gradient: Any, states: list[Any], step: int) -> tuple[Any, list[Any]]:
    return unit.sign(gradient), states


def _adam(unit: Unit, gradient: Any, states: list[Any], step: int) -> tuple[Any, list[Any]]:
    """Adam's direction; its states are the averages of the gradient and of its square."""
    first, second, mean_gradient = unit.momentum, unit.second_moment, unit.real(gradient)
    mean, square = states
    mean = mean * first + mean_gradient * (1 - first)
    square = square * second + mean_gradient * mean_gradient * (1 - second)
    corrected = unit.root(square) * (1 / (1 - second ** (step + 1)) ** 0.5) + ADAM_EPS
    return mean / corrected * (1 / (1 - first ** (step + 1))), [mean, square]


OPTIMIZERS: dict[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", "stochastic gradient descent", "w -= rate g", 0, "gradient", _sgd),
        Optimizer("momentum", "momentum", "Polyak 1964, as PyTorch: v = mu v + g", 1, "velocity", _momentum, blends=1),
        Optimizer("nesterov", "Nesterov", "Sutskever 2013, as PyTorch", 1, "velocity", _nesterov, blends=2),
        Optimizer("sign_sgd", "sign SGD", "Bernstein et al. 2018", 0, "sign", _sign, compares=1),
        Optimizer(
            "adam", "Adam", "Kingma and Ba 2015, as PyTorch; second moment corrected by a product", 2, "real", _adam,
            # averages: 2 + 3 products, 2 sums; root, correction, epsilon, division, correction and rate in one
            float_operations={"multiply": 7, "add": 3, "divide": 1, "root": 1},
        ),
    )
}  # fmt: skip
