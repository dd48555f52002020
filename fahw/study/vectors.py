"""Golden vectors: what every memory of the chip holds in the first steps of a training, for a designer's test bench.

    export_vectors("edge_dual", "mlp_digits", rule="dfa", steps=2, out="vectors")

The folder holds a hex file for `$readmemh` per tensor, layer and step, and manifest.json, which says of each file what
it holds and in which format. `initial/` is what is stored before the first step, `step0000/` what the first step
makes, the updated memories included, and so on. The same inputs give the same bytes; the folder is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fahw.chip.cost import get_rule
from fahw.datasets.dataset import Dataset, load_dataset
from fahw.errors import ConfigError, Problem, check_integer, check_path
from fahw.files import write_text
from fahw.formats.fixed_point import MU_BITS, Format
from fahw.formats.lookup_tables import EXP_BITS, exp_table, function_table
from fahw.hardware.arrays.systolic import SYSTOLIC, systolic_cycles
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.hardware.part import Phase
from fahw.layers.weighted import Weighted
from fahw.learn.error_path.feedback import Feedback
from fahw.learn.error_path.feedback_words import IntegerWords
from fahw.learn.kernels.device import CPU, torch_settings
from fahw.learn.model import Model
from fahw.learn.samples.batches import sample_sets
from fahw.learn.state.scales import Scales, output_fraction_bits
from fahw.learn.step import step
from fahw.learn.training.setup import TrainingSetup
from fahw.learn.training.train import epoch_batches
from fahw.learn.watch.memory_images import UNSIGNED, LoggedLfsr, MemoryImage, RecordingArithmetic, datapath_constants
from fahw.network.error_path import roles_of
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.prng import LENGTH, TAP, derive, lfsr_bits
from fahw.stored_json import read_json
from fahw.study.settings import with_overrides
from fahw.study.storage.result_files import content_key, make_folder, versions, write_json
from fahw.study.training import Job, make_job
from fahw.study.vector_checks import (
    CONSTANT_BITS,
    check_file_names,
    check_fixed_point,
    check_layers,
    check_momentum,
    check_whole_feedback,
    run_checks,
)
from fahw.work.layer_gemms import rule_gemm_sizes

KIND = "vectors"
"""The kind of the folder, as its manifest says."""
_MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class Vectors:
    """A folder of vectors: its manifest as written."""

    folder: Path
    manifest: dict[str, Any]


@dataclass(frozen=True)
class _Image:
    """One memory image. `step` is None for what is stored before the first step; `frac` counts the fraction bits."""

    step: int | None
    layer: str
    tensor: str
    words: NDArray[np.int64]
    bits: int
    frac: int
    extra: dict[str, Any]

    @property
    def path(self) -> str:
        """The path of the image within the folder."""
        place = "initial" if self.step is None else f"step{self.step:04d}"
        return f"{place}/{'.'.join(part for part in (self.layer, self.tensor) if part)}.hex"

    @property
    def signed(self) -> bool:
        """Whether the words are in two's complement."""
        return not self.tensor.startswith(UNSIGNED)

    def text(self) -> str:
        """The text of the file: two comment lines, then one word per line."""
        low, high = (-(1 << (self.bits - 1)), 1 << (self.bits - 1)) if self.signed else (0, 1 << self.bits)
        assert self.words.size == 0 or (self.words.min() >= low and self.words.max() < high), self.path
        digits, mask = -(-self.bits // 4), (1 << self.bits) - 1
        kind = "two's complement" if self.signed else "unsigned"
        shape = " x ".join(map(str, self.words.shape))
        head = f"// {self.path}: {shape}, row-major\n// {self.bits} bits, {kind}, {self.frac} fraction bits\n"
        return head + "".join(f"{word & mask:0{digits}x}\n" for word in self.words.ravel().tolist())


def export_vectors(
    chip: Chip | str | Path,
    network: Network | str | Path,
    rule: str,
    steps: int,
    out: Path | str,
    *,
    seed: int = 0,
    data: str | None = None,
    batch_size: int | None = None,
    data_dir: Path | None = None,
) -> Vectors:
    """Write the memories of the first `steps` steps of `train(network, rule, chip, seed=seed)` to the folder `out`.

    A folder of vectors that is there is replaced. Raises ConfigError for unknown names, float formats, more steps than
    the recipe has, and a folder that holds something else or cannot be written.
    """
    check_path("out", out)
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    network = network if isinstance(network, Network) else load_model(network)
    run_checks(
        [
            lambda: check_fixed_point(chip),
            lambda: check_integer("steps", steps, 1, _MOST_STEPS),
            lambda: check_whole_feedback(get_rule(rule)),
        ]
    )
    network = replace(network, recipe=with_overrides(network.recipe, data=data, batch_size=batch_size))
    run_checks([lambda: check_layers(network), lambda: check_file_names(network)])
    job = make_job(network, rule, chip, data=None, epochs=None, seed=seed, data_dir=data_dir)
    folder = Path(out)
    check_momentum(job.setup.tuning)
    with _whole_folder(folder) as aside:
        run = _RecordedTraining(job, chip, aside)
        run.train(steps)
        manifest = run.manifest(steps)
        write_json(aside / "manifest.json", manifest)
    return Vectors(folder, manifest)


class _RecordedTraining:
    """The training that is recorded; it writes files into `folder` as it goes."""

    def __init__(self, job: Job, chip: Chip, folder: Path) -> None:
        self._job, self._chip, self._folder = job, chip, folder
        setup = self._setup = job.setup
        self._network, self._rule, self._scales = setup.network, setup.rule, setup.scales
        random = LoggedLfsr(derive(setup.seed, "rounding"))
        self._arithmetic = RecordingArithmetic(
            setup.network, setup.rule, setup.precision, setup.rounding, setup.scales, setup.tuning.momentum,
            setup.recipe.batch_size, random,
        )  # fmt: skip
        self._files: list[dict[str, Any]] = []

    def train(self, steps: int) -> None:
        """Run the steps; every tensor becomes a file."""
        with torch_settings(CPU):
            self._train(steps)

    def _train(self, steps: int) -> None:
        """Run the steps on the device that is in force. Raises ConfigError where the recipe has fewer."""
        setup, network, arithmetic = self._setup, self._network, self._arithmetic
        recipe = setup.recipe
        training = sample_sets(arithmetic, network, recipe, self._dataset())[0]
        available = recipe.epochs * (len(training.labels) // recipe.batch_size)
        if steps > available:
            raise ConfigError(Problem("steps", f"{network.name}'s recipe has {available:,} steps (got {steps:,})"))
        parameters = arithmetic.initial(network, setup.seed)
        words = IntegerWords(network, self._rule, setup.precision, self._scales, setup.seed)
        model = Model(network, arithmetic, parameters, Feedback(self._rule, words))
        for layer in network.weighted:
            arithmetic.record_stored(layer, parameters[layer.name])
        self._write_records(None)
        self._write_tables()
        epochs = range(1, recipe.epochs + 1)
        batches = (batch for epoch in epochs for batch in epoch_batches(setup, training, epoch))
        for images, labels, rate, step_number in islice(batches, steps):
            step(model, images, labels, rate, step_number)
            self._write_records(step_number)
            self._write_constants(step_number, rate)

    def _dataset(self) -> Dataset:
        """The data set that the training uses."""
        return load_dataset(self._job.data, self._job.data_dir, self._setup.recipe.image_size)

    def _write(self, image: _Image) -> None:
        """Write an image, and note it for the manifest."""
        text = image.text()
        write_text(self._folder / image.path, text)
        entry = {
            "path": image.path, "step": image.step, "layer": image.layer or None, "tensor": image.tensor,
            "shape": list(image.words.shape), "order": "row-major", "bits": image.bits, "signed": image.signed,
            "fraction_bits": image.frac, "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }  # fmt: skip
        self._files.append(entry | image.extra)

    def _write_records(self, number: int | None) -> None:
        """Write the tensors that were recorded since the last call; `number` is the step's."""
        for record in self._arithmetic.take_images():
            extra = {} if record.lfsr_byte is None else {"lfsr_byte": record.lfsr_byte}
            self._write(
                _Image(
                    number, record.layer, record.tensor, record.words, _stored_bits(record), record.format.frac, extra
                )
            )

    def _write_tables(self) -> None:
        """Write the generator's start and the tables that the datapath looks up."""
        bits, last = self._setup.precision.bits("activation"), self._scales[self._network.weighted[-1].name]
        register = np.fromiter(islice(lfsr_bits(derive(self._setup.seed, "rounding")), LENGTH), np.int64, LENGTH)
        self._write(_Image(None, "", "random_register", register, 1, 0, {}))
        table = exp_table(bits, last.output.frac)
        self._write(_Image(None, "", "exp_table", table, EXP_BITS + 1, EXP_BITS, {}))
        fracs = output_fraction_bits(self._network, self._setup.precision, self._scales)
        for layer in self._network.layers:
            if layer.table is not None:
                words = function_table(layer.table, bits, fracs[layer.sources[0]], fracs[layer.name])
                name = f"{layer.kind}_table"
                self._write(_Image(None, layer.name, name, words, max(bits, 2), fracs[layer.name], {}))

    def _write_constants(self, number: int, rate: float) -> None:
        """Write the integer constants of every layer's update at this learning rate."""
        share = rate / self._setup.recipe.batch_size
        momentum = round(self._setup.tuning.momentum * (1 << MU_BITS))
        for layer in self._network.weighted:
            values = datapath_constants(layer, self._scales[layer.name], self._error_format(layer), momentum, share)
            words = np.array(list(values.values()), np.int64)
            self._write(_Image(number, layer.name, "constants", words, CONSTANT_BITS, 0, {"names": list(values)}))

    def _error_format(self, layer: Weighted) -> Format | None:
        """The format of the error that the layer's feedback words are multiplied with; None where it sends none
        down."""
        if layer.name not in roles_of(self._network, self._rule).sends:
            return None
        return self._scales[layer.name].sent

    def manifest(self, steps: int) -> dict[str, Any]:
        """The content of manifest.json: the inputs, the formats, the matrix products and every file."""
        setup, dataset = self._setup, self._dataset()
        inputs = {
            "chip": self._chip.model_dump(mode="json", by_alias=True),
            "model": {"name": self._network.name, "layers": [layer.description() for layer in self._network.layers]},
            "recipe": setup.recipe.model_dump(mode="json", exclude={"rules"}) | setup.tuning.model_dump(mode="json"),
            "data": {"name": dataset.name, "sha256": dataset.content_hash},
            "rule": asdict(self._rule),
            "seed": setup.seed,
            "steps": steps,
        }
        content = {
            "kind": KIND,
            "inputs": inputs,
            "precision": setup.precision.model_dump(),
            "rounding": setup.rounding.model_dump(),
            "formats": {name: _formats_of_layer(scales) for name, scales in self._scales.items()},
            "random_generator": {"length": LENGTH, "tap": TAP, "bits_per_byte": "first bit lowest"},
            "products": _gemms(self._chip, setup),
            "files": self._files,
        }
        return {**content, "versions": versions(), "content_hash": content_key(json.loads(json.dumps(content)))}


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A context with a folder aside that takes the place of `out` when all went well, and vanishes otherwise."""
    out = out.absolute()
    _check_replaceable(out)
    make_folder(out.parent)
    aside, old = (out.with_name(f".{out.name}.{part}{os.getpid()}") for part in ("", "old-"))
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        yield aside
        if out.exists():
            out.replace(old)
        aside.replace(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists() and not out.exists():
            old.replace(out)
        shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    """Raise ConfigError where `out` is a file, or a folder that holds something else than vectors."""
    if out.exists() and not out.is_dir():
        raise ConfigError(Problem(str(out), "cannot write to this folder: it is a file"))
    if not out.is_dir() or not any(out.iterdir()):
        return
    manifest = read_json(out / "manifest.json") if (out / "manifest.json").is_file() else None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        message = "the folder holds something else than vectors, which would be lost: name a new one"
        raise ConfigError(Problem(str(out), message))


def _stored_bits(record: MemoryImage) -> int:
    """The width of the recorded words. One-bit formats take two bits here: they hold -1 and +1, but 0 behind a ReLU or
    a mask."""
    if record.tensor.startswith(UNSIGNED):
        return record.format.bits
    return max(2, record.format.bits)


def _formats_of_layer(scales: Scales) -> dict[str, Any]:
    """The fixed-point formats of a layer by name."""
    return {name: asdict(value) for name, value in vars(scales).items() if isinstance(value, Format)}


def _gemms(chip: Chip, setup: TrainingSetup) -> list[dict[str, Any]]:
    """The matrix products of a step, each with its cycles on the array that runs it, under each dataflow."""
    rows: list[dict[str, Any]] = []
    layers = setup.network.weighted
    phases: tuple[tuple[Phase, tuple[Weighted, ...]], ...] = (
        ("forward", layers), ("error", layers[::-1]), ("gradient", layers)
    )  # fmt: skip
    for phase, layers in phases:
        array = chip.array_of(phase)
        assert array is not None, phase
        for layer in layers:
            gemm = rule_gemm_sizes(setup.network, setup.rule, layer, setup.recipe.batch_size).get(phase)
            if gemm is not None:
                sizes = (gemm[0], gemm[1], gemm[2], array.rows, array.cols)
                cycles = {dataflow: systolic_cycles(*sizes, dataflow) for dataflow in SYSTOLIC}
                named_sizes = dict(zip(("m", "n", "k", "rows", "cols"), sizes, strict=True))
                dataflow = getattr(array.phases, phase)
                rows.append(
                    {"phase": phase, "layer": layer.name, **named_sizes, "dataflow": dataflow, "cycles": cycles}
                )
    return rows
