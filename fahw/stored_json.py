"""JSON that fahw stored, read in one place: a value, or one error that names the file, the line and the column."""

from __future__ import annotations

import json
import re
from math import isfinite
from pathlib import Path
from typing import Any

from fahw.errors import ConfigError, Problem, shortened
from fahw.files import read_text, text_place

_MOST_DIGITS = 300
"""Digits of a whole number that floats can still hold."""
_MOST_DEPTH = 200
_BRACKET_OR_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]')


class StoredJsonError(ValueError):
    """The text is no JSON that fahw writes. `position`: the first character that is wrong."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class _NumberError(ValueError):
    """A number that fahw never writes; its text is the message."""


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises ConfigError where the file is missing or broken."""
    text = read_text(path)
    try:
        return json_value(text)
    except StoredJsonError as error:
        place = text_place(str(path), text[: error.position])
        raise ConfigError(Problem(place, f"cannot be read as JSON: {error}")) from None


def json_value(text: str) -> Any:
    """The value of a JSON text. Raises StoredJsonError for broken JSON, and for what fahw never writes: NaN and
    infinities, numbers that no float holds, halves of characters, hundreds of lists within each other."""
    try:
        value = json.loads(text, parse_constant=_refused, parse_float=_finite, parse_int=_whole)
        if _is_too_deep(value):
            raise RecursionError
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise StoredJsonError(error.msg, error.pos) from None
    except _NumberError as error:
        position = max(0, text.find(str(error)))
        raise StoredJsonError(f"{shortened(str(error))} is not a number that fahw writes", position) from None
    except UnicodeEncodeError:
        raise StoredJsonError("half of a character", max(0, text.lower().find("\\ud"))) from None
    except RecursionError:
        raise StoredJsonError("nested too deeply", _first_too_deep(text)) from None
    return value


def _refused(name: str) -> float:
    """Raise _NumberError for NaN and infinities, which JSON from fahw never holds."""
    raise _NumberError(name)


def _finite(text: str) -> float:
    """The number of a text with a point or an exponent. Raises _NumberError where it is infinite."""
    number = float(text)
    return number if isfinite(number) else _refused(text)


def _whole(text: str) -> int:
    """The whole number of a text. Raises _NumberError where no float is as large."""
    return int(text) if len(text) <= _MOST_DIGITS else int(_refused(text))


def _is_too_deep(value: Any) -> bool:
    """Whether lists and mappings stand within each other deeper than in anything from fahw."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_MOST_DEPTH):
        children = (
            item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)
        )
        level = [child for group in children for child in group if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _first_too_deep(text: str) -> int:
    """The position of the first bracket beyond the depth that anything from fahw has."""
    depth = 0
    for match in _BRACKET_OR_TEXT.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > _MOST_DEPTH:
            return match.start()
    return 0
