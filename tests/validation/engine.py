"""The event simulation against closed forms, on random chips, and against itself fold by fold, on the shipped ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from fahw.chip.timing.bursts import busy_cycles, isolated_cycles, longest_path
from fahw.chip.timing.clock import Timing, time_step
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.rules.catalogue import RULES
from fahw.units import fixed
from fahw.work.counts.record import Task
from tests.support.steps import mapped_step, step
from tests.support.strategies import HOSTED
from tests.validation.chips import ASSUMED, STATES, array, chip_of, memory, perceptron
from tests.validation.page import table

TITLE = "Event simulation against closed forms"
SLOW = True
RANDOM_STEPS = 150
MODELS = (("mlp_digits", 16), ("lenet5", 2))
COMPARED = ("bp", "usf", "dfa")
LIMIT = 0.02
LIMITS = {
    "efficientgrad": (0.04, 0.04),
    "eyeriss": (0.09, 0.09),
    "neurocore_mesh": (LIMIT, 0.05),
    "spoon": (LIMIT, 0.05),
    "loihi_like": (0.12, 0.12),
}
"""Share by which bursts may change latency and interval on chips where more than `LIMIT` is explained (see below)."""


def random_chip(random: Random) -> Chip:
    """Two arrays of any size and dataflow, with memories, link and lanes of any speed."""
    rates = [1, 2, 3, 8, 17, 64, 512]

    def part(name: str, *holds: str) -> dict[str, object]:
        ports = {f"{side}_bits_per_cycle": random.choice(rates) for side in ("read", "write")}
        return memory(name, holds, width_bits=random.choice([8, 16, 32]), **ports) | {
            "latency_cycles": random.choice([0, 1, 7]), "shared_port": random.random() < 0.25,
        }  # fmt: skip

    def grid(name: str, phases: Sequence[str], *memories: str) -> dict[str, object]:
        flows = {phase: random.choice(["os", "ws", "is", "broadcast"]) for phase in phases}
        flows |= {"update": "vector"} if "forward" in phases else {}
        sizes = {key: random.randint(1, 9) for key in ("rows", "cols", "lanes")}
        return array(name, flows, memories, **sizes)

    return chip_of({
        "name": "random", "clock_mhz": 100, "technology": {"node_nm": 45, "assumed": ASSUMED},
        "rounding": dict.fromkeys(("activation", "error", "gradient", "update"), "nearest"),
        "arrays": [
            grid("fwd", ("forward", "gradient"), "weights", "buffer", "state"),
            grid("bwd", ("error",), "copies", "buffer"),
        ],
        "memories": [
            part("weights", "weight"), part("copies", "feedback"), part("state", *STATES),
            part("buffer", "psum", "mask", "error", "activation"),
        ],
        "links": [{"name": "wire", "from": "weights", "to": "copies", "width_bits": random.choice(rates),
                   "length_mm": 1, "assumed": ASSUMED}],
        "transport": ["copy", "write_through"],
        "transposed_access": {f"{name}_overhead": 0 for name in ("read", "write", "area", "leak")}
        | {"assumed": ASSUMED},
        "steps_in_flight": random.randint(1, 3),
        "tiles_per_task": random.choice([1, 4, 32]),
    })  # fmt: skip


def random_step(random: Random) -> tuple[Chip, tuple[Task, ...]]:
    """The tasks of a training step of a random network under a random rule on a random chip."""
    chip = random_chip(random)
    network = perceptron(*(random.randint(1, 20) for _ in range(random.randint(2, 4))))
    rule = RULES[random.choice(["bp", "fa", "dfa", "usf"])]
    work = step(chip, network, rule, random.randint(1, 8))
    return chip, work.tasks


def apart(tasks: Sequence[Task]) -> list[Task]:
    """The same tasks with parts and ports of their own: nothing contends. Flows of a task through one port stay so."""
    return [
        replace(
            task, part=f"{task.part}#{i}",
            loads=tuple(replace(flow, part=f"{flow.part}>#{i}") for flow in task.loads),
            drains=tuple(replace(flow, part=f"{flow.part}<#{i}") for flow in task.drains),
        )
        for i, task in enumerate(tasks)
    ]  # fmt: skip


@dataclass(frozen=True)
class Gaps:
    """Of one random step, cycles: the engine less the closed form. `alone`, `path`: largest gap of a task by itself,
    and of the step without contention, either sign; `over`: with contention, over the longest path and busiest part."""

    tasks: int
    alone: int
    exact: int
    path: int
    over: float


def gaps_of(chip: Chip, tasks: Sequence[Task]) -> Gaps:
    """Compare one step."""
    free = apart(tasks)
    lone = [replace(task, after=(), after_previous=()) for task in free]
    alone = max(abs(time_step([task], chip.tiles_per_task, 1).cycles - isolated_cycles(task)) for task in lone)
    exact = max(abs(time_step([task], 1, 1, True).cycles - isolated_cycles(task, task.folds)) for task in lone)
    path = abs(time_step(free, chip.tiles_per_task, 1).cycles - longest_path(free))
    timing = time_step(tasks, chip.tiles_per_task, chip.steps_in_flight)
    busiest = max(busy_cycles(tasks).values())
    if timing.interval_cycles < busiest:
        return Gaps(len(tasks), alone, exact, path, timing.interval_cycles / busiest - 1)
    return Gaps(len(tasks), alone, exact, path, timing.cycles / max(longest_path(tasks), busiest) - 1)


def pairs() -> Iterator[tuple[str, str, Timing, Timing]]:
    """Shipped chips, rules and models: in bursts, and fold by fold."""
    for name, rule in HOSTED:
        for model, batch in MODELS if rule in COMPARED else ():
            chip = load_chip(name)
            work = mapped_step(chip, model, rule, batch)
            limits = (work.chip.tiles_per_task, work.chip.steps_in_flight)
            yield name, rule, time_step(work.tasks, *limits), time_step(work.tasks, *limits, True)


def section() -> str:
    """The largest gaps on random chips; bursts against single folds on the shipped ones."""
    found = [gaps_of(*random_step(Random(seed))) for seed in range(RANDOM_STEPS)]
    rows: dict[str, list[tuple[float, float]]] = {}
    for name, _, default, exact in pairs():
        gaps = (default.cycles / exact.cycles - 1, default.interval_cycles / exact.interval_cycles - 1)
        rows.setdefault(name, []).append(gaps)
    lines = [
        [f"`{name}`", len(gaps), *(_percent(max((gap[i] for gap in gaps), key=abs)) for i in (0, 1))]
        for name, gaps in rows.items()
    ]
    return _TEXT.format(
        steps=RANDOM_STEPS, tasks=sum(one.tasks for one in found), alone=max(one.alone for one in found),
        exact=max(one.exact for one in found), path=max(one.path for one in found),
        least=_percent(min(one.over for one in found)), most=_percent(max(one.over for one in found), 0),
        table=table(("chip", "steps", "latency", "interval"), lines),
    )  # fmt: skip


def _percent(share: float, decimals: int = 1) -> str:
    return f"{fixed(100 * share, decimals)} %"


_TEXT = """\
Steps of random networks on random chips (arrays and dataflows, speeds of ports, links and lanes, latencies, shared
ports): {steps} steps, {tasks} tasks, gaps in cycles. A test draws thousands more.

