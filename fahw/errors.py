"""Mistakes in the input, reported all at once, and checks of arguments that report them.

A `Problem` is one mistake with its place; `ConfigError` carries every problem of a file. The command line prints it
and exits with 2; nothing in fahw raises it for a fault of its own.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from unicodedata import category

MOST_MISTAKES = 200
"""The most mistakes of a file that are named; of others it is said how many there are, or that there are more."""
_LONGEST_NAME, _MOST_NAMES = 100, 500
"""Names that are longer, or come later, are not compared with what was written: that takes time for nothing."""
_MOST_OF_A_NAME, _MOST_OF_A_MESSAGE = 300, 1200
"""Characters of a place or key, and of a message, that are shown."""
_MOST_OF_A_PATH = 4000
"""Characters of a path: systems take 4,096 bytes, or far less."""


def printable(text: str) -> str:
    """The text with what does not print escaped, line ends too: control characters, marks that turn the direction of
    writing, halves of characters. Names come from files and may hold anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or category(char) == "Zs" else repr(char)[1:-1] for char in text)


def shortened(text: str, most: int = 60) -> str:
    """The text, of which the middle is left out where it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most * 2 // 3 - 3]}...{text[-(most // 3) :]}"


@dataclass(frozen=True)
class Problem:
    """One mistake: `place` is `file:line:col` (or the name of an option), `key` the dotted path in the file. Its text
    is one printable line of bounded length, whatever the file held."""

    place: str
    message: str
    key: str = ""

    def __str__(self) -> str:
        limits = ((self.place, _MOST_OF_A_NAME), (self.key, _MOST_OF_A_NAME), (self.message, _MOST_OF_A_MESSAGE))
        return ": ".join(printable(shortened(text, most)) for text, most in limits if text)


class ConfigError(Exception):
    """The input is wrong. `problems` holds every mistake found, in the order of the file."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise ConfigError unless `value` is a whole number from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(Problem(name, f"must be a whole number from {low} to {high:,} (got {_short(value)})"))


def check_kind(name: str, value: object, kinds: type | tuple[type, ...], what: str) -> None:
    """Raise ConfigError unless `value` is an instance of `kinds`; `what` names these in words, for the message."""
    if not isinstance(value, kinds):
        raise ConfigError(Problem(name, f"must be {what} (got {_short(value)})"))


def check_path(name: str, path: object, what: str = "the path of a folder") -> None:
    """Raise ConfigError unless `path` is a path, text or `Path`, that a system can have; `what` names it in words."""
    check_kind(name, path, (str, Path), what)
    if not is_path(str(path)):
        raise ConfigError(Problem(name, f"must be {what}; no system has this one (got {_short(str(path))})"))


def is_path(text: str) -> bool:
    """Whether a system can have this path: no name in it is longer than any may be, nor is the whole."""
    names = text.replace("\\", "/").split("/")
    return is_text(text) and len(text) < _MOST_OF_A_PATH and all(len(name.encode()) <= 255 for name in names)


def is_text(text: str) -> bool:
    """Whether the text can stand in a name and in a file: no character is NUL, or a byte that was no text."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise ConfigError unless `value` is a number from `low` to `high`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(Problem(name, f"must be a number from {low:g} to {high:g} (got {_short(value)})"))


def _short(value: object) -> str:
    """The `repr` of `value` on one line, cut to 60 characters."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."


def suggestion(name: str, known_names: Iterable[str]) -> str:
    """The text ` (did you mean 'x'?)` with the known name nearest to `name`; empty where none is near."""
    match = nearest_name(str(name), known_names, 0.55)
    return f" (did you mean '{match}'?)" if match else ""


def nearest_name(name: str, known_names: Iterable[str], cutoff: float) -> str:
    """The known name nearest to `name`, in small letters; empty where none is as near as `cutoff` (0 to 1) says."""
    if len(name) > _LONGEST_NAME:
        return ""
    compared = [known for known in islice(known_names, _MOST_NAMES) if len(known) <= _LONGEST_NAME]
    return next(iter(get_close_matches(name.lower(), compared, 1, cutoff)), "")


_PLACE = re.compile(r'File ".*?([^/\\"]+)", line (\d+)')
FAULTS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""Exceptions that a fault of fahw's own raises; in a sweep they cost one point, not the sweep."""


def fault_text(error: BaseException) -> str:
    """The fault in one line, with the file and line where it was raised, so that it can be looked for."""
    places = _PLACE.findall("".join(traceback.format_exception(error)))  # also of another process
    where = f" ({places[-1][0]}:{places[-1][1]})" if places else ""
    return f"{type(error).__name__}: {error}{where}"
