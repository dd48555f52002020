"""What would take long or fill the memory is refused before the work: YAML texts, mistakes without number, settings."""

import pytest

from fahw.config.yamltext import MOST_BYTES, MOST_DEPTH, MOST_VALUES, parse, read
from fahw.errors import ConfigError


def refused(text):
    """The only problem of a text that is refused."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml")
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("unit", ["1,", "[],", "{},", "a: 1,", "'',", "? ,"])
def test_values_are_counted_while_they_are_read(unit, monkeypatch):
    """A list of a million ones stops at the limit: what follows is not even read."""
    seen = []
    monkeypatch.setattr("yaml.scanner.Scanner.fetch_flow_entry", counted(seen))
    problem = refused("a: [" + unit * (1_900_000 // len(unit)))
    assert problem.place.startswith("x.yaml:1:")
    assert f"more than {MOST_VALUES:,}" in problem.message
    assert len(seen) <= MOST_VALUES


def counted(seen):
    """PyYAML's `fetch_flow_entry`, which notes in `seen` that it was called."""
    from yaml.scanner import Scanner

    original = Scanner.fetch_flow_entry

    def fetch_flow_entry(self):
        seen.append(1)
        return original(self)

    return fetch_flow_entry


def test_a_text_that_is_too_long_is_not_read(tmp_path):
    """A file of one long comment is refused by its size, however little it says; so is a text from elsewhere."""
    assert f"larger than {MOST_BYTES:,} bytes" in refused("a: 1 #" + "x" * MOST_BYTES).message
    path = tmp_path / "long.yaml"
    path.write_bytes(b"a: 1 #" + b"x" * MOST_BYTES)
    with pytest.raises(ConfigError, match="larger than"):
        read(path)
    path.write_bytes(b"a: 1 #" + b"x" * (MOST_BYTES - 6))
    assert read(path).value == {"a": 1}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[" * 100_000, f":1:{MOST_DEPTH + 1}"),
        ("{a: " * 100_000, f":1:{4 * MOST_DEPTH + 1}"),
        ("- " * (MOST_DEPTH + 1) + "x", f":1:{2 * MOST_DEPTH + 1}"),
        ("".join(f"{' ' * i}a:\n" for i in range(900)), f":{MOST_DEPTH + 1}:{MOST_DEPTH + 1}"),
    ],
    ids=["list", "mapping", "dashes", "lines"],
)
def test_nesting_beyond_the_limit_has_its_place(text, place):
    """The level that is one too many is named with its line and column."""
    problem = refused(text)
    assert problem.place == f"x.yaml{place}"
    assert f"at most {MOST_DEPTH} levels" in problem.message


def test_aliases_that_nest_into_each_other_are_levels_too():
    """Thirty lists of ninety levels, each around the one before, are refused with a place."""
    lines = ["a0: &a0 x"] + [f"a{i}: &a{i} {'[' * 90}*a{i - 1}{']' * 90}" for i in range(1, 31)]
    assert "at most 100 levels" in refused("\n".join(lines)).message


def test_aliases_cannot_multiply_long_texts():
    """A text of 100,000 characters named 1,000 times would be 100 MB in any message about it."""
    assert f"larger than {MOST_BYTES:,} bytes" in refused(f"a: &a {'x' * 100_000}\nb: [{'*a,' * 1000}]").message


def test_what_lies_within_the_limits_is_read():
    """The most values, and the deepest nesting, are allowed."""
    values = MOST_VALUES - 3
    assert parse("a: [" + "1," * values + "]", "x").value == {"a": [1] * values}
    assert parse("[" * MOST_DEPTH + "1" + "]" * MOST_DEPTH, "x").problems == []
