"""Golden vectors: the files hold what the slow reference computes, and the folder is whole, the same, or absent."""

import hashlib
import json
import sys
from itertools import islice

import numpy as np
import pytest

from fahw.cli.main import main
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.formats.precision import TENSORS
from fahw.hardware.arrays.systolic import systolic_cycles
from fahw.hardware.load import load_chip
from fahw.learn.samples.batches import sample_sets
from fahw.learn.state.scales import network_scales
from fahw.learn.step import step
from fahw.learn.training.build import build
from fahw.learn.training.train import epoch_batches
from fahw.network.error_path import roles_of
from fahw.network.load import load_model
from fahw.prng import LENGTH, derive, lfsr_bits
from fahw.rules.catalogue import COMPARED, RULES
from fahw.study import vectors
from fahw.study.vectors import export_vectors
from tests.reference.step import Reference
from tests.support.models import setup_of

CONVOLUTIONAL = """
name: small
input: [1, 8, 8]
layers:
  - {kind: conv2d, out: 3, kernel: 3, padding: 1, stride: 2}
  - {kind: relu}
  - {kind: maxpool2d, kernel: 2}
  - {kind: conv2d, out: 4, kernel: 2, bias: false}
  - {kind: tanh}
  - {kind: flatten}
  - {kind: linear, out: 10}
recipe: {batch_size: 6, learning_rate: 0.5}
"""
PLAIN = """
name: plain
input: [1, 8, 8]
layers: [{kind: flatten}, {kind: linear, out: 9}, {kind: relu}, {kind: linear, out: 6, bias: false}, {kind: relu},
  {kind: linear, out: 10}]
recipe: {batch_size: 4, learning_rate: 0.5}
"""
STOCHASTIC = {"rounding": "{activation: stochastic, error: stochastic, gradient: stochastic, update: stochastic}"}
NARROW = {
    "precision": "{weight: 6, feedback: 3, activation: 7, error: 5, gradient: 10, master: 13, optimizer: 12, "
    "accumulator: 18}",
    "rounding": "{activation: floor, error: nearest, gradient: stochastic, update: nearest}",
}
BINARY = {
    "precision": "{weight: 1, feedback: 1, activation: 1, error: 1, gradient: 8, master: 8, optimizer: 8, "
    "accumulator: 24}"
}


class Spy(Reference):
    """Keeps the rounded gradients, which the reference does not store."""

    def velocity(self, v, g, d, random):
        self.rounded = [*getattr(self, "rounded", []), g]
        return super().velocity(v, g, d, random)


@pytest.fixture
def network(tmp_path):
    """A network from YAML text."""

    def make(text):
        path = tmp_path / "model.yaml"
        path.write_text(text)
        return load_model(path)

    return make


def words_of(folder, entry):
    """The numbers of one file, by nothing but what the manifest says about it."""
    lines = (folder / entry["path"]).read_text().splitlines()
    q = np.array([int(line, 16) for line in lines if not line.startswith("//")], np.int64)
    assert q.min() >= 0
    assert q.max() < 1 << entry["bits"]
    if entry["signed"]:
        q -= (q >> (entry["bits"] - 1)) << entry["bits"]
    return q.reshape(entry["shape"])


