"""Sweeps: the grid, what shares a training, resuming, points that fail, and wrong sweeps."""

import csv
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw
from fahw.config.sweep import Sweep
from fahw.errors import ConfigError, Problem
from fahw.hardware.part import Form
from fahw.study.sweeps import setups, sweep_run
from fahw.study.sweeps.load import load_placed_sweep
from fahw.study.sweeps.sweep import describe, sweep
from fahw.study.sweeps.tables import pareto_front
from tests.support.strategies import SHIPPED_MODELS, marked, setups_of

GRID = {"rule": ("bp", "dfa"), "chip.precision.weight": (8, 4), "chip.memories.weight_sram.bank_kib": (32, 64)}


def spec(**changes):
    return Sweep(**({"name": "s", "grid": GRID, "epochs": 1, "seeds": 1} | changes))


def test_points_that_differ_in_energy_only_share_a_training():
    """Two rules x two widths x two bank sizes: eight points, four trainings."""
    points = setups_of(spec())
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


@pytest.mark.parametrize("model", SHIPPED_MODELS)
def test_every_shipped_model_can_be_priced_without_its_data(model):
    """The data set that a model file recommends need not be known where nothing is trained; one that is given must."""
    assert len(setups_of(Sweep(name="s", model=model, train=False, grid={"rule": ("bp", "fa")}))) == 2
    with pytest.raises(ConfigError, match="no data set 'mnits'"):
        setups_of(Sweep(name="s", model=model, train=False, data="mnits", grid={"rule": ("bp", "fa")}))


def test_every_form_of_transport_can_be_swept():
    """Also the slowest way to read a memory's columns."""
    forms = (*get_args(Form), "shared", "none")
    assert len(setups_of(Sweep(name="s", train=False, grid={"transport": forms}))) == len(forms)


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


SWEEP = """\
name: s
epochs: 1
data: @@digitz
grid:
  rule: [bp, @@dfb]
  batch_size: [32, @@0]
  chip.precision.weight: [8, @@99, @@fp16]
  chip.arrays.forward_array.rows: [16, @@x]
  model.layers.1.out: [@@-3, 64]
  transport: [copy]
"""


def sweep_file(tmp_path, text):
    clean, places = marked(text)
    path = tmp_path / "s.yaml"
    path.write_text(clean)
    return path, [f"{path}:{place}" for place in places]


def test_every_wrong_value_of_a_sweep_is_said_at_its_place(tmp_path):
    """Data set, rule, batch size, chip and model in one pass, each at file:line:col in the order of the file."""
    path, places = sweep_file(tmp_path, SWEEP)
    with pytest.raises(fahw.ConfigError) as caught:
        sweep(path, out=tmp_path / "out")
    assert [problem.place for problem in caught.value.problems] == places
    assert not (tmp_path / "out").exists()


MIXED = """\
name: s
train: false
set: {@@chip.clock_mhz: fast, @@bach_size: 8}
grid:
  rule: [bp, @@dfaa]
  chip.precision.wieght: [@@8]
  transport: [copy, @@coppy]
  batch_size: @@[]
  epochs: @@{from: 3, to: 1, points: 2}
zip:
  - @@{seed: [1], chip.precision.error: [8, 4]}
when: @@batch_sise > 3
"""


def test_mistakes_of_every_kind_are_said_at_once(tmp_path):
    """Axes, groups, conditions, rules, forms and keys of the chip in one pass."""
    path, places = sweep_file(tmp_path, MIXED)
    with pytest.raises(fahw.ConfigError) as caught:
        describe(*load_placed_sweep(path))
    problems = caught.value.problems
    assert [problem.place for problem in problems] == places
    for index, name in ((1, "batch_size"), (2, "dfa"), (3, "weight"), (4, "copy"), (-1, "batch_size")):
        assert f"did you mean '{name}'" in problems[index].message


def test_too_many_points_are_said_with_what_is_wrong_beside_them(tmp_path):
    """They are not made to be looked at."""
    many = "  batch_size: {from: 1, to: 100000, points: 1000000000}\n"
    for more, said in (("", "1,000,000,000 points"), ("  rule: []\n", "the axis is empty")):
        path, places = sweep_file(tmp_path, f"name: s\nchip: @@edge_dula\ntrain: false\ngrid:\n{many}{more}")
        with pytest.raises(fahw.ConfigError) as caught:
            describe(*load_placed_sweep(path))
        name, other = caught.value.problems
        assert name.place == places[0]
        assert "did you mean 'edge_dual'" in name.message
        assert said in other.message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rule: [bp, @@null]", "must be a number, or text, or true or false (got null)"),
        ("rulez: @@[bp]", "did you mean 'rule'"),
        ("rule: @@[]", "empty"),
        ("transport: [copy, @@coppy]", "did you mean 'copy'"),
        ("chip: [edge_dual, @@edge_dula]", "did you mean 'edge_dual'"),
        ("chip.@@: [1]", None),
        ("chip.precision.master: [16, @@4]", "fewer than the weight's"),
        ("chip.arrays.0.memories.1: [buffer_sram, @@bufer_sram]", "did you mean 'buffer_sram'"),
    ],
)
def test_each_fault_of_an_axis_is_one_sentence_at_its_place(line, said, tmp_path):
    """`check` and `sweep` see the same: a wrong value, name or reference on an axis."""
    path, places = sweep_file(tmp_path, f"name: s\ntrain: false\ngrid:\n  {line}\n")
    found = []
    for call in (lambda: describe(*load_placed_sweep(path)), lambda: sweep(path, out=tmp_path / "out")):
        with pytest.raises(fahw.ConfigError) as caught:
            call()
        found.append(caught.value.problems)
    assert found[0] == found[1]
    if said:
        (problem,) = found[0]
        assert problem.place == places[0]
        assert said in problem.message


