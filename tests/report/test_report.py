"""The report: sentences that say no more than the numbers, tables that equal the run folder, the same bytes again."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from fahw.errors import ConfigError
from fahw.report import sentences
from fahw.report.figures import figure, plots
from fahw.report.figures.figure import inline_svg
from fahw.report.page import write_report
from fahw.report.run_folder import FILES, Saving, Verdict, read_run
from fahw.report.table import merged_name
from fahw.study.costs.verdict import Spread, beyond_noise, spread
from fahw.units import fixed, percent, scale_for, si, significant

WIN, LOSS = Saving(0.086, 0.046, 0.115, "rule"), Saving(-0.0023, -0.0050, -0.0010, "baseline")
OPEN = Saving(0.005, -0.002, 0.014, "undecided")


def verdict(rule: str, step: Saving, target: Saving | None = None, transport: str = "none") -> Verdict:
    return Verdict(rule, transport, step, target, 3 if target else 0, 3, -1.5, True, 0.124)


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.2345e-6, "1.23 µJ"),
        (0.0, "0 J"),
        (999.9, "1.00 kJ"),
        (-4.2e-3, "−4.20 mJ"),
        (12.0, "12.0 J"),
        (5e-16, "0.500 fJ"),
    ],
)
def test_si_chooses_the_prefix(value: float, text: str) -> None:
    assert si(value, "J") == text


def test_a_column_has_one_unit_and_enough_digits_for_its_largest_value() -> None:
    scale = scale_for([101_825.96e-12, 92_385.7e-12], "J")
    assert (scale.unit, scale.show(101_825.96e-12), scale.show(92_385.7e-12)) == ("nJ", "101.8", "92.4")
    assert scale_for([], "J").show(0.0) == "0"


def test_plain_numbers() -> None:
    assert fixed(-16554.0, 0) == "−16\u202f554"
    assert fixed(-0.001, 2) == "0.00"
    assert significant(0.001234) == "0.00123"
    assert [percent(share) for share in (0.0857, 0.003, -0.0002, 0.0)] == ["8.6 %", "0.30 %", "−0.02 %", "0.0 %"]


# --- energy per step -------------------------------------------------------------------------------------------------


def test_a_rule_that_saves_is_named_with_its_range_and_the_baseline_with_its_form() -> None:
    sentence = sentences.energy_sentence([verdict("fa", OPEN, WIN), verdict("dfa", WIN, WIN)], "transposable")
    assert sentence.lead == "Least energy per step: dfa"
    assert "saves 8.6 % per step (4.6 to 11.5 %" in sentence.text
    assert "backpropagation on one transposable memory" in sentence.text
    assert "does not reach" not in sentence.text


def test_a_rule_that_saves_but_does_not_learn_enough_is_not_praised() -> None:
    assert (
        "does not reach the target accuracy in any seed within"
        in sentences.energy_sentence([verdict("dfa", WIN)], "copy").text
    )


def test_backpropagation_wins_where_every_rule_costs_more() -> None:
    sentence = sentences.energy_sentence([verdict("frsf", LOSS, transport="copy")], "transposable")
    assert sentence.lead == "Least energy per step: backpropagation"
    assert "frsf (fixed random sign-concordant feedback, copy), costs 0.23 % more (0.10 to 0.50 %)" in sentence.text


def test_undecided_where_the_sign_changes() -> None:
    sentence = sentences.energy_sentence([verdict("brsf", OPEN)], "copy")
    assert sentence.lead == "Least energy per step: undecided"
    assert "runs from −0.20 % to 1.4 %, so either may win." in sentence.text


def test_undecided_still_names_a_rule_that_is_ahead_throughout() -> None:
    small = Saving(0.003, 0.0002, 0.007, "rule")
    assert (
        "ahead throughout is fa, which saves 0.30 % (0.02 to 0.70 %)."
        in sentences.energy_sentence([verdict("brsf", OPEN), verdict("fa", small)], "copy").text
    )


def test_nothing_to_compare() -> None:
    assert "no other rule" in sentences.energy_sentence([], "accumulate").text
    without = sentences.energy_sentence([], None, sentences.least_words("dfa", "none", 92_385.7))
    assert without.text.endswith("the least energy is that of dfa, 92.4 nJ per sample.")
    assert "no saving can be stated" in sentences.energy_sentence([], None).text


# --- accuracy and energy to the target -------------------------------------------------------------------------------

REACHES = [
    sentences.Reach("bp", 3, 3),
    sentences.Reach("usf", 3, 3),
    sentences.Reach("fa", 1, 3),
    sentences.Reach("dfa", 0, 3),
]


def test_who_reaches_the_target_in_how_many_seeds() -> None:
    text = sentences.reach_clause(95.978, REACHES)
    assert "95.98 % validation accuracy is reached by bp and usf in 3 of 3 seeds, by fa in 1 of 3 seeds" in text
    assert text.endswith("and by dfa in none")
    assert sentences.reach_clause(96, [sentences.Reach("dfa", 0, 3)]).startswith("No rule reaches")


def test_the_rule_with_the_least_energy_to_the_target() -> None:
    least = sentences.LeastToTarget("usf", "copy", 1.489e-3, WIN, sentences.Reach("usf", 2, 3))
    sentence = sentences.target_sentence(95.978, REACHES, least, [verdict("usf", WIN, WIN)], "backpropagation")
    assert sentence.lead == "Least energy to 95.98 % accuracy: usf"
    assert "usf (copy) needs the least energy to get there, 1.49 mJ (mean of the 2 of 3 seeds" in sentence.text
    assert "8.6 % (4.6 to 11.5 %) less than backpropagation" in sentence.text


def test_backpropagation_with_the_least_energy_to_the_target() -> None:
    runner = verdict("frsf", WIN, LOSS, "copy")
    least = sentences.LeastToTarget("bp", "copy", 1.5e-3, None, sentences.Reach("bp", 3, 3), runner)
    sentence = sentences.target_sentence(95, REACHES, least, [runner], "backpropagation")
    assert sentence.lead.endswith("accuracy: backpropagation")
    assert "the nearest other rule, frsf (copy), needs 0.23 % more (0.10 to 0.50 %)" in sentence.text


@pytest.mark.parametrize("rule", ["bp", "usf"])
def test_energy_to_the_target_can_be_undecided(rule: str) -> None:
    runner = verdict("usf", WIN, OPEN)
    least = sentences.LeastToTarget(
        rule, "copy", 1e-3, OPEN, sentences.Reach(rule, 3, 3), runner if rule == "bp" else None
    )
    sentence = sentences.target_sentence(95, REACHES, least, [runner], "backpropagation")
    assert sentence.lead.endswith("undecided")
    assert "is undecided: it saves −0.20 % to 1.4 %" in sentence.text


def test_a_target_that_nobody_reaches_gets_no_number() -> None:
    sentence = sentences.target_sentence(99, [sentences.Reach("bp", 0, 2)], None, [], "backpropagation")
    assert sentence.lead.endswith("not reached")
    assert (
        sentence.text
        == "No rule reaches the target of 99.00 % validation accuracy in any seed within the epochs trained."
    )


def test_accuracy_beyond_within_and_unknown() -> None:
    rules = [verdict("dfa", WIN), replace(verdict("usf", WIN), beyond_noise=False)]
    assert "beyond the noise of the seeds for dfa (−1.50 points), and within it for usf" in sentences.accuracy_clause(
        rules
    )
    alone = sentences.accuracy_clause([replace(verdict("fa", WIN), beyond_noise=None)])
    assert alone == "with a single seed the noise of the accuracy is unknown for fa (−1.50 points)"


def test_break_even_in_words() -> None:
    said = "bp would win if transposed reads cost less than 4.1 % more (this chip: 33 %)"
    assert sentences.break_even_sentence(0.124, 0.33) == said
    assert sentences.break_even_sentence(1.7, 0.33).startswith(
        "bp wins as long as transposed reads cost less than 56.1 %"
    )
    assert "even if transposed access cost nothing" in sentences.break_even_sentence(-3.0, 0.33)
    assert sentences.break_even_sentence(None, 0.33).startswith("no break-even")
    assert "below 1.70 times" in sentences.break_even_sentence(1.7, 0.0)


# --- the page --------------------------------------------------------------------------------------------------------

COLUMNS = (
    "rule,transport,accuracy_pct_mean,accuracy_pct_std,seeds,cycles_per_step,interval_cycles,energy_pj_per_step,"
    "energy_pj_per_sample,steps_to_target,energy_to_target_j,area_mm2,area_used_mm2,feedback_bits,"
    "transported_bits_per_step,micro_batch"
)
SUMMARY = f"""{COLUMNS}
bp,copy,96.5,0.5,2,120,110.5,4000.0,1000.0,20.0,8e-08,2.5,1.25,64,64,4
bp,shared,96.5,0.5,2,120,110.5,3900.0,975.0,20.0,7.8e-08,2.0,1.0,0,0,4
usf,copy,90.25,1.0,2,,,,,,,,,,,
dfa,none,91.0,0.25,2,100,90.0,3500.0,875.0,,,2.5,1.25,16,0,2
"""
LEDGER = """rule,transport,component,action,tensor,phase,layer,count,unit_pj,energy_pj
bp,copy,array,mac,activation,forward,fc1,10,300.0,3000.0
bp,copy,link,send,feedback,transport,fc2,64,10.0,640.0
bp,copy,sram,static,,,,110.5,3.257918552036199,360.0
bp,shared,array,mac,activation,forward,fc1,10,300.0,3000.0
bp,shared,sram,static,,,,110.5,8.14479638009,900.0
dfa,none,array,mac,activation,forward,fc1,10,300.0,3000.0
dfa,none,sram,static,,,,90,5.555555555555555,500.0
"""
EPOCHS = """rule,seed,epoch,train_loss,validation_accuracy_pct,test_accuracy_pct,angle_deg.fc2
bp,0,1,1.0,90.0,90.0,0.0
bp,0,2,0.5,97.0,96.0,0.0
bp,1,1,1.0,90.0,90.0,0.0
bp,1,2,0.5,97.0,97.0,0.0
usf,0,1,1.0,90.0,90.0,30.0
usf,1,1,1.0,90.0,90.5,31.0
dfa,0,1,1.0,90.0,91.0,
dfa,1,1,1.0,91.0,91.0,
"""
REASON = "usf needs a <memory> for the signs"


def hosted(rule: str, transport: str, form: str) -> dict[str, object]:
    spans = [{"part": "array", "phase": "forward", "layer": "fc1", "start": 0, "end": 100}]
    spans += (
        [{"part": "link", "phase": "transport", "layer": "fc2", "start": 100, "end": 120}] if form == "copy" else []
    )
    return {
        "rule": rule, "transport": transport, "form": form, "reason": "", "reached": None, "warnings": ["fc1 is slow"],
        "seconds": 5.5e-07, "power_mw": 7.25, "macs": 10, "samples_per_second": 7.2e6, "tops_per_watt": 0.5,
        "energy_delay_js": 2.2e-15, "inference_pj_per_sample": 750.0, "static_pj": 360.0, "isolated_static_pj": 390.0,
        "one_time_pj": 0.0, "spilled_bits": 4096, "busy": {"array": 100}, "stalls": {"array: load": 7}, "spans": spans,
        "placements": [{"memory": "sram", "tensor": "weight", "bits": 16384, "spilled_bits": 4096}],
        "sources": [{"kind": "sram", "source": "a table", "factor": 2.0}],
    }  # fmt: skip


def details() -> dict[str, object]:
    absent = {"rule": "usf", "transport": "copy", "reason": REASON, "reached": None, "warnings": []}
    lines = [
        hosted("bp", "copy", "copy"),
        hosted("bp", "shared", "transposable"),
        absent,
        hosted("dfa", "none", "none"),
    ]
    saving = {"value": 0.1, "low": 0.05, "high": 0.15, "winner": "rule"}
    found = {
        "rule": "dfa", "transport": "none", "saving_per_step": saving, "saving_to_target": None, "seeds_reached": 0,
        "seeds": 2, "accuracy_difference_pct": -5.5, "beyond_noise": True, "break_even_overhead_scale": -1.0,
    }  # fmt: skip
    baseline = {"rule": "bp", "transport": "shared", "form": "transposable"}
    return {"baseline": baseline, "lines": lines, "verdicts": [found], "read_overhead": 0.33}


def manifest() -> dict[str, object]:
    layer = {"name": "fc1", "kind": "linear", "in_shape": [4], "out_shape": [3], "kernel": [1, 1], "stride": [1, 1]}
    chip = {
        "name": "tiny", "description": "", "clock_mhz": 200.0, "transport": ["copy"], "precision": {"weight": 8},
        "arrays": [{"name": "array", "rows": 2, "cols": 2, "lanes": 2, "phases": {"forward": "os"},
                    "memories": ["sram"], "idle_pe_fraction": 0.1, "source": None, "assumed": "a guess"}],
        "memories": [{"name": "sram", "holds": ["weight"], "size_kib": 2.0}],
    }  # fmt: skip
    recipe = {"data": "digits", "epochs": 2, "batch_size": 4, "validation": 0.1, "learning_rate": 0.1, "rules": {}}
    inputs = {
        "chip": chip, "model": {"name": "m", "layers": [layer | {"padding": [0, 0]}]}, "recipe": recipe,
        "data": {"name": "digits", "sha256": "ab"}, "rules": ["bp", "usf", "dfa"], "seeds": [0, 1],
    }  # fmt: skip
    return {"kind": "compare", "fahw": "0.1.0", "content_hash": "c0ffee", "target_accuracy_pct": 96.0, "inputs": inputs}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("summary.csv", SUMMARY), ("ledger.csv", LEDGER), ("epochs.csv", EPOCHS)):
        (tmp_path / name).write_text(text)
    (tmp_path / "details.json").write_text(json.dumps(details()))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest()))
    return tmp_path


def table_rows(page: str, name: str) -> list[str]:
    """The body rows of a table, as HTML."""
    table = re.search(rf'<table id="table-{name}">.*?</table>', page, re.S)
    assert table
    return re.findall(r"<tr.*?</tr>", table[0].split("<tbody>")[1], re.S)


def cells_of(row: str) -> dict[str, str]:
    """Column key -> exact value of the cells of a row."""
    return dict(re.findall(r'data-key="(\w+)">.*?<data value="([^"]+)">', row))


def plain(fragment: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", fragment)).split())


def test_every_figure_of_the_summary_stands_in_the_tables(folder: Path) -> None:
    page = write_report(folder).read_text()
    energy, space = table_rows(page, "energy"), table_rows(page, "space")
    wanted = list(csv.DictReader(io.StringIO(SUMMARY)))
    assert len(energy) == len(space) == len(wanted)
    for row, first, second in zip(wanted, energy, space, strict=True):
        shown = cells_of(first) | cells_of(second)
        assert plain(first).startswith(f"{row['rule']} {row['transport']}")
        if row["energy_pj_per_step"]:
            named = ("rule", "transport", "seeds", "accuracy_pct_std")
            assert {k: v for k, v in row.items() if v and k not in named} == {k: shown[k] for k in row if k in shown}


def test_shown_numbers_have_units_and_marks(folder: Path) -> None:
    page = write_report(folder).read_text()
    rows = [plain(row) for row in table_rows(page, "energy")]
    assert rows[1].startswith("bp shared (transposable) baseline ★ 96.50 ± 0.50 0.975 3.900 ★ 78.00 20 2 2 of 2")
    assert "★ 0.875" in rows[3]
    assert "not reached (0 of 2 seeds)" in rows[3]
    assert [rows.index(row) for row in rows if "baseline" in row] == [1]
    assert "energy per sample [nJ]" in plain(page)


def test_one_seed_has_no_spread(folder: Path) -> None:
    (folder / "summary.csv").write_text(SUMMARY.replace("91.0,0.25,2,", "91.0,0.0,1,"))
    page = write_report(folder).read_text()
    shown = [plain(row) for row in table_rows(page, "energy")]
    assert "91.00 " in shown[3]
    assert ["±" in row for row in shown] == [True, True, True, False]


def test_a_rule_that_cannot_be_hosted_keeps_its_row_and_its_reason(folder: Path) -> None:
    page = write_report(folder).read_text()
    row = table_rows(page, "energy")[2]
    assert plain(row) == f"usf copy 90.25 ± 1.00 cannot be hosted: {REASON}"
    assert cells_of(row) == {"accuracy_pct_mean": "90.25"}
    assert "usf" not in (folder / "plots" / "energy_by_phase.svg").read_text()


def test_the_page_says_what_it_was_made_from(folder: Path) -> None:
    text = plain(write_report(folder).read_text())
    for part in (
        "tiny training m",
        "Assumed: a guess.",
        "2.0 (0.5 spilled)",
        "fc1 is slow",
        "c0ffee",
        "fahw compare tiny m",
    ):
        assert part in text


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    def written() -> dict[str, bytes]:
        write_report(folder)
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }

    first = written()
    assert {f"plots/{name}.svg" for name in ("timeline", "angles", "learning_curves")} < set(first)
    assert written() == first


def test_the_page_asks_the_network_for_nothing(folder: Path) -> None:
    page = write_report(folder).read_text()
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|<iframe", page)
    targets = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert all(target.startswith("#") or (folder / target).is_file() for target in targets)
    assert len(page) < 3_000_000


def test_names_inside_the_page_are_unique_and_found(folder: Path) -> None:
    page = write_report(folder).read_text()
    names = re.findall(r'\sid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert {*re.findall(r"url\(#([^)]+)\)", page), *re.findall(r'href="#([^"]+)"', page)} <= set(names)


def test_inlining_keeps_references_together() -> None:
    svg = '<?xml version="1.0"?>\n<svg width="9pt" height="8pt" viewBox="0 0 9 8" xmlns="http://a">'
    svg += '<g id="x" clip-path="url(#y)"/></svg>'
    assert inline_svg(svg, "p", "A < B") == (
        '<svg role="img" aria-label="A &lt; B" viewBox="0 0 9 8"><g id="p-x" clip-path="url(#p-y)"/></svg>'
    )


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=re.escape(name)):
        write_report(folder)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"manifest\.json is missing"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("manifest.json", "{", "cannot be read as JSON"),
        ("manifest.json", "[]", "not a manifest"),
        ("manifest.json", '{"kind": "cake"}', "no report for runs of kind 'cake'"),
        ("details.json", "{}", "do not fit together"),
        ("summary.csv", "rule,transport\nbp,copy\n", "do not fit together"),
    ],
)
def test_broken_files_are_the_users_to_mend(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_chip_that_cannot_host_backpropagation(folder: Path) -> None:
    absent = {"reason": "no", "reached": None, "warnings": []}
    lines = [{"rule": "bp", "transport": "copy"} | absent, hosted("dfa", "none", "none")]
    (folder / "details.json").write_text(json.dumps({"baseline": None, "verdicts": [], "lines": lines}))
    dfa = SUMMARY.splitlines()[-1]
    (folder / "summary.csv").write_text(f"{COLUMNS}\nbp,copy,96.5,0.5,2,,,,,,,,,,,\n{dfa}\n")
    text = plain(write_report(folder).read_text())
    assert "The chip cannot host backpropagation, so no saving can be stated; the least energy is that of dfa" in text


def test_epochs_to_the_target_come_from_the_curves(folder: Path) -> None:
    run = read_run(folder)
    assert run.epochs_to_target("bp") == [2, 2]
    assert run.epochs_to_target("dfa") == [None, None]


def test_equal_parts_of_many_cores_share_a_bar(folder: Path) -> None:
    """A mesh of a hundred cores has as many bars as one core, and their sum."""
    rows = (folder / "ledger.csv").read_text().splitlines()
    many = [rows[0]]
    for row in rows[1:]:
        cells = row.split(",")
        many += [",".join([*cells[:2], f"core{n}:{cells[2]}", *cells[3:]]) for n in range(100)]
    runs = []
    for lines in (rows, many):
        (folder / "ledger.csv").write_text("\n".join(lines) + "\n")
        with matplotlib.rc_context(figure.styled()):
            runs.append(plots.energy_by_component(read_run(folder)))
    one, mesh = ([patch.get_width() for patch in found.axes[0].patches] for found in runs if found)
    assert len(one) == len(mesh) > 3
    assert mesh == pytest.approx([100 * width for width in one])


@pytest.mark.parametrize("word", ["forward_array", "feedback_memory", "linear1", "dfa", "weight", "forward"])
def test_figures_cut_names_that_no_chip_has(folder: Path, word: str) -> None:
    """A name of a hundred thousand letters, in an edited table, would be laid out letter by letter."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".csv"):
            path.write_text(path.read_text().replace(word, word + "x" * 100_000))
    page = write_report(folder).read_text()
    texts = [text for svg in re.findall(r"<svg.*?</svg>", page, re.S) for text in re.findall(r">([^<>]+)<", svg)]
    assert max(map(len, texts)) <= 200


