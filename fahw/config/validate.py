"""Validation: a parsed document and `--set` overrides as a schema value, or every mistake with its place and advice."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from numbers import Integral
from types import NoneType
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fahw.config.allowed import Allowed
from fahw.config.partial import partial_value, until_unknown
from fahw.config.setting import Setting, with_settings
from fahw.config.yamltext import MOST_BYTES, Document, Key, dotted
from fahw.errors import MOST_MISTAKES, ConfigError, Problem, check_kind, is_path, nearest_name, suggestion

Schema = TypeVar("Schema", bound=BaseModel)
Overrides: TypeAlias = Mapping[str, str | int | float | bool | Sequence[Any] | Mapping[str, Any] | Setting | None]
"""Values by dotted key, each as YAML text or as it is."""
_OVERRIDES_TYPE = "a mapping of dotted keys to values or YAML text"
_OVERRIDE_TYPE = "YAML text as '4' or '[copy]', a number, true or false, or a list or mapping of such"
MOST_SETTINGS = 200
"""The most settings (`--set`, `set:` and axes of a sweep) of one chip or model."""
_MOST_BLAMED = 200_000
"""Work up to which it is found out which of several settings brought a mistake about; beyond it all are named."""
Place = Callable[[Key], str]
Check: TypeAlias = Callable[[Schema, Place], Iterator[Problem]]
_OTHER_CHOICE_ADVICE = {
    "technology.node_nm": "take the nearest (65, 45, 32 and 22 have SRAM tables) and override what you know",
    "dram.kind": "take the nearest kind and give its read_pj_per_bit, write_pj_per_bit and gbyte_per_s",
}
"""Advice by key, for a user whose chip is none of the choices."""
_FORMER_KEYS = {
    "leakage_device": "it took the leakage of a bank of that type throughout; for an SRAM write the type of its cells, "
    "`cells: lstp` beside `device: lop` or `device: hp`, else leave it out"
}
"""What to write instead, by keys that there were once."""


def validate(
    document: Document,
    schema: type[Schema],
    overrides: Overrides | None = None,
    prefix: str = "",
    check: Check[Schema] = lambda value, place: iter(()),
) -> Schema:
    """The value that the document describes, `overrides` applied first.

    `prefix` is what the user put before an overridden key, for messages. `check` yields the problems that the schema
    cannot see; where the schema finds mistakes, it runs on the rest.

    Raises ConfigError with all problems, in the order of the file: those of the text, of the overrides, of the schema
    and of `check`. What an override brought about is placed at the override.
    """
    if not isinstance(document.value, dict):
        message = "expected keys and values at the top of the file"
        raise ConfigError([*document.problems, Problem(document.place(()), message)])
    check_kind("overrides", overrides, (Mapping, NoneType), _OVERRIDES_TYPE)
    settings = [_setting(name, text, prefix) for name, text in (overrides or {}).items()]
    _check_amount(settings)
    value, problems = _validated(document, schema, settings, check)
    if problems or value is None:
        raise ConfigError(sorted_by_place(_with_blamed_overrides(document, schema, settings, check, problems)))
    return value


def _check_amount(settings: Sequence[tuple[str, Setting]]) -> None:
    """Raise ConfigError where there are more settings, or longer ones, than a file could have."""
    if len(settings) > MOST_SETTINGS:
        raise ConfigError(Problem("overrides", f"{len(settings):,} settings; at most {MOST_SETTINGS}: edit the file"))
    length = sum(len(name) + len(setting.text) for name, setting in settings)
    if length > MOST_BYTES:
        raise ConfigError(Problem("overrides", f"settings of {length:,} characters; at most {MOST_BYTES:,}"))


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
        prefix_advice = _prefix_advice(name.strip(), keys or {}) if equals and prefix not in result else ""
        if prefix_advice:
            problems.append(Problem(f"--set {text}", f"keys start with 'chip.' or 'model.'{prefix_advice}"))
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
    """Advice for a key without its prefix; empty where no prefix has a key like it."""
    first, dot, rest = name.partition(".")
    for cutoff in (1.0, 0.75):
        nearest = [(prefix, nearest_name(first, known_keys, cutoff)) for prefix, known_keys in keys.items()]
        candidates = [f"'{prefix}.{match}{dot}{rest}'" for prefix, match in nearest if match]
        if candidates:
            return f" (did you mean {' or '.join(candidates)}?)"
    return ""


def sorted_by_place(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in the order of the file, each once; those without a line come first."""
    return sorted(dict.fromkeys(problems), key=lambda problem: _line_col(problem.place))


