"""The schema of a model file: the layers of a network and how it is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from fahw.config.schema import MOST_NAME_CHARACTERS, Frozen
from fahw.formats.precision import Precision
from fahw.layers.catalogue import LayerSpec
from fahw.layers.schema import Size
from fahw.network.recipe import Recipe

DirectFeedback = Literal["dense", "tiled"]
DirectResidual = Literal["blocked", "biotorch"]


class Model(Frozen):
    """A network and its training recipe."""

    model_config = ConfigDict(title="Model")

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=MOST_NAME_CHARACTERS)]
    description: str = ""
    source: str | None = None
    input: tuple[Size, ...] = Field(min_length=1, max_length=3)
    """Shape of one sample: `[features]` or `[channels, height, width]`."""
    layers: tuple[LayerSpec, ...] = Field(min_length=1, max_length=2000)
    dfa_feedback: DirectFeedback = "dense"
    """What sends the output error to a convolution's input under a direct rule. `dense`: a matrix of outputs x channels
    x height x width (Nokland 2016). `tiled`: a kernel of outputs x channels x kernel, applied to the error tiled over
    the output's pixels (BioTorch)."""
    dfa_residual: DirectResidual = "blocked"
    """What a direct rule lets through a residual shortcut. `blocked`: nothing; every weighted layer's input gets the
    output error alone. `biotorch`: the back-propagated part is added, and the layer waits for those above."""
    precision: Precision | None = None
    """Formats for training without a chip; a chip's own formats win."""
    recipe: Recipe = Recipe()
