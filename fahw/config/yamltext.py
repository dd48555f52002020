"""YAML text to plain values, with the place of every key and none of YAML 1.1's surprises.

Scalars follow YAML 1.2's core schema: `1e-12` is a number, `no` and `12:30` are text, `010` is ten. Duplicate keys,
tags (`!!python/...`) and merge keys are problems, reported together with their places.
"""

from __future__ import annotations

import math
import re
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
MOST_BYTES = 2_000_000
"""The most bytes of a YAML file, and the most characters of its values once aliases stand for what they name."""
MOST_VALUES = 100_000
"""The most keys and values of a YAML file, aliases again standing for what they name."""
MOST_DEPTH = 100
"""The deepest nesting of lists and mappings in a YAML file."""
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


@dataclass
class Document:
    """A parsed text, not to be changed: its value, the places of values and of keys, the problems of the text."""

    name: str
    value: Any = None
    places: dict[Key, str] = field(default_factory=dict)
    key_places: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0
    characters: int = 0

    def place(self, key: Key, of_key: bool = False) -> str:
        """`file:line:col` of a value, of its key, or of the nearest enclosing value that is in the file."""
        if of_key and key in self.key_places:
            return self.key_places[key]
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, f"{self.name}:1:1")


class _Loader(yaml.BaseLoader):
    """A loader that stops at the limits while it reads, before the work is done, and keeps the tags that it meets:
    `!!python/...` must not be obeyed, and `!!str 10` would not be."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self._name, self._nodes, self._depth = name, 0, 0
        self.tags: list[tuple[str, str]] = []

    def scan_tag(self) -> Any:
        """The token of a tag, whose place and text are kept."""
        token = super().scan_tag()
        handle, suffix = token.value
        self.tags.append((_marked(self._name, token.start_mark), f"{handle or ''}{suffix}"))
        return token

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node with all that it holds. Raises ConfigError at the first one beyond the limits."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._nodes, self._depth = self._nodes + 1, self._depth + 1
        too_deep = self._depth > MOST_DEPTH and isinstance(event, yaml.CollectionStartEvent)
        if self._nodes > MOST_VALUES or too_deep:
            raise ConfigError(Problem(_marked(self._name, event.start_mark), _TOO_DEEP if too_deep else _TOO_MANY))
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_TOO_DEEP = f"nested too deeply: at most {MOST_DEPTH} levels"
_TOO_MANY = f"more than {MOST_VALUES:,} keys and values, counting what aliases stand for: not a file for fahw"
_TOO_LONG = f"larger than {MOST_BYTES:,} bytes, counting what aliases stand for: not a file for fahw"


def read(path: Path) -> Document:
    """The parsed file. Raises ConfigError where it cannot be read or is not YAML at all."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ConfigError(Problem(str(path), "is not a regular file"))
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(Problem(str(path), "no such file")) from None
    except IsADirectoryError:
        raise ConfigError(Problem(str(path), "is a folder, not a file")) from None
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    return _parsed(_decoded(content, str(path)), str(path))


def _decoded(content: bytes, name: str) -> str:
    """The bytes of a file as text. Raises ConfigError, with the place, where they are too many or not UTF-8."""
    if len(content) > MOST_BYTES:
        raise ConfigError(Problem(f"{name}:1:1", _TOO_LONG))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _place_in(content[: error.start].decode("utf-8"), name)
        raise ConfigError(Problem(place, f"is not UTF-8 text (byte {error.start}): a binary file?")) from None


@lru_cache(maxsize=8)
def _parsed(text: str, name: str) -> Document:
    """The result of `parse`, kept for a file that is loaded many times with other settings."""
    return parse(text, name)


def parse(text: str, name: str) -> Document:
    """The parsed YAML text; `name` stands for the file in messages. Raises ConfigError for broken YAML, and for text
    beyond `MOST_BYTES`, `MOST_VALUES` or `MOST_DEPTH`."""
    document = Document(name)
    root, tags = _composed(text, name)
    if root is None:
        raise ConfigError(Problem(f"{name}:1:1", "the file is empty"))
    document.value = _value(document, root, (), ())
    keys = {place: key for key, place in document.places.items()}
    problems = [Problem(place, f"tags are not allowed (got {tag})", dotted(keys.get(place, ()))) for place, tag in tags]
    document.problems = problems + document.problems
    return document


