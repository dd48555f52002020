"""What is shown of a step: use of the parts, rooflines, the map of areas and energies, the plots of `fahw simulate`."""

import csv
import json
import subprocess
import sys
from collections import defaultdict
from io import StringIO
from itertools import combinations
from math import ceil, fsum, isclose

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

import fahw
from fahw.chip.area import areas_mm2
from fahw.chip.roofline import points
from fahw.chip.usage import uses
from fahw.report.cost_files import line_of
from fahw.report.figures import figure as fig
from fahw.report.figures.floorplan import components, floorplan, squarified
from fahw.report.figures.plots import draw_line
from fahw.report.figures.roofline import roofline
from fahw.report.figures.timeline import timeline
from tests.support.strategies import ROOT

CASES = [
    ("edge_dual", "mlp_mnist", "bp"), ("edge_dual", "lenet5", "dfa"), ("edge_shared", "lenet5", "bp"),
    ("dfa_prng", "mlp_mnist", "dfa"), ("dram_bound", "lenet5", "usf"), ("neurocore_mesh", "lenet5", "bp"),
    ("tpu_like", "resnet20", "dfa"), ("eyeriss", "lenet5", "bp"),
]  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def cost(request):
    """The cost of a step of 32 samples."""
    chip, model, rule = request.param
    return fahw.simulate(chip, model, rule, 32)


def test_no_point_lies_above_its_roof(cost):
    """A product is no faster than its array and than what it moves through each port, DRAM included."""
    found = points(cost)
    assert {point.port for point in found} <= set(cost.timing.busy)
    for point in found:
        assert 0 < point.macs_per_cycle <= point.roof_macs_per_cycle * (1 + 1e-12), point


def test_points_hold_all_multiply_accumulates(cost):
    """Each phase of each layer once per port, with the executed ones of the ledger."""
    rows = defaultdict(float)
    for row in cost.ledger:
        if row.action == "mac":
            rows[row.phase, row.layer] += row.count
    for port in {point.port for point in points(cost)}:
        mine = [point for point in points(cost) if point.port == port]
        assert len({(point.phase, point.layer) for point in mine}) == len(mine)
        assert all(point.macs == rows[point.phase, point.layer] for point in mine)


def test_points_of_the_worked_example():
    """docs/model.md, section 9: forward of linear1 does 24 MACs from cycle 1 to 15 with 16 activation and 12 weight
    bytes; the ports are so wide that its four elements are the roof."""
    cost = fahw.simulate(ROOT / "docs/worked_chip.yaml", ROOT / "docs/worked_model.yaml", "bp", 2)
    found = {p.port: p for p in points(cost) if (p.phase, p.layer) == ("forward", "linear1")}
    assert (found["buffer.read"].bits, found["weights.read"].bits, found["state.read"].bits) == (128, 96, 48)
    assert (found["buffer.write"].bits, found["weights.read"].macs, found["weights.read"].cycles) == (56, 24, 14)
    assert (found["weights.read"].macs_per_bit, found["weights.read"].macs_per_cycle) == (0.25, 24 / 14)
    assert (found["weights.read"].roof_macs_per_cycle, found["weights.read"].bound) == (4, "array")


def test_uses_agree_with_time_and_ledger(cost):
    """Bits fill their port's busy cycles, products their array's; stalls and busy cycles are those of the cost."""
    found = uses(cost)
    assert {use.part: use.busy_cycles for use in found} == cost.timing.busy
    stalls = {(use.part, cause): cycles for use in found for cause, cycles in use.stall_cycles.items()}
    assert stalls == {key: cycles for key, cycles in cost.timing.stalls.items() if cycles}
    for use in found:
        assert 0 <= use.utilisation <= 1 + 1e-12
        assert use.mean_per_cycle <= use.per_cycle * (1 + 1e-12)
        if use.unit:
            assert ceil(use.amount / use.per_cycle) <= use.busy_cycles, use
        if use.kind == "array":
            macs = fsum(row.count for row in cost.ledger if (row.component, row.action) == (use.part, "mac"))
            assert use.amount == macs


