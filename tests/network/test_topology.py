"""SCALE-Sim topology files: read back by SCALE-Sim's own rules they give the products that fahw counts."""

import csv
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw.cli.main import main
from fahw.errors import ConfigError
from fahw.hardware.arrays.systolic import systolic_cycles
from fahw.hardware.load import load_chip
from fahw.network import topology
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES
from tests.support.steps import step
from tests.support.strategies import REFERENCE, SHIPPED_MODELS

CONV = """\
name: one
input: [{channels}, {height}, {width}]
layers:
  - {{kind: conv2d, name: conv, out: {out}, kernel: [{kh}, {kw}], stride: {stride}, padding: {padding}}}
  - {{kind: flatten}}
  - {{kind: linear, name: last, out: 3}}
"""


def read(text, form):
    """(M, N, K) by layer, as SCALE-Sim reads a topology: the last field of a line is dropped, the header skipped."""
    found = {}
    for line in text.splitlines()[1:]:
        name, *fields = line.split(",")[:-1]
        numbers = [int(field) for field in fields]
        if form == "gemm":
            found[name] = tuple(numbers)
            continue
        height, width, filter_height, filter_width, channels, filters, stride = numbers
        assert filter_height <= height
        assert filter_width <= width
        rows, cols = (ceil((a - f + stride) / stride) for a, f in ((height, filter_height), (width, filter_width)))
        found[name] = (rows * cols, filters, filter_height * filter_width * channels)
    return found


def one_convolution(folder, **sizes):
    """A network of one convolution and a linear layer."""
    path = folder / "conv.yaml"
    path.write_text(CONV.format(**sizes), encoding="utf-8")
    return load_model(path)


@pytest.mark.parametrize("phase", topology.PHASES)
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("model", ["mlp_digits", "lenet5"])
def test_products_are_those_of_a_step(phase, batch, model):
    """Read back, each layer and phase multiplies as often as the training step of backpropagation on a chip."""
    network, chip, rule = load_model(model), load_chip("edge_dual"), RULES["bp"]
    sizes = read(topology.export(network, phase, batch), "gemm")
    work = step(chip, network, rule, batch)
    macs = {task.layer: task.macs for task in work.tasks if task.phase == phase and task.macs}
    assert {name: m * n * k for name, (m, n, k) in sizes.items()} == macs


def test_lenet5_by_hand():
    """LeNet-5 in all phases: windows x filters x inputs of a window, and their permutations."""
    network = load_model("lenet5")
    forward = read(topology.export(network, "forward", 2), "gemm")
    names = [layer.name for layer in network.weighted]
    assert [forward[name] for name in names[:2]] == [(2 * 28 * 28, 6, 25), (2 * 10 * 10, 16, 150)]
    assert read(topology.export(network, "error", 2), "gemm")[names[1]] == (200, 150, 16)
    assert names[0] not in read(topology.export(network, "error", 2), "gemm")
    assert read(topology.export(network, "gradient", 2), "gemm")[names[1]] == (16, 150, 200)


SCALE_SIM_SAYS = {
    ("forward", "gemm"): (2694, 1259, 3439, 899, 113), ("error", "gemm"): (3219, 3749, 911, 239),
    ("gradient", "gemm"): (1627, 1299, 6199, 1487, 185), ("forward", "conv"): (2694, 1259, 3439, 899, 113),
}  # fmt: skip
"""Total cycles that SCALE-Sim 3.0.0 reported for the exported files of LeNet-5, batch 1, a 16 x 16 array, `os`."""


@pytest.mark.parametrize(("phase", "form"), SCALE_SIM_SAYS)
def test_what_scale_sim_made_of_the_files(phase, form):
    """SCALE-Sim read these very files; its count is the index of the last cycle, one less than the cycles."""
    sizes = read(topology.export(load_model("lenet5"), phase, 1, form), form)
    cycles = [systolic_cycles(m, n, k, 16, 16, "os") for m, n, k in sizes.values()]
    assert tuple(count - 1 for count in cycles) == SCALE_SIM_SAYS[phase, form]


@pytest.mark.parametrize("model", SHIPPED_MODELS)
def test_headers_and_commas(model):
    """The exact header of either format; every line ends with a comma and has as many fields as the header."""
    network = load_model(model)
    for form, header in (("gemm", "Layer,M,N,K,"), ("conv", topology.CONV_HEADER)):
        lines = topology.export(network, form=form).splitlines()
        assert lines[0] == header
        assert {line.count(",") for line in lines} == {header.count(",")}
        assert all(line.endswith(",") for line in lines)


@pytest.mark.parametrize("model", SHIPPED_MODELS)
def test_both_formats_say_the_same(model):
    """The convolutions of one sample are the products of one sample."""
    network = load_model(model)
    assert read(topology.export(network, form="conv"), "conv") == read(topology.export(network, "forward", 1), "gemm")


