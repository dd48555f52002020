"""Every mistake in a user's file is a ConfigError with its place; every shipped file loads; numbers have sources."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from fahw.config import yamltext
from fahw.config.files import kind_of, shipped
from fahw.config.sweep import Sweep
from fahw.config.validate import override_pairs, validate
from fahw.errors import ConfigError
from fahw.formats.precision import FP32, TENSORS, Precision
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.hardware.part import Sourced
from fahw.hardware.wiring import chip_problems
from fahw.network.load import load_model
from fahw.network.model_file import Model
from fahw.network.recipe import Recipe
from fahw.study.sweeps.load import load_sweep
from tests.support.strategies import CHIP, MODEL, ROOT, SHIPPED_CHIPS, SHIPPED_MODELS, chip_of, marked, network_of, swap

SCHEMAS = ROOT / "fahw" / "data" / "schemas"

# What is replaced in the tiny chip, by what (the mark is where the message must point), the key, and the message.
CHIP_MISTAKES = {
    "unknown key": (
        "clock_mhz: 100",
        "clock_mhz: 100\n@@clock_mh: 3",
        "clock_mh",
        "unknown key.*did you mean 'clock_mhz'",
    ),
    "unknown nested key": ("    rows: 4", "    @@rowz: 4", "arrays.0.rowz", "unknown key.*did you mean 'rows'"),
    "unknown key in a link": ("    to: copies", "    to: copies\n    @@fro: x", "links.0.fro", "did you mean 'from'"),
    "wrong type": ("rows: 4", "rows: @@four", "arrays.0.rows", "valid integer"),
    "fraction for a count": ("rows: 4", "rows: @@4.5", "arrays.0.rows", "valid integer"),
    "list for a number": ("clock_mhz: 100", "clock_mhz: @@[100]", "clock_mhz", "valid number"),
    "text for a switch": (
        "width_bits: 32",
        "width_bits: 32\n    shared_port: @@no",
        "memories.0.shared_port",
        "boolean",
    ),
    "text for a number": ("clock_mhz: 100", "clock_mhz: @@fast", "clock_mhz", "valid number"),
    "quoted number": ("clock_mhz: 100", 'clock_mhz: @@"100"', "clock_mhz", "valid number"),
    "switch for a number": ("clock_mhz: 100", "clock_mhz: @@true", "clock_mhz", "valid number"),
    "number for a name": ("name: fwd", "name: @@7", "arrays.0.name", "valid string"),
    "negative": ("size_kib: 64", "size_kib: @@-64", "memories.0.size_kib", "greater than or equal to|number from"),
    "zero": ("rows: 4", "rows: @@0", "arrays.0.rows", "greater than or equal to 1"),
    "not a number": ("clock_mhz: 100", "clock_mhz: @@.nan", "clock_mhz", "finite"),
    "infinite": ("length_mm: 1", "length_mm: @@.inf", "links.0.length_mm", "finite"),
    "overflow": ("length_mm: 1", "length_mm: @@1e999", "links.0.length_mm", "finite"),
    "duplicate key": ("clock_mhz: 100", "clock_mhz: 100\n@@clock_mhz: 5", "clock_mhz", r"duplicate key.*chip.yaml:2:1"),
    "python tag": ("clock_mhz: 100", "clock_mhz: @@!!python/object/apply:os.getcwd []", "clock_mhz", "tags are not"),
    "int tag": ("clock_mhz: 100", 'clock_mhz: @@!!int "100"', "clock_mhz", "tags are not"),
    "key that is a list": ("clock_mhz: 100", "clock_mhz: 100\n? @@[a, b]\n: 3", "", "a key must be text"),
    "merge key": ("    rows: 4", "    @@<<: {rows: 4}", "arrays.0.<<", "unknown key"),
    "unknown choice": (
        "update: vector",
        "update: @@vectr",
        "arrays.0.phases.update",
        "must be one of vector.*did you mean",
    ),
    "node without a law": (
        "node_nm: 45",
        "node_nm: @@44",
        "technology.node_nm",
        "must be one of 7, 10, 14, 16, 20, 22.*take the nearest .65, 45, 32 and 22 have",
    ),
    "mixed number formats": (
        "clock_mhz: 100",
        "clock_mhz: 100\nprecision: @@{weight: fp32}",
        "precision",
        "accumulator of 32 bits of fixed point cannot add up floats",
    ),
    "narrow master": (
        "clock_mhz: 100",
        "clock_mhz: 100\nprecision: @@{weight: 8, master: 4}",
        "precision",
        "master has 4",
    ),
    "no bits": (
        "clock_mhz: 100",
        "clock_mhz: 100\nprecision: {weight: @@0}",
        "precision.weight",
        r"must be a whole number from 1 to 16, or one of binary, .* \(got 0\)$",
    ),
    "misspelt format": (
        "clock_mhz: 100",
        "clock_mhz: 100\nprecision: {weight: @@fp8_e4m4}",
        "precision.weight",
        "did you mean 'fp8_e4m3'",
    ),
    "scale of a float": (
        "clock_mhz: 100",
        "clock_mhz: 100\nprecision: @@{master: bf16, scale: {master: per_tensor}}",
        "precision",
        "scale.master: bf16 has an exponent in every number",
    ),
    "too many bits": (
        "clock_mhz: 100",
        "clock_mhz: 100\nprecision: {error: @@17}",
        "precision.error",
        r"must be a whole number from 1 to 16, or one of binary, ternary, fp8_e4m3, .* \(got 17\)$",
    ),
    "empty list": (
        "memories: [copies, buffer]",
        "memories: @@[]",
        "arrays.1.memories",
        r"^must have at least 1 item \(got none\)$",
    ),
    "no list": (
        "transport: [copy, write_through]",
        "transport: @@copy",
        "transport",
        r"^must be a list: \[copy\] \(got",
    ),
    "empty value for a list": (
        "transport: [copy, write_through]",
        "transport:@@",
        "transport",
        r"be a list \(got null",
    ),
    "empty value": ("clock_mhz: 100", "clock_mhz:@@", "clock_mhz", "valid number"),
    "unknown memory": (
        "[weights, buffer, state]",
        "[weights, @@bufer, state]",
        "",
        "no memory 'bufer'.*did you mean 'buffer'",
    ),
    "dead link": ("to: copies", "to: @@nowhere", "", "leads nowhere: no memory 'nowhere'"),
    "two homes": (
        "holds: [feedback]",
        "holds: @@[feedback, weight]",
        "",
        "weight has more than one home: weights, copies",
    ),
    "phase without an array": (
        "phases: {forward: os, gradient: os,",
        "phases: @@{forward: os,",
        "",
        "phase gradient: no array",
    ),
    "phase on two arrays": (
        "phases: {error: os}",
        "phases: @@{error: os, forward: os}",
        "",
        "phase forward: more than one array",
    ),
    "form of one memory": (
        "[copy, write_through]",
        "[copy, @@transposable]",
        "",
        "transposable: the error array cannot reach",
    ),
    "form of two memories": (
        "memories: [copies, buffer]",
        "memories: [copies, buffer, weights]",
        "",
        "(copy|write_through): the error array reads",
    ),
    "name taken": ("name: bwd", "name: @@fwd", "", "'fwd' is taken"),
    "name of a built-in part": ("name: bwd", "name: @@dram", "", "'dram' is taken"),
    "name of the input port": ("name: bwd", "name: @@io", "", "'io' is taken"),
    "name of a generator": ("name: bwd", "name: @@rounding_generator", "", "rounding_generator"),
    "bank larger than its memory": ("bank_kib: 16", "bank_kib: @@65", "", "larger than the memory"),
}


def problems_of(call):
    with pytest.raises(ConfigError) as caught:
        call()
    return caught.value.problems


@pytest.mark.parametrize("mistake", CHIP_MISTAKES, ids=lambda name: name.replace(" ", "-"))
def test_one_mistake_is_said_once_with_its_place(mistake, tmp_path):
    """Each kind of mistake in a chip gives a message that points at it and says what is wrong."""
    old, new, key, message = CHIP_MISTAKES[mistake]
    text, places = marked(swap(CHIP, old, new))
    found = problems_of(lambda: chip_of(tmp_path, text))
    matching = [problem for problem in found if re.search(message, problem.message)]
    assert matching, found
    assert matching[0].key == key or not key
    if places and not new.endswith("@@"):
        assert matching[0].place == f"{tmp_path / 'chip.yaml'}:{places[0]}"
    others = [problem for problem in found if problem not in matching]
    assert all(problem.message == "missing key" for problem in others), others


def test_the_unmistaken_chip_loads(tmp_path):
    """The chip that all mistakes are made in is valid: they alone cause the errors."""
    chip = chip_of(tmp_path)
    assert chip.name == "tiny"
    assert chip.array_of("error").name == "bwd"
    assert not chip.error_reaches_weights


def test_missing_key_points_at_what_lacks_it(tmp_path):
    """A missing key is reported at the mapping that lacks it, with its full path."""
    text, places = marked(CHIP.replace("  - name: fwd\n    rows: 4\n", "  - @@name: fwd\n"))
    (problem,) = problems_of(lambda: chip_of(tmp_path, text))
    assert str(problem) == f"{tmp_path / 'chip.yaml'}:{places[0]}: arrays.0.rows: missing key"


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(tmp_path):
    """Several mistakes in one file give one error that holds them all, each with file:line:col, top to bottom."""
    text = CHIP
    for old, new in (
        ("clock_mhz: 100", "clock_mhz: @@-100"),
        ("    cols: 3", "    @@colz: 3"),
        ("holds: [feedback]", "holds: [@@feedbak]"),
        ("size_kib: 64\n    bank_kib: 16\n    width_bits: 32\n    read_bits_per_cycle: 64",
         "size_kib: @@x\n    bank_kib: 16\n    width_bits: 32\n    read_bits_per_cycle: 64"),
        ("length_mm: 1", "length_mm: @@.nan"),
    ):  # fmt: skip
        text = swap(text, old, new)
    text, places = marked(text)
    found = [
        problem.place for problem in problems_of(lambda: chip_of(tmp_path, text)) if problem.message != "missing key"
    ]
    assert found == [f"{tmp_path / 'chip.yaml'}:{place}" for place in places]


def test_cross_checks_are_reported_in_the_order_of_the_file(tmp_path):
    """Messages have one order, that of the file, whatever the seed of Python's hashes."""
    text = swap(CHIP, "holds: [param,", "holds: [psum, mask, error, activation, param,")
    path = tmp_path / "chip.yaml"
    path.write_text(text)
    code = f"import fahw\ntry: fahw.load_chip({str(path)!r})\nexcept fahw.ConfigError as error: print(error)"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (b"", ":1:1", "the file is empty"),
        (b"# only a comment\n", ":1:1", "the file is empty"),
        (b"\x00\x01\x02", ":1:1", "broken YAML: character U+0000"),
        (b"a: 1\r\nname: x\x07", ":2:8", "broken YAML: character U+0007"),
        (b"name: \xff\xfe", ":1:7", "not UTF-8"),
        (b"name: [1, 2\nclock: 3\n", ":2:6", "broken YAML"),
        (b"a: 1\n b: 2\n", ":2:3", "broken YAML"),
        (b"a: 1\n---\nb: 2\n", ":2:1", "broken YAML"),
        (b"\tname: x\n", ":1:1", "broken YAML"),
        (b"- 1\n- 2\n", ":1:1", "expected keys and values"),
        (b"just text\n", ":1:1", "expected keys and values"),
        (b"name: &x [*x]\n", ":1:7", "contains itself"),
        (b"name: *nothing\n", ":1:7", "broken YAML"),
        (b"name: " + b"[" * 20_000, ":1:106", "nested too deeply"),
        (b"name: " + b"[" * 90 + b"]" * 90, ":1:7", "valid string"),
    ],
    ids=lambda value: str(value[:12]) if isinstance(value, bytes) else None,
)
def test_text_that_is_no_chip(content, place, message, tmp_path):
    """Empty, binary, broken, endless and other non-files are user errors, never a traceback."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    found = problems_of(lambda: load_chip(path))
    assert any(message in problem.message and problem.place == f"{path}{place}" for problem in found), found


def test_alias_bomb_is_refused(tmp_path):
    """Aliases that multiply into millions of values are refused, not expanded."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    assert any("100,000" in problem.message for problem in problems_of(lambda: load_chip(path)))


