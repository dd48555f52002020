"""The tables of what was simulated: the parts of the chip, the network, the recipe, the constants and their sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fahw.report.run_folder import Run
from fahw.report.sentences import rule_title
from fahw.report.table import Column, Table, records_table, text_row
from fahw.units import fixed, general

Record = dict[str, Any]
_PARTS = ("arrays", "memories", "links", "dram", "feedback_generator", "rounding_generator", "technology")
_OTHERWISE_SHOWN = {
    *_PARTS,
    "transposed_access",
    "precision",
    "rounding",
    "name",
    "description",
    "transport",
    "clock_mhz",
}


def chip_tables(run: Run) -> list[Table]:
    """The tables of the chip as simulated, part by part, with the sources of its numbers."""
    chip = run.inputs["chip"]
    access = [chip["transposed_access"]] if chip.get("transposed_access") else []
    tables = (
        records_table("arrays", "Arrays", chip.get("arrays", ()), _ARRAY),
        records_table("memories", "Memories", chip.get("memories", ()), _MEMORY),
        records_table("links", "Links", chip.get("links", ()), _LINK),
        records_table("dram", "DRAM", [chip["dram"]] if chip.get("dram") else [], _DRAM),
        records_table("generators", "Random-number generators", _generators(chip), _GENERATOR),
        records_table("access", "Transposed access of a weight memory", access, _ACCESS),
        records_table("technology", "Technology", [chip["technology"]] if chip.get("technology") else [], _TECHNOLOGY),
        _formats_table(chip),
        _other_settings_table(chip),
    )
    return [table for table in tables if table is not None]


def _shows_value(key: str) -> Callable[[Record], str]:
    """A function that shows a record's value under `key`."""

    def show(record: Record) -> str:
        return _plain_text(record.get(key))

    return show


def _plain_text(value: Any) -> str:
    """A value as text: yes or no, short numbers, lists with commas, nothing for None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return general(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain_text, value))
    return "" if value is None else str(value)


def _shows_named_values(key: str) -> Callable[[Record], str]:
    """A function that shows the names and values under `key`."""

    def show(record: Record) -> str:
        return ", ".join(
            f"{name}: {_plain_text(value)}" for name, value in (record.get(key) or {}).items() if value is not None
        )

    return show


def _shows_percent(key: str) -> Callable[[Record], str]:
    """A function that shows the share under `key` in percent."""

    def show(record: Record) -> str:
        return general(100 * record[key]) if record.get(key) is not None else ""

    return show


def _number_column(head: str, key: str, unit: str = "", hint: str = "") -> tuple[Column, Callable[[Record], str]]:
    """A column of numbers, and what shows its cells."""
    return Column(head, unit, True, hint=hint), _shows_value(key)


def _origin(record: Record) -> str:
    """The source of a record's numbers, and what was assumed."""
    assumed = f"Assumed: {record['assumed']}." if record.get("assumed") else ""
    source = f"{record['source']}." if record.get("source") else ""
    return " ".join(part for part in (source, assumed) if part)


