"""The tables of what was simulated: the parts of the chip, the network, the recipe, the constants and their sources."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from fahw.report.run_folder import Run
from fahw.report.sentences import rule_title
from fahw.report.table import Column, Table, records_table, text_row
from fahw.units import fixed

Record = dict[str, Any]
_PARTS = ("arrays", "memories", "links", "dram", "feedback_generator", "rounding_generator", "technology")
_SHOWN = {*_PARTS, "transposed_access", "precision", "rounding", "name", "description", "transport", "clock_mhz"}


def chip_tables(run: Run) -> list[Table]:
    """The chip as simulated, part by part, with the sources of its numbers."""
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
        _formats(chip),
        _others(chip),
    )
    return [table for table in tables if table is not None]


def _value(key: str) -> Callable[[Record], str]:
    def show(record: Record) -> str:
        return _plain(record.get(key))

    return show


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)


def _joined(key: str) -> Callable[[Record], str]:
    def show(record: Record) -> str:
        return ", ".join(
            f"{name}: {_plain(value)}" for name, value in (record.get(key) or {}).items() if value is not None
        )

    return show


def _percent(key: str) -> Callable[[Record], str]:
    def show(record: Record) -> str:
        return f"{100 * record[key]:g}" if record.get(key) is not None else ""

    return show


def _number(head: str, key: str, unit: str = "", hint: str = "") -> tuple[Column, Callable[[Record], str]]:
    return Column(head, unit, True, hint=hint), _value(key)


def _origin(record: Record) -> str:
    assumed = f"Assumed: {record['assumed']}." if record.get("assumed") else ""
    source = f"{record['source']}." if record.get("source") else ""
    return " ".join(part for part in (source, assumed) if part)


_NAME = (Column("name"), _value("name"))
_ORIGIN = (Column("where the numbers come from"), _origin)
_ARRAY = (
    _NAME,
    (Column("processing elements", number=True), lambda r: f"{r['rows']} × {r['cols']}"),
    _number("vector lanes", "lanes"),
    (Column("phases and dataflows"), _joined("phases")),
    (Column("wired to"), _value("memories")),
    (Column("idle element", "% of active", True), _percent("idle_pe_fraction")),
    _ORIGIN,
)
_MEMORY = (
    _NAME,
    (Column("holds"), _value("holds")),
    _number("size", "size_kib", "KiB"),
    _number("bank", "bank_kib", "KiB"),
    _number("word", "width_bits", "bits"),
    _number("read", "read_bits_per_cycle", "bits/cycle"),
    _number("write", "write_bits_per_cycle", "bits/cycle"),
    _number("latency", "latency_cycles", "cycles"),
    (Column("one port"), _value("shared_port")),
    (Column("transistors (leakage)"), lambda r: _devices(r)),
    (Column("given energies"), _joined("energy")),
    _ORIGIN,
)
_LINK = (
    _NAME,
    (Column("from"), _value("from")),
    (Column("to"), _value("to")),
    _number("width", "width_bits", "bits/cycle"),
    _number("length", "length_mm", "mm"),
    _number("energy", "pj_per_bit_mm", "pJ/bit/mm"),
    _ORIGIN,
)
_DRAM = (
    (Column("kind"), _value("kind")),
    _number("bandwidth", "gbyte_per_s", "GB/s"),
    _number("latency", "latency_cycles", "cycles"),
    _number("read", "read_pj_per_bit", "pJ/bit"),
    _number("write", "write_pj_per_bit", "pJ/bit"),
    _number("standby", "background_mw", "mW"),
    _number("power-down", "powerdown_mw", "mW"),
    _number("uncertainty", "uncertainty", "factor ×/÷"),
    _ORIGIN,
)
_GENERATOR = (
    (Column("purpose"), _value("purpose")),
    _number("energy", "pj_per_bit", "pJ/bit"),
    _number("rate", "bits_per_cycle", "bits/cycle"),
    _number("area", "area_mm2", "mm²"),
    _number("uncertainty", "uncertainty", "factor ×/÷"),
    _ORIGIN,
)
_ACCESS = (
    (Column("read", "% more energy", True), _percent("read_overhead")),
    (Column("write", "% more energy", True), _percent("write_overhead")),
    (Column("area", "% more", True), _percent("area_overhead")),
    (Column("leakage", "% more", True), _percent("leak_overhead")),
    (Column("dataflow of error under accumulate"), _value("accumulate_dataflow")),
    _ORIGIN,
)
_TECHNOLOGY = (
    _number("node", "node_nm", "nm"),
    _number("supply", "vdd_v", "V"),
    _number("temperature", "temp_c", "°C"),
    (Column("clock tree", "% of logic", True), _percent("clock_share")),
    _number("clock root", "clock_root_mw", "mW"),
    _ORIGIN,
)


def _devices(record: Record) -> str:
    device, leakage = record.get("device"), record.get("leakage_device")
    return f"{device} ({leakage})" if device and leakage else str(device or "")


def _generators(chip: Record) -> list[Record]:
    purposes = {"feedback_generator": "feedback magnitudes", "rounding_generator": "stochastic rounding"}
    return [chip[key] | {"purpose": purpose} for key, purpose in purposes.items() if chip.get(key)]


def _formats(chip: Record) -> Table | None:
    precision, rounding = dict(chip.get("precision") or {}), dict(chip.get("rounding") or {})
    scales, random = precision.pop("scale", {}), rounding.pop("random_bits", 8)
    rows = tuple(
        text_row(name, *(_plain(given.get(name)) or "–" for given in (precision, scales, rounding)))
        for name in sorted({*precision, *rounding})
    )
    columns = (Column("tensor"), Column("bits or format"), Column("scale"), Column("rounding"))
    notes = (
        "Rounding of update is that of the velocity and of the master weights; stochastic takes "
        f"{random} random bits. Accumulators of fixed point wrap, operands saturate.",
    )
    return Table("formats", "Number formats and rounding", columns, rows, 1, notes) if rows else None


def _others(chip: Record) -> Table | None:
    settings = {"clock [MHz]": chip.get("clock_mhz"), "forms of transport, default first": chip.get("transport")}
    settings |= {key: value for key, value in chip.items() if key not in _SHOWN and value not in (None, [], {})}
    rows = tuple(text_row(key.replace("_", " "), _plain(value)) for key, value in settings.items() if value is not None)
    return Table("others", "Other settings", (Column("setting"), Column("value")), rows) if rows else None


def network_table(run: Run) -> Table | None:
    """The layers of the network."""
    columns = (
        (Column("layer"), _value("name")),
        (Column("kind"), _value("kind")),
        (Column("input", "per sample", True), lambda r: _shape(r["in_shape"])),
        (Column("output", "per sample", True), lambda r: _shape(r["out_shape"])),
        (Column("kernel", number=True), lambda r: _shape(r["kernel"]) if _windowed(r) else ""),
        (Column("stride", number=True), lambda r: _shape(r["stride"]) if _windowed(r) else ""),
        (Column("padding", number=True), lambda r: _shape(r["padding"]) if _windowed(r) else ""),
        (Column("weights", number=True), _weights),
    )
    return records_table("network", f"Network {run.inputs['model']['name']}", run.inputs["model"]["layers"], columns)


def _shape(shape: list[int]) -> str:
    return " × ".join(map(str, shape))


def _windowed(layer: Record) -> bool:
    return "conv" in layer["kind"] or "pool" in layer["kind"]


def _weights(layer: Record) -> str:
    if layer["kind"] not in ("linear", "conv2d"):
        return ""
    kernel = prod(layer["kernel"]) if layer["kind"] == "conv2d" else 1
    return fixed(layer["in_shape"][0] * layer["out_shape"][0] * kernel, 0)


def recipe_table(run: Run) -> Table | None:
    """How each rule was trained: the recipe with the rule's own settings."""
    recipe = run.inputs["recipe"]
    records = [_tuning(recipe, rule) for rule in run.inputs["rules"]]
    columns = (
        (Column("rule"), _value("rule")),
        (Column("name"), lambda r: rule_title(r["rule"])),
        (Column("optimizer"), lambda r: str(r.get("optimizer", "momentum"))),
        _number("learning rate", "learning_rate"),
        _number("momentum", "momentum"),
        _number("gain of feedback", "feedback_gain"),
        (Column("value ranges"), _joined("ranges")),
    )
    return records_table("recipe", "Training recipe, rule by rule", records, columns)


