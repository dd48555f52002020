"""The command line: what it prints, and exit code 2 with place and advice for wrong input, nothing half-written."""

import json

import pytest

from tests.support.strategies import CHIP, MODEL, marked, swap


@pytest.fixture
def fahw(command):
    """Run a command in an empty folder: (exit code, stdout, stderr)."""
    return command


def test_simulate_prints_json_whose_ledger_adds_up(fahw):
    """`--json` has the promised names, and the energy is the correctly rounded sum of the rows."""
    from math import fsum

    code, out, _ = fahw("simulate", "edge_dual", "mlp_digits", "--rule", "bp", "--json")
    value = json.loads(out)
    assert code == 0
    assert value["energy_pj"] == fsum(row["energy_pj"] for row in value["ledger"])
    names = {"chip", "model", "rule", "transport", "batch_size", "cycles", "interval_cycles", "seconds", "area_mm2"}
    assert names <= value.keys()
    assert value["transport"] == "copy"


def test_the_version_is_told(fahw):
    """`--version` before any verb."""
    import fahw as library

    assert fahw("--version")[:2] == (0, f"fahw {library.__version__}\n")
    assert dir(library) == sorted(library.__all__)
    assert "Which learning rule trains" in fahw("--help")[1]


def test_an_interruption_says_how_to_go_on(fahw, monkeypatch):
    """Exit code 130, as shells have it."""

    def interrupt(path):
        raise KeyboardInterrupt

    said = (130, "", "stopped; nothing is half-written\n")
    monkeypatch.setattr("fahw.cli.check.check_file", interrupt)
    assert fahw("check", "m.yaml") == said
    monkeypatch.setattr("fahw.cli.verbs.app", lambda prog_name: interrupt(prog_name))  # a typer that lets it pass
    assert fahw("check", "m.yaml") == said


def test_simulate_for_people_names_units(fahw):
    """The plain output says what and in which unit."""
    code, out, _ = fahw("simulate", "edge_shared", "mlp_digits", "--rule", "dfa")
    assert code == 0
    assert "energy of a sample" in out
    assert "nJ" in out
    assert "mm2" in out


def test_overrides_change_the_cost(fahw):
    """`--set` reaches the chip: four-bit weights take half the words."""
    words = []
    for bits in (8, 4):
        _, out, _ = fahw(
            "simulate", "edge_dual", "mlp_mnist", "--rule", "fa", "--json", "--set", f"chip.precision.weight={bits}"
        )
        rows = json.loads(out)["ledger"]
        words.append(sum(r["count"] for r in rows if (r["component"], r["action"]) == ("weight_sram", "write")))
    assert words[1] == pytest.approx(words[0] / 2, rel=1e-3)


