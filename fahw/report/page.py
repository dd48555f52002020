"""The report of a run folder: one page that needs no network, and its plots as files. Nothing is run for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError

from fahw.errors import ConfigError, Problem, check_path, printable, shortened
from fahw.files import write_text
from fahw.report import results, setup, usage
from fahw.report.changes import change_sentence
from fahw.report.figures.plots import Plot, draw_all
from fahw.report.mappings import mapping_table
from fahw.report.run_folder import Run, read_manifest, read_run
from fahw.report.sweeps.data import maps_csv
from fahw.report.sweeps.page import sweep_values
from fahw.report.sweeps.plots import draw_plots
from fahw.report.table import Table
from fahw.tables import read_csv
from fahw.units import fixed

Page = tuple[str, list[Plot]]
_DAMAGE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What comes of files that hold other things than fahw writes."""


def write_report(folder: Path) -> Path:
    """Write `report.html` and `plots/*.svg` into a run folder; the same folder gives the same bytes.

    Raises ConfigError where the folder lacks a file or is of a kind that has no report.
    """
    check_path("folder", folder)
    folder = Path(folder)
    manifest = read_manifest(folder)
    kind = str(manifest.get("kind"))
    if kind not in _PAGES:
        message = f"no report for runs of kind '{kind}'; known: {', '.join(_PAGES)}"
        raise ConfigError(Problem(str(folder / "manifest.json"), message))
    try:
        html, plots = _PAGES[kind](folder)
    except (*_DAMAGE, TemplateError) as error:
        said = shortened(f"{type(error).__name__}: {error}", 200)
        message = f"the files of this folder are damaged or do not fit together ({said})"
        raise ConfigError(Problem(str(folder), message)) from None
    for plot in plots:
        write_text(folder / "plots" / f"{plot.name}.svg", plot.svg)
    write_text(folder / "report.html", html)
    return folder / "report.html"


def render(template: str, values: dict[str, Any]) -> str:
    """The HTML of a page from one of the templates in fahw/data."""
    environment = Environment(
        loader=PackageLoader("fahw", "data"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    style = (Path(__file__).parent.parent / "data" / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(values | {"style": style})


def _visible(value: Any) -> Any:
    """What stands on the page: of a text from the folder also the characters that do not print."""
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value


def compare_page(folder: Path) -> Page:
    """The HTML and the plots of a comparison."""
    run = read_run(folder)
    plots = draw_all(run)
    changes = {"changes": change_sentence(folder)}
    return render("report_compare.html", _compare_values(run, plots) | changes), plots


def sweep_page(folder: Path) -> Page:
    """The HTML and the plots of a sweep; maps.csv is written beside them."""
    points = read_csv(folder / "summary.csv")
    plots = draw_plots(points)
    write_text(folder / "maps.csv", maps_csv(points))
    changes = {"changes": change_sentence(folder)}
    return render("report_sweep.html", sweep_values(folder, read_manifest(folder), plots) | changes), plots


def _compare_values(run: Run, plots: list[Plot]) -> dict[str, Any]:
    """The values that the template of a comparison needs."""
    chip, model = run.inputs["chip"], run.inputs["model"]
    return {
        "title": f"{chip['name']} training {model['name']}",
        "description": chip.get("description", ""),
        "facts": _facts(run),
        "sentences": results.verdict_sentences(run),
        "verdicts": results.verdict_table(run),
        "break_evens": results.break_evens(run),
        "figures": [results.energy_table(run), results.space_table(run)],
        "plots": plots,
        "usage": [*usage.usage_tables(run), *_existing(mapping_table(run))],
        "chip": setup.chip_tables(run),
        "training": _existing(setup.network_table(run), setup.recipe_table(run)),
        "recipe": setup.recipe_words(run),
        "warnings": setup.warnings(run),
        "losses": setup.losses(run),
        "sources": setup.sources_table(run),
        "command": _command(run),
        "manifest": run.manifest,
    }


def _existing(*tables: Table | None) -> list[Table]:
    return [table for table in tables if table is not None]


def _facts(run: Run) -> list[tuple[str, str]]:
    """The head of the page: names and values of the main inputs."""
    inputs = run.inputs
    return [
        ("chip", f"{inputs['chip']['name']}, {inputs['chip']['clock_mhz']:g} MHz"),
        ("model", inputs["model"]["name"]),
        ("data", inputs["data"]["name"]),
        ("batch size", str(run.batch_size)),
        ("epochs", str(inputs["recipe"]["epochs"])),
        ("seeds", str(len(inputs["seeds"]))),
        ("target", f"{fixed(run.target_pct, 2)} % validation accuracy"),
    ]


def _command(run: Run) -> str:
    """The command line that gives this run folder."""
    inputs, recipe = run.inputs, run.inputs["recipe"]
    options = f"--rules {','.join(inputs['rules'])} --data {inputs['data']['name']} --epochs {recipe['epochs']}"
    names = f"{inputs['chip']['name']} {inputs['model']['name']}"
    return f"fahw compare {names} {options} --seeds {len(inputs['seeds'])} --out DIR"


_PAGES: dict[str, Callable[[Path], Page]] = {"compare": compare_page, "sweep": sweep_page}