def test_files_that_cannot_be_read(tmp_path):
    """A missing file, a folder and an unknown name are told apart; an unknown name gets a suggestion."""
    assert problems_of(lambda: load_chip(tmp_path / "none.yaml"))[0].message == "no such file"
    assert "is a folder" in problems_of(lambda: load_chip(tmp_path))[0].message
    assert "did you mean 'edge_dual'" in problems_of(lambda: load_chip("edge_daul"))[0].message
    assert "did you mean 'lenet5'" in problems_of(lambda: load_model("lenet"))[0].message


def test_a_folder_of_the_same_name_does_not_hide_a_shipped_chip(tmp_path, monkeypatch):
    """`--out edge_dual` makes a folder of that name; the shipped chip must still be found beside it."""
    monkeypatch.chdir(tmp_path)
    Path("edge_dual").mkdir()
    assert load_chip("edge_dual").name == "edge_dual"


SCALARS = {
    "1e-12": 1e-12, "1E3": 1000.0, ".5": 0.5, "5.": 5.0, "-3": -3, "+3": 3, "010": 10, "0": 0, "-0": 0,
    "no": "no", "on": "on", "y": "y", "yes": "yes", "off": "off", "12:30": "12:30", "1_000": "1_000",
    "2001-01-01": "2001-01-01", "true": True, "False": False, "~": None, "null": None, "": None, "'10'": "10",
    '"true"': "true", "1e": "1e", ".": ".", "e5": "e5", "9" * 200: "9" * 200,
    ".inf": math.inf, "-.inf": -math.inf,
}  # fmt: skip


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_follow_yaml_1_2(text):
    """`no` is text, `010` is ten, `1e-12` is a number, `12:30` is not: none of YAML 1.1's surprises, and types too."""
    value = yamltext.parse(f"a: {text}\n", "x").value["a"]
    assert (value, type(value)) == (SCALARS[text], type(SCALARS[text]))


