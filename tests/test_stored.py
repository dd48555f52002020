"""What fahw stored is read in one place: JSON and tables come back as written, or one error names the place."""

import ast
import csv
import json
from math import isfinite
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw import files
from fahw.errors import ConfigError, Problem, check_path, printable
from fahw.files import write_bytes
from fahw.stored_json import StoredJsonError, json_value, read_json
from fahw.tables import csv_text, read_csv
from tests.support.strategies import ROOT

PACKAGE = sorted((ROOT / "fahw").rglob("*.py"))
FORMULAS = [
    "=1+1",
    "+A1",
    "@SUM(A1)",
    "-2+3",
    "-A1",
    " =1",
    "\t=1",
    "\r=1",
    "'=1",
    "＝1",
    "a;=1",
    "x\x00y",
    "\u202eabc",
    "-",
]
texts = st.one_of(st.sampled_from(FORMULAS), st.text(max_size=8), st.text("=+-@;' \t\r\n\\x3b'\"1.e,", max_size=8))


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[" * 100_000, "1:201", "nested too deeply"),
        ('{"a":\n' * 100_000, "201:1", "nested too deeply"),
        ("[" * 900 + "]" * 900, "1:201", "nested too deeply"),
        ('{"a":\n [1, NaN]}', "2:6", "NaN is not a number that fahw writes"),
        ("[-Infinity]", "1:2", "is not a number"),
        ("[1e999]", "1:2", "1e999 is not a number"),
        (f"[1{'0' * 400}]", "1:2", "is not a number that fahw writes"),
        (f"[{'9' * 5000}]", "1:2", "is not a number that fahw writes"),
        ('["\\ud800"]', "1:3", "half of a character"),
        ("[1,\n2,,]", "2:3", "Expecting value"),
        ("", "1:1", "Expecting value"),
    ],
)
def test_json_that_fahw_never_writes_is_refused_at_its_place(tmp_path, text, place, said):
    """As a ConfigError, whatever Python's own reader makes of it."""
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_json(tmp_path / "a.json")
    assert str(error.value).startswith(f"{tmp_path / 'a.json'}:{place}: ")
    assert said in str(error.value)


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_json_that_fahw_writes_comes_back(value):
    """The same value, whatever text is in it."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    assert json_value(text) == json.loads(text)


@given(st.text('[]{}":,0123eE+-.NaInfinity\\ud8 \n', max_size=40))
def test_any_text_is_a_value_or_one_error(text):
    """Never another exception."""
    try:
        position = len(json.dumps(json_value(text), allow_nan=False)) * 0
    except StoredJsonError as error:
        position = error.position
    assert 0 <= position <= len(text)


@given(st.lists(st.tuples(texts, texts | st.none(), st.floats() | st.integers()), max_size=5), texts)
def test_tables_come_back_and_no_cell_is_a_formula(tmp_path_factory, rows, head):
    """Numbers stand as they are; the cells of a spreadsheet, at commas or at semicolons, start no formula."""
    columns = ("name", "layer", f"value{head}")
    text = csv_text(columns, [dict(zip(columns, row, strict=True)) for row in rows])
    for line in text.split("\n"):
        for cell in [*next(csv.reader([line]), []), *line.split(";")[1:]]:
            assert cell.lstrip()[:1] not in {*"=+@＝＋＠－"}
            assert cell.lstrip()[:1] != "-" or isfinite(float(cell))
    path = tmp_path_factory.mktemp("t") / "t.csv"
    write_bytes(path, text.encode())
    shown = [(name, other or "", repr(value) if isfinite(value) else "") for name, other, value in rows]
    assert [tuple(row.values()) for row in read_csv(path)] == shown
    assert all(tuple(row) == columns for row in read_csv(path))


def test_numbers_stand_as_they_are():
    """Negative ones too, as numbers and as text."""
    rows = [{"a": -3.5, "b": "-3.5"}, {"a": -1e-7, "b": "-1e+5"}]
    assert csv_text(("a", "b"), rows) == "a,b\n-3.5,-3.5\n-1e-07,-1e+5\n"
    assert csv_text(("a", "b"), [{"a": float("nan"), "b": float("-inf")}]) == "a,b\n,\n"


@pytest.mark.parametrize("number", ["nan", "inf", "-Infinity", "1e999", "9" * 400])
@pytest.mark.parametrize("column", ["energy_pj", "seeds"])
def test_a_number_that_is_not_finite_is_refused_at_its_line(tmp_path, number, column):
    """A layer may bear such a name."""
    (tmp_path / "t.csv").write_text(f"layer,{column}\nnan,1.0\ninf,{number}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"t\.csv:3:1: .*{column} is"):
        read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize("text", ["a,b\n1\n", "a,b\n1,2,3\n", 'a,b\n"1,2\n', "a,a\n1,2\n", 'a,b\n1,2\x003\n"x"y,1\n'])
def test_a_table_that_is_none_is_refused_at_a_line(tmp_path, text):
    """Cut rows, open quotes, equal columns."""
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ConfigError, match=r"t\.csv:[0-9]+:1: cannot be read as CSV"):
        read_csv(tmp_path / "t.csv")


def test_line_ends_and_marks_of_other_programs_do_not_matter(tmp_path):
    """As Windows and spreadsheets leave them."""
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n")
    assert read_csv(tmp_path / "t.csv") == [{"a": "1", "b": "2"}]
    (tmp_path / "j.json").write_bytes(b'\xef\xbb\xbf{"a":\r\n1}\r\n')
    assert read_json(tmp_path / "j.json") == {"a": 1}


@given(st.text(), st.text(), st.text())
def test_a_problem_is_one_printable_line_of_bounded_length(place, message, key):
    """Control characters and marks that turn the writing are escaped; long texts lose their middle."""
    text = str(Problem(place * 50, message * 500, key * 50))
    assert printable(text) == text
    assert "\n" not in text
    assert len(text) < 20_000


@pytest.mark.parametrize("path", ["a\0b", "a\udcffb", "x" * 256, "c/" * 3000])
def test_a_path_that_no_system_has_is_refused(path):
    """NUL, bytes that are no text, names that are too long."""
    with pytest.raises(ConfigError, match="no system has this one"):
        check_path("--out", path)


def calls(names):
    """(file:line, call) of every call of a function or method of these names in the package."""
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in names:
                    yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", name, node


def test_every_file_is_opened_with_its_encoding_and_line_ends():
    """In bytes, or with both said: what a platform would choose is not the same everywhere."""
    wrong, seen = [], 0
    for place, name, node in calls(
        {"open", "fdopen", "read_text", "write_text", "NamedTemporaryFile", "TextIOWrapper"}
    ):
        keywords = {keyword.arg for keyword in node.keywords}
        modes = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
        binary = name in ("open", "fdopen") and any("b" in str(mode) for mode in modes)
        is_own = isinstance(node.func, ast.Name) and name in ("read_text", "write_text")  # of fahw.files
        other = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in (
            "gzip", "tarfile", "pillow", "archive", "os",
        )  # fmt: skip
        seen += 1
        needed = {"encoding"} if name == "read_text" else {"encoding", "newline"}
        if not (binary or is_own or other or needed <= keywords):
            wrong.append(place)
    assert seen > 20
    assert wrong == []


def test_stored_json_and_tables_have_one_reader():
    """No other module parses them (beside its own text, or a table that comes with fahw)."""
    allowed = {"stored_json.py", "tables.py", "vectors.py", "cost_pool.py"}
    readers = {place.rsplit("/", 1)[1].partition(":")[0] for place, _, _ in calls({"loads", "DictReader", "reader"})}
    assert readers - allowed <= {"cost_record.py", "npz.py"}  # chips of this process; arrays


@pytest.mark.parametrize("refusals", [2, 9])
def test_a_file_that_another_program_has_open_is_tried_again(tmp_path, monkeypatch, refusals):
    """Windows refuses to replace it, mostly for a moment: after some tries the error is the system's, and nothing is
    left beside the old file."""
    (tmp_path / "a.json").write_bytes(b"old")
    rename, tries = Path.replace, []

    def busy(path, target):
        tries.append(path)
        if len(tries) <= refusals:
            raise PermissionError(13, "the file is open in another program")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", busy)
    monkeypatch.setattr(files, "_OPEN_FILES_STAY", True)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    if refusals > 5:
        with pytest.raises(OSError, match="open in another program"):
            write_bytes(tmp_path / "a.json", b"new")
    else:
        write_bytes(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == (b"old" if refusals > 5 else b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
