"""fahw: a simulator of neural-network training chips that asks what each learning rule costs and whether it learns.

The names below are the library; each is loaded when it is first used, so that `import fahw` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fahw.version import __version__

if TYPE_CHECKING:
    from fahw.chip.cost import Cost, simulate
    from fahw.chip.trace import write_trace
    from fahw.errors import ConfigError
    from fahw.hardware.arrays.systolic import systolic_cycles
    from fahw.hardware.chip import Chip
    from fahw.hardware.load import load_chip
    from fahw.learn.torch_modules.apply_rule import apply_rule, feedback_weights
    from fahw.learn.torch_modules.from_torch import from_torch
    from fahw.network.graph import Network
    from fahw.network.load import load_model
    from fahw.report.cost_files import write_plots
    from fahw.study.compare import compare
    from fahw.study.costs.sensitivity import Sensitivity, sensitivity
    from fahw.study.sweeps.sweep import sweep
    from fahw.study.training import train
    from fahw.study.vectors import export_vectors
    from fahw.technology.sram import Sram, sram

_HOMES = {
    "Chip": "hardware.chip",
    "load_chip": "hardware.load",
    "ConfigError": "errors",
    "Network": "network.graph",
    "load_model": "network.load",
    "from_torch": "learn.torch_modules.from_torch",
    "systolic_cycles": "hardware.arrays.systolic",
    "Sram": "technology.sram",
    "sram": "technology.sram",
    "simulate": "chip.cost",
    "Cost": "chip.cost",
    "write_trace": "chip.trace",
    "write_plots": "report.cost_files",
    "apply_rule": "learn.torch_modules.apply_rule",
    "feedback_weights": "learn.torch_modules.apply_rule",
    "train": "study.training",
    "compare": "study.compare",
    "sensitivity": "study.costs.sensitivity",
    "Sensitivity": "study.costs.sensitivity",
    "sweep": "study.sweeps.sweep",
    "export_vectors": "study.vectors",
}

__all__ = [
    "Chip", "load_chip", "ConfigError", "Network", "load_model", "from_torch", "systolic_cycles", "Sram", "sram",
    "simulate", "Cost", "write_trace", "write_plots", "apply_rule", "feedback_weights", "train", "compare", "sweep",
    "sensitivity", "Sensitivity", "export_vectors", "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The public object `name`, its module loaded at the first use. Raises AttributeError where there is none."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fahw' has no attribute '{name}'")
    return getattr(import_module(f"fahw.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, sorted, those that are not loaded yet included."""
    return sorted(__all__)
