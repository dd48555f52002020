"""Search: an optimizer proposes points; the same seed proposes the same ones, and what was done is not done again."""

import csv

import pytest

import fahw
from fahw.config.sweep import Sweep
from fahw.study import training
from fahw.study.sweeps.choices import place_without_file
from fahw.study.sweeps.load import load_placed_sweep
from fahw.study.sweeps.point import Point
from fahw.study.sweeps.search import Search
from fahw.study.sweeps.sweep import describe, sweep
from tests.support.strategies import marked

pytest.importorskip("optuna")

AXES = {
    "rule": ("bp", "usf", "dfa"), "chip.precision.weight": {"from": 2, "to": 8, "whole": True},
    "chip.links.transport_link.length_mm": {"from": 0.5, "to": 16, "scale": "log"},
}  # fmt: skip
COSTS = {"points": 15, "together": 5, "goals": ("energy", "area"), "axes": AXES}


def spec(train=False, when=(), **search):
    return Sweep(name="s", train=train, epochs=1, search=COSTS | search, when=when)


def rows_of(folder):
    return list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))


def axes_of(rows):
    return [tuple(value for name, value in row.items() if name.startswith("axis.")) for row in rows]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_search_proposes_the_same_points_for_the_same_seed(tmp_path, sampler):
    """On one worker or two; all different, within their ranges; another seed, other points."""
    sweep(spec(sampler=sampler), out=tmp_path / "1", workers=1)
    sweep(spec(sampler=sampler), out=tmp_path / "2", workers=2)
    sweep(spec(sampler=sampler, seed=1), out=tmp_path / "3", workers=1)
    first, second, third = (rows_of(tmp_path / name) for name in "123")
    assert first == second
    assert len(set(axes_of(first))) == 15
    assert set(axes_of(first)) != set(axes_of(third))
    assert all(2 <= int(row["axis.chip.precision.weight"]) <= 8 for row in first)
    assert all(0.5 <= float(row["axis.chip.links.transport_link.length_mm"]) <= 16 for row in first)


def test_a_search_finds_what_trying_everything_finds(tmp_path):
    """The least energy of a space of 36 points within 24."""
    axes = {"rule": ("bp", "usf", "dfa"), "chip.precision.weight": (2, 4, 8), "batch_size": (1, 8, 64, 256)}
    value = spec(axes=axes, points=24, together=6, goals=("energy",))
    sweep(value, out=tmp_path / "search", workers=1)
    sweep(Sweep(name="s", train=False, grid=axes), out=tmp_path / "all", workers=1)
    energies = [float(row["energy_pj_per_sample"]) for row in rows_of(tmp_path / "search")]
    assert min(energies) == min(float(row["energy_pj_per_sample"]) for row in rows_of(tmp_path / "all"))
    assert len(energies) == 24


