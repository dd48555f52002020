"""YAML text to plain values, with the place of every key and none of YAML 1.1's surprises.

Scalars follow YAML 1.2's core schema: `1e-12` is a number, `no` and `12:30` are text, `010` is ten. Duplicate keys,
tags (`!!python/...`) and merge keys are problems, reported together with their places.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from fahw.errors import ConfigError, Problem

Key = tuple[str | int, ...]
_INT = re.compile(r"[-+]?[0-9]+$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_NAMED_VALUES: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", "+.inf", ".Inf", ".INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_MAX_NODES = 100_000
_MAX_BYTES = 10_000_000


@dataclass
class Document:
    """A parsed text, not to be changed: its value, the places of values and of keys, the problems of the text."""

    name: str
    value: Any = None
    places: dict[Key, str] = field(default_factory=dict)
    key_places: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def place(self, key: Key, of_key: bool = False) -> str:
        """`file:line:col` of a value, of its key, or of the nearest enclosing value that is in the file."""
        if of_key and key in self.key_places:
            return self.key_places[key]
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, f"{self.name}:1:1")


def read(path: Path) -> Document:
    """The parsed file. Raises ConfigError where it cannot be read or is not YAML at all."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ConfigError(Problem(str(path), "is not a regular file"))
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise ConfigError(Problem(str(path), f"is larger than {_MAX_BYTES:,} bytes: not a file for fahw"))
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(Problem(str(path), "no such file")) from None
    except IsADirectoryError:
        raise ConfigError(Problem(str(path), "is a folder, not a file")) from None
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(str(path), f"is not UTF-8 text (byte {error.start}): a binary file?")) from None
    return _parsed(text, str(path))


@lru_cache(maxsize=8)
def _parsed(text: str, name: str) -> Document:
    """The result of `parse`, kept for a file that is loaded many times with other settings."""
    return parse(text, name)


def parse(text: str, name: str) -> Document:
    """The parsed YAML text; `name` stands for the file in messages. Raises ConfigError for broken YAML."""
    document = Document(name)
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
        tags = list(_tags(text, name))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(Problem(place, f"broken YAML: {error.problem or error.context}")) from None
    except yaml.YAMLError as error:
        raise ConfigError(Problem(name, f"broken YAML: {str(error).splitlines()[0]}")) from None
    except RecursionError:
        raise ConfigError(Problem(name, "nested too deeply")) from None
    if root is None:
        raise ConfigError(Problem(f"{name}:1:1", "the file is empty"))
    try:
        document.value = _value(document, root, (), ())
    except RecursionError:
        raise ConfigError(Problem(name, "nested too deeply")) from None
    keys = {place: key for key, place in document.places.items()}
    problems = [Problem(place, f"tags are not allowed (got {tag})", dotted(keys.get(place, ()))) for place, tag in tags]
    document.problems = problems + document.problems
    return document


def scalar(text: str) -> Any:
    """The value of an unquoted scalar. An integer too long for the interpreter's limit stays text."""
    if text in _NAMED_VALUES:
        return _NAMED_VALUES[text]
    if _INT.match(text):
        return int(text) if len(text) < 100 else text
    if _FLOAT.match(text):
        return float(text)
    return text


def _tags(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (place, tag) of every tag: `!!python/...` must not be obeyed, and `!!str 10` would not be."""
    for token in yaml.scan(text, Loader=yaml.BaseLoader):
        if isinstance(token, yaml.TagToken):
            handle, suffix = token.value
            mark = token.start_mark
            yield f"{name}:{mark.line + 1}:{mark.column + 1}", f"{handle or ''}{suffix}"


def _place(document: Document, node: yaml.Node) -> str:
    return f"{document.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _value(document: Document, node: yaml.Node, key: Key, above: tuple[int, ...]) -> Any:
    """The value of `node` at `key`, its place noted in `document`; `above`: the ids of the nodes that contain it."""
    place = _place(document, node)
    document.places.setdefault(key, place)
    document.nodes += 1
    if id(node) in above or document.nodes > _MAX_NODES:
        raise ConfigError(Problem(place, "an alias that contains itself, or more than 100,000 values"))
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        return _mapping(document, node, key, above)
    if isinstance(node, yaml.SequenceNode):
        return [_value(document, item, (*key, index), above) for index, item in enumerate(node.value)]
    quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
    return node.value if quoted else scalar(node.value)


def _mapping(document: Document, node: yaml.MappingNode, key: Key, above: tuple[int, ...]) -> dict[str, Any]:
    """The mapping at `key`; keys that are no text or stand twice become problems of the document."""
    result: dict[str, Any] = {}
    for name_node, value_node in node.value:
        if not isinstance(name_node, yaml.ScalarNode):
            document.problems.append(Problem(_place(document, name_node), "a key must be text", dotted(key)))
            continue
        name = name_node.value
        child = (*key, name)
        if name in result:
            message = f"duplicate key '{name}' (first at {document.key_places[child]})"
            document.problems.append(Problem(_place(document, name_node), message, dotted(child)))
            continue
        document.key_places[child] = _place(document, name_node)
        result[name] = _value(document, value_node, child, above)
    return result


def dotted(key: Key) -> str:
    """A key as the user writes it: `arrays.0.rows`."""
    return ".".join(map(str, key))