def test_not_a_number_scalar():
    """`.nan` is a number (which no schema accepts)."""
    assert math.isnan(yamltext.parse("a: .nan\n", "x").value["a"])


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e-12)
@example(5e-324)
def test_every_float_survives_yaml(value):
    """A float written as Python prints it is read back as the same float."""
    assert float(yamltext.scalar(repr(value))) == value


@given(st.integers(-(10**40), 10**40))
def test_every_integer_survives_yaml(value):
    """An integer is read back as the same integer."""
    assert yamltext.scalar(str(value)) == value


PIECES = ("", ":", "- ", "\n", "{", "}", "[", "]", "&a ", "*a", "!!x ", "? ", "'", '"', "#", "\t", "null", "1e400",
          "true", "\x00", "é", "<<: ", "9" * 30, "holds", "kind: ", "|\n", "%", "---\n")  # fmt: skip


@given(st.data())
def test_any_damage_is_a_config_error_or_harmless(data):
    """Whatever is cut from or typed into a file, the loader gives a chip or a ConfigError, never another exception."""
    text = CHIP
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 20)))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[end:]
    try:
        document = yamltext.parse(text, "x")
        chip = validate(document, Chip)
        list(chip_problems(chip, document.place))
    except ConfigError as error:
        found = error.problems
    else:
        return
    assert found
    assert all(problem.message and problem.place for problem in found)


