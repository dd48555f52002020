"""The activity of a training that a chip's energy depends on: how many words are zero, and how many an update changes.

`learn` measures it; the cost of a step may read it. Plain numbers, so that a record can be stored and read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil
from statistics import fmean


@dataclass(frozen=True)
class LayerActivity:
    """Shares, 0 to 1, of one weighted layer.

    `zero_activations`: words of its input that are zero (padding is not a word). `zero_errors`: words of the error at
    its output that are zero, which `error` through the layer and `gradient` read; a direct rule's `error` reads the
    last layer's instead. `sign_flips`, `changed_words`: forward words whose sign bit, or any bit, one update changes.
    """

    zero_activations: float
    zero_errors: float
    sign_flips: float
    changed_words: float


@dataclass(frozen=True)
class Activity:
    """The mean activity of every weighted layer over the `steps` that were measured.

    `layers`: by layer name, first to last.
    """

    layers: dict[str, LayerActivity]
    steps: int


NAMES = tuple(field.name for field in fields(LayerActivity))
"""The names of the shares in `LayerActivity`."""


def share_of(values: int, share: float) -> int:
    """The number of `values` that a share, 0 to 1, is, rounded up; what floats add to a whole number (100 times 0.07 is
    7.000000000000001) is left out."""
    return ceil(values * share * (1 - 1e-12))


def mean_activity(records: Sequence[Activity]) -> Activity | None:
    """The mean over records of the same network, such as a training's epochs; None where none measured a step."""
    measured = [record for record in records if record.steps]
    if not measured:
        return None
    layers = {
        layer: LayerActivity(*(fmean(getattr(record.layers[layer], name) for record in measured) for name in NAMES))
        for layer in measured[0].layers
    }
    return Activity(layers, sum(record.steps for record in measured))
