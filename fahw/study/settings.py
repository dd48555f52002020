"""What callers may set beside the files: checked alike by every study. Loads no torch."""

from __future__ import annotations

import os
from types import NoneType

from fahw.config.device import check_device
from fahw.errors import check_integer, check_kind, check_path
from fahw.network.recipe import Recipe


def check_folder(name: str, path: object) -> None:
    """Raise ConfigError unless `path` is the path of a folder, or None."""
    if path is not None:
        check_path(name, path)


def training_processes(device: str, workers: int | None) -> int:
    """The number of processes that train: `workers` where given, else one per core of the processor, and one on a CUDA
    device, whose memory they would share. Raises ConfigError where `device` is no device."""
    check_device(device)
    if workers is not None:
        return workers
    return os.cpu_count() or 1 if device == "cpu" else 1


def with_overrides(
    recipe: Recipe, *, data: str | None = None, epochs: int | None = None, batch_size: int | None = None
) -> Recipe:
    """The recipe with the given values in place of its own. Raises ConfigError where one is wrong."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None:
            check_integer(name, value, 1, 10_000_000)
    check_kind("data", data, (str, NoneType), "the name of a data set or a path, as text")
    overrides = {"data": data, "epochs": epochs, "batch_size": batch_size}
    return recipe.model_copy(update={name: value for name, value in overrides.items() if value is not None})