def test_settings_of_the_whole_sweep_are_checked_as_values_of_axes_are(tmp_path):
    """A list or a mapping where one value belongs: one sentence each."""
    lines = "set: {@@rule: [bp], @@batch_size: {a: 1}}\ngrid:\n  chip.clock_mhz: [100]\n"
    for text in (lines, "set: {@@transport: {a: 1}}\ngrid:\n  chip.clock_mhz: [100]\n"):
        path, places = sweep_file(tmp_path, f"name: s\ntrain: false\n{text}")
        with pytest.raises(fahw.ConfigError) as caught:
            describe(*load_placed_sweep(path))
        assert [problem.place for problem in caught.value.problems] == places


def test_a_fault_of_two_values_together_names_both(tmp_path):
    """Each is fine by itself; the pair is not: both places are given."""
    lines = "chip.precision.weight: [4, @@12]\n  chip.precision.master: [16, @@8]\n"
    path, places = sweep_file(tmp_path, f"name: s\ntrain: false\ngrid:\n  {lines}")
    with pytest.raises(fahw.ConfigError) as caught:
        describe(*load_placed_sweep(path))
    assert [problem.place for problem in caught.value.problems] == [", ".join(places)]


def test_what_points_share_is_made_once(monkeypatch):
    """4,000 points of 20 chips and 40 networks: as many files loaded, and one price for all that share a chip."""
    calls = []
    for name in ("load_chip", "load_model"):
        real = getattr(setups, name)
        monkeypatch.setattr(setups, name, lambda *a, real=real, name=name: calls.append(name) or real(*a))
    axes = {
        "rule": ("bp", "fa", "usf", "frsf", "dfa"), "chip.clock_mhz": tuple(range(100, 120)),
        "model.recipe.learning_rate": tuple(0.01 * i for i in range(1, 41)),
    }  # fmt: skip
    value = spec(grid=axes, train=False)
    made = setups_of(value)
    assert len(made) == 4000
    assert (calls.count("load_chip"), calls.count("load_model")) == (20, 40)
    assert len({setup.cost_key for setup in made}) == 100


def test_checking_a_sweep_prices_a_few_points_only(monkeypatch):
    """`fahw check` counts the points of a sweep, and simulates some of them to say how long all will take."""
    priced = []
    monkeypatch.setattr("fahw.study.costs.cost_record._record_text", lambda chip, request: priced.append(request))
    text = describe(spec(train=False, grid={"chip.clock_mhz": tuple(range(100, 200))}))
    assert text.startswith("a sweep of 100 points, cost only\non one core of this machine: costs about ")
    assert 0 < len(priced) < 10


def costs_of(result):
    return [point.cost for point in result.points]


def test_points_priced_by_several_processes_are_the_same(tmp_path):
    """Prices and tables do not depend on the number of processes; progress is heard of."""
    value = spec(grid={"rule": ("dfa",), "chip.clock_mhz": tuple(range(100, 134))}, train=False)
    heard = []
    two = sweep(value, out=tmp_path / "2", workers=2, on_priced=lambda *said: heard.append(said[:2]))
    one = sweep(value, out=tmp_path / "1", workers=1)
    assert costs_of(two) == costs_of(one)
    assert (tmp_path / "1" / "summary.csv").read_bytes() == (tmp_path / "2" / "summary.csv").read_bytes()
    assert heard[-1] == (34, 34)


def test_too_many_points_are_refused_before_they_are_made():
    """10^9 points are counted, not expanded."""
    axis = tuple(range(1, 1001))
    with pytest.raises(fahw.ConfigError, match=r"1,000,000,000 points \(1000 x 1000 x 1000\); at most 100,000"):
        setups_of(spec(grid={"batch_size": axis, "chip.clock_mhz": axis, "chip.arrays.0.rows": axis}))


@given(st.lists(st.tuples(*(st.none() | st.integers(0, 4).map(float) for _ in range(2))), max_size=12))
def test_the_front_is_what_comparing_all_pairs_gives(points):
    """Against the definition: no other point has less energy and at least the accuracy, or the reverse."""
    known = [(e, a) for e, a in points if e is not None and a is not None]
    by_pairs = [
        e is not None and a is not None and not any(x <= e and y >= a and (x < e or y > a) for x, y in known)
        for e, a in points
    ]
    assert pareto_front(points) == by_pairs


def test_the_front_holds_what_nothing_beats():
    """Hand-worked: less energy or more accuracy than every other; ties stay; unknown points never."""
    points = [(1.0, 90.0), (2.0, 95.0), (3.0, 94.0), (2.0, 95.0), (None, 99.0), (0.5, None)]
    assert pareto_front(points) == [True, True, False, True, False, False]


def test_a_report_that_fails_half_way_does_not_cost_the_trainings(tmp_path, monkeypatch):
    """Tables are written while trainings run; what is wrong with them then is said when all is trained."""
    calls = []

    def failing(*given):
        calls.append(given)
        raise ConfigError(Problem("somewhere", "cannot be drawn"))

    monkeypatch.setattr(sweep_run, "write_folder", failing)
    with pytest.raises(ConfigError, match="cannot be drawn"):
        sweep(spec(grid={"rule": ("bp", "dfa")}), out=tmp_path, workers=1)
    assert len(calls) > 1
    assert len(list(tmp_path.glob("runs/[!.]*/result.json"))) == 2