def _line_col(place: str) -> tuple[int, int]:
    """Line and column of `file:line:col`; (0, 0) for another place."""
    numbers = place.rsplit(":", 2)[1:]
    has_line_and_column = len(numbers) == 2 and all(number.isascii() and number.isdigit() for number in numbers)
    return (int(numbers[0]), int(numbers[1])) if has_line_and_column else (0, 0)


def _setting(name: str, value: object, prefix: str) -> tuple[str, Setting]:
    """The dotted key and the setting of one override. Raises ConfigError where it is of another type."""
    check_kind("overrides", name, str, _OVERRIDES_TYPE)
    if not is_path(name):  # nor is it a key of any file
        raise ConfigError(Problem(f"--set {name}", "is no key: half of a character, or NUL"))
    if isinstance(value, Setting):
        return name, value
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_as_int)
    except (TypeError, ValueError, RecursionError):
        check_kind(name, value, (), _OVERRIDE_TYPE)
        raise
    return name, Setting(text, f"--set {prefix}.{name}={text}" if prefix else f"--set {name}={text}")


def _as_int(value: object) -> int:
    """An integer of another library (NumPy's, say) as Python's own. Raises TypeError for anything else."""
    if not isinstance(value, Integral):
        raise TypeError
    return int(value)


def _validated(
    document: Document, schema: type[Schema], settings: list[tuple[str, Setting]], check: Check[Schema]
) -> tuple[Schema | None, list[Problem]]:
    """The schema value with the settings applied, None where the schema refuses it, and all problems."""
    document = with_settings(document, settings)
    problems = list(document.problems)
    plain = _tuples(document.value)
    try:
        value = schema.model_validate(plain)
    except ValidationError as error:
        problems += _schema_problems(document, schema, plain, error, problems, check)
        return None, problems
    return value, [*problems, *islice(check(value, document.place), MOST_MISTAKES)]


def _schema_problems(
    document: Document, schema: type[Schema], plain: Any, error: ValidationError, problems: list[Problem],
    check: Check[Schema],
) -> Iterator[Problem]:  # fmt: skip
    """The mistakes that the schema found, less those that `problems` has, and what `check` finds in the rest; of very
    many the first, and how many there are."""
    details = error.errors()
    named = [(_real_key(plain, detail), detail) for detail in details[:MOST_MISTAKES]]
    independent = _without_consequences(schema, plain, named)
    reported = {problem.key for problem in problems if problem.key} | {problem.place for problem in problems}
    for key, detail in independent:
        mistake = _problem(document, schema, plain, key, detail)
        if mistake.key not in reported and mistake.place not in reported:
            yield mistake
    if len(details) > MOST_MISTAKES:
        yield Problem(document.place(()), f"{len(details):,} mistakes; the first {MOST_MISTAKES} are named")
        return
    rest = partial_value(schema, plain, {key for key, _ in independent})
    yield from islice(until_unknown(check(rest, document.place)), MOST_MISTAKES)


def _with_blamed_overrides(
    document: Document, schema: type[Schema], settings: list[tuple[str, Setting]], check: Check[Schema],
    problems: list[Problem],
) -> Iterator[Problem]:  # fmt: skip
    """The problems; one that vanishes where some override is left out is placed at that override."""
    places = [setting.place for _, setting in settings]

    def problems_without(left_out: int | None) -> set[Problem]:
        """The problems that remain without the setting numbered `left_out`, or without any (None)."""
        rest = [] if left_out is None else settings[:left_out] + settings[left_out + 1 :]
        return set(_validated(document, schema, rest, check)[1])

    elsewhere = [problem for problem in problems if not problem.place.startswith(tuple(places))] if places else []
    of_the_file = problems_without(None) if elsewhere else set()
    remaining = [set[Problem]() for _ in settings]  # which blames all of them
    if set(elsewhere) - of_the_file and _work_of_blame(document, settings) <= _MOST_BLAMED:
        remaining = [problems_without(i) for i in range(len(settings))]
    for problem in problems:
        if problem not in elsewhere or problem in of_the_file:
            yield problem
        else:
            causes = [place for place, others in zip(places, remaining, strict=True) if problem not in others]
            yield replace(problem, place=", ".join(causes or places))