def test_importing_the_report_leaves_torch_alone() -> None:
    code = "import sys, fahw.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_merged_columns_have_short_heads() -> None:
    every = ["bp copy", "bp write_through", "bp shared", "usf copy", "usf write_through", "dfa"]
    assert merged_name(["bp copy", "usf copy", "usf write_through", "dfa"], every) == "bp copy, usf, dfa"
    assert merged_name(["bp copy", "bp shared"], every) == "bp copy/shared"


def test_a_rule_with_fewer_lucky_seeds_does_not_win_the_energy_to_the_target(folder: Path) -> None:
    """dfa needs less in the one seed that gets there; backpropagation gets there in both."""
    row = "dfa,none,91.0,0.25,2,100,90.0,3500.0,875.0,"
    (folder / "summary.csv").write_text(SUMMARY.replace(f"{row},", f"{row}10.0,3.5e-08"))
    (folder / "epochs.csv").write_text(EPOCHS.replace("dfa,0,1,1.0,90.0", "dfa,0,1,1.0,99.0"))
    changed = details()
    changed["verdicts"][0] |= {"saving_to_target": changed["verdicts"][0]["saving_per_step"], "seeds_reached": 1}
    (folder / "details.json").write_text(json.dumps(changed))
    page = plain(write_report(folder).read_text())
    assert "Least energy to 96.00 % accuracy: backpropagation" in page
    assert "less is needed by dfa (in 1 of 2 seeds), too few to be compared" in page
    assert "fewer seeds get there" in plain(table_rows(write_report(folder).read_text(), "verdicts")[0])
    rows = [plain(row) for row in table_rows(write_report(folder).read_text(), "energy")]
    assert [row.count("★") for row in rows] == [
        1,
        2,
        0,
        1,
    ]  # accuracy of bp, its least energy to the target, dfa's per sample
    (folder / "epochs.csv").write_text(re.sub(r"dfa,(\d),1,1.0,9\d.0", r"dfa,\1,1,1.0,99.0", EPOCHS))
    assert "Least energy to 96.00 % accuracy: dfa" in plain(write_report(folder).read_text())


