"""What several test files share: a tiny chip as text, loaders of texts, and Hypothesis strategies of geometry."""

from pathlib import Path

from hypothesis import strategies as st

from fahw.config.sweep import Sweep
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.study.sweeps import setups
from fahw.study.sweeps.choices import place_without_file, selected_choices

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT.parent / "shared" / "reference"
SHIPPED_CHIPS = sorted(path.stem for path in (ROOT / "hwconfigs").glob("*.yaml"))
SHIPPED_MODELS = sorted(path.stem for path in (ROOT / "models").glob("*.yaml"))
RULE_NAMES = ("bp", "fa", "usf", "brsf", "frsf", "dfa")
GENERATED_ONLY = {
    name
    for name, chip in ((name, load_chip(ROOT / "hwconfigs" / f"{name}.yaml")) for name in SHIPPED_CHIPS)
    if chip.home("feedback") is None and not chip.error_reaches_weights
}
"""Chips whose feedback weights come from a generator alone: no rule that follows W fits them."""
HOSTED = [
    (chip, rule) for chip in SHIPPED_CHIPS for rule in RULE_NAMES if chip not in GENERATED_ONLY or rule in ("fa", "dfa")
]
"""Shipped chips with the rules that they can host."""
MARK = "@@"

CHIP = """\
name: tiny
clock_mhz: 100
technology: {node_nm: 45, vdd_v: 0.9, assumed: a test}
rounding: {activation: nearest, error: nearest, gradient: nearest, update: nearest}
arrays:
  - name: fwd
    rows: 4
    cols: 3
    lanes: 2
    phases: {forward: os, gradient: os, update: vector}
    memories: [weights, buffer, state]
    assumed: a test
  - name: bwd
    rows: 4
    cols: 3
    lanes: 2
    phases: {error: os}
    memories: [copies, buffer]
    assumed: a test
memories:
  - name: weights
    holds: [weight]
    size_kib: 64
    bank_kib: 16
    width_bits: 32
    read_bits_per_cycle: 32
    write_bits_per_cycle: 32
    assumed: a test
  - name: copies
    holds: [feedback]
    size_kib: 64
    bank_kib: 16
    width_bits: 32
    read_bits_per_cycle: 32
    write_bits_per_cycle: 32
    assumed: a test
  - name: buffer
    holds: [psum, mask, error, activation]
    size_kib: 64
    bank_kib: 16
    width_bits: 32
    read_bits_per_cycle: 64
    write_bits_per_cycle: 64
    assumed: a test
  - name: state
    holds: [param, master, optimizer, gradient]
    size_kib: 64
    bank_kib: 16
    width_bits: 32
    read_bits_per_cycle: 64
    write_bits_per_cycle: 64
    assumed: a test
links:
  - name: wire
    from: weights
    to: copies
    width_bits: 16
    length_mm: 1
    assumed: a test
transport: [copy, write_through]
transposed_access: {read_overhead: 0.5, write_overhead: 0.1, area_overhead: 0.1, leak_overhead: 0.2, assumed: a test}
"""

GENERATOR = "feedback_generator: {pj_per_bit: 1, bits_per_cycle: 8, area_mm2: 0, assumed: a test}\ntransport:"

MODEL = """\
name: small
input: [2, 6, 6]
layers:
  - {kind: conv2d, out: 3, kernel: 3}
  - {kind: relu}
  - {kind: maxpool2d, kernel: 2}
  - {kind: flatten}
  - {kind: linear, out: 5}
  - {kind: relu}
  - {kind: linear, out: 4}
"""


def swap(text, old, new):
    """`text` with the first `old` replaced; fails where there is none, so that a case cannot silently be empty."""
    assert old in text, old
    return text.replace(old, new, 1)


def marked(text):
    """The text without its marks, and `line:col` of each mark, counted here and not by a YAML parser."""
    places = []
    while MARK in text:
        before, after = text.split(MARK, 1)
        places.append(f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}")
        text = before + after
    return text, places


def chip_of(folder, text=CHIP, overrides=None):
    """The chip that `text` describes."""
    path = Path(folder) / "chip.yaml"
    path.write_text(text, encoding="utf-8")
    return load_chip(path, overrides)


def network_of(folder, text=MODEL, overrides=None):
    """The network that `text` describes."""
    path = Path(folder) / "model.yaml"
    path.write_text(text, encoding="utf-8")
    return load_model(path, overrides)


dataflows = st.sampled_from(("os", "ws", "is"))
small = st.integers(1, 12)


def setups_of(spec: Sweep) -> list[setups.Setup]:
    """Every point of a sweep over given axes."""
    place = place_without_file(spec)
    return setups.checked_builder(spec, place, None).build_all(selected_choices(spec, place).choices)
