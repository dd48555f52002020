"""What is fuzzed: for each kind of file, how a mutant is made in a folder and which calls open and use it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.support.fuzzing import binary, checkpoints
from tests.support.fuzzing.text import NUMBERS, VALUES, mutated_bytes, mutated_text
from tests.support.strategies import CHIP, MODEL, ROOT

Stage = Callable[[], Any]
"""A call that opens or uses a mutant: it returns, or raises ConfigError."""
_RIGHT = (b"100", b"8", b"16", b"4", b"edge", b"{weight: 8}", b"[copy]")
"""Values that some keys can have."""
ENERGIES = b"""\
ERT:
  version: '0.4'
  tables:
    - name: system.edge_dual.weight_sram
      actions:
        - name: read
          energy: 2.5
        - name: write
          arguments: {data_delta: 1}
          energy: 3.5
        - name: leak
          energy: 0.01
    - name: system.edge_dual.forward_array.mac[0..15]
      actions:
        - name: idle
          energy: 0
"""


@dataclass(frozen=True)
class Target:
    """A kind of file. `stages` makes the mutant in a folder from a random generator and the folder of good files, and
    yields the calls; of the first, `placed` says whether each of its mistakes has a line and a column. `packs`: they
    pickle and unpickle what they made themselves."""

    name: str
    share: int
    placed: bool
    stages: Callable[[Random, Path, Path], Iterator[Stage]]
    packs: bool = False


def prepare(good: Path) -> None:
    """Make the run folders and stores that are mutated, in the folder `good`."""
    import fahw

    fahw.compare("edge_dual", "mlp_digits", out=good / "compare", rules=["bp", "dfa"], seeds=1, epochs=1, workers=1)
    (good / "sweep.yaml").write_text(
        "name: bits\nepochs: 1\ngrid:\n  rule: [bp, dfa]\n  chip.precision.weight: [8, 4]\n", encoding="utf-8"
    )
    fahw.sweep(good / "sweep.yaml", out=good / "sweep", workers=1)


def _shipped(random: Random, folder: str, tiny: str) -> bytes:
    """The text of a shipped file, or a tiny one."""
    if tiny and random.random() < 0.3:
        return tiny.encode()
    return random.choice(sorted((ROOT / folder).glob("*.yaml"))).read_bytes()


def _chip(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    import fahw
    from fahw.cli.check import check_file

    path = folder / "chip.yaml"
    path.write_bytes(mutated_text(random, _shipped(random, "hwconfigs", CHIP)))
    yield lambda: fahw.load_chip(path)
    rule = random.choice(("bp", "dfa", "usf", "brsf"))
    yield lambda: check_file(path)
    yield lambda: fahw.simulate(path, "mlp_digits", rule, random.choice((1, 4, 1000)))


def _model(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    import fahw
    from fahw.cli.check import check_file
    from fahw.network.topology import export

    path = folder / "model.yaml"
    path.write_bytes(mutated_text(random, _shipped(random, "models", MODEL)))
    yield lambda: fahw.load_model(path)
    yield lambda: check_file(path)
    yield lambda: export(fahw.load_model(path))
    yield lambda: fahw.simulate("edge_dual", path, random.choice(("bp", "dfa")), 4)


def _sweep(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    from fahw.config.sweep import Sweep
    from fahw.study.sweeps.choices import selected_choices
    from fahw.study.sweeps.load import load_placed_sweep, load_sweep
    from fahw.study.sweeps.setups import checked_builder

    path = folder / "sweep.yaml"
    path.write_bytes(mutated_text(random, _shipped(random, "examples", "")))

    def points() -> None:
        spec, place = load_placed_sweep(path)
        assert isinstance(spec, Sweep)
        checked_builder(spec, place, None, with_data=False)
        selected_choices(spec, place)

    yield points
    yield lambda: load_sweep(path)


def _overrides(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    import fahw
    from fahw.config.validate import override_pairs

    names = [b"chip.clock_mhz", b"chip.memories.weight_sram.bank_kib", b"chip.arrays.0.rows", b"chip.precision.weight"]
    names += [b"chip.precision", b"chip.name", b"chip.transport", b"model.layers.0.out", b"model.recipe.epochs"]
    texts = []
    for _ in range(random.choice((1, 1, 2, 5))):
        text = random.choice(names) + b"=" + random.choice((*NUMBERS, *VALUES, *_RIGHT * 5))
        text = mutated_text(random, text) if random.random() < 0.4 else text
        texts.append(text.replace(b"\x00", b"")[:100_000].decode("utf-8", "surrogateescape"))

    def load() -> None:
        pairs = override_pairs(texts, ("chip", "model"), {"chip": ["clock_mhz"], "model": ["layers"]})
        fahw.load_chip("edge_dual", pairs["chip"])
        fahw.load_model("mlp_digits", pairs["model"])

    yield load


def _energies(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    import fahw

    chip = (ROOT / "hwconfigs" / "edge_dual.yaml").read_bytes()
    (folder / "chip.yaml").write_bytes(chip + b"\nenergy_table: table.yaml\n")
    (folder / "table.yaml").write_bytes(mutated_text(random, ENERGIES))
    yield lambda: fahw.load_chip(folder / "chip.yaml")


PINS = b"""\
layer_mappings:
  - {layer: conv2d1, phase: forward, dataflow: os, tile: [16, 3, 18], order: mnk, hold: [left]}
  - layer: linear1
    phase: error
    dataflow: os
    tile: [8, 12, 5]
    order: nmk
    rule: bp
  - {layer: linear2, phase: gradient, product: 0, sizes: [4, 5, 4], dataflow: os, tile: [4, 5, 4], order: mnk, rule: bp}