def test_a_dram_that_is_not_known_comes_with_advice():
    with pytest.raises(ConfigError, match=r"did you mean 'lpddr4'.*nearest kind and give its read_pj_per_bit"):
        load_chip("edge_dual", {"dram.kind": "lpddr5"})


# --set


def test_set_replaces_values_and_items_by_name_and_number(tmp_path):
    """`--set` reaches keys of mappings, items of lists by name or number, and makes mappings that were not there."""
    overrides = {
        "clock_mhz": "250", "arrays.bwd.rows": "8", "arrays.0.cols": "5", "memories.weights.size_kib": "1e2",
        "precision.weight": "4", "transport.0": "write_through", "description": "no",
    }  # fmt: skip
    chip = chip_of(tmp_path, overrides=overrides)
    assert chip.clock_mhz == 250
    assert [(array.rows, array.cols) for array in chip.arrays] == [(4, 5), (8, 3)]
    assert chip.home("weight").size_kib == 100
    assert chip.precision.weight == 4
    assert chip.transport[0] == "write_through"
    assert chip.description == "no"
    assert chip_of(tmp_path).clock_mhz == 100


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("clock_mh", "3", "unknown key 'clock_mh' .did you mean 'clock_mhz'"),
        ("precision.wieght", "4", "unknown key 'wieght' .did you mean 'weight'"),
        ("arrays.fwdd.rows", "4", "no item 'fwdd' .did you mean 'fwd'"),
        ("arrays.7.rows", "4", "no item '7'"),
        ("arrays.-1.rows", "4", "no item '-1'"),
        ("clock_mhz.x", "4", "'clock_mhz' has no keys of its own"),
        ("clock_mhz", "fast", "valid number"),
        ("clock_mhz", "", "valid number"),
        ("clock_mhz", "[1", "broken YAML"),
        ("clock_mhz", "!!python/none x", "tags are not allowed"),
        ("arrays", "3", r"must be a list \(got 3\)"),
        ("", "3", "unknown key"),
    ],
)
def test_wrong_overrides(key, text, message, tmp_path):
    """A wrong `--set` is reported as such: the option is the place, not a line of the file."""
    found = problems_of(lambda: chip_of(tmp_path, overrides={key: text}))
    matching = [problem for problem in found if re.search(message, problem.message)]
    assert matching, found
    assert matching[0].place.startswith(f"--set chip.{key}={text}"), found


