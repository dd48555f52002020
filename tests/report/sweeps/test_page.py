"""The page of a sweep: whole in itself, small, the same numbers as its tables; in a browser it sorts, filters, shows
values under the pointer and opens points, and asks nobody for anything."""

import csv
import gzip
import json
import re
import shutil

import pytest

from fahw.config.sweep import Sweep
from fahw.report.page import write_report
from fahw.report.sweeps.data import map_rows, page_data
from fahw.study import training
from fahw.study.sweeps import tables
from fahw.study.sweeps.sweep import sweep

AXES = {"rule": ("bp", "usf", "dfa"), "chip.precision.weight": (8, 4), "chip.precision.feedback": (8, 4, 1)}
NAME = "</script><b>x"


def rows_of(folder, name="summary"):
    return list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))


def data_of(folder):
    page = (folder / "report.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="sweep-data">(.*?)</script>', page, re.S)[1])


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    """A cost-only sweep over two bit-widths and three rules, and a description that would break out of its place."""
    out = tmp_path_factory.mktemp("costs")
    sweep(Sweep(name="s", description=NAME, train=False, grid=AXES), out=out, workers=1)
    return out


def test_the_page_holds_every_point_with_the_numbers_of_the_table(costs):
    """Values as in summary.csv, to six digits; texts by their code."""
    data, rows = data_of(costs), rows_of(costs)
    at = {column["id"]: index for index, column in enumerate(data["columns"])}
    assert data["numbers"] == [int(row["point"]) for row in rows]
    for cells, row in zip(data["rows"], rows, strict=True):
        assert data["columns"][at["rule"]]["levels"][cells[at["rule"]]] == row["rule"]
        assert cells[at["chip.precision.feedback"]] == int(row["axis.chip.precision.feedback"])
        for name in ("energy_pj_per_sample", "saving_per_step", "area_mm2"):
            value = cells[at[name]]
            assert (value is None) == (row[name] == "")
            assert value is None or value == pytest.approx(float(row[name]), rel=1e-5)


def test_formats_by_name_have_a_place_in_the_map(tmp_path):
    """Ordered by their width: two bits of ternary weights before eight."""
    grid = {"rule": ("bp",), "chip.precision.weight": (8, "ternary"), "chip.precision.feedback": (8,)}
    sweep(Sweep(name="s", grid=grid, epochs=1, seeds=1), out=tmp_path, workers=1)
    svg = (tmp_path / "plots" / "bits.svg").read_text()
    labels = [label for label in re.findall(r">([^<]*)</text>", svg) if label in ("8", "ternary")]
    assert labels == ["8", "ternary", "8"]  # the columns, then the rows from below


def test_a_rule_without_a_point_of_equal_accuracy_is_named(tmp_path):
    """The table says so of a rule that was trained; of one whose trainings are missing it says nothing."""
    sweep(Sweep(name="s", grid={"rule": ("bp", "usf")}, epochs=1, seeds=1), out=tmp_path, workers=1)
    said = re.compile(r"<tr[^>]*>\s*<th[^>]*>usf</th>\s*<td[^>]*>none within one point</td>")
    path = tmp_path / "equal_accuracy.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if ",usf," not in line))
    assert said.search(write_report(tmp_path).read_text())
    path = tmp_path / "summary.csv"
    rows = rows_of(tmp_path)
    with path.open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"accuracy_pct_mean": ""} if row["rule"] == "usf" else row for row in rows)
    assert not said.search(write_report(tmp_path).read_text())


