"""Whether golden vectors can be made of a training: its formats, its layers, its momentum."""

from __future__ import annotations

import re
from collections.abc import Callable

from fahw.errors import ConfigError, Problem
from fahw.formats.fixed_point import RANDOM_BITS
from fahw.formats.precision import TENSORS
from fahw.hardware.chip import Chip
from fahw.layers.layer import INPUT
from fahw.layers.weighted import Weighted
from fahw.network.error_path import describe_layers
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.optimizers import OPTIMIZERS
from fahw.rules.rule import Rule

CONSTANT_BITS = 32
"""Width of the constants in the files, bits."""
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def check_momentum(tuning: Tuning) -> None:
    """Raise ConfigError unless updates are plain momentum."""
    optimizer = OPTIMIZERS[tuning.optimizer]
    plain = (optimizer.direction_format, optimizer.blends) == ("velocity", 1)
    if not plain or tuning.weight_decay or tuning.clip is not None:
        message = f"vectors are of plain momentum (got {optimizer.name}, weight decay {tuning.weight_decay:g}, clip"
        raise ConfigError(Problem("recipe.optimizer", f"{message} {tuning.clip}): leave the others out"))


def run_checks(checks: list[Callable[[], object]]) -> None:
    """Run all checks. Raises ConfigError with the problems of all of them at once."""
    problems: list[Problem] = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def check_whole_feedback(rule: Rule) -> None:
    """Raise ConfigError where a rule's feedback matrices are sparse or of low rank."""
    if not rule.is_whole:
        message = f"golden vectors are of one whole feedback matrix per layer, and those of {rule.name} are"
        form = "sparse" if rule.rank is None else "products of two"
        raise ConfigError(Problem("rule", f"{message} {form}: take a rule without density and rank"))


def check_fixed_point(chip: Chip) -> None:
    """Raise ConfigError unless the chip computes integers of known scale, with nothing late."""
    if chip.rounding.random_bits != RANDOM_BITS:
        message = f"golden vectors hold {RANDOM_BITS} random bits per rounding, not {chip.rounding.random_bits}"
        raise ConfigError(Problem(chip.name, message, "rounding.random_bits"))
    if not chip.precision.is_integer:
        named = dict.fromkeys(str(getattr(chip.precision, tensor)) for tensor in TENSORS)
        others = ", ".join(name for name in named if not name.isdigit()) or "a dynamic scale"
        message = f"golden vectors are integers of known scale, not {others}: give widths of 1 to 16 bits"
        raise ConfigError(Problem(chip.name, message, "precision"))
    if chip.update_delay or chip.transport_options.period > 1:
        message = "golden vectors are of steps whose updates and transports come in time: set update_delay to 0,"
        message += " and transport_options.period to 1"
        raise ConfigError(Problem(chip.name, message, "update_delay"))


def _unsupported_windows(layer: Weighted) -> dict[str, bool]:
    """What golden vectors cannot describe of a layer's windows, and whether it applies."""
    return {
        f"groups={layer.groups}": layer.groups != 1,
        f"dilation={layer.dilation}": layer.dilation != (1, 1),
        f"padding_mode={layer.padding_mode}": layer.padding_mode != "zeros",
    }


def check_file_names(network: Network) -> None:
    """Raise ConfigError with the layers that no system could name a file after: devices of Windows, and names that
    differ in their case alone, which Windows and macOS take for one."""
    by_lower: dict[str, list[str]] = {}
    for layer in network.layers:
        by_lower.setdefault(layer.name.lower(), []).append(layer.name)
    devices = [layer.name for layer in network.layers if _DEVICE.fullmatch(layer.name)]
    alike = [name for names in by_lower.values() if len(names) > 1 for name in names]
    reasons = (("the name of a device of Windows", devices), ("names that differ in case alone", alike))
    found = [f"{reason} ({describe_layers(names)})" for reason, names in reasons if names]
    if found:
        message = f"files are named after layers, and some systems cannot have {', '.join(found)}: rename the layers"
        raise ConfigError(Problem(network.name, message))


def check_layers(network: Network) -> None:
    """Raise ConfigError with every layer that is no link in a chain of plain layers: no branches, no groups, dilation
    or padding other than with zeros, and no tiled feedback can be exported."""
    unsupported: dict[str, list[str]] = {}
    previous = INPUT
    for layer in network.layers:
        joins = len(layer.sources) > 1
        reasons = {layer.kind: not layer.in_golden_vectors, "a branch": not joins and layer.sources != (previous,)}
        if isinstance(layer, Weighted):
            is_tiled = layer.convolutional and network.dfa_feedback != "dense"
            reasons |= _unsupported_windows(layer) | {f"dfa_feedback={network.dfa_feedback}": is_tiled}
        for reason in (reason for reason, applies in reasons.items() if applies):
            unsupported.setdefault(reason, []).append(layer.name)
        previous = layer.name
    if unsupported:
        problems = ", ".join(f"{reason} ({describe_layers(names)})" for reason, names in unsupported.items())
        raise ConfigError(Problem(network.name, f"the export of vectors cannot take {problems} yet"))
