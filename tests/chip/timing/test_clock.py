"""Cycles: the event simulation against a recurrence, against lower bounds, and against cases worked by hand."""

import math
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.chip.timing import clock
from fahw.chip.timing.bursts import bursts_of, busy_cycles, cut, isolated_cycles, longest_path
from fahw.chip.timing.clock import simulate_step, time_step
from fahw.chip.timing.engine import Simulation
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.work.counts.record import Flow, Task, task_id
from tests.support.steps import mapped_step
from tests.support.strategies import HOSTED
from tests.validation.engine import LIMIT, LIMITS

amounts = st.integers(0, 200)
rates = st.sampled_from((1, 3, 8, 64))


def flows(names):
    """Flows through different ports, so that nothing contends."""
    one = [st.builds(Flow, st.just(name), amounts, rates, st.integers(0, 9)) for name in names]
    return st.lists(st.sampled_from(range(len(names))), unique=True).flatmap(
        lambda picks: st.tuples(*(one[i] for i in picks))
    )


def task(folds=1, fold_cycles=1, loads=(), drains=(), name="t", part="array", after=(), phase="forward", previous=()):
    return Task(phase, name, part, folds, fold_cycles, tuple(loads), tuple(drains), (), tuple(after), tuple(previous))


tasks = st.builds(task, st.integers(1, 12), st.integers(1, 30), flows(("a.read", "b.read")), flows(("a.write", "v")))


def cycles_of(chain, tiles=4, in_flight=1, exact=False):
    return time_step(chain, tiles, in_flight, exact).cycles


@given(tasks, st.integers(1, 14))
def test_a_lone_task_takes_what_the_recurrence_says(job, tiles):
    """Without contention the event simulation and the closed recurrence agree to the cycle."""
    assert cycles_of([job], tiles) == isolated_cycles(job)
    assert cycles_of([job], tiles, exact=True) == isolated_cycles(job, job.folds)


@given(st.lists(tasks, min_size=1, max_size=4), st.integers(1, 6))
def test_a_chain_takes_the_sum_of_its_tasks(jobs, tiles):
    """Tasks that wait for one another do not overlap and leave no gap."""
    chain = [replace(job, layer=str(i), after=(("forward", str(i - 1)),) if i else ()) for i, job in enumerate(jobs)]
    assert cycles_of(chain, tiles) == sum(isolated_cycles(job) for job in jobs)


@given(tasks, st.integers(1, 14))
def test_a_task_is_never_faster_than_its_parts(job, tiles):
    """No task ends before all its folds are computed, nor before any port has moved its amount at its rate."""
    cycles = isolated_cycles(job, tiles)
    assert cycles >= job.folds * job.fold_cycles
    for flow in (*job.loads, *job.drains):
        assert cycles >= flow.amount / flow.per_cycle


@given(tasks, st.integers(1, 20))
def test_bursts_lose_nothing(job, tiles):
    """Bursts hold all folds; their computation and their transfers add up to the task's, however many they are."""
    bursts = bursts_of(job, tiles)
    assert len(bursts) == min(tiles, job.folds)
    assert sum(burst.folds for burst in bursts) == job.folds
    assert sum(burst.compute for burst in bursts) == job.cycles
    assert max(burst.folds for burst in bursts) - min(burst.folds for burst in bursts) <= 1
    for side, flows_ in (("loads", job.loads), ("drains", job.drains)):
        for flow in flows_:
            moved = sum(cycles for burst in bursts for port, cycles, _ in getattr(burst, side) if port == flow.part)
            assert moved == math.ceil(flow.amount / flow.per_cycle)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 30), st.integers(0, 30), st.integers(1, 8))
def test_bursts_equal_single_folds(folds, compute, load, drain, tiles):
    """Where every fold moves whole cycles, one burst takes as long as single folds: fill, the slowest of three,
    rest."""
    job = task(folds, compute, [Flow("r", folds * load, 1, 3)], [Flow("w", folds * drain, 1)])
    exact, few, one = (isolated_cycles(job, count) for count in (folds, tiles, 1))
    assert exact == 3 + load + (folds - 1) * max(load, compute, drain) + compute + drain
    assert few == one == exact