def _tuning(recipe: Record, rule: str) -> Record:
    own = {key: value for key, value in (recipe.get("rules") or {}).get(rule, {}).items() if value is not None}
    return recipe | own | {"rule": rule}


def recipe_words(run: Run) -> str:
    """What all rules share."""
    recipe = run.inputs["recipe"]
    text = f"{recipe['epochs']} epochs of {recipe['data']} in batches of {recipe['batch_size']}; "
    text += f"{100 * recipe['validation']:g} % of the training set kept apart for validation"
    if recipe.get("drop_at"):
        after = " and ".join(f"{100 * share:g} %" for share in recipe["drop_at"])
        text += f"; learning rate × {recipe['drop_factor']:g} after {after} of the epochs"
    if recipe.get("schedule") == "cosine":
        text += "; learning rate along a cosine to zero"
    if recipe.get("power_of_two_rates"):
        text += "; factors of the update rounded to powers of two"
    return f"{text}."


def sources_table(run: Run) -> Table | None:
    """Every source of an energy constant that any line used, merged."""
    listed = [entry for line in run.lines for entry in line.details.get("sources", ())]
    found = {(s["kind"], s["source"], s["factor"], "chip file" if s.get("given") else "estimate") for s in listed}
    columns = (Column("kind"), Column("uncertainty", "factor ×/÷", True), Column("from"), Column("source"))
    rows = tuple(text_row(kind, f"{factor:g}", origin, source) for kind, source, factor, origin in sorted(found))
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
    """(rule, sentence) of what number formats lost in the trainings; None where that was not counted."""
    return None if run.losses is None else [(item["rule"], item["text"]) for item in run.losses]


def warnings(run: Run) -> list[tuple[str, str]]:
    """(rule, warning) of the trainings."""
    pairs = ((line.rule, text) for line in run.lines for text in line.details.get("warnings", ()))
    return list(dict.fromkeys(pairs))