def test_trace_is_a_chrome_trace(fahw, tmp_path):
    """Every span has a track with a name and a duration."""
    code, _, _ = fahw("simulate", "edge_dual", "mlp_digits", "--trace", "step.json")
    events = json.loads((tmp_path / "step.json").read_text())["traceEvents"]
    assert code == 0
    assert {"forward linear1", "error loss"} <= {event["name"] for event in events if event["ph"] == "X"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate", "edge_dula", "mlp_digits"], ["edge_dula", "did you mean 'edge_dual'?"]),
        (["simulate", "edge_dual", "mlp_digit"], ["did you mean 'mlp_digits'?"]),
        (["simulate", "edge_dual", "mlp_digits", "--rule", "dfaa"], ["no rule 'dfaa'", "did you mean 'dfa'?"]),
        (["simulate", "edge_dual", "mlp_digits", "--rule", "bp", "--transport", "copi"], ["copy, write_through"]),
        (["simulate", "edge_dual", "mlp_digits", "--batch-size", "0"], ["--batch-size", "greater than or equal to 1"]),
        (["simulate", "missing.yaml", "mlp_digits"], ["missing.yaml", "no such file"]),
        (["simulate", "edge_dual", "mlp_digits", "--set", "chip.precision.weigth=4"], ["did you mean 'weight'?"]),
        (["simulate", "edge_dual", "mlp_digits", "--set", "chip.precision.weight=40"], ["chip.precision.weight=40"]),
        (["simulate", "edge_dual", "mlp_digits", "--set", "nonsense"], ["key=value"]),
        (["simulate", "edge_dual", "mlp_digits", "--set", "chp.precision.weight=4"], ["did you mean 'chip'?"]),
        (["simulate", "edge_dual", "mlp_digits", "--set", "chip.memories.wait.size_kib=4"], ["no item 'wait'"]),
        (
            ["simulate", "edge_dual", "mlp_digits", "--set", "recipe.momentum=0"],
            ["did you mean 'model.recipe.momentum'?"],
        ),
        (["simulate", "edge_dual", "mlp_digits", "--set", "momentum=0"], ["did you mean 'model.recipe.momentum'?"]),
        (["simulate", "edge_dual", "mlp_digits", "--set", "clock_mhz=3"], ["did you mean 'chip.clock_mhz'?"]),
        (["simulate", "edge_dual", "mlp_digits", "--set", "clok_mhz=3"], ["did you mean 'chip.clock_mhz'?"]),
        (
            ["simulate", "edge_dual", "mlp_digits", "--set", "precision.weight=4"],
            ["did you mean 'chip.precision.weight' or 'model.precision.weight'?"],
        ),
        (["train", "mlp_digits", "--set", "chip.precision.weight=4"], ["no chip is given: add --chip CHIP"]),
        (["export-topology", "lenet5", "--out", "o", "--set", "chip.clock_mhz=4"], ["takes a model alone"]),
        (["train", "mlp_digits", "--data", "digitz"], ["digitz", "did you mean 'digits'?"]),
        (["train", "mlp_mnist", "--data", "digits"], ["digits"]),
        (["compare", "--rules", "bp,dfb", "--out", "o"], ["no rule 'dfb'"]),
        (["compare", "--data", "mnizt", "--out", "o"], ["mnizt", "did you mean 'mnist'?"]),
        (["report", "nowhere"], ["nowhere"]),
        (["check", "nothing.yaml"], ["nothing.yaml", "no such file"]),
        (["data", "fetch", "mnizt"], ["did you mean 'mnist'?"]),
        (["list", "rulez"], ["rulez"]),
    ],
)  # fmt: skip
def test_wrong_input_is_named_with_advice(fahw, tmp_path, arguments, said):
    """Exit code 2, the mistake and what to do about it, no traceback, no output folder left behind."""
    code, _, err = fahw(*arguments)
    assert code == 2
    for text in said:
        assert text in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


SWAPPED = [
    (["simulate", "mlp_digits", "edge_dual"], ["mlp_digits", "edge_dual"], "CHIP MODEL"),
    (["simulate", "m.yaml", "c.yaml"], ["m.yaml", "c.yaml"], "CHIP MODEL"),
    (["compare", "m.yaml", "c.yaml", "--out", "o"], ["m.yaml", "c.yaml"], "CHIP MODEL"),
    (["train", "c.yaml", "--chip", "m.yaml"], ["m.yaml", "c.yaml"], "MODEL --chip CHIP"),
    (["export-topology", "c.yaml", "--out", "o"], [None, "c.yaml"], "MODEL"),
]


@pytest.mark.parametrize(("arguments", "names", "order"), SWAPPED, ids=str)
def test_a_chip_in_the_place_of_a_model_is_said_to_be_one(fahw, tmp_path, arguments, names, order):
    """And the reverse: a line each, not a list of unknown keys."""
    (tmp_path / "c.yaml").write_text(CHIP)
    (tmp_path / "m.yaml").write_text(MODEL)
    code, _, err = fahw(*arguments)
    said = {
        f"error: {name}: is a {kind}, not a {other}; the order is {order}"
        for name, kind, other in zip(names, ("model", "chip"), ("chip", "model"), strict=True)
        if name
    }
    assert (code, set(err.splitlines())) == (2, said)


