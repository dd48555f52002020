"""Files of chips, models and sweeps: found by path or by the name of a shipped file, and told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from fahw.config import yamltext
from fahw.config.validate import Check, Overrides, validate
from fahw.errors import ConfigError, Problem, check_path, suggestion

Schema = TypeVar("Schema", bound=BaseModel)
_FOLDERS = {"chip": "hwconfigs", "model": "models", "sweep": "examples"}
_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(folder: str) -> dict[str, Path]:
    """The shipped files of `folder` (`hwconfigs`, `models`, `examples`) by name: a wheel's, else the checkout's."""
    inside = _PACKAGE / "shipped" / folder
    root = inside if inside.is_dir() else _PACKAGE.parent / folder
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def find_file(name: str | Path, folder: str, what: str) -> Path:
    """The path `name`, or the shipped file of that name. Raises ConfigError, with a suggestion, where it is neither.

    `folder`: where the shipped files of this kind lie; `what`: the kind in words, for messages.
    """
    check_path(what, name, f"the name of a shipped {what} or the path of a file")
    path, files = Path(name), shipped(folder)
    try:
        if str(name) in files and not path.is_file():
            return files[str(name)]
        if (other := _kind_of_shipped(str(name))) and not path.exists():
            raise ConfigError(Problem(str(name), f"is a {other}, not a {what}"))
        if path.suffix or len(path.parts) > 1 or path.exists():
            return path
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(str(name)[:60], f"cannot be a file: {error}")) from None
    names = ", ".join(files)
    raise ConfigError(Problem(str(name), f"no {what} of this name{suggestion(str(name), files)}; shipped: {names}"))


def _kind_of_shipped(name: str) -> str:
    """The kind (`chip`, `model`, `sweep`) of the shipped file of that name; empty where there is none."""
    return next((kind for kind, folder in _FOLDERS.items() if name in shipped(folder)), "")


def kind_of(path: Path) -> str:
    """The kind of a file, `chip`, `model` or `sweep`, by the keys at its top. Raises ConfigError where none fits."""
    check_path("file", path, "the path of a file")
    shares = _key_shares(yamltext.read(path).value)
    best = max(shares, key=lambda kind: shares[kind])
    if not shares[best]:
        message = "neither a chip (arrays, memories), a model (layers, input) nor a sweep (grid, zip, random)"
        raise ConfigError(Problem(f"{path}:1:1", message))
    return best


def kind_named(name: str) -> str:
    """The kind of a file or of a shipped name; empty where it cannot be told."""
    try:
        return kind_of(Path(name)) if Path(name).exists() else _kind_of_shipped(name)
    except (ConfigError, OSError, ValueError):
        return ""


def _key_shares(value: Any) -> dict[str, float]:
    """By kind, the share (0 to 1) of the keys that only such a file has at its top and that `value` has."""
    keys = set(value) if isinstance(value, dict) else set()
    axes = ({"grid", "zip", "random", "search"} & keys) or {"grid"}
    distinctive = {"chip": {"arrays", "memories", "clock_mhz"}, "model": {"layers", "input"}, "sweep": axes}
    return {kind: len(names & keys) / len(names) for kind, names in distinctive.items()}


def load_file(path: Path, schema: type[Schema], overrides: Overrides | None, check: Check[Schema]) -> Schema:
    """The value of a file, `overrides` applied first. Raises ConfigError with every problem, those of `check` too, and
    where the file is of another kind."""
    document, wanted = yamltext.read(path), schema.__name__.lower()
    shares = _key_shares(document.value)
    if not shares[wanted] and (others := [kind for kind in shares if shares[kind] > 0.5]):
        raise ConfigError(Problem(str(path), f"is a {others[0]}, not a {wanted}"))
    return validate(document, schema, overrides, wanted, check)
