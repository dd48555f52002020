"""Checks that the data set a model file names exists and fits the network, as far as that shows without its files."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from fahw.config.yamltext import Document, Key, dotted
from fahw.datasets.catalogue import DATASETS
from fahw.datasets.dataset import check_name
from fahw.errors import ConfigError, Problem, suggestion
from fahw.network.graph import Network

_KEY: Key = ("recipe", "data")


def size_mismatches(network: Network, name: str, shape: tuple[int, ...], classes: int) -> Iterator[str]:
    """Yield every reason why images of this shape and these classes do not fit the network's input and outputs."""
    is_flat, fits = len(network.input_shape) == 1, prod(network.input_shape) == prod(shape)
    if network.input_shape != shape and not (is_flat and fits):
        advice = f": set input to {list(shape)}, or to [{prod(shape)}] to have them flat" if fits else ""
        yield f"takes inputs of shape {network.input_shape}, images of '{name}' have {shape}{advice}"
    if classes > network.classes:
        yield f"has {network.classes} outputs, '{name}' has {classes} classes"


def named_data(document: Document) -> str | None:
    """The name of the data set in a model file's recipe; None where there is none."""
    recipe = document.value.get("recipe") if isinstance(document.value, dict) else None
    name = recipe.get("data") if isinstance(recipe, dict) else None
    return name if isinstance(name, str) else None


def data_problems(document: Document, network: Network | None) -> Iterator[Problem]:
    """Yield what is wrong with the data set a model file names; `network` is None where the file has other mistakes.

    A name unlike any known one may be the user's own set, which need not be here.
    """
    name = named_data(document)
    if name is None:
        return
    if name in DATASETS and network is not None:
        for message in size_mismatches(network, name, DATASETS[name].shape, DATASETS[name].classes):
            yield Problem(document.place(_KEY), f"{network.name} {message}", dotted(_KEY))
    elif missing_data_reason(name) and suggestion(name, DATASETS):
        yield Problem(document.place(_KEY), missing_data_reason(name), dotted(_KEY))


def missing_data_reason(name: str) -> str:
    """The reason why there is no data set of this name here; empty where there is one."""
    try:
        check_name(name)
    except ConfigError as error:
        return error.problems[0].message
    return ""
