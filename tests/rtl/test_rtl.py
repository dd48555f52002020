"""A training core in Verilog computes fahw's steps: every word of every memory, every cycle of every product."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from fahw.cli.main import main
from fahw.hardware.arrays.systolic import systolic_cycles

HERE = Path(__file__).parent
SOURCES = [HERE / name for name in ("bench.v", "core.v", "array.v", "requantise.v")]
STORED = {
    "activation", "output", "mask", "delta", "feedback", "gradient", "bias_gradient", "velocity", "master", "weight",
    "bias_velocity", "bias",
}  # fmt: skip
"""What the core's memories hold, besides what the bench gives it."""

missing = [name for name in ("iverilog", "vvp") if shutil.which(name) is None]
missing += [] if importlib.util.find_spec("cocotb") else ["cocotb"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: no Verilog is simulated"),
]

NARROW = {
    "chip.precision": "{weight: 6, feedback: 4, activation: 7, error: 5, gradient: 4, master: 9, optimizer: 5, "
    "accumulator: 12}",
    "chip.rounding": "{activation: stochastic, error: nearest, gradient: stochastic, update: floor}",
    "model.recipe.ranges": "{activation: 0.25, error: 0.0625, weight_headroom: 1, velocity_headroom: 0.5}",
    "model.recipe.learning_rate": "8",
}
"""Formats so small and a rate so high that words of most kinds saturate and sums wrap; all three roundings."""
STATIONARY = {
    "chip.arrays.forward_array.phases": "{forward: ws, gradient: ws, update: vector}",
    "chip.arrays.error_array.phases": "{error: ws}",
}


def export(monkeypatch, folder, rule, size, settings):
    """A folder of vectors of two steps, through the command line."""
    rows, cols = size
    names = [("rows", rows), ("cols", cols)]
    shape = {f"chip.arrays.{array}.{k}": v for array in ("forward_array", "error_array") for k, v in names}
    pairs = [item for key, value in (shape | settings).items() for item in ("--set", f"{key}={value}")]
    arguments = ["edge_dual", HERE / "mlp.yaml", "--rule", rule, "--steps", 2, "--out", folder, *pairs]
    monkeypatch.setattr("sys.argv", ["fahw", "export-vectors", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    return json.loads((folder / "manifest.json").read_text())


def parameters(manifest):
    """The core's widths and depth for these vectors."""
    widths = {f["tensor"]: f["bits"] for f in manifest["files"]}
    p = {name.upper(): widths[name] for name in ("weight", "feedback", "activation", "gradient", "master")}
    p |= {"ERROR": widths["delta"], "OPTIMIZER": widths["velocity"], "ACC": widths["gradient_sum"]}
    first = manifest["products"][0]
    p |= {"ROWS": first["rows"], "COLS": first["cols"], "STATIONARY": int(first["dataflow"] == "ws")}
    p |= {"LEFT": max(p["ACTIVATION"], p["ERROR"]), "RIGHT": max(p["WEIGHT"], p["FEEDBACK"], p["ACTIVATION"])}
    return p


def simulate(vectors, manifest, build, sources=SOURCES):
    """What the bench found."""
    from cocotb_tools.runner import get_results, get_runner

    runner, found = get_runner("icarus"), build / "found.json"
    log = {"log_file": build / "build.log"}
    build.mkdir(parents=True)
    runner.build(
        sources=sources, hdl_toplevel="bench", parameters=parameters(manifest), build_dir=build,
        build_args=["-g2012", "-Wall"], timescale=("1ns", "1ps"), **log,
    )  # fmt: skip
    assert "warning" not in (build / "build.log").read_text()
    results = runner.test(
        test_module="bench", hdl_toplevel="bench", build_dir=build, test_dir=HERE, results_xml=build / "results.xml",
        extra_env={"FAHW_VECTORS": str(vectors), "FAHW_FOUND": str(found)}, log_file=build / "run.log",
    )  # fmt: skip
    assert get_results(results) == (1, 0), (build / "run.log").read_text()
    return json.loads(found.read_text())


CASES = [(rule, "os", (4, 4), {}) for rule in ("bp", "fa", "dfa")]
CASES += [(rule, "os", (2, 3), NARROW) for rule in ("bp", "fa", "dfa")]
CASES += [("bp", "ws", (3, 2), NARROW | STATIONARY), ("dfa", "ws", (4, 4), STATIONARY)]


@pytest.mark.parametrize(("rule", "dataflow", "size", "settings"), CASES)
def test_the_core_computes_every_word_in_the_cycles_of_the_closed_form(
    monkeypatch, tmp_path, rule, dataflow, size, settings
):
    """Two training steps on an array that every product folds on, several times and raggedly."""
    manifest = export(monkeypatch, tmp_path / "vectors", rule, size, settings)
    found = simulate(tmp_path / "vectors", manifest, tmp_path / "build")

    assert found["different"] == []
    assert found["compared"].keys() == STORED
    counted = {(c["phase"], c["layer"], c["cycles"], c["busy"]) for c in found["cycles"]}
    sizes = {(p["phase"], p["layer"]): (p["m"], p["n"], p["k"]) for p in manifest["products"]}
    closed = {name: systolic_cycles(*mnk, *size, dataflow) for name, mnk in sizes.items()}
    assert counted == {(*name, cycles, cycles) for name, cycles in closed.items()}
    assert len(found["cycles"]) == 2 * len(closed)
    assert {p["dataflow"] for p in manifest["products"]} == {dataflow}


def test_one_flipped_bit_of_a_vector_is_found(monkeypatch, tmp_path):
    """The bench compares what is there: a velocity that is wrong in its last bit is the one difference."""
    manifest = export(monkeypatch, tmp_path / "vectors", "fa", (4, 4), {})
    path = tmp_path / "vectors" / "step0001" / "linear2.velocity.hex"
    lines = path.read_text().splitlines()
    right, wrong = lines[9], f"{int(lines[9], 16) ^ 1:04x}"
    lines[9] = wrong
    path.write_text("\n".join(lines))

    found = simulate(tmp_path / "vectors", manifest, tmp_path / "build")

    assert found["different"] == [[1, "linear2", "velocity", 7, right, wrong]]
