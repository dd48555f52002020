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
"""Where keys may stand that are given without their prefix."""


def chip_and_model(chip: str | None, model: str, settings: Iterable[str], usage: str) -> tuple[Chip | None, Network]:
    """Load both, with `--set` texts, and report the mistakes of both at once.

    `usage`: how the command takes them. Raises ConfigError.
    """
    problems: list[Problem] = []
    given, kept = list(settings), list[str]()
    for text in given:
        if chip is None and text.partition("=")[0].strip().startswith("chip."):
            advice = "no chip is given: add --chip CHIP" if "CHIP" in usage else "this command takes a model alone"
            problems.append(Problem(f"--set {text}", advice))
        else:
            kept.append(text)
    if problems:
        raise ConfigError(problems)
    overrides = override_pairs(kept, ("chip", "model") if chip is not None else ("model",), KEYS)

    def loaded(load: Callable[[str, Overrides | None], Any], name: str, prefix: str) -> Any:
        kind = kind_named(name)
        try:
            if kind not in ("", prefix):
                raise ConfigError(Problem(name, f"is a {kind}, not a {prefix}; the order is {usage}"))
            return load(name, overrides.get(prefix))
        except ConfigError as error:
            problems.extend(error.problems)

    values = None if chip is None else loaded(load_chip, chip, "chip"), loaded(load_model, model, "model")
    if problems:
        raise ConfigError(problems)
    return values