def test_override_pairs():
    """Options are split at the first `=` and the first dot; malformed ones and unknown prefixes are all reported."""
    pairs = override_pairs(["chip.a.b=1=2", "model.recipe.epochs = 3"], ("chip", "model"))
    assert pairs == {"chip": {"a.b": "1=2"}, "model": {"recipe.epochs": "3"}}
    found = problems_of(lambda: override_pairs(["chip.x", "clock=3", "chipp.x=1", "=", "chip.=1"], ("chip", "model")))
    assert len(found) == 5
    assert "did you mean 'chip'" in found[2].message


def test_overrides_may_be_values(tmp_path):
    """Numbers, switches, lists and mappings as they are, NumPy's numbers too; the same as their YAML text."""
    values = {
        "clock_mhz": 250, "technology.vdd_v": 0.8, "memories.weights.shared_port": True, "transport": ["write_through"],
        "precision": {"weight": 4}, "memories.copies.size_kib": np.float64(32.5), "arrays.0.rows": np.int64(8),
        "dram": None, "micro_batch": "4",
    }  # fmt: skip
    texts = {key: str(value) for key, value in values.items()}
    texts |= {"memories.weights.shared_port": "true", "dram": "", "precision": "{weight: 4}"}
    chip = chip_of(tmp_path, overrides=values)
    assert chip == chip_of(tmp_path, overrides=texts)
    assert (chip.clock_mhz, chip.transport, chip.arrays[0].rows) == (250, ("write_through",), 8)


def test_a_misspelt_override_is_named_whatever_its_value(tmp_path):
    """As its YAML text would be; and wrong values beside it."""
    found = problems_of(lambda: chip_of(tmp_path, overrides={"clok_mhz": 400, "precision.weight": 99}))
    assert {problem.place for problem in found} == {"--set chip.clok_mhz=400", "--set chip.precision.weight=99"}
    assert "did you mean 'clock_mhz'" in " ".join(map(str, found))
    found = problems_of(lambda: network_of(tmp_path, overrides={"recipe.momentun": 0.5}))
    assert "did you mean 'momentum'" in found[0].message


OF_PARTS = {
    "unknown memory": ("[weights, buffer, state]", "[weights, bufer, state]", "arrays.0.memories.1"),
    "dead link": ("to: copies", "to: nowhere", "links.0.to"),
    "two homes": ("holds: [feedback]", "holds: [feedback, weight]", "memories.1.holds"),
    "no array": ("phases: {forward: os, gradient: os,", "phases: {forward: os,", "arrays.0.phases"),
    "form": ("[copy, write_through]", "[copy, transposable]", "transport.1"),
    "name taken": ("name: bwd", "name: fwd", "arrays.1.name"),
    "large bank": ("bank_kib: 16", "bank_kib: 65", "memories.0.bank_kib"),
}
OF_SCHEMA = {
    "type": ("clock_mhz: 100", "clock_mhz: fast", "clock_mhz"),
    "unknown key": ("    length_mm: 1", "    length_mm: 1\n    lenght: 2", "links.0.lenght"),
    "missing": ("    lanes: 2\n", "", "arrays.0.lanes"),
    "nested": ("node_nm: 45", "node_nm: 44", "technology.node_nm"),
}


@pytest.mark.parametrize("parts", OF_PARTS)
@pytest.mark.parametrize("schema", OF_SCHEMA)
def test_mistakes_between_parts_are_said_beside_those_of_the_schema(parts, schema, tmp_path):
    """Whatever is wrong elsewhere, what can be known of the wiring is said in the same pass: no second round."""
    text = CHIP
    for old, new, _ in (OF_PARTS[parts], OF_SCHEMA[schema]):
        text = swap(text, old, new)
    keys = {problem.key for problem in problems_of(lambda: chip_of(tmp_path, text))}
    assert keys == {OF_PARTS[parts][2], OF_SCHEMA[schema][2]}


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("  - name: weights", "  - name: 7", "memories.0.name"),
        ("holds: [weight]", "holds: [wait]", "memories.0.holds.0"),
        ("holds: [weight]", "hold: [weight]", "memories.0.hold"),
        ("transport: [copy, write_through]", "transport: [copi]", "transport.0"),
        ("phases: {error: os}", "phases: {error: so}", "arrays.1.phases.error"),
    ],
)
def test_what_a_wrong_part_may_have_meant_is_not_held_against_others(old, new, key, tmp_path):
    """No message follows from another mistake: who misspells a memory is not told that nothing is wired to it."""
    keys = {problem.key for problem in problems_of(lambda: chip_of(tmp_path, swap(CHIP, old, new)))}
    assert keys - {"memories.0.holds"} == {key}