def test_areas_are_the_chips(cost):
    """Every component once; they add up to the area, built and fitted; each is in the ledger or the noc."""
    chip, transposable = cost.work.chip, cost.form == "transposable"
    assert fsum(areas_mm2(chip, transposable).values()) == cost.area_mm2
    assert fsum(areas_mm2(chip, transposable, cost.work.placements).values()) == cost.area_used_mm2
    assert min(areas_mm2(chip, transposable).values()) >= 0


def test_the_map_holds_all_energy_and_area(cost):
    """No joule and no square millimetre is lost between cost and picture."""
    found = [item for items in components(line_of(cost)).values() for item in items]
    assert isclose(fsum(item.energy_pj for item in found), cost.energy_pj, rel_tol=1e-12)
    assert isclose(fsum(item.area_mm2 for item in found), cost.area_mm2, rel_tol=1e-12)


@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=20), st.floats(0.1, 10), st.floats(0.1, 10))
def test_rectangles_have_the_areas_and_fill_the_map(areas, width, height):
    """In proportion, within the box, none over another."""
    areas = sorted(areas, reverse=True)
    boxes = squarified(areas, (0.0, 0.0, width, height))
    for area, (x, y, w, h) in zip(areas, boxes, strict=True):
        assert isclose(w * h, area / sum(areas) * width * height, rel_tol=1e-6)
        assert x >= -1e-9
        assert y >= -1e-9
        assert x + w <= width * (1 + 1e-6)
        assert y + h <= height * (1 + 1e-6)
    for (ax, ay, aw, ah), (bx, by, bw, bh) in combinations(boxes, 2):
        across = min(ax + aw, bx + bw) - max(ax, bx)
        down = min(ay + ah, by + bh) - max(ay, by)
        assert min(across, down) <= 1e-6 * max(width, height)


