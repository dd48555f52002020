"""What a command line names: a chip, a model and what is set in them, loaded together, with advice. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from fahw.config.files import kind_named
from fahw.config.validate import Overrides, override_pairs
from fahw.errors import ConfigError, Problem
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.network.model_file import Model
from fahw.network.recipe import Recipe

KEYS: Mapping[str, Collection[str]] = {
    "chip": Chip.model_fields,
    "model": Model.model_fields,
    "model.recipe": Recipe.model_fields,
}
"""Keys that may be given without their prefix, by prefix."""


def chip_and_model(chip: str | None, model: str, settings: Iterable[str], usage: str) -> tuple[Chip | None, Network]:
    """The chip (None where none is given) and the network, with the `--set` texts in `settings` applied.

    The mistakes of both are reported at once. `usage`: how the command takes them. Raises ConfigError.
    """
    problems: list[Problem] = []
    applicable: list[str] = []
    for text in settings:
        if chip is None and text.partition("=")[0].strip().startswith("chip."):
            advice = "no chip is given: add --chip CHIP" if "CHIP" in usage else "this command takes a model alone"
            problems.append(Problem(f"--set {text}", advice))
        else:
            applicable.append(text)
    if problems:
        raise ConfigError(problems)
    overrides = override_pairs(applicable, ("chip", "model") if chip is not None else ("model",), KEYS)

    def loaded_or_none(load: Callable[[str, Overrides | None], Any], name: str, prefix: str) -> Any:
        """What `load` returns for the file of this name; None where it raised ConfigError, whose problems are kept."""
        kind = kind_named(name)
        try:
            if kind not in ("", prefix):
                raise ConfigError(Problem(name, f"is a {kind}, not a {prefix}; the order is {usage}"))
            return load(name, overrides.get(prefix))
        except ConfigError as error:
            problems.extend(error.problems)

    chip_and_network = (
        None if chip is None else loaded_or_none(load_chip, chip, "chip"),
        loaded_or_none(load_model, model, "model"),
    )
    if problems:
        raise ConfigError(problems)
    return chip_and_network
