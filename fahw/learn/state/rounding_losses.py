"""What rounding loses in one step, by layer and tensor: numbers that saturate, that become zero, updates in vain.

A training is watched in the last step of every epoch: the arithmetic then hands over what it rounds. Watching takes no
random bits and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fahw.formats.number import Number, fixed_format
from fahw.formats.precision import Rounding
from fahw.formats.quantise import losses
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.state.scales import Scales


@dataclass(frozen=True)
class LostShares:
    """The shares of a tensor's numbers that rounding lost, from 0 to 1, by the kind of loss; None where a kind cannot
    occur.

    `saturated`: beyond an end of the format by more than half a unit; of velocities, at an end. `underflowed`: not zero
    before rounding, and zero after. `stagnated`: of the updates that are not zero, those that cannot change the stored
    number: they round to no change, under stochastic rounding whatever the random bits.
    """

    saturated: float
    underflowed: float | None = None
    stagnated: float | None = None


Stagnation = tuple[int, int]
"""Two counts: the updates that could not change anything, and all updates that were not zero."""


class RoundingLosses:
    """Counts what rounding loses in one step; a tensor may come in parts.

    Tensors: activation (output of a weighted layer), error (sent to a layer's input), gradient, velocity, master,
    weight; of biases bias_gradient, bias_velocity and bias.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}

    def rounded(
        self, layer: str, tensor: str, exact: Tensor, result: Tensor, form: Number, unit: float | Tensor = 1.0
    ) -> None:
        """Count the numbers `exact` that became `result` in a format with units of `unit`."""
        counts = losses(exact, result, form, unit)
        self._add(layer, tensor, "saturated", counts.saturated, counts.values)
        self._add(layer, tensor, "underflowed", counts.underflowed, counts.values)

    def stored(self, layer: str, tensor: str, x: Tensor, form: Number, unit: float = 1.0) -> None:
        """Count, of numbers whose values before rounding are not known, those at an end of the format."""
        self._add(layer, tensor, "saturated", int(form.at_ends(x, unit).sum()), x.numel())

    def changed(
        self, layer: str, tensor: str, exact: Tensor, form: Number, unit: float | Tensor, stagnated: Stagnation
    ) -> None:
        """Count the numbers that an update moved to `exact` before rounding; `stagnated`: how many it could not
        move."""
        self._add(layer, tensor, "saturated", losses(exact, exact, form, unit).saturated, exact.numel())
        self._add(layer, tensor, "stagnated", *stagnated)

    @property
    def lost(self) -> dict[str, dict[str, LostShares]]:
        """The shares of the numbers that were lost, by layer and tensor."""
        result: dict[str, dict[str, LostShares]] = {}
        for (layer, tensor), kinds in self._counts.items():
            shares = {kind: count / max(1, total) for kind, (count, total) in kinds.items()}
            result.setdefault(layer, {})[tensor] = LostShares(**shares)
        return result

    def _add(self, layer: str, tensor: str, kind: str, count: int, total: int) -> None:
        whole = layer.partition("/")[0]  # what two matrices send one after the other are the layer's errors
        kinds = self._counts.setdefault((whole, tensor), {})
        earlier = kinds.get(kind, (0, 0))
        kinds[kind] = earlier[0] + count, earlier[1] + total


def saturated_shares(parameters: list[Parameters], bits: dict[str, int]) -> dict[str, float]:
    """The share of the stored integers at an end of their range, from 0 to 1, by kind of tensor (`weight`, `master`,
    `optimizer`); kinds of one bit are left out. `bits`: the width of every kind."""
    stored = {
        "weight": [p.weight.flatten() for p in parameters],
        "master": [p.master.flatten() for p in parameters],
        "optimizer": [state.flatten() for p in parameters for state in p.states],
    }
    ends = {
        kind: [fixed_format(width).at_ends(words) for words in stored[kind]]
        for kind, width in bits.items()
        if width > 1
    }
    return {kind: share(parts) for kind, parts in ends.items()}


def share(parts: list[Tensor]) -> float:
    """The share of what is true; zero of nothing."""
    return float(torch.cat(parts).double().mean()) if parts else 0.0


def count_stagnated(units: Tensor, mode: Rounding, random_bits: int) -> Stagnation:
    """How many updates are too small to change anything, of how many that are not zero. `units`: the updates in units
    of the last place; `random_bits`: of a random number of stochastic rounding."""
    if mode == "nearest":
        too_small = units.abs() <= 0.5
    else:  # a little less than nothing goes down by one unit, under stochastic rounding for one word of random bits
        too_small = (units >= 0) & (units < (1.0 if mode == "floor" else 2.0**-random_bits))
    nonzero = units != 0
    return int((too_small & nonzero).sum()), int(nonzero.sum())


def record_update_losses(
    counter: RoundingLosses, parameters: dict[str, Parameters], gradients: dict[str, Gradient],
    scales: dict[str, Scales], states: int,
) -> None:  # fmt: skip
    """Count what an integer update lost but for the masters' changes; `states`: how many words the optimizer keeps."""
    for layer, p in parameters.items():
        s, g = scales[layer], gradients[layer]
        exact = p.master * 2.0 ** (s.weight.frac - s.master.frac)
        counter.rounded(layer, "weight", exact, p.weight, fixed_format(s.weight.bits))
        sums = [("gradient", g.weight, s.gradient, s.gradient_shift)]
        if g.bias is not None:
            sums.append(("bias_gradient", g.bias, s.bias_gradient, s.bias_gradient_shift))
        for name, acc, form, shift in sums:
            exact = acc.double() * 2.0**-shift
            counter.rounded(layer, name, exact, exact.round(), fixed_format(form.bits))
        for name, tensors in (("velocity", p.states), ("bias_velocity", p.bias_states)) if states else ():
            for state in tensors:
                counter.stored(layer, name, state, fixed_format(s.velocity.bits))
