"""What would take long or fill the memory is refused before the work: YAML texts, mistakes without number, settings."""

import tracemalloc
from itertools import count

import pytest

from fahw.config.schema import MOST_NAME_CHARACTERS
from fahw.config.setting import Setting, with_settings
from fahw.config.validate import MOST_SETTINGS
from fahw.config.yamltext import MOST_BYTES, MOST_DEPTH, MOST_VALUES, parse, read
from fahw.errors import MOST_MISTAKES, ConfigError, suggestion
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from tests.support.strategies import CHIP


def refused(text):
    """The only problem of a text that is refused."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml")
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("unit", ["1,", "{},", "a: 1,"])
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


def test_places_in_a_long_setting_are_not_as_long_as_the_setting():
    """A setting of many values names each with a short place: the text once for each would fill the memory."""
    document = parse("a: 1", "x.yaml")
    text = "[" + "1," * 20_000 + "]"
    tracemalloc.start()
    changed = with_settings(document, [("a", Setting(text, f"--set a={text}"))])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert changed.value == {"a": [1] * 20_000}
    assert peak < 100 << 20


def test_mistakes_without_number_are_counted_not_described(tmp_path):
    """Of 20,000 unknown keys the first are named, each with its place, and it is said how many there are."""
    path = tmp_path / "chip.yaml"
    path.write_text(CHIP + "".join(f"clock_mh{i}: 1\n" for i in range(20_000)), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_chip(path)
    problems = caught.value.problems
    assert len(problems) == MOST_MISTAKES + 1
    assert any("20,000 mistakes" in problem.message for problem in problems)
    assert all(problem.place.startswith(f"{path}:") for problem in problems)


def test_settings_without_number_are_refused_as_such():
    """Each setting is looked at on its own to find which brought a mistake about: so there are not many."""
    with pytest.raises(ConfigError, match=f"{MOST_SETTINGS + 1} settings; at most {MOST_SETTINGS}"):
        load_chip("edge_dual", {f"arrays.0.k{i}": 1 for i in range(MOST_SETTINGS + 1)})
    with pytest.raises(ConfigError, match="settings of"):
        load_chip("edge_dual", {"clock_mhz": "1" * MOST_BYTES})


def test_a_mistake_among_too_many_settings_is_blamed_on_all_of_them(monkeypatch):
    """Where looking at each setting would take long, none is run without."""
    monkeypatch.setattr("fahw.config.validate._MOST_BLAMED", 0)
    with pytest.raises(ConfigError) as caught:
        load_chip("edge_dual", {"precision.weight": 8, "precision.master": 4})
    assert all("precision.weight=8" in problem.place for problem in caught.value.problems)


def test_names_that_are_long_or_many_are_not_compared():
    """A misspelt name of a megabyte, or one among a million known ones, gets no advice and takes no time."""
    assert suggestion("x" * 1_000_000, ["x" * 999_999, "y"]) == ""
    assert suggestion("clok", ["x" * 1_000_000, "clock"]) == " (did you mean 'clock'?)"
    names = (f"name{i}" for i in count())
    assert "did you mean" in suggestion("name12x", names)
    assert next(names) == "name500"


def test_brackets_in_a_component_are_read_once(tmp_path):
    """Two million brackets that nothing closes, in a table of energies, take as long as any name."""
    (tmp_path / "table.yaml").write_text(
        f"ERT:\n  tables:\n  - name: '{'[' * 1_900_000}'\n    actions: [{{name: read, energy: 1}}]\n", encoding="utf-8"
    )
    path = tmp_path / "chip.yaml"
    path.write_text(CHIP + "energy_table: table.yaml\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no component"):
        load_chip(path)


def test_a_key_of_a_setting_that_no_file_can_hold_is_refused():
    """Bytes that are no text come as halves of characters; the mistakes beside them must not be lost."""
    with pytest.raises(ConfigError, match="half of a character"):
        load_chip("edge_dual", {"c\udcecock_mhz": "1", "precision.weight": "~"})


def test_names_have_a_length():
    """Of the chip, its parts, the network and its layers: each at its place, with the limit."""
    name = "n" * (MOST_NAME_CHARACTERS + 1)
    message = f"{MOST_NAME_CHARACTERS} characters"
    for key in ("name", "memories.0.name", "arrays.0.name"):
        with pytest.raises(ConfigError, match=message):
            load_chip("edge_dual", {f"{key}": name})
    for key in ("name", "layers.0.name"):
        with pytest.raises(ConfigError, match=message):
            load_model("mlp_digits", {f"{key}": name})
