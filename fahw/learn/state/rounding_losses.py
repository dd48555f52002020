"""What rounding loses in one step, by layer and tensor: numbers that saturate, that become zero, updates in vain.

A training is watched in the last step of every epoch: the arithmetic then hands over what it rounds. Watching takes no
random bits and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fahw.formats.number import Float, Number, fixed_format
from fahw.formats.precision import Rounding
from fahw.formats.quantise import losses
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.state.scales import Scales


@dataclass(frozen=True)
class Lost:
    """Shares of a tensor's numbers.

    `saturated`: beyond an end of the format by more than half a unit; of velocities, at an end. `underflowed`: not zero
    before rounding, and zero after. `stagnated`: of the updates that are not zero, those that cannot change the stored
    number: they round to no change, under stochastic rounding whatever the random bits.
    """

    saturated: float
    underflowed: float | None = None
    stagnated: float | None = None


Stagnation = tuple[int, int]
"""How many updates could not change anything, of how many that were not zero."""


class Tally:
    """Counts of one step; a tensor may come in parts.

    Tensors: activation (output of a weighted layer), error (sent to a layer's input), gradient, velocity, master,
    weight; of biases bias_gradient, bias_velocity and bias.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}

    def rounded(
        self, layer: str, tensor: str, exact: Tensor, result: Tensor, form: Number, unit: float | Tensor = 1.0
    ) -> None:
        """`exact` became `result` in a format with units of `unit`."""
        found = losses(exact, result, form, unit)
        self._add(layer, tensor, "saturated", found.saturated, found.values)
        self._add(layer, tensor, "underflowed", found.underflowed, found.values)

    def stored(self, layer: str, tensor: str, x: Tensor, form: Number, unit: float = 1.0) -> None:
        """Numbers whose values before rounding are not known: those at an end of the format."""
        self._add(layer, tensor, "saturated", int(at_ends(x, form, unit).sum()), x.numel())

    def changed(
        self, layer: str, tensor: str, exact: Tensor, form: Number, unit: float | Tensor, still: Stagnation
    ) -> None:
        """Numbers that an update moved to `exact` before rounding; `still`: how many it could not move."""
        self._add(layer, tensor, "saturated", losses(exact, exact, form, unit).saturated, exact.numel())
        self._add(layer, tensor, "stagnated", *still)

    @property
    def lost(self) -> dict[str, dict[str, Lost]]:
        """Shares by layer and tensor."""
        result: dict[str, dict[str, Lost]] = {}
        for (layer, tensor), kinds in self._counts.items():
            shares = {kind: count / max(1, total) for kind, (count, total) in kinds.items()}
            result.setdefault(layer, {})[tensor] = Lost(**shares)
        return result

    def _add(self, layer: str, tensor: str, kind: str, count: int, total: int) -> None:
        kinds = self._counts.setdefault((layer, tensor), {})
        before = kinds.get(kind, (0, 0))
        kinds[kind] = before[0] + count, before[1] + total


def at_ends(x: Tensor, form: Number, unit: float) -> Tensor:
    """Which numbers lie at an end of their format; none of one bit."""
    if isinstance(form, Float):
        return x.abs() >= form.largest
    if form.bits == 1:
        return torch.zeros_like(x, dtype=torch.bool)
    return (x == form.lowest * unit) | (x == form.highest * unit)


def stored_at_ends(parameters: list[Parameters], bits: dict[str, int]) -> dict[str, float]:
    """The share of integers at an end of their range, by kind of tensor; none of one bit."""
    stored = {
        "weight": [p.weight.flatten() for p in parameters],
        "master": [p.master.flatten() for p in parameters],
        "optimizer": [p.velocity.flatten() for p in parameters],
    }
    wide = {kind: (torch.cat(stored[kind]), fixed_format(width)) for kind, width in bits.items() if width > 1}
    return {kind: float(at_ends(words, form, 1.0).double().mean()) for kind, (words, form) in wide.items()}


def in_vain(units: Tensor, mode: Rounding, random_bits: int) -> Stagnation:
    """Of updates in units of the last place that are not zero, those too small to change anything."""
    if mode == "nearest":
        small = units.abs() <= 0.5
    else:  # a little less than nothing goes down by one unit, under stochastic rounding for one word of random bits
        small = (units >= 0) & (units < (1.0 if mode == "floor" else 2.0**-random_bits))
    wanted = units != 0
    return int((small & wanted).sum()), int(wanted.sum())


def note_update(
    tally: Tally, parameters: dict[str, Parameters], gradients: dict[str, Gradient], scales: dict[str, Scales],
    states: int,
) -> None:  # fmt: skip
    """What an integer update lost but for the masters' changes; `states`: how many words the optimizer keeps."""
    for layer, p in parameters.items():
        s, g = scales[layer], gradients[layer]
        exact = p.master * 2.0 ** (s.weight.frac - s.master.frac)
        tally.rounded(layer, "weight", exact, p.weight, fixed_format(s.weight.bits))
        sums = [("gradient", g.weight, s.gradient, s.gradient_shift)]
        if g.bias is not None:
            sums.append(("bias_gradient", g.bias, s.bias_gradient, s.bias_gradient_shift))
        for name, acc, form, shift in sums:
            exact = acc.double() * 2.0**-shift
            tally.rounded(layer, name, exact, exact.round(), fixed_format(form.bits))
        for name, state in (("velocity", p.velocity), ("bias_velocity", p.bias_velocity)) if states else ():
            if state is not None:
                tally.stored(layer, name, state, fixed_format(s.velocity.bits))
