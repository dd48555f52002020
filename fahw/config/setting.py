"""Settings: values for keys of a file that come from elsewhere, `--set key=value` or a point of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fahw.config.yamltext import Document, Key, parse
from fahw.errors import ConfigError, Problem, suggestion

_MOST_STEPS = 30
"""The most parts of a dotted key: of those that exist, none has a third of them."""


@dataclass(frozen=True)
class Setting:
    """A value as YAML text; `place` says where it was given, for messages."""

    text: str
    place: str


def with_settings(document: Document, settings: Sequence[tuple[str, Setting]]) -> Document:
    """A copy of the document with each setting's value at its dotted key; wrong settings are among its problems.

    Items of a list are named by their `name` or their number. What a setting puts in is placed at the setting.
    """
    if not settings:
        return document
    problems, places, key_places = list(document.problems), dict(document.places), dict(document.key_places)
    value = document.value
    for name, setting in settings:
        new_value, value_problems = _value(setting)
        problems += value_problems
        try:
            value, key = _put(value, _steps(name), new_value, 0)
        except ConfigError as error:
            problems += _at(setting, error.problems)
            continue
        replaced = [old_key for old_key in places if old_key[: len(key)] == key]
        for old_key in replaced:
            places[old_key] = key_places[old_key] = setting.place
        for length in range(1, len(key) + 1):
            if length == len(key) or key[:length] not in places:
                places[key[:length]] = key_places[key[:length]] = setting.place
    return replace(document, value=value, places=places, key_places=key_places, problems=problems)


def _steps(name: str) -> list[str]:
    """The parts of a dotted key. Raises ConfigError where it has more than any key of a file can have."""
    steps = name.split(".")
    if len(steps) > _MOST_STEPS:
        raise ConfigError(Problem("", f"no key has {len(steps):,} parts; at most {_MOST_STEPS}"))
    return steps


def _value(setting: Setting) -> tuple[Any, list[Problem]]:
    """The value of the setting's YAML text, None where it is empty or broken, and the problems of the text."""
    try:
        parsed = parse(setting.text, "--set")
    except ConfigError as error:
        return None, _at(setting, error.problems) if setting.text.strip() else []
    return parsed.value, _at(setting, parsed.problems)


def _at(setting: Setting, problems: Iterable[Problem]) -> list[Problem]:
    """The problems, placed at the setting."""
    return [replace(problem, place=setting.place) for problem in problems]


def _put(parent: Any, steps: list[str], new_value: Any, depth: int) -> tuple[Any, Key]:
    """A copy of `parent` with `new_value` at `steps[depth:]`, and its key. Raises ConfigError for no such place."""
    if depth == len(steps):
        return new_value, ()
    name = steps[depth]
    if isinstance(parent, list):
        index = _index(parent, name)
        if index is None:
            names = [str(item.get("name", i)) if isinstance(item, dict) else str(i) for i, item in enumerate(parent)]
            raise ConfigError(Problem("", f"no item '{name}'{suggestion(name, names)}; known: {', '.join(names)}"))
        item, key = _put(parent[index], steps, new_value, depth + 1)
        return [*parent[:index], item, *parent[index + 1 :]], (index, *key)
    if isinstance(parent, dict):
        item, key = _put(parent.get(name, {}), steps, new_value, depth + 1)
        return parent | {name: item}, (name, *key)
    raise ConfigError(Problem("", f"'{'.'.join(steps[:depth])}' has no keys of its own"))


def _index(items: list[Any], name: str) -> int | None:
    """The index of the item called `name`, or numbered so; None where there is none."""
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == name:
            return index
    digits = name.isascii() and name.isdecimal() and len(name) < 10
    return int(name) if digits and int(name) < len(items) else None
