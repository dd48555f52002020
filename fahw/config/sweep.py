"""The schema of a sweep file: a base and the axes of a grid."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from fahw.config.precision import Frozen

Value = int | float | str | bool


class Sweep(Frozen):
    """A grid over any keys of the chip, the model and its recipe, over rules, batch sizes and chips."""

    model_config = ConfigDict(title="Sweep")

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    description: str = ""
    chip: str = "edge_dual"
    model: str = "mlp_digits"
    data: str | None = None
    """Data set; the model's recipe decides where absent."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    train: bool = True
    """False: cost only, nothing is trained."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values that hold for the whole sweep, as `chip.precision.error: 8`."""
    grid: dict[str, tuple[Value, ...]] = Field(min_length=1)
    """Axes: `rule`, `chip`, `model`, `batch_size`, or a dotted key such as `chip.precision.weight`."""