def test_a_search_with_training_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Stopped in the second round, started again: nothing is trained twice, and the tables are those of a whole one."""
    axes = {"rule": ("bp", "dfa"), "chip.precision.weight": (8, 6, 4, 3, 2)}
    value = spec(train=True, axes=axes, points=6, together=3, goals=("accuracy", "energy"))
    done, real = [], training.run_training

    def run(setup, *rest, **named):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(setup.rule)
        return real(setup, *rest, **named)

    monkeypatch.setattr(training, "run_training", run)
    with pytest.raises(KeyboardInterrupt):
        sweep(value, out=tmp_path / "a", workers=1)
    monkeypatch.setattr(training, "run_training", lambda *args, **rest: done.append(0) or real(*args, **rest))
    sweep(value, out=tmp_path / "a", workers=1)
    assert len(done) == 6
    sweep(value, out=tmp_path / "b", workers=1)
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")


def test_points_of_a_search_meet_backpropagation_though_it_was_not_proposed(tmp_path):
    """Every point of another rule has a saving."""
    axes = AXES | {"rule": ("usf", "dfa")}
    sweep(spec(axes=axes, points=6), out=tmp_path, workers=1)
    rows = rows_of(tmp_path)
    assert len(rows) == 6
    for row in rows:
        assert row["saving_per_step"]
        assert row["baseline_transport"] in ("copy", "write_through", "shared")


def test_conditions_hold_for_what_is_proposed(tmp_path):
    """Points for which one is false are never run; a search that finds no more new points ends."""
    when = "rule == 'dfa' or chip.precision.weight > 5"
    sweep(spec(when=when), out=tmp_path / "a", workers=1)
    assert all(row["rule"] == "dfa" or int(row["axis.chip.precision.weight"]) > 5 for row in rows_of(tmp_path / "a"))
    small = spec(axes={"rule": ("bp", "dfa"), "batch_size": (8, 16)}, when="rule == 'dfa'")
    result = sweep(small, out=tmp_path / "b", workers=1)
    assert [point.values["batch_size"] for point in result.points if point.rule == "dfa"] in ([8, 16], [16, 8])
    assert len(result.points) == 2
    assert result.skipped > 0


def test_a_search_does_not_stop_at_what_it_may_not_propose():
    """The optimizer wants what a condition excludes: it still gets all its points, all different."""
    axes = {name: {"from": 1, "to": 8, "whole": True} for name in ("chip.precision.weight", "chip.precision.feedback")}
    value = spec(axes=axes, points=30, together=6, when="chip.precision.feedback <= chip.precision.weight")
    finder, found = Search(value, place_without_file(value)), []
    while choices := finder.ask():
        found += [tuple(choice.values.values()) for choice in choices]
        finder.tell([priced(100.0 + weight - 3 * feedback) for weight, feedback in found[-len(choices) :]])
    assert len(found) == len(set(found)) == 30
    assert all(feedback <= weight for weight, feedback in found)


def priced(energy):
    cost = {"energy_pj": 64.0 * energy, "energy_pj_per_sample": energy, "seconds": 1.0, "area_mm2": 1.0}
    return Point({}, "bp", None, "", cost=cost, finished=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("search: {points: 3, goals: [energy], axes: {rule: [bp, @@dfb]}}\ntrain: false\n", "no rule 'dfb'"),
        ("search: @@{points: 3, goals: [energy], axes: {rule: [bp]}}\ngrid: {batch_size: [8]}\n", "stands alone"),
        ("search:\n  points: 3\n  goals: @@[accuracy]\n  axes: {rule: [bp]}\ntrain: false\n", "accuracy is a goal"),
        ("search: {points: 3, goals: [@@speed], axes: {rule: [bp]}}\n", "must be one of accuracy, energy, time, area"),
        ("search: {points: @@0, axes: {rule: [bp]}}\n", "greater than or equal to 1"),
        ("search: {points: 3, axes: {batch_size: @@{from: 8, to: 4, whole: true}}}\n", "goes down"),
        ("search: {points: 3, axes: {batch_size: @@{from: 8, to: 16, points: 4}}}\n", "once under 'search'"),
    ],
)
def test_each_fault_of_a_search_is_said_at_its_place(text, said, tmp_path):
    """As of any sweep."""
    clean, places = marked(f"name: s\n{text}")
    path = tmp_path / "s.yaml"
    path.write_text(clean)
    with pytest.raises(fahw.ConfigError) as caught:
        describe(*load_placed_sweep(path))
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.place == f"{path}:{places[0]}"


def test_check_says_what_a_search_will_do():
    """How many points at most."""
    assert describe(spec()).startswith("a search of at most 15 points, cost only")


def test_without_optuna_a_search_says_what_is_missing(monkeypatch, tmp_path):
    """Before anything is written."""
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(fahw.ConfigError, match=r"needs Optuna: pip install 'fahw\[search\]'"):
        Search(spec(), place_without_file(spec()))
    with pytest.raises(fahw.ConfigError, match="needs Optuna"):
        sweep(spec(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