def _composed(text: str, name: str) -> tuple[yaml.Node | None, list[tuple[str, str]]]:
    """The nodes of the text, None where it has none, and (place, tag) of every tag. Raises ConfigError."""
    if len(text) > MOST_BYTES:
        raise ConfigError(Problem(f"{name}:1:1", _TOO_LONG))
    try:
        loader = _Loader(text, name)
        return loader.get_single_node(), loader.tags
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _marked(name, mark) if mark else name
        raise ConfigError(Problem(place, f"broken YAML: {error.problem or error.context}")) from None
    except yaml.reader.ReaderError as error:
        message = f"broken YAML: character U+{ord(text[error.position]):04X} cannot stand in YAML"
        raise ConfigError(Problem(_place_in(text[: error.position], name), message)) from None


def _marked(name: str, mark: Any) -> str:
    """`file:line:col` of one of YAML's marks."""
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


def _place_in(before: str, name: str) -> str:
    """`file:line:col` of what follows the text `before`."""
    lines = _LINE_BREAK.split(before)
    return f"{name}:{len(lines)}:{len(lines[-1]) + 1}"


def scalar(text: str) -> Any:
    """The value of an unquoted scalar. An integer too long for the interpreter's limit stays text."""
    if text in _NAMED_VALUES:
        return _NAMED_VALUES[text]
    if _INT.match(text):
        return int(text) if len(text) < 100 else text
    if _FLOAT.match(text):
        return float(text)
    return text


def _value(document: Document, node: yaml.Node, key: Key, above: tuple[int, ...]) -> Any:
    """The value of `node` at `key`, its place noted in `document`; `above`: the ids of the nodes that contain it."""
    place = _marked(document.name, node.start_mark)
    document.places.setdefault(key, place)
    _check_limits(document, node, place, above)
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        return _mapping(document, node, key, above)
    if isinstance(node, yaml.SequenceNode):
        return [_value(document, item, (*key, index), above) for index, item in enumerate(node.value)]
    quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
    return node.value if quoted else scalar(node.value)


def _check_limits(document: Document, node: yaml.Node, place: str, above: tuple[int, ...]) -> None:
    """Count a value. Raises ConfigError where an alias leads to itself, or makes the values too many or too long."""
    document.nodes += 1
    is_scalar = isinstance(node, yaml.ScalarNode)
    document.characters += len(node.value) if is_scalar else 0
    checks = (
        (id(node) in above, "an alias that contains itself"), (len(above) >= MOST_DEPTH and not is_scalar, _TOO_DEEP),
        (document.nodes > MOST_VALUES, _TOO_MANY), (document.characters > MOST_BYTES, _TOO_LONG),
    )  # fmt: skip
    for is_wrong, message in checks:
        if is_wrong:
            raise ConfigError(Problem(place, message))


def _mapping(document: Document, node: yaml.MappingNode, key: Key, above: tuple[int, ...]) -> dict[str, Any]:
    """The mapping at `key`; keys that are no text or stand twice become problems of the document."""
    result: dict[str, Any] = {}
    for name_node, value_node in node.value:
        key_place = _marked(document.name, name_node.start_mark)
        if not isinstance(name_node, yaml.ScalarNode):
            document.problems.append(Problem(key_place, "a key must be text", dotted(key)))
            continue
        name = name_node.value
        child = (*key, name)
        if name in result:
            message = f"duplicate key '{name}' (first at {document.key_places[child]})"
            document.problems.append(Problem(key_place, message, dotted(child)))
            continue
        document.key_places[child] = key_place
        result[name] = _value(document, value_node, child, above)
    return result


def dotted(key: Key) -> str:
    """A key as the user writes it: `arrays.0.rows`."""
    return ".".join(map(str, key))