@given(tasks, st.integers(1, 8))
def test_bursts_are_within_rounding_of_single_folds(job, tiles):
    """Shares of a cycle make the two modes differ by less than two cycles per fold and port."""
    assert abs(isolated_cycles(job, job.folds) - isolated_cycles(job, tiles)) <= 2 * job.folds + 2


# by hand: folds, cycles per fold, bits to load per fold at 4 a cycle, latency, bits to drain per fold at 2 a cycle
BY_HAND = {
    "computing decides": (4, 10, 8, 0, 6, 2 + 4 * 10 + 3),
    "latency is paid once": (4, 10, 8, 5, 6, 2 + 5 + 4 * 10 + 3),
    "loading decides": (4, 10, 80, 0, 6, 4 * 20 + 10 + 3),
    "draining decides": (4, 10, 8, 0, 40, 2 + 10 + 4 * 20),
    "one fold": (1, 7, 12, 2, 10, 3 + 2 + 7 + 5),
    "nothing to move": (3, 5, 0, 0, 0, 15),
    "a port rounds up": (2, 10, 5, 0, 3, 2 + 20 + 2),
}


@pytest.mark.parametrize("case", BY_HAND, ids=lambda name: name.replace(" ", "-"))
def test_cases_worked_by_hand(case):
    """Fill, the slowest of load, compute and drain per fold, and the last fold's rest."""
    folds, compute, load, latency, drain, cycles = BY_HAND[case]
    job = task(folds, compute, [Flow("r", folds * load, 4, latency)], [Flow("w", folds * drain, 2)])
    assert cycles_of([job]) == isolated_cycles(job) == cycles


def test_tasks_on_different_parts_overlap():
    """Two independent tasks on two arrays take as long as the longer one; on one array their sum."""
    jobs = [task(3, 10, name="a", part="x"), task(2, 10, name="b", part="y")]
    assert cycles_of(jobs) == 30
    assert cycles_of([replace(job, part="x") for job in jobs]) == 50


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 200), st.integers(1, 200), st.integers(1, 4), st.booleans())
def test_a_shared_port_serves_one_burst_at_a_time(folds_a, folds_b, amount_a, amount_b, tiles, drains):
    """Two tasks on different arrays but one port take at least the time of both transfers together."""
    side = "drains" if drains else "loads"
    jobs = [
        replace(task(folds_a, 2, name="a", part="x"), **{side: (Flow("p", amount_a, 1),)}),
        replace(task(folds_b, 2, name="b", part="y"), **{side: (Flow("p", amount_b, 1),)}),
    ]
    timing = time_step(jobs, tiles, 1)
    assert timing.cycles >= amount_a + amount_b
    assert timing.cycles >= max(isolated_cycles(job, tiles) for job in jobs)
    assert timing.busy["p"] == amount_a + amount_b


shared_ports = st.sampled_from(("p", "q", "lanes"))


def drawn_step(draw):
    """A step of tasks on few parts and ports, each after some of those before it."""
    jobs = []
    for i in range(draw(st.integers(2, 7))):
        part = draw(st.sampled_from(("x", "y", "lanes")))
        flow = st.builds(Flow, shared_ports, st.integers(0, 300), rates, st.integers(0, 9))
        loads = draw(st.lists(flow.filter(lambda f: f.part != "lanes"), max_size=2, unique_by=lambda f: f.part))
        taken = {part, *(f.part for f in loads)}
        drains = draw(st.lists(flow.filter(lambda f: f.part not in taken), max_size=1))  # noqa: B023
        after = draw(st.lists(st.sampled_from([job.id for job in jobs]), unique=True, max_size=2)) if jobs else []
        folds, cycles = draw(st.integers(1, 9)), draw(st.integers(1, 30))
        phase = draw(st.sampled_from(("forward", "error", "gradient", "update")))
        jobs.append(task(folds, cycles, loads, drains, str(i), part, after, phase))
    return jobs


steps = st.composite(drawn_step)()


