"""Values that are set from outside a file: `--set key=value`, a point of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fahw.config.yamltext import Document, Key, parse
from fahw.errors import ConfigError, Problem, suggestion


@dataclass(frozen=True)
class Setting:
    """A value as YAML text, and where it was given, for messages."""

    text: str
    place: str


def with_settings(document: Document, settings: Sequence[tuple[str, Setting]]) -> Document:
    """The document with the values put at their dotted keys, and placed there; wrong settings among its problems.

    Items of a list are named by their `name` or their number. The document that is given stays as it is.
    """
    if not settings:
        return document
    problems, places, key_places = list(document.problems), dict(document.places), dict(document.key_places)
    value = document.value
    for name, setting in settings:
        new, found = _value(setting)
        problems += found
        steps = name.split(".")
        try:
            value, key = _put(value, steps, new, 0)
        except ConfigError as error:
            problems += _at(setting, error.problems)
            continue
        inside = [old for old in places if old[: len(key)] == key]
        for old in inside:
            places[old] = key_places[old] = setting.place
        for length in range(1, len(key) + 1):
            if length == len(key) or key[:length] not in places:
                places[key[:length]] = key_places[key[:length]] = setting.place
    return replace(document, value=value, places=places, key_places=key_places, problems=problems)


def _value(setting: Setting) -> tuple[Any, list[Problem]]:
    try:
        parsed = parse(setting.text, setting.place)
    except ConfigError as error:
        return None, _at(setting, error.problems) if setting.text.strip() else []
    return parsed.value, _at(setting, parsed.problems)


def _at(setting: Setting, problems: Iterable[Problem]) -> list[Problem]:
    return [replace(problem, place=setting.place) for problem in problems]


def _put(here: Any, steps: list[str], new: Any, depth: int) -> tuple[Any, Key]:
    """A copy of `here` with `new` at `steps[depth:]`, and the key. Raises ConfigError where that leads nowhere."""
    if depth == len(steps):
        return new, ()
    name = steps[depth]
    if isinstance(here, list):
        index = _index(here, name)
        if index is None:
            known = [str(item.get("name", i)) if isinstance(item, dict) else str(i) for i, item in enumerate(here)]
            raise ConfigError(Problem("", f"no item '{name}'{suggestion(name, known)}; known: {', '.join(known)}"))
        item, key = _put(here[index], steps, new, depth + 1)
        return [*here[:index], item, *here[index + 1 :]], (index, *key)
    if isinstance(here, dict):
        item, key = _put(here.get(name, {}), steps, new, depth + 1)
        return here | {name: item}, (name, *key)
    raise ConfigError(Problem("", f"'{'.'.join(steps[:depth])}' has no keys of its own"))


def _index(items: list[Any], name: str) -> int | None:
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == name:
            return index
    digits = name.isascii() and name.isdecimal() and len(name) < 10
    return int(name) if digits and int(name) < len(items) else None
