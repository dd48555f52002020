"""What `fahw list` and `fahw schema` print."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from fahw.chip import price_list
from fahw.config.files import shipped
from fahw.config.sweep import Sweep
from fahw.formats.catalogue import FORMATS
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.network.model_file import Model
from fahw.rules.catalogue import RULES


def listing(what: str) -> str:
    """A line for each item of the list `what`: its name and what it is."""
    rows = {
        "rules": lambda: [(rule.name, f"{rule.title} ({rule.source}): {rule.does}") for rule in RULES.values()],
        "chips": lambda: [(n, load_chip(p).description) for n, p in shipped("hwconfigs").items()],
        "models": lambda: [(n, _model_line(p)) for n, p in shipped("models").items()],
        "datasets": _datasets,
        "formats": _formats,
        "technology": _technology,
    }[what]()
    width = max(22, *(len(name) for name, _ in rows))
    return "".join(f"{name:<{width}} {text}\n" for name, text in rows)


def _formats() -> list[tuple[str, str]]:
    """The number formats, and how their scales and roundings are chosen."""
    return [
        ("1 to 16", "fixed point of that many bits with a power-of-two scale; 1 bit, or `binary`, holds -1 and +1"),
        *((name, form.description) for name, form in FORMATS.items() if name != "binary"),
        ("scale", "of fixed point: static, fraction bits given, or dynamic (per_tensor, per_channel)"),
        ("rounding", "nearest (ties to even), floor, stochastic (random_bits of the chip's LFSR, 8 by default)"),
    ]


def _model_line(path: Path) -> str:
    """The sizes of a model and the data set that its recipe names."""
    network = load_model(path)
    macs = sum(layer.macs for layer in network.layers if layer.weighted)
    shape = "x".join(map(str, network.input_shape))
    padded = sum(layer.macs * layer.padding_share for layer in network.weighted) / macs
    of_padding = f" ({padded:.1%} with zeros of paddings)" if padded else ""
    sizes = f"input {shape}, {network.parameters:,} parameters, {macs:,} MACs per sample{of_padding}"
    return f"{sizes}, data {network.recipe.data}"


def _datasets() -> list[tuple[str, str]]:
    """The name and description of each data set, and the forms that a user's own may have."""
    from fahw.datasets.catalogue import DATASETS

    known = [(name, f"{entry.title} ({entry.source}; {entry.licence})") for name, entry in DATASETS.items()]
    return [
        *known,
        ("FILE.npz", "your own arrays: x_train, y_train, x_test, y_test"),
        ("FOLDER", "your own images: train/CLASS/*.png and test/ or val/ alike; or CIFAR-10's batches"),
    ]


def _technology() -> list[tuple[str, str]]:
    """The heading and every row of the table of published energies and areas."""
    lines = [("part", f"{'value':>10} {'unit':<13} {'node':>7} {'×/÷':>4}  source")]
    for entry in price_list.entries():
        node = "" if entry.node_nm is None else f"{entry.node_nm} nm"
        value = f"{entry.value:>10.4g} {entry.unit:<13} {node:>7} {entry.factor:>4g}"
        lines.append((entry.part, f"{value}  {entry.source}"))
    return lines


def schema_text(what: str) -> str:
    """The JSON schema of the files of a chip, a model or a sweep, as JSON."""
    schemas: dict[str, type[BaseModel]] = {"chip": Chip, "model": Model, "sweep": Sweep}
    schema = schemas[what]
    return json.dumps(schema.model_json_schema(by_alias=True), indent=1) + "\n"