_NAME = (Column("name"), _shows_value("name"))
_ORIGIN = (Column("where the numbers come from"), _origin)
_ARRAY = (
    _NAME,
    (Column("processing elements", number=True), lambda r: f"{r['rows']} × {r['cols']}"),
    _number_column("vector lanes", "lanes"),
    (Column("phases and dataflows"), _shows_named_values("phases")),
    (Column("further dataflows"), _shows_value("dataflows")),
    (Column("sums at the edge", "per column", True), lambda r: str(r.get("accumulators") or "")),
    (Column("weights held", "per element", True), lambda r: _more_than_one(r.get("weights_per_element"))),
    (Column("wired to"), _shows_value("memories")),
    (Column("idle element", "% of active", True), _shows_percent("idle_pe_fraction")),
    _ORIGIN,
)
_MEMORY = (
    _NAME,
    (Column("kind"), _shows_value("kind")),
    (Column("holds"), _shows_value("holds")),
    _number_column("size", "size_kib", "KiB"),
    _number_column("bank", "bank_kib", "KiB"),
    _number_column("word", "width_bits", "bits"),
    _number_column("read", "read_bits_per_cycle", "bits/cycle"),
    _number_column("write", "write_bits_per_cycle", "bits/cycle"),
    _number_column("latency", "latency_cycles", "cycles"),
    (Column("one port"), _shows_value("shared_port")),
    (Column("transistors (leakage)"), lambda r: _devices(r)),
    (Column("given energies"), _shows_named_values("energy")),
    _ORIGIN,
)
_LINK = (
    _NAME,
    (Column("from"), _shows_value("from")),
    (Column("to"), _shows_value("to")),
    _number_column("width", "width_bits", "bits/cycle"),
    _number_column("length", "length_mm", "mm"),
    _number_column("energy", "pj_per_bit_mm", "pJ/bit/mm"),
    _ORIGIN,
)
_DRAM = (
    (Column("kind"), _shows_value("kind")),
    _number_column("bandwidth", "gbyte_per_s", "GB/s"),
    _number_column("latency", "latency_cycles", "cycles"),
    _number_column("read", "read_pj_per_bit", "pJ/bit"),
    _number_column("write", "write_pj_per_bit", "pJ/bit"),
    _number_column("standby", "background_mw", "mW"),
    _number_column("power-down", "powerdown_mw", "mW"),
    _number_column("uncertainty", "uncertainty", "factor ×/÷"),
    _ORIGIN,
)
_GENERATOR = (
    (Column("purpose"), _shows_value("purpose")),
    _number_column("energy", "pj_per_bit", "pJ/bit"),
    _number_column("rate", "bits_per_cycle", "bits/cycle"),
    _number_column("area", "area_mm2", "mm²"),
    _number_column("uncertainty", "uncertainty", "factor ×/÷"),
    _ORIGIN,
)
_ACCESS = (
    (Column("read", "% more energy", True), _shows_percent("read_overhead")),
    (Column("write", "% more energy", True), _shows_percent("write_overhead")),
    (Column("area", "% more", True), _shows_percent("area_overhead")),
    (Column("leakage", "% more", True), _shows_percent("leak_overhead")),
    (Column("dataflow of error under accumulate"), _shows_value("accumulate_dataflow")),
    _ORIGIN,
)
_TECHNOLOGY = (
    _number_column("node", "node_nm", "nm"),
    _number_column("supply", "vdd_v", "V"),
    _number_column("temperature", "temp_c", "°C"),
    (Column("clock tree", "% of logic", True), _shows_percent("clock_share")),
    _number_column("clock root", "clock_root_mw", "mW"),
    _ORIGIN,
)


def _devices(record: Record) -> str:
    """The transistors of a memory: of its periphery, and of its cells where these differ."""
    device, cells = record.get("device"), record.get("cells")
    return f"{device}, {cells} cells" if device and cells else str(device or "")


def _more_than_one(number: int | None) -> str:
    return str(number) if number and number > 1 else ""


def _generators(chip: Record) -> list[Record]:
    """The random-number generators of the chip, each with its purpose."""
    purposes = {"feedback_generator": "feedback magnitudes", "rounding_generator": "stochastic rounding"}
    return [chip[key] | {"purpose": purpose} for key, purpose in purposes.items() if chip.get(key)]


def _formats_table(chip: Record) -> Table | None:
    """The table of number formats, scales and rounding by tensor; None for a chip without."""
    precision, rounding = dict(chip.get("precision") or {}), dict(chip.get("rounding") or {})
    scales, random = precision.pop("scale", {}), rounding.pop("random_bits", 8)
    rows = tuple(
        text_row(name, *(_plain_text(setting_of.get(name)) or "–" for setting_of in (precision, scales, rounding)))
        for name in sorted({*precision, *rounding})
    )
    columns = (Column("tensor"), Column("bits or format"), Column("scale"), Column("rounding"))
    notes = (
        "Rounding of update is that of the velocity and of the master weights; stochastic takes "
        f"{random} random bits. Accumulators of fixed point wrap, operands saturate.",
    )
    return Table("formats", "Number formats and rounding", columns, rows, 1, notes) if rows else None


def _other_settings_table(chip: Record) -> Table | None:
    """The table of the chip's settings that no other table shows."""
    settings = {"clock [MHz]": chip.get("clock_mhz"), "forms of transport, default first": chip.get("transport")}
    settings |= {
        key: value for key, value in chip.items() if key not in _OTHERWISE_SHOWN and value not in (None, [], {})
    }
    rows = tuple(
        text_row(key.replace("_", " "), _plain_text(value)) for key, value in settings.items() if value is not None
    )
    return Table("others", "Other settings", (Column("setting"), Column("value")), rows) if rows else None


