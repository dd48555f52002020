"""Points of the roofline: multiply-accumulates of a product per bit through a memory's port, and per cycle."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fahw.chip.cost import Cost
from fahw.chip.usage import executed_macs, memory_of, peak_macs
from fahw.work.counts.record import local_name

ROOFLINE_COLUMNS = (
    "port", "phase", "layer", "macs", "bits", "cycles", "bits_per_cycle", "peak_macs_per_cycle", "macs_per_bit",
    "macs_per_cycle", "roof_macs_per_cycle", "bound",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A phase of a layer as one memory port sees it.

    `macs`: executed, without skipped ones; `bits`: through the port; `cycles`: from start to end in the isolated step,
    summed over micro-batches; `bits_per_cycle`: what the port can pass; `peak_macs_per_cycle`: what the array can do.
    """

    port: str
    phase: str
    layer: str
    macs: int
    bits: int
    cycles: int
    bits_per_cycle: float
    peak_macs_per_cycle: int

    @property
    def macs_per_bit(self) -> float:
        """Operational intensity: multiply-accumulates per bit through the port."""
        return self.macs / self.bits

    @property
    def macs_per_cycle(self) -> float:
        """Multiply-accumulates per cycle that are reached."""
        return self.macs / self.cycles

    @property
    def roof_macs_per_cycle(self) -> float:
        """Multiply-accumulates per cycle that the port and the array allow at most."""
        return min(float(self.peak_macs_per_cycle), self.macs_per_bit * self.bits_per_cycle)

    @property
    def bound(self) -> str:
        """The limit that makes the roof here: `array` or `port`."""
        return "port" if self.macs_per_bit * self.bits_per_cycle < self.peak_macs_per_cycle else "array"


def points(cost: Cost) -> tuple[Point, ...]:
    """A point for every port of a memory or of DRAM that a product (forward, error, gradient of a layer) uses."""
    chip, macs, peaks = cost.work.chip, executed_macs(cost), peak_macs(cost.work.chip)
    cycles: dict[tuple[str, str], int] = defaultdict(int)
    for span in cost.timing.spans:
        cycles[span.phase, span.layer] += span.end - span.start
    bits: dict[tuple[str, str, str], int] = defaultdict(int)
    rates: dict[str, float] = {}
    executed: dict[tuple[str, str], int] = defaultdict(int)
    arrays: dict[tuple[str, str], str] = {}
    for task in (task for task in cost.work.tasks if task.macs):
        place = (task.phase, task.layer)
        executed[place] += macs[task.phase, task.layer, task.micro]
        arrays[place] = local_name(task.part)
        for flow in (*task.loads, *task.drains):
            if flow.part == "dram" or memory_of(chip, flow.part):
                bits[flow.part, *place] += flow.amount
                rates[flow.part] = flow.per_cycle
    return tuple(
        Point(port, *place, executed[place], amount, cycles[place], rates[port], peaks[arrays[place]])
        for (port, *names), amount in sorted(bits.items())
        if amount and executed[place := (names[0], names[1])]
    )


def as_row(point: Point) -> dict[str, str | int | float]:
    """The values of a point, measured and derived, by `ROOFLINE_COLUMNS`."""
    return {name: getattr(point, name) for name in ROOFLINE_COLUMNS}
