"""The parts of a chip: arrays wired to memories, links between memories, cores on a mesh, and what each of them
costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from fahw.config.precision import Frozen

Phase = Literal["forward", "error", "gradient", "update", "transport"]
GENERATORS = ("feedback_generator", "rounding_generator")
PHASES: tuple[Phase, ...] = ("forward", "error", "gradient", "update", "transport")
Dataflow = Literal["os", "ws", "is", "broadcast"]
ForwardDataflow = Literal["os", "ws", "is", "broadcast", "rs"]
Skipping = Literal["none", "gate", "skip"]
DramKind = Literal["ddr3_1600", "ddr4_2400", "ddr4_3200", "lpddr3", "lpddr4", "hbm1", "hbm2", "gddr5"]
MemoryKind = Literal["sram", "rom", "register", "prng"]
Level = Literal["register", "local", "global"]
LEVELS: tuple[Level, ...] = ("register", "local", "global")
"""From the array outwards; DRAM lies behind the last."""
Tensor = Literal[
    "weight", "master", "feedback", "activation", "error", "gradient", "optimizer", "psum", "mask", "param", "io"
]
Form = Literal["copy", "write_through", "transposable", "accumulate", "column"]
Device = Literal["hp", "lop", "lstp"]
Node = Literal[7, 10, 14, 16, 20, 22, 32, 45, 65, 90, 130, 180]

Positive = Annotated[float, Field(ge=1e-9, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=1, le=1e6)]
CoreIndex = Annotated[int, Field(ge=0, le=4095)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Sourced(Frozen):
    """A part of the chip. Its numbers come from somewhere: a `source`, or openly `assumed`."""

    source: str | None = None
    """Where the numbers of this part come from: paper, table, page; or the estimate that fahw makes."""
    assumed: str | None = None
    """What is assumed without a source, and why."""


class Phases(Frozen):
    """The phases that an array runs, each with its dataflow; `update` runs on the array's vector lanes."""

    forward: ForwardDataflow | None = None
    error: Dataflow | None = None
    gradient: Dataflow | None = None
    update: Literal["vector"] | None = None


class ZeroSkipping(Frozen):
    """What an array does with operands that are zero."""

    activation: Skipping = "none"
    """`gate`: the multiplier rests (energy only). `skip`: the cycle is saved too; not for systolic dataflows."""
    error: Skipping = "none"
    index_bits: Annotated[int, Field(ge=1, le=32)] = 4
    """Read with every value that is not zero, to say where it belongs, under `skip`."""
    imbalance: Fraction = 0.15
    """Cycles that lanes with fewer values wait for those with more, relative to the cycles left, under `skip`."""


class Scratchpads(Frozen):
    """What every element of a row-stationary array keeps: words of a filter, of an input and of partial sums.

    Each is a register file or an SRAM, whichever takes less energy.
    """

    filter_words: Count
    input_words: Count
    psum_words: Count
    device: Device = "lop"
    """Transistor type of those that are SRAMs."""
    clock_gated: bool = True
    """Registers take the clock only when they are accessed; false: all of a working element's in every cycle."""


class Array(Sourced):
    """An array of multiply-accumulators, with a row of vector lanes at its output edge.

    Dataflows `os`, `ws` and `is` are systolic; `broadcast` keeps outputs in place as `os` does, but sends operands
    to all elements at once: no fill and drain, wires instead of shift registers. `rs` (forward alone) keeps rows of
    filters and inputs in the elements' `scratchpads` (Eyeriss); a model of accesses, without fill, drain and stalls.
    """

    name: Name
    rows: Count
    cols: Count
    lanes: Count
    """Vector lanes: one value per lane and cycle (bias, rounding, activation, pooling, softmax, update)."""
    phases: Phases
    memories: tuple[str, ...] = Field(min_length=1)
    """Names of the memories that the array is wired to."""
    idle_pe_fraction: Fraction = 0.1
    """Energy of an idle, filling or draining PE, as a share of an active one's."""
    edge_tiles: Literal["full", "trimmed"] = "full"
    """Whether folds that use less of the array take as long as full ones, or only what their rows and columns need."""
    double_buffered: bool = False
    """`ws`, `is`: the operand that stays is loaded into shadow registers while the fold before computes."""
    zero_skipping: ZeroSkipping = ZeroSkipping()
    scratchpads: Scratchpads | None = None
    """Of `rs`, which needs them."""


class MemoryEnergy(Frozen):
    """Numbers given outright instead of estimated: per access of `width_bits`, and for the whole memory."""

    read_pj: NotNegative
    write_pj: NotNegative
    leak_mw: NotNegative
    area_mm2: NotNegative
    uncertainty: Factor = 1.0
    """The true value lies between the number divided and multiplied by this factor."""