def test_shapes_are_checked_beside_the_schema(tmp_path):
    """A layer that does not fit is reported although the recipe is wrong too."""
    text = swap(swap(MODEL, "kernel: 3}", "kernel: 30}"), "input: [2, 6, 6]", "input: [2, 6, 6]\nrecipe: {epochs: 0}")
    found = problems_of(lambda: network_of(tmp_path, text))
    assert [problem.key for problem in found] == ["recipe.epochs", "layers.0"]
    text = swap(swap(MODEL, "out: 5}", "out: x}"), "kernel: 3}", "kernel: 30}")
    found = problems_of(lambda: network_of(tmp_path, text))
    assert [problem.key for problem in found] == ["layers.0", "layers.4.out"]


def test_every_unknown_rule_of_a_recipe_is_said_with_the_rest(tmp_path):
    """Each rule at its own place, and what else is wrong in the recipe."""
    recipe = "recipe: {epochs: 0, rules: {@@bq: {}, fa: {momentum: @@3}, @@dfaa: {}}}"
    text, places = marked(swap(MODEL, "input: [2, 6, 6]", f"input: [2, 6, 6]\n{recipe}"))
    found = problems_of(lambda: network_of(tmp_path, text))
    assert [problem.place.split("yaml:")[1] for problem in found[1:]] == places
    assert "did you mean 'dfa'" in found[3].message


def test_a_format_that_does_not_exist_is_answered_with_those_that_do(tmp_path):
    """One plain sentence for a value that can be of several kinds; what it lists is what the schema takes."""
    text = swap(CHIP, "clock_mhz: 100", "clock_mhz: 100\nprecision: {weight: fp15, accumulator: null, error: [8]}")
    found = {problem.key: problem.message for problem in problems_of(lambda: chip_of(tmp_path, text))}
    assert found.keys() == {"precision.weight", "precision.accumulator", "precision.error"}
    for key, message in found.items():
        node = Precision.model_json_schema()["properties"][key.split(".")[1]]["anyOf"]
        for branch in node:
            words = branch.get("enum") or [f"from {branch['minimum']} to {branch['maximum']}"]
            assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("overrides", "guilty"),
    [
        ({"memories.buffer.name": "buf"}, ["memories.buffer.name=buf"]),
        ({"links.0.to": "nowhere", "clock_mhz": "5"}, ["links.0.to=nowhere"]),
        ({"arrays.0.phases.gradient": "null"}, ["arrays.0.phases.gradient=null"]),
        ({"precision.weight": "8", "precision.master": "4"}, ["precision.weight=8", "precision.master=4"]),
        ({"arrays.0.memories": "[weights]"}, ["arrays.0.memories=[weights]"]),
    ],
)
def test_what_an_override_brings_about_is_placed_at_the_override(overrides, guilty, tmp_path):
    """Not at the line of a file in which nothing is wrong, also where the message is about another part."""
    found = problems_of(lambda: chip_of(tmp_path, overrides=overrides))
    for problem in found:
        assert problem.place == ", ".join(f"--set chip.{text}" for text in guilty) or problem.place in {
            f"--set chip.{text}" for text in guilty
        }


def test_an_override_is_not_blamed_for_the_mistakes_of_the_file(tmp_path):
    """The file's own mistake keeps its line while an override is wrong too."""
    text, places = marked(swap(CHIP, "to: copies", "to: @@nowhere"))
    found = problems_of(lambda: chip_of(tmp_path, text, overrides={"clock_mhz": "x"}))
    assert sorted(problem.place for problem in found) == [
        "--set chip.clock_mhz=x",
        f"{tmp_path / 'chip.yaml'}:{places[0]}",
    ]


# model files