def images(folder):
    """All tensors by (step, layer, tensor), and the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {(f["step"], f["layer"], f["tensor"]): words_of(folder, f) for f in manifest["files"]}, manifest


def reference(network, rule, chip):
    """The slow reference at the start of the same training."""
    recipe = network.recipe
    tuning, batch = recipe.tuning(rule), recipe.batch_size
    scales = network_scales(network, chip.precision, tuning, RULES[rule], batch)
    return Spy(network, RULES[rule], chip.precision, chip.rounding, scales, tuning.momentum, batch, 0)


CASES = [(PLAIN, rule, {}) for rule in sorted(COMPARED)]
CASES += [(text, rule, s) for text in (PLAIN, CONVOLUTIONAL) for rule in ("bp", "dfa") for s in (STOCHASTIC, NARROW)]
CASES += [(PLAIN, "fa", BINARY), (CONVOLUTIONAL, "fa", {}), (CONVOLUTIONAL, "brsf", NARROW)]
CASES += [(CONVOLUTIONAL, rule, STOCHASTIC) for rule in ("bdfa", "tdfa", "drtp", "egrad", "last", "frozen_conv")]


@pytest.mark.parametrize(("text", "rule", "settings"), CASES)
def test_every_tensor_is_the_slow_reference_s(tmp_path, network, text, rule, settings):
    """Three steps of the reference, fed with the exported inputs and labels alone."""
    chip, net = load_chip("edge_dual", settings), network(text)
    export_vectors(chip, net, rule, 3, tmp_path / "out")
    found, _ = images(tmp_path / "out")
    slow = reference(net, rule, chip)
    first, last, rate = net.weighted[0], net.weighted[-1].name, net.recipe.tuning(rule).learning_rate
    between = net.between(first)
    for number in range(3):
        x = found[number, first.name, "activation"].reshape(-1, *(between[0].in_shape if between else first.in_shape))
        inputs, logits = slow.forward(x)
        learning = [layer for layer in net.weighted if slow._learns(layer)]
        for layer in (layer for layer in net.weighted if layer.name in roles_of(net, RULES[rule]).sends):
            assert np.array_equal(found[number, layer.name, "feedback"], slow.feedback(layer, number)), layer.name
        errors, _ = slow._errors(
            inputs, slow._loss(logits, found[number, last, "label"]), found[number, last, "label"], number
        )
        slow.rounded = []
        found_sums = {layer.name: slow.gradient(layer, errors[layer.name], inputs[layer.name]) for layer in learning}
        slow._update(found_sums, rate, number)
        for layer in learning:
            sums, rounded = found_sums[layer.name], [slow.rounded.pop(0) for _ in range(2)]
            state = slow.states[layer.name]
            wanted = {
                "activation": inputs[layer.name], "delta": errors[layer.name], "gradient_sum": sums[0],
                "gradient": rounded[0], "velocity": state.velocity, "master": state.master,
                "weight": slow.words(layer),
            }  # fmt: skip
            if layer.bias:
                wanted |= {"bias_gradient_sum": sums[1], "bias_gradient": rounded[1]}
                wanted |= {"bias": state.bias, "bias_velocity": state.bias_velocity}
            for tensor, words in wanted.items():
                assert np.array_equal(found[number, layer.name, tensor], words), (number, layer.name, tensor)
        assert np.array_equal(found[number, last, "output"], logits)


def test_the_steps_are_those_that_train_takes(tmp_path):
    """Same batches, same random bytes: the masters after three steps are a training's."""
    chip, net = load_chip("edge_dual"), load_model("mlp_digits")
    export_vectors(chip, net, "dfa", 3, tmp_path / "out", seed=5)
    setup = setup_of(net, "dfa", chip.precision, chip.rounding, seed=5)
    model, _ = build(setup)
    training = sample_sets(model.arithmetic, net, net.recipe, load_dataset(net.recipe.data))[0]
    for batch in islice(epoch_batches(setup, training, 1), 3):
        step(model, *batch)

    found, _ = images(tmp_path / "out")
    for name, p in model.parameters.items():
        assert np.array_equal(found[2, name, "master"], p.master.numpy())
        assert np.array_equal(found[2, name, "weight"], p.weight.numpy())


def test_random_bytes_are_the_generator_s_in_the_places_that_are_named(tmp_path, network):
    """Every file of random bytes says where in the LFSR's stream it starts; together they are the whole stream.

    In the stream the samples of activations and errors come last, in the files first.
    """
    chip = load_chip("edge_dual", STOCHASTIC)
    export_vectors(chip, network(CONVOLUTIONAL), "fa", 2, tmp_path / "out")
    found, manifest = images(tmp_path / "out")
    bits = lfsr_bits(derive(0, "rounding"))
    taken = {}
    for f in (f for f in manifest["files"] if "lfsr_byte" in f):
        words = found[f["step"], f["layer"], f["tensor"]]
        by_sample = f["tensor"] in ("random_output", "random_delta", "random_error")
        taken[f["lfsr_byte"]] = np.moveaxis(words, 0, -1) if by_sample else words
    stream = np.concatenate([taken[at].ravel() for at in sorted(taken)])
    wanted = np.fromiter(islice(bits, 8 * len(stream)), np.uint8)

    assert np.array_equal(np.cumsum([0] + [taken[at].size for at in sorted(taken)])[:-1], sorted(taken))
    assert np.array_equal(stream, np.packbits(wanted, bitorder="little"))
    assert np.array_equal(found[None, None, "random_register"], wanted[:LENGTH])


