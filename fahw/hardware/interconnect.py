"""Links between memories and the mesh between cores, as a chip file describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from fahw.hardware.part import CoreIndex, Count, Factor, Name, NotNegative, Sourced


class Link(Sourced):
    """Wires from one memory to another, used by weight transport."""

    model_config = ConfigDict(populate_by_name=True)

    name: Name
    from_: str = Field(alias="from")
    to: str
    width_bits: Count
    """Bits per cycle."""
    length_mm: NotNegative
    pj_per_bit_mm: NotNegative | None = None
    """Energy of a bit over one millimetre, switching activity included; estimated from the technology where absent."""


class Mesh(Sourced):
    """Equal cores on a mesh, each with the arrays, memories and links of the file; messages go along x, then along
    y."""

    rows: Annotated[int, Field(ge=1, le=64)]
    cols: Annotated[int, Field(ge=1, le=64)]
    link_bits_per_cycle: Count
    hop_latency_cycles: Annotated[int, Field(ge=0, le=1000)] = 1
    hop_pj_per_bit: NotNegative
    """Router and wire of one hop."""
    router_area_mm2: NotNegative = 0.0
    uncertainty: Factor = 2.0
    placement: Literal["one_layer_per_core", "balanced"] | dict[str, CoreIndex | tuple[CoreIndex, ...]] = (
        "one_layer_per_core"
    )
    """Where layers go: one to a core, neighbours together so that cores have like work, or core numbers by layer."""
    split_layers: bool = True
    """A layer whose weights do not fit one core is split by outputs over as many as it takes."""
    error_cores: Literal["own", "separate"] = "own"
    """Whether a layer's error runs on the layer's own core, or on one of its own: weights then cross the mesh."""
    multicast: bool = True
    """The output error of direct rules reaches all cores by one tree, each link charged once; else one message each."""

    def __hash__(self) -> int:  # prices are cached by chip, and a placement may be a dict
        return hash(self.model_dump_json())

    @property
    def cores(self) -> int:
        """Number of cores of the mesh."""
        return self.rows * self.cols
