"""Training steps as a Chrome trace, for ui.perfetto.dev or chrome://tracing: what every part did, burst by burst.

A process per core and one for what cores share (DRAM, mesh); a track per array, vector lanes, link and memory port.
On the track of a part spans nest: step, task (phase and layer), burst. One microsecond shown is one clock cycle.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from fahw.chip.cost import Cost
from fahw.chip.timing.bursts import cut
from fahw.chip.timing.engine import Simulation
from fahw.chip.timing.recording import Event, Span
from fahw.errors import ConfigError, Problem, check_integer, check_path
from fahw.files import write_bytes
from fahw.work.mesh import NOC

MOST_SPANS = 50_000
"""Where no window is asked for, a trace ends before it has more (about 7 MB, 0.5 MB compressed)."""
ENDINGS = (".json", ".json.gz")
_COLOURS = {
    "forward": "rail_response", "error": "rail_animation", "gradient": "rail_load", "update": "rail_idle",
    "recompute": "thread_state_runnable", "transport": "detailed_memory_dump",
}  # fmt: skip
"""Names from Chrome's palette: blue, red, green, orange, purple, as in fahw's plots. Perfetto colours by name: there a
burst's name is its phase."""
_WAIT = "grey"
_STEPS, _SHARED = "training steps", "DRAM and mesh"


@dataclass(frozen=True)
class Trace:
    """What was written: the cycles shown, those of all steps, and whether the size limit ended the window."""

    path: Path
    spans: int
    start: int
    end: int
    cycles: int
    cut: bool


class _Bar(NamedTuple):
    """A span on a track; those of a lower level contain those of a higher one."""

    process: str
    track: str
    level: int
    start: int
    end: int
    name: str
    phase: str = ""
    colour: str = ""
    args: dict[str, Any] | None = None


