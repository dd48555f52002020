"""From a parsed document and `--set` overrides to a schema value, or every mistake with its place and advice."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from numbers import Integral
from types import NoneType
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fahw.config.allowed import Allowed
from fahw.config.partial import partial_value, until_unknown
from fahw.config.setting import Setting, with_settings
from fahw.config.yamltext import Document, Key, dotted
from fahw.errors import ConfigError, Problem, check_kind, suggestion

Schema = TypeVar("Schema", bound=BaseModel)
Overrides: TypeAlias = Mapping[str, str | int | float | bool | Sequence[Any] | Mapping[str, Any] | Setting | None]
"""Dotted key: YAML text, or a value as it is."""
_OVERRIDES = "a mapping of dotted keys to values or YAML text"
_VALUES = "YAML text as '4' or '[copy]', a number, true or false, or a list or mapping of such"
Place = Callable[[Key], str]
Check: TypeAlias = Callable[[Schema, Place], Iterator[Problem]]
_ELSE = {
    "technology.node_nm": "take the nearest (65, 45, 32 and 22 have SRAM tables) and override what you know",
    "dram.kind": "take the nearest kind and give its read_pj_per_bit, write_pj_per_bit and gbyte_per_s",
}
"""By key: what to do where none of the choices is the user's own."""


def validate(
    document: Document,
    schema: type[Schema],
    overrides: Overrides | None = None,
    prefix: str = "",
    check: Check[Schema] = lambda value, place: iter(()),
) -> Schema:
    """The value that the document describes, `overrides` applied first.

    `prefix` is what the user put before an overridden key, for messages. `check` yields what the schema cannot see;
    where the schema finds mistakes, it is asked about the rest.

    Raises ConfigError with all problems, in the order of the file: those of the text, of the overrides, of the schema
    and of `check`. What an override brought about is placed at the override.
    """
    if not isinstance(document.value, dict):
        message = "expected keys and values at the top of the file"
        raise ConfigError([*document.problems, Problem(document.place(()), message)])
    check_kind("overrides", overrides, (Mapping, NoneType), _OVERRIDES)
    settings = [_setting(name, text, prefix) for name, text in (overrides or {}).items()]
    value, problems = _validated(document, schema, settings, check)
    if problems or value is None:
        raise ConfigError(sorted_by_place(_with_blamed_overrides(document, schema, settings, check, problems)))
    return value


def override_pairs(
    texts: Iterable[str], prefixes: tuple[str, ...], keys: Mapping[str, Collection[str]] | None = None
) -> dict[str, dict[str, str]]:
    """Split `--set prefix.key=value` texts by prefix. Raises ConfigError for a malformed one.

    `keys`: by prefix the keys that come next, for advice where the prefix is left out.
    """
    result: dict[str, dict[str, str]] = {prefix: {} for prefix in prefixes}
    problems = []
    for text in texts:
        name, equals, value = text.partition("=")
        prefix, dot, key = name.strip().partition(".")
        meant = _prefix_advice(name.strip(), keys or {}) if equals and prefix not in result else ""
        if meant:
            problems.append(Problem(f"--set {text}", f"keys start with 'chip.' or 'model.'{meant}"))
        elif not equals or not dot or not key:
            problems.append(
                Problem(f"--set {text}", "expected key=value with a dotted key, as chip.precision.weight=4")
            )
        elif prefix not in result:
            listed = ", ".join(f"{name}." for name in prefixes)
            problems.append(Problem(f"--set {text}", f"keys start with {listed}{suggestion(prefix, prefixes)}"))
        elif key in result[prefix]:
            problems.append(Problem(f"--set {text}", f"{name.strip()} is set twice"))
        else:
            result[prefix][key] = value.strip()
    if problems:
        raise ConfigError(problems)
    return result


def _prefix_advice(name: str, keys: Mapping[str, Collection[str]]) -> str:
    """Advice for a key without its prefix, or nothing where no prefix has a key like it."""
    first, dot, rest = name.partition(".")
    for cutoff in (1.0, 0.75):
        found = [(prefix, get_close_matches(first, known_keys, 1, cutoff)) for prefix, known_keys in keys.items()]
        meant = [f"'{prefix}.{near[0]}{dot}{rest}'" for prefix, near in found if near]
        if meant:
            return f" (did you mean {' or '.join(meant)}?)"
    return ""