MODEL_MISTAKES = {
    "unknown kind": ("{kind: flatten}", "{kind: @@flaten}", "did you mean 'flatten'"),
    "no kind": ("{kind: flatten}", "@@{name: x}", "kind"),
    "key of another kind": ("{kind: relu}", "{kind: relu, @@kernel: 3}", "unknown key 'kernel'"),
    "missing out": ("{kind: linear, out: 5}", "@@{kind: linear}", "missing key"),
    "padding below zero": ("kernel: 3}", "kernel: 3, padding: @@-1}", "whole number from 0 to 10,000, or a list of 2"),
    "kernel of three": ("kernel: 3}", "kernel: @@[3, 3, 3]}", "or a list of 2 values"),
    "kernel of zero": ("kernel: 3}", "kernel: @@0}", "whole number from 1 to 10,000, or a list of 2"),
    "empty layers": (MODEL[MODEL.index("layers:") :], "layers: @@[]\n", "at least 1 item"),
    "four-dimensional input": ("input: [2, 6, 6]", "input: @@[2, 6, 6, 6]", r"must have at most 3 items \(got 4\)$"),
    "unknown rule": ("input: [2, 6, 6]", "input: [2, 6, 6]\nrecipe: {rules: {bq: {}}}", "no rule 'bq'"),
    "rate of zero": ("input: [2, 6, 6]", "input: [2, 6, 6]\nrecipe: {learning_rate: @@0}", "greater than or equal to"),
    "momentum of one": ("input: [2, 6, 6]", "input: [2, 6, 6]\nrecipe: {momentum: @@1}", "less than 1"),
    "drop after the end": ("input: [2, 6, 6]", "input: [2, 6, 6]\nrecipe: {drop_at: [0.5, @@1.5]}", "less than 1"),
    "ranges of a layer without weights": (
        "input: [2, 6, 6]",
        "input: [2, 6, 6]\nrecipe: {rules: {dfa: {layer_ranges: {@@relu1: {activation: 4}}}}}",
        "no layer with weights is called 'relu1'",
    ),
    "reserved name input": ("out: 5}", "out: 5, name: @@input}", "input"),
    "reserved name loss": ("out: 5}", "out: 5, name: @@loss}", "loss"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MODEL_MISTAKES, ids=lambda name: name.replace(" ", "-"))
def test_one_mistake_in_a_model(mistake, tmp_path):
    """Each kind of mistake in a model gives a message that points at it (on its line) and says what is wrong."""
    old, new, message = MODEL_MISTAKES[mistake]
    text, places = marked(swap(MODEL, old, new))
    found = problems_of(lambda: network_of(tmp_path, text))
    matching = [problem for problem in found if re.search(message, str(problem))]
    assert matching, found
    if places:
        line = places[0].split(":")[0]
        assert matching[0].place.startswith(f"{tmp_path / 'model.yaml'}:{line}:"), found


def test_a_mistake_in_the_recipe_hides_none_in_the_layers(tmp_path):
    """What depends on the recipe is judged last."""
    recipe = "input: [2, 6, 6]\nrecipe: {layer_ranges: {conv2d1: {activtion: 4}}}"
    text = swap(swap(MODEL, "input: [2, 6, 6]", recipe), "kind: linear, out: 4", "kind: relu")
    found = " ".join(str(problem) for problem in problems_of(lambda: network_of(tmp_path, text)))
    assert "did you mean 'activation'" in found
    assert "the last layer must be linear" in found


def test_recipe_tuning_overrides_only_what_is_given():
    """A rule's own settings win over the recipe's; what they leave out stays."""
    recipe = Recipe.model_validate({"learning_rate": 0.2, "momentum": 0.5, "rules": {"fa": {"learning_rate": 0.05}}})
    assert recipe.tuning("fa").learning_rate == 0.05
    assert recipe.tuning("fa").momentum == 0.5
    assert recipe.tuning("bp").learning_rate == 0.2


def test_learning_rate_drops():
    """The learning rate is multiplied by the factor from each given fraction of the epochs on."""
    recipe = Recipe(epochs=10, drop_at=(0.5, 0.8), drop_factor=0.1)
    factors = [recipe.rate_factor(epoch) for epoch in range(10)]
    assert factors == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] * 2)


def test_no_epoch_is_so_short_that_the_rate_drops_before_the_first_ends():
    """Drops come after a share of the epochs: a training of one epoch has none."""
    assert Recipe(epochs=1, drop_at=(0.4, 0.6, 0.8)).rate_factor(0) == 1
    assert Recipe(epochs=2, drop_at=(0.1,)).rate_factor(0) == 1


def test_values_are_frozen(tmp_path):
    """A loaded chip cannot be changed in place."""
    with pytest.raises(ValueError, match="frozen"):
        chip_of(tmp_path).clock_mhz = 3


def test_float_formats():
    """fp32 stands for 32 bits of every tensor."""
    assert FP32.is_float
    assert {FP32.bits(name) for name in TENSORS} == {32}
    assert Precision(weight=1, master=1).bits("weight") == 1


# shipped files


def test_shipped_chips_and_models_load_by_name_and_path():
    """Every shipped file loads by its name, is named after its file, and loads by path as the same value."""
    assert {"edge_dual", "edge_shared"} <= set(SHIPPED_CHIPS)
    for name in SHIPPED_CHIPS:
        assert load_chip(name).name == name
        assert load_chip(ROOT / "hwconfigs" / f"{name}.yaml") == load_chip(name)
    for name in SHIPPED_MODELS:
        assert load_model(name).name == name
        assert load_model(ROOT / "models" / f"{name}.yaml") == load_model(name)