def texts_of(figure):
    """What is written in a figure, with the place that it takes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    for axes in figure.axes:
        if axes.get_visible():
            written = [*axes.texts, axes._left_title, *axes.get_xticklabels(), *axes.get_yticklabels()]
            written += [axes.xaxis.label, axes.yaxis.label]
            outside = set()
            for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                labels = zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
                outside |= {id(label) for label, at in labels if not min(ends) <= at <= max(ends)}
            for text in written:
                if text.get_text() and text.get_visible() and id(text) not in outside:
                    yield text.get_text(), text.get_window_extent(renderer)


@pytest.mark.parametrize(
    ("chip", "model"),
    [
        ("edge_dual", "mlp_mnist"), ("neurocore_mesh", "lenet5"),
        pytest.param("tpu_like", "resnet18_imagenet", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_nothing_that_is_written_overlaps(chip, model):
    """In the three pictures of a step, backpropagation above DFA."""
    network = fahw.load_model(model)
    lines = [line_of(fahw.simulate(chip, network, rule, network.recipe.batch_size)) for rule in ("bp", "dfa")]
    with matplotlib.rc_context(fig.styled()):
        for figure in (timeline(lines), floorplan(lines), roofline(lines[0])):
            found = list(texts_of(figure))
            assert len(found) > 10
            for (a, here), (b, there) in combinations(found, 2):
                across = min(here.x1, there.x1) - max(here.x0, there.x0)
                down = min(here.y1, there.y1) - max(here.y0, there.y0)
                assert min(across, down) <= 1, (a, b)


def test_a_timeline_sets_all_steps_on_one_axis_of_time():
    """The longer step decides; phases have the same colours in every panel; micro-batches take turns in shade."""
    lines = [line_of(fahw.simulate("neurocore_mesh", "lenet5", rule, 32)) for rule in ("bp", "dfa")]
    with matplotlib.rc_context(fig.styled()):
        panels = timeline(lines).axes
    assert panels[0].get_xlim() == panels[1].get_xlim()
    colours = {tuple(patch.get_facecolor()[:3]) for axes in panels for patch in axes.patches}
    known = {tuple(matplotlib.colors.to_rgb(colour)) for colour in fig.PHASE_COLOURS.values()}
    assert colours <= known
    assert {patch.get_alpha() for patch in panels[0].patches} >= {0.6, 1.0}


def test_plots_are_files_with_their_numbers(command, tmp_path):
    """SVG that says names where the pointer rests, CSV with the numbers; the same bytes each time."""
    arguments = ["simulate", "edge_dual", "mlp_digits", "--rule", "bp", "--json"]
    code, out, err = command(*arguments, "--plots", "a")
    assert code == 0
    assert "roofline.svg" in err
    value = json.loads(out)
    command(*arguments, "--plots", "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "components.csv", "energy_map.svg", "parts.csv", "roofline.csv", "roofline.svg", "timeline.svg",
    ]  # fmt: skip
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    tables = {
        name: list(csv.DictReader(StringIO((tmp_path / "a" / name).read_text())))
        for name in names
        if name.endswith("csv")
    }
    energies = [float(row["energy_pj"]) for row in tables["components.csv"]]
    assert isclose(fsum(energies), value["energy_pj"], rel_tol=1e-12)
    busy = {row["part"]: int(row["busy_cycles"]) for row in tables["parts.csv"]}
    assert busy == value["busy_cycles"] == {part["part"]: part["busy_cycles"] for part in value["parts"]}
    assert "<title>forward linear1: " in (tmp_path / "a" / "timeline.svg").read_text()
    assert "<title>forward linear1, read: " in (tmp_path / "a" / "roofline.svg").read_text()


def test_a_folder_that_cannot_be_written_is_the_users(command, tmp_path):
    """Exit code 2, one line, nothing on stdout."""
    (tmp_path / "file").write_text("")
    code, out, err = command("simulate", "edge_dual", "mlp_digits", "--plots", "file")
    assert (code, out) == (2, "")
    assert "--plots file: is a file: name a folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("chip", "settings", "batch"),
    [
        ("tpu_like", {}, 32), ("neurocore_mesh", {"micro_batch": "1"}, 128),
        ("neurocore_mesh", {"mesh.rows": "32", "mesh.cols": "32"}, 8),
    ],
)  # fmt: skip
def test_plots_of_a_large_step_are_small(chip, settings, batch):
    """Twenty layers, thousands of tasks or a thousand cores leave room on a page of five megabytes."""
    network = fahw.load_model("lenet5" if batch == 128 else "resnet20")
    line = line_of(fahw.simulate(fahw.load_chip(chip, settings), network, "bp", batch))
    assert sum(len(plot.svg) for plot in draw_line(line)) < 1_000_000


def test_a_timeline_of_thousands_of_tasks_shows_the_time_that_they_take():
    """The shapes that stand for many tasks cover their parts as long as these hold tasks, idle time left white."""
    chip = fahw.load_chip("neurocore_mesh", {"micro_batch": "1"})
    line = line_of(fahw.simulate(chip, fahw.load_model("lenet5"), "bp", 128))
    spans = line.details["spans"]
    assert len(spans) > 1500
    end = max(span["end"] for span in spans)
    with matplotlib.rc_context(fig.styled()):
        (axes,) = timeline([line]).axes
    drawn = defaultdict(float)
    for patch in axes.patches:
        name = next(n for n, c in fig.PHASE_COLOURS.items() if patch.get_facecolor()[:3] == matplotlib.colors.to_rgb(c))
        drawn[name] += sum(abs(np.ptp(four[:, 0])) for four in patch.get_path().to_polygons())
    for phase in ("forward", "error", "gradient"):
        held = [(span["start"], span["released"]) for span in spans if span["phase"] == phase]
        exact = sum(b - a for a, b in held)
        assert exact <= drawn[phase] <= exact + len(held) * end / 1000


def test_simulate_without_plots_loads_no_matplotlib():
    """The command for people and for machines, with a trace too."""
    code = "import sys; from fahw.cli.verbs import app; app(sys.argv[1:], standalone_mode=False)"
    check = "; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code + check, "simulate", "edge_dual", "mlp_digits", "--rule", "bp"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_plots_are_the_same_whatever_matplotlibrc_the_current_folder_has():
    """One that has LaTeX run, or other colours: who opens a prepared folder may stand in it."""
    cost = fahw.simulate(fahw.load_chip("edge_dual"), fahw.load_model("mlp_digits"), "bp")
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "savefig.facecolor": "blue"}):
        disturbed = draw_line(line_of(cost))
    assert disturbed == draw_line(line_of(cost))
