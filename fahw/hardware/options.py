"""What a chip does at transport and update, and the activity that it assumes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fahw.config.schema import Frozen
from fahw.hardware.part import Fraction, Sourced


class TransportOptions(Frozen):
    """How weight transport can be made cheaper; every option pays for what it needs."""

    layout: Literal["transposed", "same"] = "transposed"
    """Layout of the copy. `transposed`: registers at the end of the link turn it. `same`: no transposer; the error
    array must then use a dataflow that consumes rows as they are stored."""
    changed_words_only: bool = False
    """Rules that move whole weights send those that the update changed: a comparison each, and addresses or a
    bitmap."""
    sign_flips_only: bool = False
    """Rules that move signs send those that the update flipped, likewise."""
    period: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Updates between two transports; the error then runs on stale weights."""


class UpdateOptions(Frozen):
    """What the update of the weights keeps and touches. Without options: momentum SGD on a wide copy of each weight."""

    momentum: bool = True
    """False: no velocity is kept; training on this chip needs `recipe.momentum: 0`."""
    in_place: bool = False
    """The update works on the forward words themselves: no wide copy is kept. Needs `master` as wide as `weight`."""
    fused: bool = False
    """The gradient goes from the accumulators straight into the update and is not stored. Of several micro-batches,
    those before the last still add up in memory."""
    skip_zeros: bool = False
    """Weights whose gradient is zero are neither read nor written; the share follows from the zeros of activations and
    errors. Not with momentum, which moves a weight as long as its velocity is not zero."""


class Activity(Sourced):
    """Shares of values, assumed where training has not measured them."""

    zero_activation: Fraction = 0.0
    zero_error: Fraction = 0.0
    changed_weight: Fraction = 1.0
    """Weights whose stored word an update changes."""
    sign_flip: Fraction = 1.0
    """Weights whose sign an update flips."""
