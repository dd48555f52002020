"""What `fahw check` says of a file of a chip, a model or a sweep."""

from __future__ import annotations

from pathlib import Path

from fahw.config import yamltext
from fahw.config.files import kind_of, shipped
from fahw.config.validate import sorted_by_place
from fahw.errors import ConfigError, Problem, check_path
from fahw.hardware.load import check_chip
from fahw.network.load import load_model
from fahw.study.sweeps.load import load_placed_sweep


def check_file(path: Path) -> str:
    """A line that says what a correct file is. Raises ConfigError with every mistake."""
    check_path("file", path, "the path of a file")
    for folder in ("hwconfigs", "models", "examples"):
        if not path.exists() and str(path) in shipped(folder):
            path = shipped(folder)[str(path)]
    kind = kind_of(path)
    if kind == "chip":
        check_chip(path)
    elif kind == "model":
        return f"{path}: a model, correct{_data_note(path)}"
    else:
        from fahw.study.sweeps.sweep import describe

        return f"{path}: {describe(*load_placed_sweep(path))}"
    return f"{path}: a {kind}, correct"


def _data_note(path: Path) -> str:
    """What to do where the data set of a model file is not here, else nothing. Raises ConfigError with every mistake in
    the file and in what it says of its data."""
    from fahw.datasets.suitability import data_problems, missing_data_reason, named_data

    document, network, problems = yamltext.read(path), None, list[Problem]()
    try:
        network = load_model(path)
    except ConfigError as error:
        problems += error.problems
    problems += data_problems(document, network)
    if problems:
        raise ConfigError(sorted_by_place(problems))
    name = named_data(document)
    return (
        f"; its data set '{name}' is not here: to train, give --data"
        if name is not None and missing_data_reason(name)
        else ""
    )
