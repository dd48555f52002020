"""fahw: a simulator of neural-network training chips that asks what each learning rule costs and whether it learns.

The names below are the library; each is loaded when it is first used, so that `import fahw` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fahw.chip.cost import Cost, simulate
    from fahw.chip.trace import write_trace
    from fahw.config.chip import Chip
    from fahw.config.load import load_chip
    from fahw.errors import ConfigError
    from fahw.learn.capture import from_torch
    from fahw.learn.wrap import apply_rule, feedback_weights
    from fahw.network import Network, load_model
    from fahw.report.priced import write_plots
    from fahw.study.compare import compare
    from fahw.study.sweep import sweep
    from fahw.study.training import train
    from fahw.study.vectors import export_vectors
    from fahw.systolic import systolic_cycles
    from fahw.technology.sram import Sram, sram

__version__ = "0.1.0"

_HOMES = {
    "Chip": "config.chip", "load_chip": "config.load", "ConfigError": "errors", "Network": "network",
    "load_model": "network", "from_torch": "learn.capture", "systolic_cycles": "systolic", "Sram": "technology.sram",
    "sram": "technology.sram", "simulate": "chip.cost", "Cost": "chip.cost", "write_trace": "chip.trace",
    "write_plots": "report.priced",
    "apply_rule": "learn.wrap", "feedback_weights": "learn.wrap", "train": "study.training",
    "compare": "study.compare", "sweep": "study.sweep", "export_vectors": "study.vectors",
}  # fmt: skip

__all__ = [
    "Chip", "load_chip", "ConfigError", "Network", "load_model", "from_torch", "systolic_cycles", "Sram", "sram",
    "simulate", "Cost", "write_trace", "write_plots", "apply_rule", "feedback_weights", "train", "compare", "sweep",
    "export_vectors", "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fahw' has no attribute '{name}'")
    return getattr(import_module(f"fahw.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
