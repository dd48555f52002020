"""From a parsed document and `--set` overrides to a schema value, or every mistake with its place and advice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fahw.config.yamltext import Document, Key, parse
from fahw.errors import ConfigError, Problem, suggestion

Schema = TypeVar("Schema", bound=BaseModel)


def validate(
    document: Document, schema: type[Schema], overrides: Mapping[str, str] | None = None, prefix: str = ""
) -> Schema:
    """The value that the document describes, `overrides` (dotted key: YAML text) applied first.

    `prefix` is what the user put before an overridden key, for messages.

    Raises ConfigError with all problems: those of the text, of the overrides and of the schema.
    """
    problems = list(document.problems)
    if not isinstance(document.value, dict):
        raise ConfigError([*problems, Problem(document.place(()), "expected keys and values at the top of the file")])
    places = {}
    for dotted, text in (overrides or {}).items():
        place = f"--set {prefix}.{dotted}={text}" if prefix else f"--set {dotted}={text}"
        key = _override(document.value, dotted, text, place, problems)
        if key is not None:
            places[key] = place
    try:
        value = schema.model_validate(_tuples(document.value))
    except ValidationError as error:
        found = [_problem(document, schema, places, detail) for detail in _worth_saying(error.errors())]
        told = {problem.key for problem in problems if problem.key} | _placed(problems)
        problems += [problem for problem in found if problem.key not in told and problem.place not in told]
        raise ConfigError(_unique(problems)) from None
    if problems:
        raise ConfigError(_unique(problems))
    return value


def override_pairs(texts: Iterable[str], prefixes: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Split `--set prefix.key=value` texts by prefix. Raises ConfigError for a malformed one."""
    result: dict[str, dict[str, str]] = {prefix: {} for prefix in prefixes}
    problems = []
    for text in texts:
        name, equals, value = text.partition("=")
        prefix, dot, key = name.strip().partition(".")
        if not equals or not dot or not key:
            problems.append(
                Problem(f"--set {text}", "expected key=value with a dotted key, as chip.precision.weight=4")
            )
        elif prefix not in result:
            known = ", ".join(f"{known}." for known in prefixes)
            problems.append(Problem(f"--set {text}", f"keys start with {known}{suggestion(prefix, prefixes)}"))
        elif key in result[prefix]:
            problems.append(Problem(f"--set {text}", f"{name.strip()} is set twice"))
        else:
            result[prefix][key] = value.strip()
    if problems:
        raise ConfigError(problems)
    return result


def _worth_saying(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without what only follows from another mistake: a list short of its wrong items, a choice beside a bound."""
    kept = []
    for detail in details:
        here = detail["loc"]
        others = [other for other in details if other is not detail and other["loc"][: len(here) - 1] == here[:-1]]
        short = detail["type"] == "too_short" and bool(detail["input"])
        beside = detail["type"] == "literal_error" and any(
            len(other["loc"]) == len(here) and other["input"] == detail["input"] and other["type"] != "literal_error"
            for other in others
        )
        if not short and not beside:
            kept.append(detail)
    return kept


def _placed(problems: list[Problem]) -> set[str]:
    return {problem.place for problem in problems if problem.place.count(":") >= 2}


def _override(data: dict[str, Any], dotted: str, text: str, place: str, problems: list[Problem]) -> Key | None:
    """Put the value into `data` in place; items of a list are named by their `name` or their number."""
    value = None
    try:
        parsed = parse(text, place)
        value, found = parsed.value, parsed.problems
    except ConfigError as error:
        found = list(error.problems) if text.strip() else []
    problems += found
    key: list[str | int] = []
    here: Any = data
    names = dotted.split(".")
    for depth, name in enumerate(names):
        last = depth == len(names) - 1
        if isinstance(here, list):
            index = _index(here, name)
            if index is None:
                known = [str(item.get("name", i)) if isinstance(item, dict) else str(i) for i, item in enumerate(here)]
                problems.append(Problem(place, f"no item '{name}'{suggestion(name, known)}; known: {', '.join(known)}"))
                return None
            step: str | int = index
        elif isinstance(here, dict):
            step = name
            if not last:
                here.setdefault(name, {})
        else:
            problems.append(Problem(place, f"'{'.'.join(names[:depth])}' has no keys of its own"))
            return None
        key.append(step)
        if last:
            here[step] = value
        else:
            here = here[step]
    return tuple(key)


def _index(items: list[Any], name: str) -> int | None:
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == name:
            return index
    return int(name) if name.isdecimal() and int(name) < len(items) else None


def _tuples(value: Any) -> Any:
    """Lists as tuples, which is what frozen schemas hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _problem(document: Document, schema: type[BaseModel], overrides: dict[Key, str], detail: ErrorDetails) -> Problem:
    kind = detail["type"]
    key = _real_key(document.value, (*detail["loc"], "kind") if kind == "union_tag_invalid" else detail["loc"])
    place = document.place(key, of_key=kind == "extra_forbidden")
    for override, text in overrides.items():
        inside = key[: len(override)] == override
        if inside or (override[: len(key)] == key and kind == "extra_forbidden"):
            place = text
    return Problem(place, _message(schema, detail), ".".join(map(str, key)))


def _real_key(value: Any, loc: tuple[str | int, ...]) -> Key:
    """The path in the file: pydantic's own path without the names of union members."""
    key: list[str | int] = []
    for step in loc:
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]  # type: ignore[index]
            key.append(step)
        elif isinstance(value, dict) and step == loc[-1]:
            key.append(step)
    return tuple(key)


def _message(schema: type[BaseModel], detail: ErrorDetails) -> str:
    kind, message = detail["type"], detail["msg"]
    wrong = detail.get("ctx", {}).get("tag", detail["input"])
    got = _short(wrong)
    known = sorted(_known_keys(schema, detail["loc"][:-1]))
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        return f"unknown key '{name}'{suggestion(name, known)}; known: {', '.join(known)}"
    if kind == "missing":
        return "missing key"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = detail.get("ctx", {})
        names = str(allowed.get("expected", allowed.get("expected_tags", "")))
        options = [name.strip("' ") for name in names.replace(" or ", ", ").split(",")]
        return f"must be one of {', '.join(options)} (got {got}){suggestion(str(wrong), options)}"
    return f"{message[0].lower()}{message[1:]} (got {got})".replace("tuple", "list")


def _short(value: Any) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _known_keys(annotation: Any, loc: tuple[str | int, ...]) -> set[str]:
    """Keys of the schema at `loc`, found by walking the annotations along it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _known_keys(get_args(annotation)[0], loc)
    if origin in (Union, UnionType):
        members = get_args(annotation)
        tagged = [member for member in members if loc and _has_tag(member, loc[0])]
        if tagged:
            return _known_keys(tagged[0], loc[1:])
        return set().union(*(_known_keys(member, loc) for member in members))
    if origin is tuple and loc:
        return _known_keys(get_args(annotation)[0], loc[1:])
    if origin is dict and loc:
        return _known_keys(get_args(annotation)[1], loc[1:])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        if not loc:
            return set(fields)
        return _known_keys(fields[str(loc[0])].annotation, loc[1:]) if str(loc[0]) in fields else set()
    return set()


def _has_tag(member: Any, tag: str | int) -> bool:
    field = getattr(member, "model_fields", {}).get("kind")
    return field is not None and tag in get_args(field.annotation)


def _unique(problems: Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