def write_trace(cost: Cost, path: Path | str, *, steps: int = 1, window: tuple[int, int | None] | None = None) -> Trace:
    """Simulate `steps` consecutive steps of `cost` and write what happens in `window` (cycles, end excluded).

    One step is the isolated one of `cost.cycles`; of several, as many as the chip allows are in flight. Without a
    window all of it is shown, up to `MOST_SPANS` spans. Raises ConfigError for a wrong window, or a path that cannot
    be written.
    """
    check_path("--trace", path, "the path of a file")
    path = Path(path)
    check_integer("--trace-steps", steps, 1, 100)
    if not path.name.endswith(ENDINGS):
        raise ConfigError(Problem(f"--trace {path}", f"the name must end in {' or '.join(ENDINGS)}"))
    bars, cycles = _bars(cost, steps)
    first, last = _checked(window, cycles)
    chosen = _clipped(bars, first, last)
    is_cut = window is None and len(chosen) > MOST_SPANS
    if is_cut:
        last = chosen[MOST_SPANS].start or 1
        chosen = _clipped(chosen, first, last)
    said = {
        "chip": cost.chip, "model": cost.model, "rule": cost.rule, "transport": cost.transport,
        "batch_size": cost.batch_size, "unit": "1 us shown is 1 clock cycle", "clock_mhz": cost.clock_mhz,
        "steps": steps, "cycles": cycles, "window_cycles": [first, last],
    }  # fmt: skip
    content = _text(chosen, said).encode()
    try:
        write_bytes(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    except OSError as error:
        raise ConfigError(Problem(f"--trace {path}", f"cannot be written: {error.strerror}")) from None
    return Trace(path, len(chosen), first, last, cycles, is_cut)


def _checked(window: tuple[int, int | None] | None, cycles: int) -> tuple[int, int]:
    start, end = window or (0, None)
    if start < 0 or (end is not None and end <= start):
        said = f"{start}:{'' if end is None else end}"
        raise ConfigError(Problem("--trace-window", f"must be START:END in cycles with 0 <= START < END (got {said})"))
    if start >= cycles:
        message = f"starts at cycle {start}, but the steps end at cycle {cycles}: more of them with --trace-steps"
        raise ConfigError(Problem("--trace-window", message))
    return start, cycles if end is None else min(end, cycles)


def _bars(cost: Cost, steps: int) -> tuple[list[_Bar], int]:
    """All spans of `steps` steps, parents before children, in the order of time; and when the last one ends."""
    tasks, chip = cost.work.tasks, cost.work.chip
    in_flight = 1 if steps == 1 else chip.steps_in_flight
    simulation = Simulation(tasks, cut(tasks, chip.tiles_per_task, in_flight), in_flight, detailed=True)
    simulation.run(steps)
    recording = simulation.recording
    micros = max(task.micro for task in tasks)
    bars = [*_step_bars(recording.spans, in_flight), *_task_bars(cost.chip, recording.spans, micros)]
    parts = {task.part for task in tasks}
    bars += (_event_bar(cost.chip, event, parts) for event in recording.events if event.end > event.start)
    bars.sort(key=lambda bar: (bar.start, -bar.end, bar.level))
    return bars, simulation.progress.ends[-1]


def _step_bars(spans: Iterable[Span], in_flight: int) -> Iterator[_Bar]:
    """Each step from its first start to its last end; steps in flight together stand on different tracks."""
    by_step: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        by_step[span.step].append(span)
    for step, step_spans in sorted(by_step.items()):
        start, end = min(span.start for span in step_spans), max(span.end for span in step_spans)
        slot = f"steps {step % in_flight}, {step % in_flight + in_flight}, ..." if in_flight > 1 else "step"
        yield _Bar(_STEPS, slot, 0, start, end, f"step {step}", args={"cycles": end - start})


def _task_bars(chip: str, spans: Iterable[Span], micros: int) -> Iterator[_Bar]:
    """Every task while it held its part, and around tasks of one step that follow each other the step."""
    by_part: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        if span.released > span.start:
            by_part[span.part].append(span)
    for part, part_spans in by_part.items():
        place = _place(chip, part)
        part_spans.sort(key=lambda span: span.start)
        for step, group in groupby(part_spans, key=lambda span: span.step):
            items = list(group)
            yield _Bar(*place, 0, items[0].start, items[-1].released, f"step {step}")
            for span in items:
                name = f"{span.phase} {span.layer}{f' #{span.micro}' if micros else ''}"
                args = {"step": step, "micro_batch": span.micro, "results_drained_at": span.end}
                yield _Bar(*place, 1, span.start, span.released, name, span.phase, _COLOURS[span.phase], args)


def _event_bar(chip: str, event: Event, parts: set[str]) -> _Bar:
    process, track = _place(chip, event.part)
    phase, colour = event.task.phase, _COLOURS[event.task.phase]
    if event.kind == "wait":
        return _Bar(process, track, 2, event.start, event.end, f"wait: {event.on}", phase, _WAIT)
    if event.kind == "compute":
        return _Bar(process, track, 2, event.start, event.end, phase, phase, colour)
    if event.part in parts:  # lanes run tasks of their own, and pass on the results of their array
        track = f"{track} (results)"
    name, args = f"{event.kind} {phase} {event.task.layer}", {"step": event.step, "micro_batch": event.task.micro}
    return _Bar(process, track, 2, event.start, event.end, name, phase, colour, args)


def _place(chip: str, part: str) -> tuple[str, str]:
    """Process and track of a part."""
    core, _, name = part.rpartition(":")
    if part == "dram" or core == NOC:
        return _SHARED, part
    return core or chip, name


def _clipped(bars: Iterable[_Bar], start: int, end: int) -> list[_Bar]:
    visible = (bar for bar in bars if bar.start < end and bar.end > start)
    return [bar._replace(start=max(bar.start, start), end=min(bar.end, end)) for bar in visible]


def _text(bars: Sequence[_Bar], said: dict[str, Any]) -> str:
    """The trace as JSON, one event in a line."""
    numbers = _numbers(bars)
    lines = [_line(event) for event in _names(numbers)]
    for bar in sorted(bars, key=lambda bar: (bar.start, -bar.end, bar.level)):
        pid, tid = numbers[bar.process, bar.track]
        event: dict[str, Any] = {"ph": "X", "pid": pid, "tid": tid, "ts": bar.start, "dur": bar.end - bar.start}
        event["name"] = bar.name
        event |= {"cat": bar.phase} if bar.phase else {}
        event |= {"cname": bar.colour} if bar.colour else {}
        lines.append(_line(event | ({"args": bar.args} if bar.args else {})))
    head = f'{{"displayTimeUnit":"ns","otherData":{_line(said)},"traceEvents":[\n'
    return head + ",\n".join(lines) + "\n]}\n"


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _numbers(bars: Iterable[_Bar]) -> dict[tuple[str, str], tuple[int, int]]:
    """(process, track) -> their numbers, in the order in which they are shown: parts with tasks above ports."""
    depth = Counter({(bar.process, bar.track): 0 for bar in bars})
    for bar in bars:
        depth[bar.process, bar.track] |= bar.level < 2
    places = sorted(depth, key=lambda place: (_rank(place[0]), not depth[place], place[1]))
    processes = {process: number for number, process in enumerate(dict.fromkeys(p for p, _ in places), 1)}
    return {place: (processes[place[0]], number) for number, place in enumerate(places, 1)}


def _rank(process: str) -> tuple[int, int, str]:
    order = {_STEPS: 0, _SHARED: 2}.get(process, 1)
    return order, int("".join(char for char in process if char.isdigit()) or 0), process


def _names(numbers: dict[tuple[str, str], tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for process, pid in {process: pid for (process, _), (pid, _) in numbers.items()}.items():
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": process}}
        yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
    for (_, track), (pid, tid) in numbers.items():
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": track}}
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}
