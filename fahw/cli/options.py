"""Arguments and options that several verbs of the command line take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fahw.cli.terminal import say
from fahw.errors import ConfigError, Problem
from fahw.files import write_text
from fahw.rules.catalogue import RULES
from fahw.version import __version__


def _tell_version(asked: bool) -> None:
    """The version is printed, and the command ends."""
    if asked:
        say(f"fahw {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and stop.")
]
Chip = Annotated[str, typer.Argument(help="A chip file, or the name of a shipped chip.", metavar="CHIP")]
Model = Annotated[str, typer.Argument(help="A model file, or the name of a shipped model.", metavar="MODEL")]
Rule = Annotated[str, typer.Option("--rule", help=f"{', '.join(RULES)}.")]
TrainedOn = Annotated[str | None, typer.Option("--chip", metavar="CHIP", help="Train in this chip's arithmetic.")]
Transport = Annotated[str | None, typer.Option("--transport", metavar="FORM", help="Form of weight transport.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key: chip.precision.weight=4, model.recipe.momentum=0."
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", envvar="FAHW_DATA", help="Folder of the data files.", show_default=False),
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Samples per step; default: the model's recipe.")
]
Seed = Annotated[int, typer.Option("--seed", min=0)]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Default: the model's recipe.")]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME|PATH", help="Data set, .npz file or image folder; default: the model's."),
]
TraceFile = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE", help="Write a Chrome trace (.json, .json.gz): who works when."),
]
TraceWindow = Annotated[
    str | None, typer.Option("--trace-window", metavar="START:END", help="Cycles that the trace shows.")
]
Plots = Annotated[
    Path | None, typer.Option("--plots", metavar="DIR", help="Write timeline, energy map and rooflines (SVG, CSV).")
]
SaveMapping = Annotated[
    Path | None,
    typer.Option("--save-mapping", metavar="FILE", help="Write the mappings found, for a chip's `pinned_mappings`."),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Processes; default: one per processor core, on CUDA one trains.")
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Where to train: cpu, cuda or cuda:N. Integers: the same bits.")
]


class Listing(StrEnum):
    """What `fahw list` can list."""

    RULES = "rules"
    CHIPS = "chips"
    MODELS = "models"
    DATASETS = "datasets"
    FORMATS = "formats"
    TECHNOLOGY = "technology"


class SchemaName(StrEnum):
    """The kinds of file whose schema `fahw schema` prints."""

    CHIP = "chip"
    MODEL = "model"
    SWEEP = "sweep"


def cycle_window(text: str | None) -> tuple[int, int | None] | None:
    """The cycles of START:END, either of which may be left out. Raises ConfigError where the text is something else."""
    if text is None:
        return None
    start, colon, end = text.partition(":")
    if not colon or not all(part == "" or (part.isascii() and part.isdigit()) for part in (start, end)):
        raise ConfigError(Problem("--trace-window", f"must be START:END in cycles, such as 0:50000 (got '{text}')"))
    return int(start or 0), int(end) if end else None


def write_out(path: Path, text: str, option: str = "--out") -> None:
    """The text is written to the file of an option. Raises ConfigError where it cannot be written."""
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(Problem(f"{option} {path}", f"cannot be written: {error.strerror}")) from None


def names(text: str) -> list[str]:
    """The names of a comma-separated list; empty ones are left out."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(option: str, text: str) -> list[float]:
    """The comma-separated numbers of an option. Raises ConfigError with every part that is none."""
    values, problems = [], []
    for part in text.split(","):
        try:
            values.append(float(part))
        except ValueError:
            problems.append(Problem(option, f"'{part.strip()}' is not a number"))
    if problems:
        raise ConfigError(problems)
    return values