def check_bounds(jobs, tiles, in_flight):
    """A step takes at least its longest path and its busiest part."""
    bound = max(longest_path(jobs), *busy_cycles(jobs).values())
    for exact in (False, True):
        timing = time_step(jobs, tiles, in_flight, exact)
        assert timing.cycles >= (bound if not exact else max(busy_cycles(jobs).values()))
        assert timing.interval_cycles >= max(busy_cycles(jobs).values()) * (1 - 1e-9)
        assert all(cycles >= 0 for cycles in timing.stalls.values())


def check_alone(jobs, tiles):
    """Tasks with parts and ports of their own take what the closed form says, to the cycle."""
    alone = [
        replace(
            job,
            part=f"{job.part}{i}",
            loads=tuple(replace(flow, part=f"{flow.part}{i}") for flow in job.loads),
            drains=tuple(replace(flow, part=f"{flow.part}{i}") for flow in job.drains),
        )
        for i, job in enumerate(jobs)
    ]
    assert time_step(alone, tiles, 1).cycles == longest_path(alone)


@given(steps, st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=150)
def test_no_port_serves_two_at_a_time(jobs, tiles, in_flight):
    """Each use of a port or part begins when the one before has ended, on shared lanes too, whose calls may be for a
    cycle that has passed: they find what was free then."""
    simulation = Simulation(jobs, cut(jobs, tiles, in_flight), in_flight, detailed=True)
    simulation.run(3)
    uses = defaultdict(list)
    for event in simulation.recording.events:
        if event.kind != "wait" and event.end > event.start:
            uses[event.part].append((event.start, event.end))
    for spans in uses.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(spans)))


@given(steps, st.integers(1, 6))
@settings(max_examples=150)
def test_steps_in_flight_never_slow_a_chip_down(jobs, tiles):
    """Where overlapping would take longer than one step after the other, they run one after the other."""
    for in_flight in (1, 2, 3):
        timing = time_step(jobs, tiles, in_flight)
        assert timing.interval_cycles <= timing.cycles


@pytest.mark.parametrize(("ready", "cycles"), [(5, 18), (3, 27)])
def test_a_faster_load_can_make_a_step_slower(ready, cycles):
    """The example of docs/model.md, section 4: `a` is ready sooner, takes the array before `b`, and `b`'s follower is
    late."""
    jobs = [
        task(1, ready, name="load", part="u"), task(1, 4, name="other", part="v"),
        task(1, 10, name="a", part="array", after=[("forward", "load")]),
        task(1, 2, name="b", part="array", after=[("forward", "other")]),
        task(1, 12, name="follower", part="w", after=[("forward", "b")]),
    ]  # fmt: skip
    assert cycles_of(jobs) == cycles


def test_a_message_holds_all_its_links_at_once():
    """By hand: `a` sends 30 cycles over the second link from cycle 1 on; `b`, ready at 2, needs both links for 10
    cycles, gets them at 31 and holds both; `c`, ready at 3, needs the first for 5, and gets it at 41."""
    first, second = "noc:0>1", "noc:1>2"
    jobs = [
        task(1, 1, (), [Flow(second, 30, 1)], "a", "x"),
        task(1, 2, (), [Flow(first, 10, 1), Flow(second, 10, 1)], "b", "y"),
        task(1, 3, (), [Flow(first, 5, 1)], "c", "z"),
    ]
    ends = {span.layer: span.end for span in time_step(jobs, 4, 1).spans}
    assert ends == {"a": 31, "b": 41, "c": 46}


@given(steps, st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=150)
def test_contention_never_makes_a_step_faster(jobs, tiles, in_flight):
    """Whatever meets where, a step takes at least its longest path and its busiest part, in bursts and fold by fold."""
    check_bounds(jobs, tiles, in_flight)


@given(steps, st.integers(1, 6))
@settings(max_examples=150)
def test_a_step_without_contention_takes_its_longest_path(jobs, tiles):
    """Tasks with parts and ports of their own take what the closed form says, to the cycle."""
    check_alone(jobs, tiles)


