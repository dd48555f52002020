"""Stored files that would fill the memory are refused before they are taken apart; lines of a store are passed over."""

import pytest

from fahw.errors import ConfigError
from fahw.files import MOST_STORED_BYTES, MOST_STORED_VALUES
from fahw.stored_json import read_json
from fahw.study.storage.line_file import LineFile, read_lines
from fahw.tables import read_csv


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,", b'"a":1,', b"[["])
def test_json_of_millions_of_values_is_not_parsed(tmp_path, unit, monkeypatch):
    """Thirty megabytes of empty lists would be gigabytes of memory."""
    monkeypatch.setattr("json.loads", None)
    path = tmp_path / "details.json"
    path.write_bytes(b"[" + unit * (MOST_STORED_VALUES // unit.count(b",") if b"," in unit else MOST_STORED_VALUES))
    with pytest.raises(ConfigError, match=f"{MOST_STORED_VALUES:,} values"):
        read_json(path)


@pytest.mark.parametrize("unit", [b",", b"\n"])
def test_tables_of_millions_of_cells_are_not_read(tmp_path, unit):
    """A line of commas is a cell for every byte."""
    path = tmp_path / "summary.csv"
    path.write_bytes(unit * (MOST_STORED_VALUES + 1))
    with pytest.raises(ConfigError, match=f"{MOST_STORED_VALUES:,} values"):
        read_csv(path)


def test_a_stored_file_is_read_up_to_its_limit(tmp_path):
    """A sparse file of a terabyte is not read to its end."""
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=f"{MOST_STORED_BYTES:,} bytes"):
        read_json(path)


def test_an_endless_line_of_a_store_is_passed_over(tmp_path, monkeypatch):
    """What follows on lines of its own is found; so is what came before."""
    monkeypatch.setattr("fahw.study.storage.line_file.MOST_STORED_BYTES", 1000)
    lines = LineFile(tmp_path)
    lines.append([("a", "1"), ("b", f'"{"x" * 5000}"'), ("c", "3")])
    lines.close()
    assert dict(read_lines(tmp_path, {"a", "b", "c"})) == {"a": 1, "c": 3}
