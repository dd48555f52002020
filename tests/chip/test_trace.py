"""Traces of steps: valid Chrome trace events that nest; their sums are the busy cycles and stalls of the cost."""

import gzip
import json
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fahw
from fahw.chip import trace as traces
from fahw.errors import ConfigError

CASES = [
    ("edge_dual", "mlp_digits", "bp", 1), ("edge_dual", "mlp_digits", "dfa", 3), ("edge_shared", "lenet5", "bp", 2),
    ("neurocore_mesh", "lenet5", "bp", 1), ("neurocore_mesh", "lenet5", "dfa", 2), ("dfa_prng", "mlp_mnist", "dfa", 1),
    ("dram_bound", "lenet5", "usf", 1),
]  # fmt: skip
PALETTE = {
    "thread_state_uninterruptible", "thread_state_iowait", "thread_state_running", "thread_state_runnable",
    "thread_state_sleeping", "thread_state_unknown", "background_memory_dump", "light_memory_dump",
    "detailed_memory_dump", "vsync_highlight_color", "generic_work", "good", "bad", "terrible", "black", "grey",
    "white", "yellow", "olive", "rail_response", "rail_animation", "rail_idle", "rail_load", "startup",
}  # fmt: skip
"""Reserved names of Chrome's trace viewer (tracing/base/color_scheme.html of catapult)."""


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def traced(request, tmp_path_factory):
    """(cost, steps, the trace as it is in the file, what `write_trace` says of it)."""
    chip, model, rule, steps = request.param
    cost = fahw.simulate(chip, model, rule, 16)
    path = tmp_path_factory.mktemp("trace") / "step.json"
    said = fahw.write_trace(cost, path, steps=steps)
    return cost, steps, json.loads(path.read_text()), said


def spans(trace):
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


def tracks(trace):
    """(process, track) -> its spans, in the order of the file."""
    names = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "M" and event["name"].endswith("_name"):
            names[event["pid"], event.get("tid")] = event["args"]["name"]
    found = defaultdict(list)
    for event in spans(trace):
        found[names[event["pid"], None], names[event["pid"], event["tid"]]].append(event)
    return found


def part_of(cost, process, track):
    """The part's name in the cost."""
    track = track.removesuffix(" (results)")
    return track if process in (cost.chip, "DRAM and mesh") else f"{process}:{track}"


def work(trace, cost):
    """Cycles of bursts by part (loads, drains, compute), and of waits by part and cause."""
    busy, waits = defaultdict(int), defaultdict(int)
    for (process, track), events in tracks(trace).items():
        part = part_of(cost, process, track)
        for event in events:
            if event["name"].startswith("wait: "):
                waits[part, event["name"].removeprefix("wait: ")] += event["dur"]
            elif event["name"].split()[0] in ("load", "drain") or event["name"] == event.get("cat"):
                busy[part] += event["dur"]
    return dict(busy), dict(waits)


def test_events_are_chrome_trace_events(traced):
    """Complete events and metadata with what the format requires; time never goes back; every track has a name."""
    _, _, trace, said = traced
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"}
    for event in spans(trace):
        assert all(isinstance(event[key], int) for key in ("pid", "tid", "ts", "dur"))
        assert min(event["pid"], event["tid"], event["dur"]) > 0
        assert event["ts"] >= 0
        assert event.get("cname", "good") in PALETTE
    times = [event["ts"] for event in spans(trace)]
    assert times == sorted(times)
    assert len(times) == said.spans
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert named == {(e["pid"], e["tid"]) for e in spans(trace)}


def test_spans_of_a_track_nest(traced):
    """A span lies wholly within the one that is open when it starts, or starts after its end."""
    for name, events in tracks(traced[2]).items():
        open_ends = []
        for event in events:
            while open_ends and open_ends[-1] <= event["ts"]:
                open_ends.pop()
            assert not open_ends or event["ts"] + event["dur"] <= open_ends[-1], (name, event)
            open_ends.append(event["ts"] + event["dur"])


def test_a_part_shows_step_task_and_burst(traced):
    """Whatever an array computes or waits for lies in a task, and that in a step."""
    for (process, _), events in tracks(traced[2]).items():
        if process == "training steps":
            continue
        open_spans = []
        for event in events:
            while open_spans and open_spans[-1]["ts"] + open_spans[-1]["dur"] <= event["ts"]:
                open_spans.pop()
            if event["name"] == event.get("cat") or event["name"].startswith("wait: "):
                step, task = open_spans
                assert step["name"] == f"step {task['args']['step']}"
                assert task["name"].startswith(f"{event['cat']} ")
            open_spans.append(event)


def test_bursts_add_up_to_the_busy_cycles_of_the_cost(traced):
    """Per part and port, over all steps."""
    cost, steps, trace, _ = traced
    assert work(trace, cost)[0] == {part: steps * cycles for part, cycles in cost.timing.busy.items() if cycles}