@pytest.mark.slow
@given(steps, st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=4000)
def test_thousands_of_steps_keep_the_closed_forms(jobs, tiles, in_flight):
    """Equal to the closed form without contention, never below it with it."""
    check_bounds(jobs, tiles, in_flight)
    check_alone(jobs, tiles)


def test_one_port_for_reads_and_writes():
    """Where reads and writes share a port, a task waits for both."""
    separate = task(8, 10, [Flow("m.read", 80, 1)], [Flow("m.write", 80, 1)])
    shared = task(8, 10, [Flow("m", 80, 1)], [Flow("m", 80, 1)])
    assert cycles_of([shared], 8) >= 160 > cycles_of([separate], 8) == 10 + 8 * 10 + 10


def test_error_goes_before_gradient_before_forward():
    """Ready tasks on one part run oldest step first, then error, gradient, update, transport, forward."""
    phases = ("forward", "transport", "update", "gradient", "error")
    first = task(name="z", part="x", phase="error", fold_cycles=5)
    jobs = [first, *(task(name="a", part="x", phase=phase, after=[first.id]) for phase in phases)]
    spans = time_step(jobs, 4, 1).spans
    order = [span.phase for span in sorted(spans, key=lambda span: span.start)]
    assert order == ["error", "error", "gradient", "update", "transport", "forward"]


def test_steps_overlap_as_far_as_dependencies_and_buffers_allow():
    """Forward on one array and backward on another: two steps in flight overlap them, one does not.

    Worked by hand: forward 30 cycles, backward 20; no dependency between steps. One in flight: 50 per step; two: the
    slower array's 30.
    """
    jobs = [task(3, 10, name="a", part="x"), task(2, 10, name="a", part="y", phase="error", after=[("forward", "a")])]
    one, two = (time_step(jobs, 4, flight) for flight in (1, 2))
    assert one.cycles == two.cycles == 50
    assert one.interval_cycles == 50
    assert two.interval_cycles == 30
    bound = [replace(jobs[0], after_previous=(("error", "a"),)), jobs[1]]
    assert time_step(bound, 4, 2).interval_cycles == 50  # as backpropagation's update locks the next forward


def test_interval_may_be_fractional():
    """Three steps in flight over parts of 30 and 25 cycles: the interval is that of the slower part, not an average."""
    jobs = [task(3, 10, name="a", part="x"), task(5, 5, name="a", part="y", phase="error", after=[("forward", "a")])]
    assert time_step(jobs, 4, 3).interval_cycles == 30


def test_busy_and_stalls_add_up():
    """A part that holds a task either computes or waits, for loads or for drains: nothing else."""
    job = task(4, 10, [Flow("r", 80, 1)], [Flow("w", 160, 1)])
    timing = time_step([job], 4, 1)
    stalls = sum(cycles for (part, _), cycles in timing.stalls.items() if part == "array")
    assert timing.busy["array"] == 40
    assert timing.busy["r"] == 80
    assert timing.busy["w"] == 160
    assert 40 + stalls <= timing.cycles <= 40 + stalls + 160
    assert all(cycles >= 0 for cycles in timing.stalls.values())


def test_a_step_that_cannot_end_is_an_error():
    """Tasks that wait for each other must not count as a step of zero cycles."""
    circle = [task(name="a", after=[("forward", "b")]), task(name="b", after=[("forward", "a")])]
    with pytest.raises(RuntimeError):
        time_step(circle, 4, 1)


def test_a_part_that_also_drains_is_shared_burst_by_burst():
    """Vector lanes run tasks of their own between the drains of a product: both end, in no more than their sum."""
    product = task(8, 10, name="p", part="array", drains=[Flow("lanes", 80, 10)])
    alone = task(80, 1, name="u", part="lanes")
    cycles = time_step([product, alone], 8, 1).cycles
    assert max(isolated_cycles(product, 8), 80) <= cycles <= isolated_cycles(product, 8) + 80


# whole training steps


def step_tasks(chip, model, rule, batch=16):
    return mapped_step(chip, model, rule, batch).tasks