* A task alone takes what the closed recurrence says, in bursts and fold by fold: largest gaps {alone} and {exact}.
* A step whose tasks have parts and ports of their own takes its longest path: largest gap {path}.
* With contention no step is faster than the larger of its longest path and its busiest part: {least} to {most} over.

The default bursts against single folds, the slow reference, with all contention of a step (backpropagation, uSF and
DFA as far as a chip can host them, `mlp_digits` at batch 16 and `lenet5` at batch 2); largest difference:

{table}

Differences of more than 2 % have two causes; in neither are single folds nearer to a real chip than bursts.

* The order of tasks can hang on a few cycles where many compete for one part: an array that is free takes the task that
  is ready then, and one that is ready two cycles later waits for the whole of it. On `neurocore_mesh` and `spoon`, and
  on `eyeriss`, where all phases share one array and wait for slow DRAM, that moves the rhythm of the steps.
* Ports serve whole requests, first come first served. On `loihi_like` an error task whose folds read for two cycles
  meets a gradient task whose folds read for fifteen: fold by fold they take turns, and the first gets an eighth of the
  port. Bursts of both are about as long, so that they share it evenly, as word by word they would. So do an update and
  an error task that both stream from DRAM on `eyeriss`, and an update and the gradient of the next layer that meet in
  the state memory and DRAM on `efficientgrad`.
"""