def test_shipped_files_load_from_another_folder(tmp_path, monkeypatch):
    """Names of shipped files do not depend on where fahw is run."""
    monkeypatch.chdir(tmp_path)
    assert load_chip("edge_dual").name == "edge_dual"
    assert load_model("mlp_digits").classes == 10


def test_a_file_of_another_kind_is_said_to_be_one(tmp_path):
    """Instead of all keys that are unknown there; a chip with most keys missing is still a chip."""
    (tmp_path / "m.yaml").write_text(MODEL)
    for call, said in (
        (lambda: load_chip(tmp_path / "m.yaml"), f"{tmp_path / 'm.yaml'}: is a model, not a chip"),
        (lambda: load_chip("mlp_digits"), "mlp_digits: is a model, not a chip"),
        (lambda: load_model("edge_dual"), "edge_dual: is a chip, not a model"),
        (lambda: load_model("bits_digits"), "bits_digits: is a sweep, not a model"),
        (lambda: load_sweep(tmp_path / "m.yaml"), f"{tmp_path / 'm.yaml'}: is a model, not a sweep"),
    ):
        assert [str(problem) for problem in problems_of(call)] == [said]
    (tmp_path / "c.yaml").write_text("name: c\nclock_mhz: 3\ninput: [3]\nlayers: []\n")
    assert "missing key" in {problem.message for problem in problems_of(lambda: load_chip(tmp_path / "c.yaml"))}


def test_kind_of_file_is_told_by_its_keys(tmp_path):
    """`fahw check` tells chips, models and sweeps apart; anything else is an error."""
    assert {kind_of(path) for path in (ROOT / "hwconfigs").glob("*.yaml")} == {"chip"}
    assert {kind_of(path) for path in (ROOT / "models").glob("*.yaml")} == {"model"}
    path = tmp_path / "other.yaml"
    path.write_text("colour: red\n")
    assert "neither a chip" in problems_of(lambda: kind_of(path))[0].message


def parts_with_sources(value):
    if isinstance(value, Sourced):
        yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from parts_with_sources(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from parts_with_sources(item)


@pytest.mark.parametrize("name", SHIPPED_CHIPS)
def test_every_part_of_a_shipped_chip_says_where_its_numbers_come_from(name):
    """Each array, memory, link, generator, DRAM and technology has a source or is openly assumed, and so have the clock
    and the widths of the chip itself."""
    parts = list(parts_with_sources(load_chip(name)))
    assert len(parts) >= 6
    assert [part for part in parts if not (part.source or part.assumed)] == []


@pytest.mark.parametrize(("name", "schema"), [("chip", Chip), ("model", Model), ("sweep", Sweep)])
def test_schema_on_disk_is_the_schema(name, schema):
    """The JSON schema that editors use is valid JSON and knows exactly the keys of the files."""
    path = SCHEMAS / f"{name}.json"
    if not path.exists():
        pytest.skip("no schemas yet: make schemas")
    value = json.loads(path.read_text())
    fields = {field.alias or key for key, field in schema.model_fields.items()}
    assert set(value["properties"]) == fields
    assert value["additionalProperties"] is False


def test_first_line_of_a_shipped_file_names_its_schema():
    """Editors find the schema of every shipped file by its first line."""
    paths = [
        *(ROOT / "hwconfigs").glob("*.yaml"),
        *(ROOT / "models").glob("*.yaml"),
        *(ROOT / "examples").glob("*.yaml"),
    ]
    for path in paths:
        kind = {"hwconfigs": "chip", "models": "model", "examples": "sweep"}[path.parent.name]
        first = path.read_text().splitlines()[0]
        assert first == f"# yaml-language-server: $schema=../fahw/data/schemas/{kind}.json", path
        assert (path.parent / first.split("$schema=")[1]).exists() or not SCHEMAS.exists()


def test_shipped_sweeps_load():
    """Every shipped sweep is valid."""
    for path in shipped("examples").values():
        assert load_sweep(path).axes


def test_chip_without_its_feedback_memory_reads_the_weights():
    """The baseline chip has no feedback memory, and its error array is wired to the weights; a shared chip stays."""
    chip = load_chip("edge_dual")
    derived = chip.without_feedback_memory()
    assert derived.home("feedback") is None
    assert derived.error_reaches_weights
    assert {memory.name for memory in chip.memories} - {memory.name for memory in derived.memories} == {"feedback_sram"}
    assert derived.links == ()
    shared = load_chip("edge_shared")
    assert shared.without_feedback_memory() == shared
