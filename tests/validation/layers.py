"""Equal layers, one per core: what backward unlocking does to time, and what it does not do to energy."""

from __future__ import annotations

from functools import cache

from fahw.chip.cost import Cost, simulate
from fahw.hardware.chip import Chip
from fahw.units import fixed
from tests.validation.chips import ASSUMED, STATES, array, chip_of, memory, perceptron
from tests.validation.page import table

TITLE = "Backward unlocking on equal layers"
SLOW = True
WIDTH = 64
"""Inputs and outputs of every layer, samples of a micro-batch, rows and columns of the arrays."""
DEPTHS, MICROS = (1, 2, 4, 64), (1, 4, 16, 64)
READ, WRITE = 2.0, 3.0

# Cycles of the tasks by hand: a load, the folds, a drain.
FORWARD = 1 + (WIDTH + WIDTH + WIDTH - 2) + 1
ERROR = 1 + 2 * (WIDTH + WIDTH + WIDTH // 2 - 2) + 1
GRADIENT = FORWARD
INPUT, LOSS, UPDATE = 1, 3, 3


def by_hand(rule: str, depth: int, micros: int) -> int:
    """The critical path: through all layers forward, through those that errors pass one after the other, and out."""
    errors = min(1, depth - 1) if rule == "dfa" else depth - 1
    slowest = ERROR if depth > 1 else FORWARD
    once = INPUT + depth * FORWARD + LOSS + errors * ERROR + GRADIENT + UPDATE
    return once + (micros - 1) * (slowest - 1)  # an array is free again before its last results are drained


def one_core_per_layer(depth: int) -> Chip:
    """A row of cores with an array each for forward, error, and gradient with update; nothing ever waits for a port.

    The error array is half as wide as the others. It reads W and B alike, without overhead.
    """
    every = ("weights", "own", "acts", "errors", "state")
    energies = {"read_pj": READ, "write_pj": WRITE}
    parts = {
        "name": "one_core_per_layer",
        "clock_mhz": 100,
        "technology": {"node_nm": 45, "assumed": ASSUMED},
        "rounding": dict.fromkeys(("activation", "error", "gradient", "update"), "nearest"),
        "micro_batch": WIDTH,
        "mesh": {
            "rows": 1, "cols": max(depth, 1), "link_bits_per_cycle": 1_000_000, "hop_latency_cycles": 0,
            "hop_pj_per_bit": 0.1, "assumed": ASSUMED,
        },
        "arrays": [
            array("fwd", {"forward": "os"}, every, rows=WIDTH, cols=WIDTH),
            array("bwd", {"error": "os"}, every, rows=WIDTH, cols=WIDTH // 2),
            array("grad", {"gradient": "os", "update": "vector"}, every, rows=WIDTH, cols=WIDTH),
        ],
        "memories": [
            memory("weights", ("weight",), **energies),
            memory("own", ("feedback",), **energies),
            memory("acts", ("activation", "mask"), **energies),
            memory("errors", ("error",), **energies),
            memory("state", STATES, **energies),
        ],
        "transport": ["transposable"],
        "transposed_access": {f"{name}_overhead": 0 for name in ("read", "write", "area", "leak")}
        | {"assumed": ASSUMED},
    }  # fmt: skip
    return chip_of(parts)


@cache
def cost(rule: str, depth: int, micros: int) -> Cost:
    """A step of `micros` micro-batches on `depth` layers."""
    network = perceptron(*[WIDTH] * (depth + 1), relu=False)
    return simulate(one_core_per_layer(depth), network, rule, WIDTH * micros)


def dynamic_pj(rule: str, depth: int) -> float:
    """Dynamic energy of a step."""
    found = cost(rule, depth, 1)
    return found.energy_pj - found.static_pj


def written_more_pj(depth: int) -> float:
    """By hand: DFA writes the output error at every core, BP at the last alone."""
    return (depth - 1) * WIDTH * WIDTH * WRITE


def section() -> str:
    """Cycles and energies beside those by hand."""
    rows = []
    for depth in DEPTHS:
        for micros in MICROS:
            found = {rule: cost(rule, depth, micros) for rule in RULES}
            hand = {rule: by_hand(rule, depth, micros) for rule in RULES}
            cells = [f"{hand[rule]} / {found[rule].cycles}" for rule in RULES]
            latency = found["bp"].cycles / found["dfa"].cycles
            interval = found["bp"].interval_cycles / found["dfa"].interval_cycles
            rows.append([depth, micros, *cells, fixed(latency, 3), fixed(interval, 3)])
    energies = []
    for depth in DEPTHS:
        bp, dfa = dynamic_pj("bp", depth), dynamic_pj("dfa", depth)
        energies.append(
            [depth, fixed(bp / 1e6, 3), fixed(dfa / 1e6, 3), fixed(dfa - bp, 0), fixed(written_more_pj(depth), 0)]
        )
    return _TEXT.format(
        width=WIDTH, half=WIDTH // 2, forward=FORWARD, error=ERROR, gradient=GRADIENT, input=INPUT, loss=LOSS,
        update=UPDATE, bottleneck=ERROR - 1, limit=fixed((FORWARD + ERROR) / FORWARD, 3),
        table=table(("layers", "micro-batches", "BP cycles", "DFA cycles", "latency ratio", "interval ratio"), rows, 0),
        energies=table(("layers", "BP, uJ", "DFA, uJ", "more, pJ", "by hand, pJ"), energies, 0),
    )  # fmt: skip


RULES = ("bp", "dfa")
_TEXT = """\
N linear layers of {width} x {width}, one per core of a row, micro-batches of {width} samples. Each core has
an array of {width} x {width} for `forward`, one for `gradient` and `update`, and one of {width} x {half} for
`error`; ports and links move anything in one cycle, so that nothing contends. The error array reads W itself
at no overhead, and DFA's B from a memory of the same prices: nothing is transported.

**By hand.** A product takes a load, its folds and a drain: `forward` and `gradient` one fold, f = g = 1 + (3
x {width} - 2) + 1 = {forward} cycles, `error` two, e = 1 + 2 (2 x {width} + {half} - 2) + 1 = {error}. The
input takes i = {input}, the loss l = {loss}, an update u = {update}. One micro-batch goes forward through N
layers. Under BP its error comes back through N - 1, each waiting for the one above; under DFA all errors
start when the loss is known and end together. The first layer's gradient and update come last:

    BP    i + N f + l + (N - 1) e + g + u
    DFA   i + N f + l +         e + g + u        (N > 1; no error at N = 1)

So the ratio tends to (f + e) / f = {limit} as N grows. Micro-batches follow each other as fast as the slowest
array lets them, which is the error array, free again e - 1 = {bottleneck} cycles after it starts (its drain
overlaps the next load): (M - 1) (e - 1) more cycles under either rule ((M - 1) (f - 1) at N = 1), and the
ratio falls towards 1. The next step's first `forward` waits for this step's last update, so that the interval
is the latency less the next input, which comes in meanwhile: i cycles less. Each cell: by hand / simulated.

{table}

**Negative control.** DFA's B is as large as W here, so both rules multiply the same operands and read the
same words, and their messages cross the same number of links (BP's errors go one link each, DFA's output
error goes once along the row). Only the output error is written at every core instead of at the last: (N - 1)
x {width} x {width} words at 3 pJ. So DFA is faster and saves no dynamic energy:

{energies}
"""