def test_the_manifest_says_what_every_file_holds(tmp_path, network):
    """Hashes, formats and products of the step, with the cycles of the closed form."""
    chip = load_chip("edge_dual", {"arrays.forward_array.rows": "4", "arrays.error_array.cols": "3"})
    export_vectors(chip, network(CONVOLUTIONAL), "dfa", 1, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    listed = {f["path"]: f for f in manifest["files"]}
    there = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.hex")}

    assert listed.keys() == there
    for path, entry in listed.items():
        assert hashlib.sha256((tmp_path / "out" / path).read_bytes()).hexdigest() == entry["sha256"]
    weight, form = listed["step0000/conv2d1.weight.hex"], manifest["formats"]["conv2d1"]["weight"]
    assert (weight["shape"], weight["bits"], weight["fraction_bits"]) == ([3, 1, 3, 3], form["bits"], form["frac"])
    products = {(p["phase"], p["layer"]): p for p in manifest["products"]}
    sizes = {name: (p["m"], p["n"], p["k"]) for name, p in products.items()}
    assert sizes["forward", "conv2d1"] == (6 * 16, 3, 9)
    assert sizes["gradient", "conv2d1"] == (3, 9, 6 * 16)
    assert sizes["error", "linear1"] == (6, 4, 10)
    assert sizes["error", "conv2d2"] == (6, 12, 10)
    assert ("error", "conv2d1") not in sizes
    for (phase, _), p in products.items():
        shape = (16, 3) if phase == "error" else (4, 16)
        wanted = {d: systolic_cycles(p["m"], p["n"], p["k"], *shape, d) for d in ("os", "ws", "is")}
        assert p["cycles"] == wanted


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_inputs_same_bytes_and_another_seed_others(tmp_path, network):
    """Deterministic; a folder of vectors is replaced as a whole, nothing of the old one stays."""
    chip, net = load_chip("edge_dual"), network(PLAIN)
    first = export_vectors(chip, net, "fa", 2, tmp_path / "a").manifest["content_hash"]
    second = export_vectors(chip, net, "fa", 1, tmp_path / "b", seed=1).manifest["content_hash"]
    again = export_vectors(chip, net, "fa", 2, tmp_path / "b").manifest["content_hash"]

    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    assert first == again != second


def test_a_crash_leaves_the_old_folder(tmp_path, network, monkeypatch):
    """Whole or absent: a disk that fills up half-way leaves what was there and nothing beside it."""
    chip, net = load_chip("edge_dual"), network(PLAIN)
    export_vectors(chip, net, "fa", 1, tmp_path / "out")
    before = everything(tmp_path / "out")
    count = iter(range(1000))

    def full(path, text):
        if next(count) > 20:
            raise OSError(28, "No space left on device")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)

    monkeypatch.setattr(vectors, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        export_vectors(chip, net, "fa", 3, tmp_path / "out")
    with pytest.raises(OSError, match="No space"):
        export_vectors(chip, net, "fa", 3, tmp_path / "new")

    assert everything(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"model.yaml", "out"}


@pytest.mark.parametrize(
    ("names", "said"),
    [(("CON", "b"), "device of Windows .*CON"), (("con.1", "b"), "con.1"), (("A", "a"), "case alone")],
)
def test_layers_that_no_system_could_name_files_after_are_refused(tmp_path, names, said):
    """CON is a device of Windows, with any ending; A and a are one file there and on macOS."""
    model = tmp_path / "model.yaml"
    layers = ", ".join(f"{{kind: linear, name: {name}, out: 10}}" for name in names)
    recipe = "{data: digits, epochs: 1, batch_size: 32, learning_rate: 0.1}"
    model.write_text(f"{{name: m, input: [64], recipe: {recipe}, layers: [{layers}]}}")
    with pytest.raises(ConfigError, match=said):
        export_vectors("edge_dual", model, "fa", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


FLOAT = "{" + ", ".join(f"{k}: fp32" for k in TENSORS) + "}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rule", "dfaa"], ["no rule 'dfaa'", "did you mean 'dfa'?"]),
        (["--rule", "dfa", "--set", f"chip.precision={FLOAT}"], ["edge_dual: precision", "fp32", "1 to 16 bits"]),
        (["--rule", "dfaa", "--set", f"chip.precision={FLOAT}"], ["no rule 'dfaa'", "1 to 16 bits"]),
        (["--rule", "dfa", "--steps", "0"], ["--steps"]),
        (["--rule", "dfa", "--steps", "100000"], ["steps", "mlp_digits's recipe has 800 steps", "100,000"]),
        (["--rule", "dfa", "--data", "digitz"], ["did you mean 'digits'?"]),
        (["--rule", "dfa", "--batch-size", "2000"], ["a batch of 2000"]),
        (["--rule", "dfa", "--out", "file"], ["cannot write to this folder"]),
        (["--rule", "dfa", "--out", "file/out"], ["cannot write to this folder"]),
        (["--rule", "dfa", "--out", "taken"], ["something else"]),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(tmp_path, monkeypatch, capsys, arguments, said):
    """Exit code 2 with place and advice; the folder stays as it was."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("three years")
    given = arguments if "--out" in arguments else [*arguments, "--out", "out"]
    monkeypatch.setattr(sys, "argv", ["fahw", "export-vectors", "edge_dual", "mlp_digits", *given])
    with pytest.raises(SystemExit) as stop:
        main()
    err = capsys.readouterr().err
    assert stop.value.code == 2
    for text in said:
        assert text in err
    assert "Traceback" not in err
    assert sorted(everything(tmp_path)) == ["file", "taken/thesis.tex"]
    assert not (tmp_path / "out").exists()
