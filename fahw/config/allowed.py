"""Descriptions of what a schema allows at a key, read from its JSON schema: new keys and formats need no text here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel

from fahw.config.yamltext import Key

Node = dict[str, Any]


class Allowed:
    """The alternatives that `schema` has at `key`; `value` (the document) decides between tagged ones."""

    def __init__(self, schema: type[BaseModel], key: Key, value: Any) -> None:
        self._definitions: dict[str, Node] = _json_schema(schema).get("$defs", {})
        self._nodes = self._alternatives(_json_schema(schema), value)
        for step in key:
            value = _item_at(value, step)
            children = [child for node in self._nodes for child in _children(node, step)]
            self._nodes = [leaf for child in children for leaf in self._alternatives(child, value)]

    @property
    def keys(self) -> list[str]:
        """The names of the keys that a mapping can have here, sorted."""
        return sorted({name for node in self._nodes for name in node.get("properties", {})})

    @property
    def choices(self) -> list[str]:
        """The values that can stand here, where they can be listed."""
        return [str(choice) for node in self._nodes for choice in _choices(node)]

    @property
    def is_choice_of_kinds(self) -> bool:
        """Whether values of several kinds can stand here."""
        return len(self._nodes) > 1

    @property
    def holds_keys(self) -> bool:
        """Whether a mapping stands here, and nothing else."""
        return all(node.get("type") == "object" for node in self._nodes)

    def __str__(self) -> str:
        phrases = [self._phrase(node) for node in self._nodes if not _choices(node)]
        if "a number" in phrases:  # which covers the whole ones
            phrases = [phrase for phrase in phrases if phrase != "a whole number"]
        choices = self.choices
        listed = [choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"] if choices else []
        return ", or ".join(dict.fromkeys(phrases + listed)) or "nothing"

    def _alternatives(self, node: Node, value: Any) -> list[Node]:
        """The plain nodes that `node` stands for: references followed, choices and tags resolved, `null` left out."""
        if "$ref" in node:
            return self._alternatives(self._definitions[node["$ref"].rpartition("/")[2]], value)
        branches = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
        if not branches:
            return [] if node.get("type") == "null" else [node]
        chosen = self._tagged(node.get("discriminator", {}), value)
        branches = [{"$ref": chosen}] if chosen else branches
        return [leaf for branch in branches for leaf in self._alternatives(branch, value)]

    def _tagged(self, tag: Node, value: Any) -> str | None:
        """The alternative that the tag of `value` names; without one, that whose tag has a default, if any."""
        mapping, name = tag.get("mapping", {}), tag.get("propertyName", "")
        given = _item_at(value, name)
        if given is not None or not isinstance(value, dict):
            return mapping.get(str(given))  # type: ignore[no-any-return]
        definitions = {reference: self._definitions[reference.rpartition("/")[2]] for reference in mapping.values()}
        optional = [ref for ref, node in definitions.items() if "default" in node["properties"][name]]
        return optional[0] if optional else None

    def _phrase(self, node: Node) -> str:
        """The kind of value that a plain node allows, in words."""
        kind = node.get("type")
        if kind in ("integer", "number"):
            return f"a{' whole' if kind == 'integer' else ''} number{_bounds(node)}"
        if kind == "array":
            return self._list_phrase(node)
        if kind == "string":
            return f"text like {node['pattern']}" if "pattern" in node else "text"
        return {"boolean": "true or false", "object": "keys and values"}.get(str(kind), "a value")

    def _list_phrase(self, node: Node) -> str:
        low, high = node.get("minItems"), node.get("maxItems")
        count = f"{low} values" if low == high and low else "values"
        items = node.get("prefixItems") or [node.get("items", {})]
        item_phrase = ", or ".join(dict.fromkeys(self._phrase(leaf) for leaf in self._alternatives(items[0], None)))
        return f"a list of {count}, each {item_phrase}" if "type" in items[0] else f"a list of {count}"


@cache
def _json_schema(schema: type[BaseModel]) -> Node:
    return schema.model_json_schema()


def _item_at(value: Any, step: str | int) -> Any:
    """The value at one step of a key; None where there is none."""
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, Sequence) and isinstance(step, int) and step < len(value) else None


def _children(node: Node, step: str | int) -> list[Node]:
    """The schema node one step below `node`, alone in a list; an empty list where the step leads nowhere."""
    if isinstance(step, int):
        prefix = node.get("prefixItems", ())
        child = prefix[step] if step < len(prefix) else node.get("items")
    else:
        child = node.get("properties", {}).get(step) or node.get("additionalProperties")
    return [child] if isinstance(child, dict) else []


def _choices(node: Node) -> list[Any]:
    return [node["const"]] if "const" in node else list(node.get("enum", ()))


def _bounds(node: Node) -> str:
    """The limits of a number in words, such as ` from 1 to 16`; empty where it has none."""
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    names = (("at least", low), ("at most", high), ("above", above), ("below", below))
    return "".join(f" {name} {_number(bound)}" for name, bound in names if bound is not None)


def _number(value: float) -> str:
    return f"{value:,}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:g}"