def test_mistakes_of_chip_and_model_are_reported_together(fahw):
    """A wrong override of each side: both are listed."""
    settings = ["--set", "chip.clock_mhz=-1", "--set", "model.recipe.epochs=0"]
    code, _, err = fahw("simulate", "edge_dual", "mlp_digits", *settings)
    assert code == 2
    assert "clock_mhz" in err
    assert "epochs" in err


def test_check_lists_every_file_and_mistake(fahw, tmp_path):
    """Right files are said to be right although another one is wrong; every mistake has its line."""
    (tmp_path / "good.yaml").write_text("name: m\ninput: [4]\nlayers:\n  - {kind: linear, out: 2}\n")
    (tmp_path / "bad.yaml").write_text("name: m\ninput: [-4]\nlayers:\n  - {kind: liner, out: 2}\n")
    code, out, err = fahw("check", "good.yaml", "bad.yaml")
    assert code == 2
    assert "good.yaml: a model, correct" in out
    assert "bad.yaml:2:" in err
    assert "did you mean 'linear'?" in err


DATA = """\
name: m
input: [64]
layers:
  - {kind: linear, out: 10}
recipe:
  data: @@digits
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("@@digits", "@@digit", "no data set 'digit' (did you mean 'digits'?)"),
        ("@@digits", "@@mnist", "m takes inputs of shape (64,), images of 'mnist' have (1, 28, 28)"),
        ("out: 10", "out: 9", "m has 9 outputs, 'digits' has 10 classes"),
    ],
)
def test_check_says_where_the_data_of_a_model_do_not_exist_or_fit(fahw, tmp_path, old, new, said):
    """As training does, without the files of the set, at the line."""
    text, places = marked(swap(DATA, old, new))
    (tmp_path / "m.yaml").write_text(text)
    code, _, err = fahw("check", "m.yaml")
    assert code == 2
    assert f"m.yaml:{places[0]}: recipe.data: {said}" in err


def test_check_says_an_unknown_set_beside_what_else_is_wrong(fahw, tmp_path):
    """In one pass, in the order of the file."""
    text, _ = marked(swap(swap(DATA, "digits", "digit"), "out: 10", "outs: 10"))
    (tmp_path / "m.yaml").write_text(text)
    lines = fahw("check", "m.yaml")[2].splitlines()
    assert "did you mean 'out'" in lines[1]
    assert "did you mean 'digits'" in lines[2]


def test_check_passes_a_model_of_data_that_are_elsewhere(fahw, tmp_path):
    """A network for simulation alone, and one whose recipe names no set, are correct."""
    assert fahw("check", "alexnet")[0] == 0
    assert "'imagenet' is not here" in fahw("check", "alexnet")[1]
    for text in ("data: @@digits\n", "recipe:\n  data: @@digits\n"):
        (tmp_path / "m.yaml").write_text(swap(DATA, text, "batch_size: 8\n" if "recipe" not in text else ""))
        assert fahw("check", "m.yaml")[:2] == (0, "m.yaml: a model, correct\n")


def test_a_folder_that_cannot_be_written_is_said_before_training(fahw, tmp_path):
    """A file where the folder should be: exit 2 at once."""
    (tmp_path / "file").write_text("")
    code, _, err = fahw("compare", "--out", "file/out", "--epochs", "1", "--seeds", "1")
    assert code == 2
    assert "cannot write" in err


def test_plots_go_into_a_folder(fahw, tmp_path):
    """The name of a file is refused as one, not as something that exists."""
    (tmp_path / "plots.svg").write_text("")
    code, _, err = fahw("simulate", "edge_dual", "mlp_digits", "--plots", "plots.svg")
    assert (code, err) == (2, "error: --plots plots.svg: is a file: name a folder for the plots\n")


def test_a_memory_that_a_phase_needs_and_the_chip_lacks(fahw):
    """A rule that cannot be hosted exits 2 and says what to add."""
    code, _, err = fahw("simulate", "edge_dual", "mlp_digits", "--rule", "brsf", "--set", "chip.feedback_generator=")
    assert code == 2
    assert "feedback_generator" in err


@pytest.mark.parametrize("what", ["rules", "chips", "models", "datasets", "formats", "technology"])
def test_lists(fahw, what):
    """Everything that can be listed is, one line each."""
    code, out, _ = fahw("list", what)
    assert code == 0
    assert len(out.splitlines()) >= 2


@pytest.mark.parametrize("what", ["chip", "model", "sweep"])
def test_schemas_are_those_that_ship(fahw, what):
    """`fahw schema` prints JSON, and the shipped copy that editors use is the same."""
    from importlib.resources import files

    code, out, _ = fahw("schema", what)
    assert code == 0
    shipped = json.loads(files("fahw").joinpath(f"data/schemas/{what}.json").read_text())
    assert json.loads(out) == shipped, "run `make schemas`"


@pytest.mark.parametrize(
    "url",
    ["http://[bad", "http://", "http:///x", "ftp://x", "http://x:99999", "http://x:y/", "http://a b/", "", "http://é/",
     "http://x\n/", "file:///etc/passwd"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_before_anything_is_tried(fahw, url, tmp_path):
    """Exit code 2, one line."""
    code, out, err = fahw("data", "fetch", "mnist", "--data-dir", "d", "--base-url", url)
    assert (code, out) == (2, "")
    assert err.startswith("error: base_url: not an http:// or https:// address")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "x" * 5000, "mlp_digits"],
        ["check", "x" * 5000],
        ["train", "mlp_digits", "--data", "x" * 5000],
        ["simulate", "edge\ndual", "mlp_digits"],
        ["simulate", "edge_dual", "mlp_digits", "--rule", "b\x1b[31mp"],
        ["simulate", "edge_dual", "mlp_digits", "--set", "chip.a\nb=3"],
        ["simulate", "edge_dual", "mlp_digits", "--set", "chip.clock_mhz=&a [*a]"],
        ["simulate", "edge_dual", "mlp_digits", "--set", "chip.arrays.\u0663.rows=2"],
        ["simulate", "edge_dual", "mlp_digits", "--set", "chip.technology=5"],
        ["check", "loop.yaml"],
        ["simulate", "edge_dual", "mlp_digits", "--set", f"chip.{'.'.join('a' * 500)}=1"],
        ["simulate", "edge_dual", "mlp_digits", "--set", f"model.{'.' * 500}=1"],
        ["simulate", "edge_dual", "mlp_digits", "--set", f"chip.clock_mhz={'[' * 500}"],
        ["simulate", "edge\0dual", "mlp_digits"],
        ["check", "a\0b"],
        ["compare", "--out", "o\0"],
        ["compare", "--out", "o\udcff"],
        ["simulate", "edge_dual", "mlp_digits", "--trace", "a\0.json"],
        ["train", "mlp_digits", "--data-dir", "d\0", "--data", "mnist"],
        ["train", "mlp_digits", "--data", "~nobody-of-this-name/x.npz"],
        ["report", "r\0"],
        ["check", "nul.yaml"],
    ],
    ids=str,
)
def test_names_that_cannot_be_are_one_line_each(fahw, tmp_path, arguments):
    """Too long, with line ends or escape codes, links in circles: exit code 2, each mistake on one printable line."""
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    text = 'name: s\nchip: "a\\0b.yaml"\nmodel: "c\\0"\ngrid: {rule: [bp, dfa]}\n'
    (tmp_path / "nul.yaml").write_text(text)
    code, _, err = fahw(*arguments)
    assert code == 2
    assert all(line.startswith("error: ") and line.isprintable() for line in err.splitlines())
    assert {path.name for path in tmp_path.iterdir()} == {"loop.yaml", "nul.yaml"}