def _work_of_blame(document: Document, settings: list[tuple[str, Setting]]) -> int:
    """About how many values are looked at where each setting is left out in turn."""
    return len(settings) * (len(document.places) + sum(len(setting.text) for _, setting in settings) // 10)


Located: TypeAlias = tuple[Key, ErrorDetails]


def _without_consequences(schema: type[BaseModel], value: Any, details: list[Located]) -> list[Located]:
    """The details that do not merely follow from another mistake. Left out are a list that is too short without its
    wrong items, and all but one of the mistakes that the alternatives of a value report: one message names them all."""
    independent: list[Located] = []
    for key, detail in details:
        has_deeper = any(len(other) > len(key) and other[: len(key)] == key for other, _ in details)
        is_short_by_others = detail["type"] == "too_short" and bool(detail["input"]) and has_deeper
        is_alternative = _is_plain(detail) and Allowed(schema, key, value).is_choice_of_kinds
        has_earlier = any(other == key and _is_plain(earlier) for other, earlier in independent)
        if not is_short_by_others and not (is_alternative and (has_deeper or has_earlier)):
            independent.append((key, detail))
    return independent


def _is_plain(detail: ErrorDetails) -> bool:
    """Whether the mistake is the value itself: neither its key nor what one of fahw's validators reports."""
    return detail["type"] not in ("extra_forbidden", "missing", "value_error") and "union_tag" not in detail["type"]


def _tuples(value: Any) -> Any:
    """The value with all lists turned into tuples, which frozen schemas hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _real_key(value: Any, detail: ErrorDetails) -> Key:
    """The key in the file: pydantic's own path without the names of union members and marks of keys."""
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
    """The problem that one detail of pydantic's reports, with its place in the file."""
    of_key = detail["type"] == "extra_forbidden" or detail["loc"][-1:] == ("[key]",)
    return Problem(document.place(key, of_key=of_key), _message(schema, value, key, detail), dotted(key))


def _message(schema: type[BaseModel], value: Any, key: Key, detail: ErrorDetails) -> str:
    """The message for one detail of pydantic's: what is expected, what was written, and advice."""
    kind, message = detail["type"], detail["msg"]
    wrong = detail["input"]
    if kind == "union_tag_invalid" and isinstance(wrong, dict):
        wrong = wrong.get("kind")
    if kind == "extra_forbidden":
        names, name = Allowed(schema, key[:-1], value).keys, str(key[-1])
        if name in _FORMER_KEYS:
            return f"there is no key '{name}' any more: {_FORMER_KEYS[name]}"
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
        other = _OTHER_CHOICE_ADVICE.get(dotted(key))
        advice = f"; for another {other}, with a source (docs/howto.md)" if other else ""
        return f"must be one of {', '.join(options)} (got {_short(wrong)}){suggestion(str(wrong), options)}{advice}"
    if allowed.is_choice_of_kinds or kind == "model_type":
        return f"must be {allowed} (got {_short(wrong)}){suggestion(str(wrong), allowed.choices)}"
    if kind in ("too_short", "too_long"):
        return _length_message(detail)
    if kind == "tuple_type":
        item = Allowed(schema, (*key, 0), value)
        wrapped = f": [{wrong}]" if isinstance(wrong, str | int | float) and not item.holds_keys else ""
        return f"must be a list{wrapped} (got {_short(wrong)})"
    return f"{message[0].lower()}{message[1:]} (got {_short(wrong)})"


def _length_message(detail: ErrorDetails) -> str:
    """The message for a list that is too short or too long."""
    context = detail["ctx"]
    count, word = (context["min_length"], "least") if detail["type"] == "too_short" else (context["max_length"], "most")
    got = context["actual_length"] or "none"
    return f"must have at {word} {count} item{'s' * (count != 1)} (got {got})"


def _short(value: Any) -> str:
    """The value as a file writes it, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