class Memory(Sourced):
    """An on-chip memory of equal banks. Energy per access is a bank's; leakage and area are the sum of the banks'.

    A tensor may have a home at several levels: the array reads the innermost, what does not fit there lies in the next.
    """

    name: Name
    kind: MemoryKind = "sram"
    """`rom` holds fixed feedback weights, `prng` regenerates them, `register` is a register file."""
    level: Level = "local"
    holds: tuple[Tensor, ...] = Field(min_length=1)
    size_kib: Positive | Literal["fit"] | None = None
    """`fit`: as many whole banks as what the memory must hold."""
    bank_kib: Positive | None = None
    width_bits: Annotated[int, Field(ge=8, le=1024)]
    """Bits of one access."""
    read_bits_per_cycle: Count
    write_bits_per_cycle: Count = 1
    latency_cycles: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    shared_port: bool = False
    """Reads and writes wait for each other (one port and one bank); otherwise they meet in different banks."""
    power_gated: bool = False
    """Banks that hold nothing do not leak."""
    device: Device = "lop"
    """Transistor type of the SRAM estimate."""
    leakage_device: Device | None = None
    """Transistor type of the leakage estimate where it differs (low-leakage cells in a fast periphery)."""
    energy: MemoryEnergy | None = None
    pj_per_bit: NotNegative | None = None
    """Of a `prng`: energy of one generated bit."""
    area_mm2: NotNegative | None = None
    """Of a `prng`."""
    uncertainty: Factor = 4.0
    """Of a `prng`: the true energy lies between the number divided and multiplied by this factor."""

    @property
    def kib(self) -> float:
        """Capacity, KiB; 0 for a generator and, before it is fitted, for a memory of size `fit`."""
        return self.size_kib if isinstance(self.size_kib, float | int) else 0.0

    @property
    def bank(self) -> float:
        """Capacity of a bank, KiB: the whole memory where no banks are given."""
        return self.bank_kib or self.kib

    @property
    def writable(self) -> bool:
        """Whether training can write it."""
        return self.kind not in ("rom", "prng")

    @model_validator(mode="after")
    def _of_its_kind(self) -> Memory:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if self.kind in ("rom", "prng") and self.holds != ("feedback",):
            yield f"a {self.kind} can hold feedback and nothing else (got {', '.join(self.holds)})"
        if self.kind == "prng":
            if self.pj_per_bit is None or self.area_mm2 is None:
                yield "a prng needs pj_per_bit and area_mm2"
            if self.size_kib is not None or self.bank_kib is not None:
                yield "a prng has no size_kib and no bank_kib"
        elif self.size_kib is None:
            yield "size_kib is missing: a number, or `fit`"
        elif self.size_kib == "fit" and self.bank_kib is None:
            yield "size_kib: fit needs bank_kib, of which whole ones are taken"
        elif self.kind != "register" and self.bank_kib is None and self.energy is None:
            yield "bank_kib is missing"


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


class Dram(Sourced):
    """Off-chip memory: training samples come from it, and what does not fit on the chip lives there.

    Numbers that are not given are those of the `kind` in fahw's table (`fahw list technology`).
    """

    kind: DramKind = "lpddr4"
    gbyte_per_s: Positive
    read_pj_per_bit: NotNegative | None = None
    write_pj_per_bit: NotNegative | None = None
    background_mw: NotNegative | None = None
    """Static power while data move (active standby), and always where `powerdown_mw` is not given."""
    powerdown_mw: NotNegative | None = None
    """Static power between bursts, where the controller powers the device down."""
    latency_cycles: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    layout: Literal["tiled", "row_major"] = "tiled"
    """`tiled`: data lie in the order in which they are fetched. `row_major`: each run of a tile opens a row of its
    own."""
    activate_pj: NotNegative | None = None
    """Energy of opening and closing a row."""
    uncertainty: Factor = 1.6


class Generator(Sourced):
    """A pseudo-random generator."""

    pj_per_bit: NotNegative
    bits_per_cycle: Count
    area_mm2: NotNegative
    uncertainty: Factor = 4.0


class Technology(Sourced):
    """Process of the logic, the wires and the SRAM estimates."""

    node_nm: Node
    """65, 45, 32 and 22 nm have SRAM tables; at other nodes the nearest one is scaled, with a wider uncertainty."""
    vdd_v: Annotated[float, Field(ge=0.3, le=1.5)] = 0.9
    """Supply of the logic. Published operation energies are at 0.9 V; others go with the square of the voltage."""
    temp_c: Annotated[float, Field(ge=20, le=85)] | None = None
    """Temperature of the SRAM's leakage; the table's 27 C where absent."""
    clock_share: NotNegative = 0.35
    """Energy of the clock tree, relative to that of the logic and registers that it drives."""
    clock_root_mw: NotNegative = 0.0
    """Clock root that is never gated: static power."""


class TransposedAccess(Sourced):
    """What it takes to read a memory by rows and by columns: overheads of a `transposable` memory, 0.33 for 33 %."""

    read_overhead: NotNegative
    write_overhead: NotNegative
    area_overhead: NotNegative
    leak_overhead: NotNegative
    accumulate_dataflow: Literal["ws", "is"] = "ws"
    """Dataflow of `error` under the form `accumulate`: one that consumes the rows as they are stored."""


class UnitEnergy(Sourced):
    """Energy of one action of a component, given outright: a memory's word, a PE's MAC, a bit elsewhere."""

    component: str
    action: str
    pj: NotNegative
    """pJ per action; for the action `static` of a memory, pJ per cycle."""
    uncertainty: Factor = 1.0


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

    def __hash__(self) -> int:  # prices are kept by chip, and a placement may be a dict
        return hash(self.model_dump_json())

    @property
    def cores(self) -> int:
        """Number of cores."""
        return self.rows * self.cols


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
