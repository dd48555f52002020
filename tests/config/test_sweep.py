"""Saying a sweep: grid, zip, random, ranges, conditions; and every way to say one wrongly, with its place."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.config.axes import Range
from fahw.config.sweep import Sweep
from fahw.errors import ConfigError
from fahw.study.sweeps.choices import place_without_file, selected_choices
from fahw.study.sweeps.load import load_placed_sweep, load_sweep
from fahw.study.sweeps.sweep import describe
from tests.support.strategies import marked, setups_of


def points(**parts):
    spec = Sweep(name="s", **parts)
    return [choice.values for choice in selected_choices(spec, place_without_file(spec)).choices]


def test_grid_zip_and_random_are_combined():
    """Every value of the grid with every step of each zipped group and every draw."""
    found = points(
        grid={"rule": ("bp", "dfa")},
        zip=({"chip.precision.weight": (8, 4), "chip.precision.feedback": (8, 1)}, {"batch_size": (16, 32)}),
        random={"points": 3, "seed": 5, "axes": {"chip.clock_mhz": {"from": 50, "to": 500, "scale": "log"}}},
    )
    assert len(found) == 2 * 2 * 2 * 3
    assert {(p["chip.precision.weight"], p["chip.precision.feedback"]) for p in found} == {(8, 8), (4, 1)}
    clocks = {p["chip.clock_mhz"] for p in found}
    assert len(clocks) == 3
    assert all(50 <= clock <= 500 for clock in clocks)


def test_draws_follow_from_their_seed():
    """The same seed, the same points; another seed, others. Lists and ranges, whole numbers where asked for."""
    axes = {"batch_size": {"from": 8, "to": 64, "whole": True}, "rule": ("bp", "dfa", "fa")}

    def drawn(seed):
        return points(random={"points": 20, "seed": seed, "axes": axes})

    assert drawn(1) == drawn(1) != drawn(2)
    assert {type(point["batch_size"]) for point in drawn(1)} == {int}
    assert {point["rule"] for point in drawn(1)} == {"bp", "dfa", "fa"}


@given(st.floats(1e-3, 1e3), st.floats(1.5, 1e4), st.integers(2, 12))
def test_a_log_range_multiplies(low, ratio, count):
    """Each value is the same factor above the one before, to the six digits kept; both ends are exact."""
    values = Range.model_validate({"from": low, "to": low * ratio, "points": count, "scale": "log"}).values
    assert (values[0], values[-1], len(values)) == (low, low * ratio, count)
    factors = [b / a for a, b in pairwise(values)]
    assert all(math.isclose(factor, ratio ** (1 / (count - 1)), rel_tol=3e-5) for factor in factors)


def test_ranges_by_hand():
    """Powers of two as whole numbers, tenths on a linear scale."""
    log = Range.model_validate({"from": 16, "to": 256, "points": 5, "scale": "log", "whole": True})
    assert log.values == (16, 32, 64, 128, 256)
    assert Range.model_validate({"from": 0.1, "to": 0.5, "points": 5}).values == (0.1, 0.2, 0.3, 0.4, 0.5)


def test_conditions_skip_points():
    """All conditions must hold; they see axes, settings and the base."""
    grid = {"rule": ("bp", "dfa"), "chip.precision.weight": (8, 4), "chip.precision.feedback": (8, 4)}
    when = ("chip.precision.feedback <= chip.precision.weight", "rule == 'dfa' or batch_size > 16", "model == 'm'")
    found = points(model="m", grid=grid, set={"batch_size": 16}, when=when)
    assert len(found) == 3
    assert {point["rule"] for point in found} == {"dfa"}


SPECS = [
    ("@@grid: {}\n", "a sweep needs axes"),
    ("grid: {rule: [bp]}\nzip: [{@@rule: [fa, bp]}]\n", None),
    ("grid: {rule: [bp]}\nzip: [@@{batch_size: [8, 16], epochs: [1]}]\n", "many values each (batch_size 2, epochs 1)"),
    ("grid:\n  batch_size: @@{from: 8, to: 64, whole: true}\n", "missing key 'points'"),
    ("grid:\n  batch_size: @@{from: 64, to: 8, points: 3, whole: true}\n", "goes down"),
    ("grid:\n  chip.clock_mhz: @@{from: 0, to: 8, points: 3, scale: log}\n", "a log scale starts above 0"),
    ("grid:\n  chip.clock_mhz: {from: 1, to: 8, points: 3, scale: @@logg}\n", "did you mean 'log'?"),
    ("grid:\n  chip.clock_mhz: {from: 1, to: 8, @@point: 3}\n", "did you mean 'points'?"),
    ("random: {@@points: 1000000000, axes: {chip.clock_mhz: {from: 1, to: 2}}}\n", None),
    ("grid: {rule: [bp]}\nwhen: @@rule == dfa\n", "for text write 'dfa' in quotes"),
    ("grid: {rule: [bp, dfa]}\nwhen: @@rule == 'dfaa'\n", "did you mean 'dfa'?"),
    ("grid: {batch_size: [8, 16]}\nwhen: [batch_size > 1, @@batch_size > 16]\n", "false at every one of the 2 points"),
    ("grid: {batch_size: [8, 16]}\nwhen: @@[batch_size > 8, batch_size < 16]\n", "no point of 2 meets all conditions"),
    ("grid: {batch_size: [8, 0]}\nwhen: @@1 / batch_size > 2\n", None),
    ("grid: {seed: [1, @@-1]}\n", "from 0 to"),
    ("grid: {seed: [1, 2]}\nseeds: @@3\n", "leave it out where 'seed' is an axis"),
    ("grid: {data: [digits, @@digitz]}\n", "did you mean 'digits'?"),
    ("grid: {epochs: [1, @@0]}\n", "from 1 to"),
    ("grid: {rule: [bp]}\nseeds: @@[]\n", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), SPECS)
def test_each_fault_of_a_sweep_is_said_at_its_place(text, said, tmp_path):
    """Places as counted by hand; several mistakes where they are several."""
    clean, places = marked(f"name: s\n{text}")
    path = tmp_path / "s.yaml"
    path.write_text(clean)
    with pytest.raises(fahw.ConfigError) as caught:
        describe(*load_placed_sweep(path))
    problems = caught.value.problems
    if said:
        assert len(problems) == 1
        assert said in problems[0].message
        assert problems[0].place in (f"{path}:{places[0]}", f"{path}:1:1")
    assert all(problem.place.startswith(f"{path}:") for problem in problems)


def test_check_says_what_is_trained_and_how_long_it_takes():
    """Points that share a training or a cost are counted once; skipped ones are named."""
    text = describe(
        Sweep(
            name="s", epochs=1, seeds=(3, 5), when="rule == 'bp' or chip.clock_mhz < 150",
            grid={"rule": ("bp", "dfa"), "chip.clock_mhz": (100, 200)},
        )
    )  # fmt: skip
    first, second = text.splitlines()
    assert first == "a sweep of 3 points (1 more skipped by 'when'), at most 4 trainings"
    assert "trainings about" in second
    assert (
        describe(Sweep(name="s", train=False, grid={"seed": (1, 2, 3)})).splitlines()[0].endswith("1 different costs")
    )


def test_seeds_data_and_epochs_are_axes():
    """Each seed is a point of its own with one training."""
    spec = Sweep(name="s", grid={"seed": (4, 9), "epochs": (1, 2)})
    made = setups_of(spec)
    assert [(setup.recipe.epochs, [job.setup.seed for job in setup.jobs]) for setup in made] == [
        (1, [4]), (2, [4]), (1, [9]), (2, [9]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"zip: [{', '.join(f'{{chip.x{i}: [1]}}' for i in range(101))}]", "101 axes or groups; at most 100"),
        (f"grid: {{{', '.join(f'chip.x{i}: [1]' for i in range(5000))}}}", "5,000 axes or groups; at most 100"),
        (f"grid: {{batch_size: [1]}}\nwhen: [{', '.join(['batch_size > 0'] * 101)}]", "101 conditions; at most 100"),
        (
            "grid: {batch_size: {from: 1, to: 1000, points: 1000, whole: true}, seed: {from: 1, to: 999, points: 999, "
            f"whole: true}}}}\nwhen: '{' and '.join(['batch_size > 0'] * 50)}'",
            "999,000 points with conditions of 945 characters; at most 200,000,000",
        ),
    ],
    ids=["groups", "axes", "conditions", "characters"],
)  # fmt: skip
def test_a_sweep_that_only_costs_time_is_refused_at_once(tmp_path, text, message):
    """What would be expanded, or evaluated a million times, has a limit, and its place."""
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: s\ntrain: false\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_sweep(path)
    assert caught.value.problems[0].place.startswith(f"{path}:")


def test_a_chip_that_cannot_be_read_is_placed_where_the_sweep_names_it(tmp_path, monkeypatch):
    """A folder, or a file that is not there, has no line of its own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sweep.yaml"
    path.write_text("name: s\ntrain: false\nmodel: missing.yaml\ngrid:\n  chip: [edge_dual, .]\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        fahw.sweep(path, out=tmp_path / "out")
    assert [(problem.place, problem.message) for problem in caught.value.problems] == [
        (f"{path}:3:8", "missing.yaml: no such file"), (f"{path}:5:21", ".: is a folder, not a file"),
    ]  # fmt: skip