@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (2, 5), (10, 10)])
def test_equal_rules_differ_beyond_noise_in_one_comparison_in_twenty(counts: tuple[int, int]) -> None:
    """By simulation: normal accuracies with the same mean (Welch's test is near 5 %, and below it for few seeds)."""
    draw = np.random.default_rng(0)

    def one(count: int) -> Spread:
        found = spread(draw.normal(size=count).tolist())
        assert found
        return found

    share = sum(bool(beyond_noise(one(counts[0]), one(counts[1]))) for _ in range(4000)) / 4000
    assert 0.01 < share < 0.065


def test_means_far_apart_differ_beyond_noise_and_single_seeds_say_nothing() -> None:
    assert beyond_noise(Spread(90, 0.5, 3), Spread(95, 0.5, 3))
    assert not beyond_noise(Spread(95, 0.5, 2), Spread(96, 0.5, 2))  # t is 2 with two degrees of freedom
    assert beyond_noise(Spread(90, 0, 1), Spread(95, 0.5, 3)) is None


def test_a_line_with_more_buffer_than_the_chip_file_says_so(folder: Path) -> None:
    """A rival of equal area, under the table of what memories hold; others say nothing."""
    stored = details()
    for line, kib in zip(stored["lines"], (2.0, 3.0, None, 2.0), strict=True):  # type: ignore[call-overload]
        line |= {"memory_kib": {"sram": kib}} if kib else {}
    (folder / "details.json").write_text(json.dumps(stored))
    page = plain(write_report(folder).read_text())
    assert re.findall(r"(\S+ \S+) ?, at equal area: ([^,]+),", page) == [("bp shared", "sram 3 KiB")]