def test_groups_are_products_of_their_own(tmp_path):
    """A convolution of two groups is two products, each with half of the channels and filters, in every phase."""
    path = tmp_path / "grouped.yaml"
    sizes = {"channels": 4, "height": 6, "width": 6, "out": 10, "kh": 3, "kw": 3, "stride": 1, "padding": 0}
    path.write_text(CONV.format(**sizes).replace("out: 10,", "out: 10, groups: 2,"), encoding="utf-8")
    network = load_model(path)
    forward = {"conv_1": (16, 5, 18), "conv_2": (16, 5, 18), "last": (1, 3, 160)}
    assert read(topology.export(network, "forward", 1), "gemm") == forward
    assert read(topology.export(network, form="conv"), "conv") == forward
    assert read(topology.export(network, "gradient", 2), "gemm")["conv_2"] == (5, 18, 32)


def test_dilation_needs_the_gemm_format(tmp_path):
    """What a conv file cannot say is an input error that names the layer; as a product it is exported."""
    path = tmp_path / "dilated.yaml"
    sizes = {"channels": 1, "height": 6, "width": 6, "out": 2, "kh": 2, "kw": 2, "stride": 1, "padding": 0}
    path.write_text(CONV.format(**sizes).replace("out: 2,", "out: 2, dilation: 2,"), encoding="utf-8")
    network = load_model(path)
    with pytest.raises(ConfigError, match="conv: the conv format has no dilation"):
        topology.export(network, form="conv")
    assert read(topology.export(network, "forward", 1), "gemm")["conv"] == (16, 2, 4)


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3)
)
def test_any_convolution_survives(tmp_path_factory, height, width, kh, kw, stride, padding):
    """Whatever its stride and padding, a convolution read back has as many windows as fahw's layer."""
    if min(height + 2 * padding - kh, width + 2 * padding - kw) < 0:
        return
    sizes = {"channels": 2, "height": height, "width": width, "out": 5, "kh": kh, "kw": kw}
    network = one_convolution(tmp_path_factory.mktemp("conv"), **sizes, stride=stride, padding=padding)
    layer = network.weighted[0]
    assert read(topology.export(network, form="conv"), "conv")["conv"] == (layer.positions, 5, layer.window)


def test_convolutions_that_scale_sim_ran(tmp_path):
    """The M, N, K that SCALE-Sim derived from its own topology files, for every convolution of the reference."""
    path = REFERENCE / "scalesim_cycles.csv"
    if not path.exists():
        pytest.skip("no reference folder beside this checkout")
    with path.open(newline="") as file:
        rows = {row["layer"]: row for row in csv.DictReader(file) if row["kind"] == "conv"}
    columns, compared = ("ifmap_h", "ifmap_w", "filt_h", "filt_w", "c_in", "c_out", "stride"), 0
    for row in rows.values():
        height, width, kh, kw, channels, filters, stride = (int(float(row[name])) for name in columns)
        network = one_convolution(
            tmp_path, height=height, width=width, kh=kh, kw=kw, channels=channels, out=filters, stride=stride, padding=0
        )
        found = read(topology.export(network, form="conv"), "conv")["conv"]
        if (height - kh) % stride == 0 == (width - kw) % stride:  # else SCALE-Sim rounds the number of windows up
            assert found == (int(row["M"]), int(row["N"]), int(row["K"])), row["layer"]
            compared += 1
    assert compared >= 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backward",), "must be one of forward, error, gradient"),
        (("forward", 0), "batch_size"),
        (("forward", 1, "gem"), "did you mean 'gemm'"),
        (("gradient", 1, "conv"), "use --format gemm"),
        (("forward", 2, "conv"), "use --format gemm"),
    ],
)
def test_what_cannot_be_exported(arguments, message):
    """Unknown phases and formats, and what a conv file cannot say, are input errors with advice."""
    with pytest.raises(ConfigError, match=message):
        topology.export(load_model("lenet5"), *arguments)


def test_the_command_writes_the_file(tmp_path, capsys, monkeypatch):
    """`fahw export-topology` writes what the library gives; wrong input exits with 2 and writes nothing."""
    out = tmp_path / "lenet.csv"
    words = ["fahw", "export-topology", "lenet5", "--phase", "gradient", "--batch-size", "4", "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="0"):
        main()
    assert out.read_text(encoding="utf-8") == topology.export(load_model("lenet5"), "gradient", 4)
    assert str(out) in capsys.readouterr().out
    out.unlink()
    monkeypatch.setattr("sys.argv", [*words, "--format", "conv"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert not out.exists()
    assert "--format gemm" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*words[:-1], str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "cannot be written" in capsys.readouterr().err


def test_products_without_number_are_no_file(tmp_path):
    """A thousand convolutions in ten thousand groups would be ten million lines."""
    path = tmp_path / "model.yaml"
    layer = "  - {kind: conv2d, out: 10000, kernel: 1, groups: 10000}\n"
    path.write_text(
        f"name: m\ninput: [10000, 1, 1]\nlayers:\n{layer * 101}  - {{kind: flatten}}\n  - {{kind: linear, out: 3}}\n",
        encoding="utf-8",
    )
    for form in topology.FORMATS:
        with pytest.raises(ConfigError, match=f"1,010,001 products.*at most {topology.MOST_PRODUCTS:,}"):
            topology.export(load_model(path), form=form)