def test_the_page_needs_nothing_but_itself(costs):
    """No address to load from, and text from the sweep's file stays text."""
    page = (costs / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", page)
    assert NAME not in page
    assert page.count("<script") == page.count("</script>") == 2


def test_ledgers_of_points_add_up_to_their_energy(costs):
    """By phase and component, for every point of a small sweep."""
    data = data_of(costs)
    for row in rows_of(costs):
        parts = data["ledgers"][row["point"]]
        total = sum(pj for phase in parts.values() for pj in phase.values())
        assert total == pytest.approx(float(row["energy_pj_per_step"]), rel=1e-4)


def test_ledgers_that_are_not_in_the_page_are_linked(tmp_path, monkeypatch):
    """Beyond as many as the page takes: packed files beside it hold all; none is left of a sweep with other points."""
    monkeypatch.setattr(tables, "MOST_LEDGERS", 5)
    monkeypatch.setattr(tables, "LEDGERS_PER_FILE", 10)
    grid = {"rule": ("bp", "dfa"), "chip.clock_mhz": (100, 150, 200, 300, 400, 500)}
    sweep(Sweep(name="s", train=False, grid=grid), out=tmp_path, workers=1)
    data = data_of(tmp_path)
    assert len(data["numbers"]) == 12
    assert len(data["ledgers"]) <= 5
    assert [(first, last) for first, last, _ in data["ledger_files"]] == [(1, 10), (11, 12)]
    texts = [gzip.decompress((tmp_path / name).read_bytes()).decode() for _, _, name in data["ledger_files"]]
    rows = [row for text in texts for row in csv.DictReader(text.splitlines())]
    for point in rows_of(tmp_path):
        parts = [float(row["energy_pj"]) for row in rows if row["point"] == point["point"]]
        assert sum(parts) == pytest.approx(float(point["energy_pj_per_step"]), rel=1e-9)
    sweep(Sweep(name="s", train=False, grid={"rule": ("bp", "dfa")}), out=tmp_path, workers=1)
    assert data_of(tmp_path)["ledger_files"] == []


def test_ten_thousand_points_fit_in_a_page(costs):
    """At most 5 MB; beyond what fits, points of the fronts stay and others are spread over the sweep."""
    rows = [row | {"point": str(number)} for number, row in enumerate(rows_of(costs) * 600, 1)]
    text = page_data(rows[:10_000], [], {})
    assert len(json.loads(text)["rows"]) == 10_000
    assert len(text.encode()) < 4_500_000
    many = [row | {"point": str(number)} for number, row in enumerate(rows * 2, 1)]
    many[51]["on_front"] = "1"
    text = page_data(many, [], {})
    assert len(text.encode()) < 4_500_000
    assert 52 in json.loads(text)["numbers"]
    assert len(json.loads(text)["numbers"]) < len(many)


def test_the_report_can_be_written_again(costs):
    """From the folder alone, with the same bytes."""
    before = {path: path.read_bytes() for path in costs.rglob("*") if path.is_file()}
    write_report(costs)
    assert {path: path.read_bytes() for path in before} == before


def test_the_report_of_an_unfinished_sweep_says_how_far_it_is(tmp_path, monkeypatch):
    """Stopped while training: points that are done have their accuracy, the others wait."""
    real, done = training.run_training, []

    def run(*args, **rest):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(0)
        return real(*args, **rest)

    monkeypatch.setattr(training, "run_training", run)
    with pytest.raises(KeyboardInterrupt):
        sweep(Sweep(name="s", epochs=1, grid=AXES), out=tmp_path, workers=1)
    page = write_report(tmp_path).read_text()
    assert "Unfinished: 16 of 18 points wait for trainings" in page
    assert sum(row["accuracy_pct_mean"] != "" for row in rows_of(tmp_path)) == 2
    assert [row["status"] for row in rows_of(tmp_path)].count("pending") == 16


def test_maps_hold_means_over_what_is_not_chosen(costs):
    """Against the rows of the summary, cell by cell."""
    points = rows_of(costs)
    for row in points:
        row["axis.batch_size"] = row["axis.chip.precision.weight"]
    cells = [cell for cell in map_rows(points) if cell["quantity"] == "saving_per_step"]
    assert {(cell["x_axis"], cell["y_axis"]) for cell in cells} == {
        ("chip.precision.weight", "chip.precision.feedback"), ("chip.precision.weight", "batch_size"),
        ("chip.precision.feedback", "batch_size"),
    }  # fmt: skip
    for cell in cells:
        inside = [
            float(p["saving_per_step"]) for p in points
            if (p["rule"], p[f"axis.{cell['x_axis']}"], p[f"axis.{cell['y_axis']}"])
            == (cell["rule"], cell["x"], cell["y"])
        ]  # fmt: skip
        assert cell["points"] == len(inside)
        assert (cell["lowest"], cell["highest"]) == (min(inside), max(inside))
        assert cell["mean"] == pytest.approx(sum(inside) / len(inside))


# --- in a browser ----------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished sweep with trainings."""
    out = tmp_path_factory.mktemp("trained")
    sweep(Sweep(name="bits", epochs=2, seeds=2, target_accuracy_pct=80.0, grid=AXES), out=out, workers=1)
    return out


class Page:
    """The report of `folder` in a browser; `said`: what it complained of; `asked`: what it requested."""

    def __init__(self, browser, folder, dark=False):
        self.page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark" if dark else "light")
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"file://{folder}/report.html")

    def column(self, name):
        """The cells of a column of the table, as shown."""
        heads = self.page.locator("#points-table thead th")
        texts = [heads.nth(i).inner_text() for i in range(heads.count())]
        index = next(i for i, text in enumerate(texts) if text.startswith(name))
        rows = self.page.locator("#points-table tbody tr")
        return [rows.nth(i).locator("td").nth(index).inner_text() for i in range(rows.count())]