def sorted_by_place(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, in the order of the file; those without a line first."""
    return sorted(dict.fromkeys(problems), key=lambda problem: _line_col(problem.place))


def _line_col(place: str) -> tuple[int, int]:
    numbers = place.rsplit(":", 2)[1:]
    placed = len(numbers) == 2 and all(number.isascii() and number.isdigit() for number in numbers)
    return (int(numbers[0]), int(numbers[1])) if placed else (0, 0)


def _setting(name: str, given: object, prefix: str) -> tuple[str, Setting]:
    check_kind("overrides", name, str, _OVERRIDES)
    if isinstance(given, Setting):
        return name, given
    try:
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=_whole)
    except (TypeError, ValueError, RecursionError):
        check_kind(name, given, (), _VALUES)
        raise
    return name, Setting(text, f"--set {prefix}.{name}={text}" if prefix else f"--set {name}={text}")


def _whole(value: object) -> int:
    """A whole number of another library, of NumPy say, as Python's own."""
    if not isinstance(value, Integral):
        raise TypeError
    return int(value)


def _validated(
    document: Document, schema: type[Schema], settings: list[tuple[str, Setting]], check: Check[Schema]
) -> tuple[Schema | None, list[Problem]]:
    """The value if the schema takes it, and what is wrong."""
    document = with_settings(document, settings)
    problems = list(document.problems)
    plain = _tuples(document.value)
    try:
        value = schema.model_validate(plain)
    except ValidationError as error:
        details = [(_real_key(plain, detail), detail) for detail in error.errors()]
        kept = _without_consequences(schema, plain, details)
        told = {problem.key for problem in problems if problem.key} | {problem.place for problem in problems}
        found = [_problem(document, schema, plain, key, detail) for key, detail in kept]
        problems += [problem for problem in found if problem.key not in told and problem.place not in told]
        rest = partial_value(schema, plain, {key for key, _ in kept})
        return None, [*problems, *until_unknown(check(rest, document.place))]
    return value, [*problems, *check(value, document.place)]


def _with_blamed_overrides(
    document: Document, schema: type[Schema], settings: list[tuple[str, Setting]], check: Check[Schema],
    problems: list[Problem],
) -> Iterator[Problem]:  # fmt: skip
    """The problems, with those that are absent without some override placed at that override."""
    places = [setting.place for _, setting in settings]

    def without(left_out: int | None) -> set[Problem]:
        rest = [] if left_out is None else settings[:left_out] + settings[left_out + 1 :]
        return set(_validated(document, schema, rest, check)[1])

    elsewhere = [problem for problem in problems if not problem.place.startswith(tuple(places))] if places else []
    own = without(None) if elsewhere else set()
    alone = [without(index) for index in range(len(settings))] if set(elsewhere) - own else []
    for problem in problems:
        if problem not in elsewhere or problem in own:
            yield problem
        else:
            guilty = [place for place, others in zip(places, alone, strict=True) if problem not in others]
            yield replace(problem, place=", ".join(guilty or places))


Located: TypeAlias = tuple[Key, ErrorDetails]


def _without_consequences(schema: type[BaseModel], value: Any, details: list[Located]) -> list[Located]:
    """Without what only follows from another mistake: a list short of its wrong items, and all but one of the
    complaints that the alternatives of a value make, where one sentence says what can stand there."""
    kept: list[Located] = []
    for key, detail in details:
        deeper = any(len(other) > len(key) and other[: len(key)] == key for other, _ in details)
        short = detail["type"] == "too_short" and bool(detail["input"]) and deeper
        several = _is_plain(detail) and Allowed(schema, key, value).is_choice_of_kinds
        said = several and (deeper or any(other == key and _is_plain(before) for other, before in kept))
        if not short and not said:
            kept.append((key, detail))
    return kept


def _is_plain(detail: ErrorDetails) -> bool:
    """Whether the mistake is the value itself: not a key, nor something that a validator of ours says."""
    return detail["type"] not in ("extra_forbidden", "missing", "value_error") and "union_tag" not in detail["type"]


def _tuples(value: Any) -> Any:
    """Lists as tuples, which is what frozen schemas hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _real_key(value: Any, detail: ErrorDetails) -> Key:
    """The path in the file: pydantic's own path without the names of union members and marks of keys."""
    key: list[str | int] = []
    loc = detail["loc"]
    for index, step in enumerate(loc):
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, tuple) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]  # type: ignore[index]
            key.append(step)
        elif isinstance(value, dict) and index == len(loc) - 1 and detail["type"] == "missing":
            key.append(step)
    if detail["type"] == "union_tag_invalid":
        key.append("kind")
    return tuple(key)


def _problem(document: Document, schema: type[BaseModel], value: Any, key: Key, detail: ErrorDetails) -> Problem:
    of_key = detail["type"] == "extra_forbidden" or detail["loc"][-1:] == ("[key]",)
    return Problem(document.place(key, of_key=of_key), _message(schema, value, key, detail), dotted(key))


def _message(schema: type[BaseModel], value: Any, key: Key, detail: ErrorDetails) -> str:
    kind, message = detail["type"], detail["msg"]
    wrong = detail["input"]
    if kind == "union_tag_invalid" and isinstance(wrong, dict):
        wrong = wrong.get("kind")
    if kind == "extra_forbidden":
        names, name = Allowed(schema, key[:-1], value).keys, str(key[-1])
        return f"unknown key '{name}'{suggestion(name, names)}; known: {', '.join(names)}"
    if kind == "missing":
        return "missing key"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    allowed = Allowed(schema, key, value)
    if kind == "union_tag_not_found":
        return f"missing key 'kind'; one of {', '.join(Allowed(schema, (*key, 'kind'), value).choices)}"
    if kind in ("literal_error", "union_tag_invalid") and not (allowed.is_choice_of_kinds and _is_plain(detail)):
        options = list(dict.fromkeys(allowed.choices))
        advice = f"; for another {_ELSE[dotted(key)]}, with a source (docs/howto.md)" if dotted(key) in _ELSE else ""
        return f"must be one of {', '.join(options)} (got {_short(wrong)}){suggestion(str(wrong), options)}{advice}"
    if allowed.is_choice_of_kinds or kind == "model_type":
        return f"must be {allowed} (got {_short(wrong)}){suggestion(str(wrong), allowed.choices)}"
    if kind in ("too_short", "too_long"):
        return _length_message(detail)
    if kind == "tuple_type":
        one = Allowed(schema, (*key, 0), value)
        wrapped = f": [{wrong}]" if isinstance(wrong, str | int | float) and not one.holds_keys else ""
        return f"must be a list{wrapped} (got {_short(wrong)})"
    return f"{message[0].lower()}{message[1:]} (got {_short(wrong)})"


def _length_message(detail: ErrorDetails) -> str:
    """How long a list must be."""
    context = detail["ctx"]
    count, word = (context["min_length"], "least") if detail["type"] == "too_short" else (context["max_length"], "most")
    got = context["actual_length"] or "none"
    return f"must have at {word} {count} item{'s' * (count != 1)} (got {got})"


def _short(value: Any) -> str:
    """A value as the file has it, cut."""
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
