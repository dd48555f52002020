"""Sweeps that several tests run, and what they leave behind."""

from pathlib import Path


def tables(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.csv")} | {
        "manifest": (Path(folder) / "manifest.json").read_bytes()
    }


SLOW = """\
name: s
epochs: 3
grid:
  rule: [bp, dfa]
  chip.precision.weight: [8, 6, 4]
  batch_size: [16, 32]
"""