@pytest.fixture(scope="module")
def browser():
    """Chromium without a screen."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(browser, trained, dark):
    """Sorts, filters, hovers, opens a point with its ledger; no message, no request but the page itself."""
    it = Page(browser, trained, dark)
    page, rows = it.page, rows_of(trained)
    assert len(it.column("rule")) == len(rows)
    page.locator("#points-table thead button", has_text="energy per sample").click()
    energies = [float(text.replace("\u202f", "")) for text in it.column("energy per sample")]
    assert energies == sorted(energies)
    page.locator("#points-table thead button", has_text="energy per sample").click()
    assert [float(text.replace("\u202f", "")) for text in it.column("energy per sample")] == energies[::-1]
    page.locator("#points-filter").fill("usf weight=4")
    assert it.column("rule") == ["usf"] * 3
    assert page.locator("#plot-front path.mark").count() == 3
    page.locator("#points-filter").fill("")
    page.get_by_label("rule", exact=True).last.select_option(label="dfa")
    assert set(it.column("rule")) == {"dfa"}
    page.get_by_label("rule", exact=True).last.select_option(label="all")
    marks = page.locator("#plot-front path.mark.best")
    marks.first.hover()
    number = marks.first.get_attribute("data-point")
    row = next(row for row in rows if row["point"] == number)
    assert row["rule"] in page.locator(".tip").inner_text()
    assert f"test accuracy {float(row['accuracy_pct_mean']):.2f}" in page.locator(".tip").inner_text()
    marks.first.click()
    told = page.locator("#point").inner_text()
    assert f"--set chip.precision.weight={row['axis.chip.precision.weight']}" in told
    assert "weight_sram" in told
    assert "gradient" in told
    page.keyboard.press("Escape")
    assert not page.locator("#point").is_visible()
    assert it.said == []
    assert it.asked == [f"file://{trained}/report.html"]
    page.close()


@pytest.mark.slow
def test_the_maps_in_a_browser(browser, trained):
    """A map per rule with a cell per pair of widths; other axes and quantities by choice; savings have signs."""
    it = Page(browser, trained)
    page, rows = it.page, rows_of(trained)
    assert page.locator("#plot-accuracy .panel").count() == 3
    cells = page.locator("#plot-accuracy .cell")
    assert cells.count() == len(rows)
    shown = sorted(float(cells.nth(i).get_attribute("data-value")) for i in range(cells.count()))
    assert shown == pytest.approx(sorted(float(row["accuracy_pct_mean"]) for row in rows), rel=1e-5)
    savings = page.locator("#plot-saving .cell")
    assert savings.count() == sum(row["saving_per_step"] != "" for row in rows)
    page.locator("#plot-saving").get_by_label("across").select_option("chip.precision.weight")
    assert page.locator("#plot-saving .cell").count() == savings.count()
    page.locator("#plot-accuracy").get_by_label("a map per").select_option("(one map)")
    assert page.locator("#plot-accuracy .panel").count() == 1
    assert page.locator("#plot-target path.mark").count() >= 1
    assert page.locator("#plot-sensitivity rect.bar").count() >= 5
    assert it.said == []
    page.emulate_media(media="print")
    assert not page.locator("#points-filters").is_visible()
    page.close()
