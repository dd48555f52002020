"""Edited run folders: the page and the command line say in one sentence which files are not as fahw wrote them."""

import json
import random

import pytest

import fahw
from fahw.errors import ConfigError
from fahw.report.changes import change_sentence
from fahw.report.page import write_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run folder of a comparison."""
    path = tmp_path_factory.mktemp("run")
    fahw.compare(out=path, rules=["bp", "dfa"], epochs=1, seeds=1, workers=1)
    return path


@pytest.fixture
def edited(folder):
    """The run folder; what a test changes in it is put back."""
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    yield folder
    for path in folder.iterdir():
        if path.is_file() and path not in kept:
            path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)


def test_a_folder_as_it_was_written_says_nothing(folder):
    """Also after its report was built again, and with files of others in it."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Changed since" not in page
    (folder / "notes.csv").write_text("a,b\n", encoding="utf-8")
    write_report(folder)
    assert change_sentence(folder) == ""
    assert (folder / "report.html").read_text(encoding="utf-8") == page


def test_the_page_and_the_command_name_every_changed_file(edited, command):
    """A digit of the summary, a row of the ledger, a table that is gone."""
    summary, ledger = edited / "summary.csv", edited / "ledger.csv"
    summary.write_text(summary.read_text(encoding="utf-8").replace("1", "2", 1), encoding="utf-8")
    ledger.write_text("".join(ledger.read_text(encoding="utf-8").splitlines(True)[:-1]), encoding="utf-8")
    (edited / "roofline.csv").unlink()
    said = (
        "Changed since fahw wrote this folder: ledger.csv, summary.csv; missing roofline.csv. "
        "The figures here are from the changed files."
    )
    assert command("report", edited)[::2] == (0, f"warning: {said}\n")
    assert f'<p class="warning">{said}</p>' in (edited / "report.html").read_text(encoding="utf-8")


def test_a_changed_manifest_is_named_and_one_without_checksums_says_so(edited):
    """What it says itself has a checksum too; spaces do not matter."""
    path = edited / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert change_sentence(edited) == ""
    path.write_text(json.dumps(manifest | {"target_accuracy_pct": 1.0}), encoding="utf-8")
    assert "folder: manifest.json." in change_sentence(edited)
    del manifest["files"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert "holds no checksums" in change_sentence(edited)


def test_any_edit_is_noticed(edited):
    """One byte of any table, fixed seeds: a sentence, or the place of what is wrong."""
    generator = random.Random(7)
    for path in sorted([*edited.glob("*.csv"), *edited.glob("*.json")]):
        if path.name in ("store.json", "notes.csv"):
            continue
        content = path.read_bytes()
        for _ in range(30):
            at = generator.randrange(len(content))
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << generator.randrange(8)]) + content[at + 1 :])
            try:
                is_noticed = bool(change_sentence(edited)) or json_is_equal(path, content)
            except ConfigError:
                is_noticed = True
            assert is_noticed, (path, at)
        path.write_bytes(content)


def json_is_equal(path, content):
    """Whether a JSON file still says the same."""
    return json.loads(path.read_bytes()) == json.loads(content)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("details.json", '"power_mw": ', f'"power_mw": 1{"0" * 400}, "x": '),
        ("details.json", '"lines": [', '"lines": [{}, '),
        ("manifest.json", '"clock_mhz": ', '"clock_mhz": NaN, "x": '),
        ("manifest.json", '"layers": [', '"layers": ["a", '),
        ("summary.csv", "bp,copy,", "bp,copy,nan"),
        ("ledger.csv", ",forward,", ",\x00,"),
        ("details.json", "{", "[" * 100_000),
    ],
    ids=lambda text: text[:12],
)
def test_damaged_files_are_a_page_or_one_error(edited, command, file, old, new):
    """No traceback, and no figure that is none."""
    path = edited / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    code, _, err = command("report", edited)
    assert code in (0, 2)
    assert all(line.startswith(("error: ", "warning: ")) and line.isprintable() for line in err.splitlines())
    assert len(err.splitlines()) == 1