kept_tensors:
  - {name: weight linear1, shares: [1, 1], rule: bp}
  - {name: activation input, core: 0, shares: [0.5, 0.25], rule: fa, transport: none}
shared_errors:
  - {name: error linear2, core: 0, samples: 4, transport: copy}
  - name: error linear1
    samples: 2
    rule: dfa
    transport: none
waiting_tasks:
  - {waits: true, rule: bp}
"""


def _pins(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    import fahw

    chip, model = folder / "chip.yaml", folder / "model.yaml"
    chip.write_text(f"mapping: best\npinned_mappings: pins.yaml\n{CHIP}", encoding="utf-8")
    model.write_text(MODEL, encoding="utf-8")
    (folder / "pins.yaml").write_bytes(mutated_text(random, PINS))
    rule = random.choice(("bp", "bp", "dfa"))
    yield lambda: fahw.load_chip(chip)
    yield lambda: fahw.simulate(chip, model, rule, 8)


def _with_mutated_file(random: Random, source: Path, folder: Path) -> None:
    """A copy of a good folder in which one file is another."""
    shutil.copytree(source, folder / "run", ignore=shutil.ignore_patterns("*.svg", "*.html"))
    names = sorted(path for path in (folder / "run").rglob("*") if path.is_file())
    path = random.choice(names)
    content = path.read_bytes()
    if path.suffix == ".json" and random.random() < 0.6:
        path.write_bytes(binary.json_edit(random, content))
    elif random.random() < 0.05:
        path.unlink()
    else:
        path.write_bytes(mutated_text(random, content))


def _report(kind: str) -> Callable[[Random, Path, Path], Iterator[Stage]]:
    def stages(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
        import fahw.study
        from fahw.report.page import write_report

        _with_mutated_file(random, good / kind, folder)
        yield lambda: write_report(folder / "run")
        for table in ("summary", "ledger"):
            yield lambda table=table: fahw.study.frame(folder / "run", table)  # type: ignore[misc]

    return stages


def _store(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    import fahw

    _with_mutated_file(random, good / "sweep", folder)
    yield lambda: fahw.sweep(good / "sweep.yaml", out=folder / "run", workers=1)


def _npz(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    from fahw.datasets.dataset import load_dataset

    path = folder / "data.npz"
    path.write_bytes(binary.npz(random))
    yield lambda: load_dataset(str(path)).content_hash


def _idx(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    from fahw.datasets.catalogue import DATASETS
    from fahw.datasets.dataset import load_dataset

    for number, file in enumerate(DATASETS["mnist"].files):
        name = random.choice((file.name, file.name.removesuffix(".gz")))
        (folder / name).write_bytes(binary.idx(random, 1 if number % 2 else 3, 3 if number < 2 else 2))
    yield lambda: load_dataset("mnist", folder).content_hash


def _images(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    from fahw.datasets.dataset import load_dataset

    for part in ("train", random.choice(("test", "val"))):
        for name in ("one", "two"):
            place = folder / "set" / part / random.choice((name,) * 19 + ("three",))
            place.mkdir(parents=True, exist_ok=True)
            for _ in range(random.choice((0, 1, 1, 2))):
                file, content = binary.image(random, random.random() < 0.2)
                (place / file).write_bytes(content)
    size = random.choice((None, None, (4, 4), (3, 5)))
    yield lambda: load_dataset(str(folder / "set"), None, size).content_hash


def _cifar(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    from fahw.datasets.cifar import BATCHES
    from fahw.datasets.dataset import load_dataset

    place = folder / random.choice(("", "cifar10", "cifar-10-batches-bin", "cifar-10-batches-py", "nowhere"))
    place.mkdir(exist_ok=True)
    ending = random.choice((".bin",) * 19 + ("",))
    for name in BATCHES:
        if random.random() < 0.98:
            (place / f"{name}{ending}").write_bytes(binary.cifar(random))
    path = place / f"{random.choice(BATCHES)}{random.choice((ending, '', '.BIN'))}"
    if random.random() < 0.1:
        path.unlink(missing_ok=True)
        _other_than_a_file(random, path)
    name = random.choice(("cifar10", "cifar10", str(folder), str(place)))
    yield lambda: load_dataset(name, folder).content_hash


def _other_than_a_file(random: Random, path: Path) -> None:
    """A folder, a pipe, a link, an endless device, or a file of very many zeros that takes no room on disk."""
    match random.randrange(5):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(random.choice(("/dev/zero", "/dev/null", path.name, "nowhere", "/proc/self/mem")))
        case _:
            with path.open("wb") as file:
                file.truncate(random.choice((1, 3073 * 10_000_000, 3073 << 28, (1 << 40) + 1)))


def _bytes(random: Random, folder: Path, good: Path) -> Iterator[Stage]:
    """Any bytes under any name: `fahw check` tells kinds of files apart."""
    from fahw.cli.check import check_file

    path = folder / "any.yaml"
    path.write_bytes(mutated_bytes(random, _shipped(random, random.choice(("hwconfigs", "models", "examples")), "")))
    yield lambda: check_file(path)


TARGETS = {
    target.name: target
    for target in (
        Target("chip", 3500, True, _chip), Target("model", 3500, True, _model),
        Target("sweep", 2000, True, _sweep, True),
        Target("overrides", 2000, False, _overrides), Target("energies", 1500, True, _energies),
        Target("pins", 500, True, _pins),
        Target("any", 1000, True, _bytes, True), Target("compare", 500, False, _report("compare")),
        Target("swept", 1000, False, _report("sweep")), Target("store", 500, False, _store, True),
        Target("npz", 1200, False, _npz), Target("idx", 600, False, _idx), Target("images", 700, False, _images),
        Target("checkpoint", 1000, False, checkpoints.stages), Target("cifar", 500, False, _cifar),
    )
}  # fmt: skip
"""The targets by name; their shares add up to 20,000."""
