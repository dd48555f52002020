"""Sweeps: the grid, what shares a training, resuming, points that fail, and wrong sweeps."""

import csv

import pytest

import fahw
from fahw.config.sweep import Sweep
from fahw.study.sweep import describe, expand, pareto, sweep

GRID = {"rule": ("bp", "dfa"), "chip.precision.weight": (8, 4), "chip.memories.weight_sram.bank_kib": (32, 64)}


def spec(**changes):
    return Sweep(**({"name": "s", "grid": GRID, "epochs": 1, "seeds": 1} | changes))


def test_points_that_differ_in_energy_only_share_a_training():
    """Two rules x two widths x two bank sizes: eight points, four trainings."""
    points = expand(spec(), None)
    assert len(points) == 8
    assert len({job.key for point in points for job in point.jobs}) == 4
    assert describe(spec()).startswith("a sweep of 8 points")


def test_a_sweep_writes_a_row_per_point_and_resumes(tmp_path):
    """Rows carry their axes; the second run trains nothing and writes the same bytes."""
    sweep(spec(), out=tmp_path, workers=1)
    table = (tmp_path / "summary.csv").read_bytes()
    results = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.json")}
    assert len(results) == 4
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert {(row["axis.rule"], row["axis.chip.precision.weight"]) for row in rows} == {
        ("bp", "8"), ("bp", "4"), ("dfa", "8"), ("dfa", "4"),
    }  # fmt: skip
    assert all(float(row["energy_pj_per_step"]) > 0 and row["accuracy_pct_mean"] for row in rows)
    sweep(spec(), out=tmp_path, workers=1)
    assert (tmp_path / "summary.csv").read_bytes() == table
    assert {path: path.stat().st_mtime_ns for path in results} == results


def test_a_cost_only_sweep_trains_nothing(tmp_path):
    """`train: false` fills the costs and leaves accuracy empty."""
    sweep(spec(train=False), out=tmp_path, workers=1)
    rows = list(csv.DictReader((tmp_path / "summary.csv").read_text().splitlines()))
    assert not (tmp_path / "runs").exists()
    assert {row["accuracy_pct_mean"] for row in rows} == {""}


def test_a_point_that_cannot_be_hosted_is_recorded(tmp_path):
    """It keeps its row with the reason, the others are done."""
    grid = {"rule": ("brsf", "fa")}
    result = sweep(spec(grid=grid, set={"chip.feedback_generator": None}), out=tmp_path, workers=1)
    assert [point.rule for point in result.failed] == ["brsf"]
    rows = {row["axis.rule"]: row for row in csv.DictReader((tmp_path / "summary.csv").read_text().splitlines())}
    assert "feedback_generator" in rows["brsf"]["reason"]
    assert float(rows["fa"]["energy_pj_per_step"]) > 0


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"rulez": ("bp",)}, "did you mean 'rule'?"),
        ({"rule": ()}, "empty"),
        ({"rule": ("bp", "dfb")}, "no rule 'dfb'"),
        ({"chip.precision.weigth": (8,)}, "did you mean 'weight'?"),
        ({"chip.precision.weight": (8, 99)}, "weight=99"),
        ({"batch_size": (0,)}, "from 1 to"),
        ({"chip": ("edge_dula",)}, "did you mean 'edge_dual'?"),
    ],
)
def test_wrong_axes_are_named(grid, said, tmp_path):
    """Before anything runs, with advice; nothing is written."""
    with pytest.raises(fahw.ConfigError, match=said.replace("?", r"\?")):
        sweep(spec(grid=grid), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_many_points_are_refused_before_they_are_made():
    """10^9 points are counted, not expanded."""
    axis = tuple(range(1, 1001))
    with pytest.raises(fahw.ConfigError, match="1,000,000,000 points"):
        expand(spec(grid={"batch_size": axis, "chip.clock_mhz": axis, "chip.arrays.0.rows": axis}), None)


def test_the_front_holds_what_nothing_beats():
    """Hand-worked: less energy or more accuracy than every other; ties stay; unknown points never."""
    points = [(1.0, 90.0), (2.0, 95.0), (3.0, 94.0), (2.0, 95.0), (None, 99.0), (0.5, None)]
    assert pareto(points) == [True, True, False, True, False, False]