@pytest.mark.parametrize(
    ("name", "rule", "model"), [(*pair, model) for pair in HOSTED for model in ("mlp_digits", "lenet5")]
)
def test_a_step_respects_its_bounds(name, rule, model):
    """No step is shorter than its longest path or its busiest part; steady state is no slower than one step."""
    chip = load_chip(name)
    jobs = step_tasks(chip, load_model(model), rule)
    timing = time_step(jobs, chip.tiles_per_task, chip.steps_in_flight)
    assert timing.cycles >= longest_path(jobs)
    assert timing.interval_cycles <= timing.cycles
    assert timing.interval_cycles >= max(timing.busy.values())
    one = time_step(jobs, chip.tiles_per_task, 1)
    assert one.interval_cycles == one.cycles == timing.cycles
    assert len(timing.spans) == len(jobs)
    ends = {task_id(span.phase, span.layer, span.micro): span.end for span in timing.spans}
    starts = {task_id(span.phase, span.layer, span.micro): span.start for span in timing.spans}
    assert all(starts[job.id] >= ends[name] for job in jobs for name in job.after)
    assert max(ends.values()) == timing.cycles


FOLD_EXACT = [
    (chip, rule, model, batch)
    for chip, rule in HOSTED
    if rule in ("bp", "usf", "dfa")
    for model, batch in (("mlp_digits", 16), ("lenet5", 2))
]


@pytest.mark.parametrize(("name", "rule", "model", "batch"), FOLD_EXACT)
def test_default_bursts_are_close_to_fold_exact(name, rule, model, batch):
    """With all contention of a shipped step, bursts change latency and interval by less than 2 % of fold-exact mode.

    `LIMITS` of docs/validation.md's section names the chips on which it is more, and the section says why.
    """
    chip = load_chip(name)
    jobs = step_tasks(chip, load_model(model), rule, batch)
    exact, default = (time_step(jobs, chip.tiles_per_task, chip.steps_in_flight, mode) for mode in (True, False))
    latency, interval = LIMITS.get(name, (LIMIT, LIMIT))
    assert default.cycles == pytest.approx(exact.cycles, rel=latency)
    assert default.interval_cycles == pytest.approx(exact.interval_cycles, rel=interval)


def test_interval_does_not_depend_on_where_the_simulation_ends(monkeypatch):
    """The steady state is one: simulating more steps gives the same interval."""
    chip = load_chip("edge_dual")
    jobs = step_tasks(chip, load_model("mlp_digits"), "dfa")
    before = simulate_step(jobs, 4, 3).interval_cycles
    monkeypatch.setattr(clock.SteadyState, "is_reached", lambda steady, simulation: False)
    monkeypatch.setattr(clock, "_MOST_STEPS", 60)
    assert simulate_step(jobs, 4, 3).interval_cycles == pytest.approx(before, rel=1e-3)


@given(tasks, st.integers(0, 40), st.integers(1, 8))
def test_a_message_arrives_after_its_hops(job, hops, tiles):
    """The cycles of the hops come once, after the last bit; the array is free for the next task meanwhile."""
    sent = replace(job, settle_cycles=hops)
    assert isolated_cycles(sent, tiles) == isolated_cycles(job, tiles) + hops
    assert cycles_of([sent], tiles) == isolated_cycles(job) + hops
    reader = task(1, 5, name="reader", part="other", after=[sent.id])
    assert cycles_of([sent, reader], tiles) == isolated_cycles(job) + hops + 5
    behind = task(1, 5, name="behind", part="array", after=[])
    assert cycles_of([sent, behind], tiles) <= isolated_cycles(job) + max(hops, 5)


def test_a_longer_hop_latency_makes_a_step_longer():
    """A mesh whose messages take longer to arrive trains more slowly, by whole hops of the critical path."""
    cycles = [
        time_step(
            step_tasks(
                load_chip("neurocore_mesh", {"mesh.hop_latency_cycles": str(n)}), load_model("mlp_digits"), "bp"
            ),
            32,
            2,
        ).cycles
        for n in (0, 2, 4)
    ]
    assert cycles[0] < cycles[1] < cycles[2]
