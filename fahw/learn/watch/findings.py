"""What a training's formats lose, in sentences that name the layer, the tensor, its format and what to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from fahw.formats.precision import Precision, RoundingModes
from fahw.learn.state.rounding_losses import LostShares

SATURATED = {"activation": 0.05, "error": 0.05}
"""The shares from which saturation of a tensor is worth a sentence, on average over the epochs."""
_SATURATED_ELSE = 0.01
"""The same share for the other tensors."""
LOST = 0.9
"""The share of underflows, or of updates that change nothing, that is worth a sentence, at the end of the first epoch:
later, when most samples are learnt, small numbers are no fault of the format."""
_LOST_ELSE = {"weight": 0.99}
"""The same share for tensors that may be mostly zero in a good training: sparse, but not empty."""

_NAMES = {
    "activation": ("activation", "outputs", "activation"), "error": ("error", "errors", "error"),
    "gradient": ("gradient", "weight gradients", "gradient"), "velocity": ("optimizer", "velocities", "update"),
    "master": ("master", "master weights", "update"), "weight": ("weight", "forward weights", ""),
    "bias_gradient": ("gradient", "bias gradients", "gradient"),
    "bias_velocity": ("optimizer", "velocities of biases", "update"), "bias": ("master", "biases", "update"),
}  # fmt: skip
"""By tensor: the key of its format, its name in a sentence, and the name of its rounding mode (empty: to nearest)."""
_RANGES = {
    "activation": "activation", "error": "error", "optimizer": "velocity_headroom", "master": "weight_headroom",
    "weight": "weight_headroom",
}  # fmt: skip
"""By key of a format: the setting of `recipe.ranges` that moves its point."""
_MOST_LAYERS = 4


class EpochLosses(Protocol):
    """An epoch of a training, of which only what rounding lost is read."""

    @property
    def lost(self) -> dict[str, dict[str, LostShares]]:
        """What rounding lost in the epoch's last step, by layer and tensor."""


def findings(trainings: Sequence[Sequence[EpochLosses]], precision: Precision, modes: RoundingModes) -> tuple[str, ...]:
    """A sentence for every kind of loss that passes its threshold in some layer, over the epochs of one rule's
    trainings."""
    epoch_losses = [row for epochs in trainings for row in epochs]
    first_epochs = [epochs[0] for epochs in trainings if epochs]
    sentences: list[str] = []
    for tensor, (kind, name, mode) in _NAMES.items():
        limit = SATURATED.get(tensor, _SATURATED_ELSE)
        subject = f"{_format(precision, kind)} {name}"
        rounding = getattr(modes, mode) if mode else "nearest"
        saturated = _layers(epoch_losses, tensor, lambda lost: lost.saturated, limit)
        underflow_limit = _LOST_ELSE.get(tensor, LOST)
        underflowed = _layers(first_epochs, tensor, lambda lost: lost.underflowed, underflow_limit)
        stagnated = _layers(first_epochs, tensor, lambda lost: lost.stagnated, LOST)
        if saturated:
            remark = (
                "; behind a ReLU they pass no error, which may be meant" if _stops_errors(precision, tensor) else ""
            )
            sentences.append(f"{subject}: {_list(saturated)} saturate{remark}. {_wider(precision, kind)}.")
        if underflowed:
            sentences.append(
                f"{subject} with {rounding} rounding: {_list(underflowed)} become zero. {_finer(precision, kind)}."
            )
        if stagnated:
            advice = _moving(rounding, kind, modes)
            sentences.append(f"{subject} with {rounding} rounding: {_updates(stagnated)} change nothing. {advice}.")
    return tuple(sentences)


def _stops_errors(precision: Precision, tensor: str) -> bool:
    """Whether saturated words of the tensor do not learn (docs/arithmetic.md)."""
    return tensor == "activation" and not precision.number(tensor).own_scale and precision.bits(tensor) > 2


Shares = list[tuple[str, float]]


def _layers(
    epoch_losses: Sequence[EpochLosses], tensor: str, share: Callable[[LostShares], float | None], limit: float
) -> Shares:
    """The layers whose mean share reaches the limit, and that share, the largest first."""
    values_of: dict[str, list[float]] = {}
    for layer, value in _shares(epoch_losses, tensor, share):
        values_of.setdefault(layer, []).append(value)
    means = [(layer, sum(values) / len(values)) for layer, values in values_of.items()]
    return sorted((pair for pair in means if pair[1] >= limit), key=lambda pair: -pair[1])


def _shares(
    epoch_losses: Sequence[EpochLosses], tensor: str, share: Callable[[LostShares], float | None]
) -> Iterator[tuple[str, float]]:
    for epoch in epoch_losses:
        for layer, tensors in epoch.lost.items():
            value = share(tensors[tensor]) if tensor in tensors else None
            if value is not None:
                yield layer, value


def _list(shares: Shares) -> str:
    """The shares in words: `12 % of fc1's, 3 % of fc2's`."""
    shown = [f"{_percent(value)} of {layer}'s" for layer, value in shares[:_MOST_LAYERS]]
    return ", ".join(shown) + _more(shares)


def _updates(shares: Shares) -> str:
    shown = [f"{_percent(value)} of the updates of {layer}" for layer, value in shares[:_MOST_LAYERS]]
    return ", ".join(shown) + _more(shares)


def _more(shares: Shares) -> str:
    rest = len(shares) - _MOST_LAYERS
    return f" and as much of {rest} more layer{'s' if rest > 1 else ''}" if rest > 0 else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _format(precision: Precision, kind: str) -> str:
    return precision.number(kind).label


def _wider(precision: Precision, kind: str) -> str:
    if precision.number(kind).own_scale:
        return f"Try a format with a larger exponent (precision.{kind})"
    if getattr(precision.scale, kind) != "static" or kind not in _RANGES:
        return f"Try fewer fraction bits (precision.scale.{kind}), or more bits (precision.{kind})"
    key = f"recipe.ranges.{_RANGES[kind]}"
    return f"Try a larger {key}, which leaves fewer fraction bits, or more bits (precision.{kind})"


def _finer(precision: Precision, kind: str) -> str:
    ranges = f"a smaller recipe.ranges.{_RANGES[kind]}, " if kind in _RANGES else ""
    if precision.number(kind).own_scale:
        return f"Try a wider format (precision.{kind})"
    return f"Try {ranges}more bits (precision.{kind}) or a scale that follows the values (precision.scale.{kind})"


def _moving(rounding: str, kind: str, modes: RoundingModes) -> str:
    if rounding == "stochastic":
        return f"Try more random bits than {modes.random_bits} (rounding.random_bits), or more bits (precision.{kind})"
    return f"Try stochastic rounding (rounding.update), or more bits (precision.{kind})"