def test_waits_of_the_isolated_step_are_its_stalls(traced):
    """Per part and cause; the step is as long as the cost says."""
    cost, steps, trace, said = traced
    if steps == 1:
        assert work(trace, cost)[1] == {key: cycles for key, cycles in cost.timing.stalls.items() if cycles}
        assert said.cycles == cost.cycles == max(event["ts"] + event["dur"] for event in spans(trace))
    else:
        assert said.cycles >= steps * cost.interval_cycles


def test_phases_have_colours_of_their_own(traced):
    """One colour per phase, none for two; waits are grey."""
    colours = defaultdict(set)
    for event in spans(traced[2]):
        if "cname" in event:
            colours["wait" if event["name"].startswith("wait") else event["cat"]].add(event["cname"])
    assert all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_windows_cut_time_and_nothing_else(tmp_path_factory, data):
    """Two windows that meet hold together what the whole trace holds."""
    cost = fahw.simulate("edge_dual", "mlp_digits", "bp", 4)
    at = data.draw(st.integers(1, cost.cycles - 1))
    path = tmp_path_factory.mktemp("window") / "step.json"
    found = []
    for window in ((0, None), (0, at), (at, None)):
        said = traces.write_trace(cost, path, window=window)
        events = spans(json.loads(path.read_text()))
        assert all(said.start <= e["ts"] and e["ts"] + e["dur"] <= said.end for e in events)
        found.append(work(json.loads(path.read_text()), cost))
    whole, *halves = found
    for side in (0, 1):
        sums = defaultdict(int)
        for half in halves:
            for key, cycles in half[side].items():
                sums[key] += cycles
        assert dict(sums) == whole[side]


def test_a_long_trace_is_cut_and_says_so(tmp_path, monkeypatch):
    """Without a window there is a limit; with one there is none."""
    monkeypatch.setattr(traces, "MOST_SPANS", 100)
    cost = fahw.simulate("edge_dual", "mlp_mnist", "bp", 16)
    short = traces.write_trace(cost, tmp_path / "a.json")
    assert short.cut
    assert 50 <= short.spans <= 100
    assert 0 < short.end < short.cycles
    rest = traces.write_trace(cost, tmp_path / "b.json", window=(short.end, None))
    assert not rest.cut
    assert rest.spans > 100


def test_compressed_and_plain_hold_the_same_bytes(tmp_path):
    """`.json.gz` is the gzip of `.json`, without a time stamp: the same bytes each time."""
    cost = fahw.simulate("edge_dual", "mlp_digits", "dfa", 16)
    for name in ("a.json", "a.json.gz", "b.json.gz"):
        fahw.write_trace(cost, tmp_path / name)
    plain, first, second = ((tmp_path / name).read_bytes() for name in ("a.json", "a.json.gz", "b.json.gz"))
    assert first == second
    assert gzip.decompress(first) == plain


def test_thecommand_says_what_it_shows(command, tmp_path):
    """On stderr, so that `--json` stays alone on stdout."""
    arguments = ["--trace", "s.json", "--trace-window", "1000:2000", "--trace-steps", "2", "--json"]
    code, out, err = command("simulate", "edge_dual", "mlp_digits", *arguments)
    assert code == 0
    assert json.loads(out)["chip"] == "edge_dual"
    assert "cycles 1,000 to 2,000 of" in err
    assert json.loads((tmp_path / "s.json").read_text())["otherData"]["window_cycles"] == [1000, 2000]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trace", "step.txt"], "must end in .json or .json.gz"),
        (["--trace", "."], "must end in"),
        (["--trace", "file/step.json"], "cannot be written"),
        (["--trace", "folder.json"], "cannot be written"),
        (["--trace", "a.json", "--trace-window", "5"], "must be START:END"),
        (["--trace", "a.json", "--trace-window", "-5:9"], "must be START:END"),
        (["--trace", "a.json", "--trace-window", "9:5"], "0 <= START < END"),
        (["--trace", "a.json", "--trace-window", "7:7"], "0 <= START < END"),
        (["--trace", "a.json", "--trace-window", "١:٢"], "must be START:END"),
        (["--trace", "a.json", "--trace-window", "99999999:"], "more of them with --trace-steps"),
        (["--trace", "a.json", "--trace-steps", "0"], "from 1 to 100"),
        (["--trace-window", "0:5"], "name the file"),
        (["--trace-steps", "2"], "name the file"),
    ],
)  # fmt: skip
def test_wrong_paths_and_windows_are_the_users(command, tmp_path, arguments, said):
    """Exit code 2, one line, nothing written."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    code, out, err = command("simulate", "edge_dual", "mlp_digits", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.json"]
    assert list((tmp_path / "folder.json").iterdir()) == []


@pytest.mark.parametrize("window", [(-1, 5), (5, 5), (10**9, None)])
def test_the_library_checks_windows_too(tmp_path, window):
    """The same mistakes, as ConfigError, before anything is written."""
    cost = fahw.simulate("edge_dual", "mlp_digits", "dfa", 16)
    with pytest.raises(ConfigError):
        fahw.write_trace(cost, tmp_path / "a.json", window=window)
    assert not list(tmp_path.iterdir())