def network_table(run: Run) -> Table | None:
    """The table of the layers of the network."""
    columns = (
        (Column("layer"), _shows_value("name")),
        (Column("kind"), _shows_value("kind")),
        (Column("input", "per sample", True), lambda layer: _shape(layer["in_shape"])),
        (Column("output", "per sample", True), lambda layer: _shape(layer["out_shape"])),
        (Column("kernel", number=True), lambda layer: _shape(layer["kernel"]) if _windowed(layer) else ""),
        (Column("stride", number=True), lambda layer: _shape(layer["stride"]) if _windowed(layer) else ""),
        (Column("padding", number=True), lambda layer: _shape(layer["padding"]) if _windowed(layer) else ""),
        (Column("weights", number=True), _weights),
    )
    return records_table("network", f"Network {run.inputs['model']['name']}", run.inputs["model"]["layers"], columns)


def _shape(shape: list[int]) -> str:
    return " × ".join(map(str, shape))


def _windowed(layer: Record) -> bool:
    """Whether a layer slides a window over its input."""
    return "kernel" in layer and len(layer["out_shape"]) == 3


def _weights(layer: Record) -> str:
    """The number of weights of a layer; empty where it has none."""
    return fixed(layer["weights"], 0) if layer.get("weights") else ""


def recipe_table(run: Run) -> Table | None:
    """The table of how each rule was trained: the recipe with the rule's own settings."""
    recipe = run.inputs["recipe"]
    records = [_tuning(recipe, rule) for rule in run.inputs["rules"]]
    columns = (
        (Column("rule"), _shows_value("rule")),
        (Column("name"), lambda record: rule_title(record["rule"])),
        (Column("optimizer"), lambda record: str(record.get("optimizer", "momentum"))),
        _number_column("learning rate", "learning_rate"),
        _number_column("momentum", "momentum"),
        _number_column("gain of feedback", "feedback_gain"),
        (Column("value ranges"), _shows_named_values("ranges")),
    )
    return records_table("recipe", "Training recipe, rule by rule", records, columns)


def _tuning(recipe: Record, rule: str) -> Record:
    """The recipe of a rule: its own settings in place of those of all."""
    rule_settings = {
        key: value for key, value in (recipe.get("rules") or {}).get(rule, {}).items() if value is not None
    }
    return recipe | rule_settings | {"rule": rule}


def recipe_words(run: Run) -> str:
    """The part of the recipe that all rules share, in a sentence."""
    recipe = run.inputs["recipe"]
    text = f"{recipe['epochs']} epochs of {recipe['data']} in batches of {recipe['batch_size']}; "
    text += (
        f"{general(100 * recipe['validation'])} % of the training set kept apart for validation; batches are whole, "
    )
    text += "and what is left over of an epoch differs from one to the next"
    if recipe.get("drop_at"):
        after = " and ".join(f"{general(100 * share)} %" for share in recipe["drop_at"])
        text += f"; learning rate × {general(recipe['drop_factor'])} after {after} of the epochs"
    if recipe.get("schedule") == "cosine":
        text += "; learning rate along a cosine to zero"
    if recipe.get("power_of_two_rates"):
        text += "; factors of the update rounded to powers of two"
    return f"{text}."


def sources_table(run: Run) -> Table | None:
    """The table of every source of an energy constant that any line used, merged; None without sources."""
    listed = [entry for line in run.lines for entry in line.details.get("sources", ())]
    sources = {
        (source["kind"], source["source"], source["factor"], "chip file" if source.get("given") else "estimate")
        for source in listed
    }
    columns = (Column("kind"), Column("uncertainty", "factor ×/÷", True), Column("from"), Column("source"))
    rows = tuple(text_row(kind, general(factor), origin, source) for kind, source, factor, origin in sorted(sources))
    notes = (
        "The true value lies between the number divided and multiplied by the factor. The constants of a kind "
        "move together, and alike on both sides of a comparison.",
    )
    return (
        Table("sources", "Energy constants, their uncertainty and their sources", columns, rows, 1, notes)
        if rows
        else None
    )


def losses(run: Run) -> list[tuple[str, str]] | None:
    """(rule, sentence) of each loss by number formats in the trainings; None where these were not counted."""
    return None if run.losses is None else [(item["rule"], item["text"]) for item in run.losses]


def warnings(run: Run) -> list[tuple[str, str]]:
    """(rule, warning) of each warning that the trainings gave."""
    pairs = ((line.rule, text) for line in run.lines for text in line.details.get("warnings", ()))
    return list(dict.fromkeys(pairs))
