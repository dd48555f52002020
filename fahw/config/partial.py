"""Partial values: the right parts of a document with mistakes, as a schema value whose wrong parts cannot be read.

Cross-checks run on it as on a whole value: one that reads a part that is wrong or missing raises `UnknownPart`, and
reports nothing; all others report what they find. So mistakes of the schema do not hide those between its parts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache, lru_cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from fahw.config.yamltext import Key

Schema = TypeVar("Schema", bound=BaseModel)
T = TypeVar("T")


class UnknownPart(Exception):  # noqa: N818
    """A part of the document is wrong or missing, so that nothing can be said about what depends on it."""


class _UnknownItem:
    """An item of a list that is wrong: every attribute raises `UnknownPart`."""

    def __getattribute__(self, name: str) -> Any:
        raise UnknownPart(name)


def until_unknown(results: Iterator[T]) -> Iterator[T]:
    """The results that a check yields before it reads a part that is not known."""
    try:
        yield from results
    except UnknownPart:
        return


def known_part(value: object, name: str) -> Iterator[Any]:
    """The attribute `name` of `value`, as the one item of an iterator, which is empty where it is not known."""
    try:
        yield getattr(value, name)
    except UnknownPart:
        return


def partial_value(schema: type[Schema], value: Any, wrong: Collection[Key]) -> Schema:
    """The schema value of a mapping that is right except at the keys `wrong` (those with a mistake of their own)."""
    return _model(schema, value, (), frozenset(wrong))


def _model(schema: type[Schema], value: dict[str, Any], key: Key, wrong: frozenset[Key]) -> Schema:
    """The schema value of the mapping at `key`, with what can be known of its fields."""
    if not _has_mistake(key, wrong):
        return schema.model_validate(value)
    names = {field.alias or name: name for name, field in schema.model_fields.items()}
    has_unknown_key = any(path[:-1] == key and path[-1] not in names for path in wrong if path)
    parts: dict[str, Any] = {}
    for alias, name in names.items():
        field = schema.model_fields[name]
        try:
            if alias in value or (*key, alias) in wrong:
                parts[name] = _part(field.annotation, value.get(alias), (*key, alias), wrong)
            elif not has_unknown_key:  # else the unknown key may be a misspelling of this one
                parts[name] = field.get_default(call_default_factory=True)
        except UnknownPart:
            continue
    result = _partial_schema(schema).__new__(_partial_schema(schema))
    object.__setattr__(result, "__dict__", parts)
    object.__setattr__(result, "__pydantic_fields_set__", set(parts))
    object.__setattr__(result, "__pydantic_extra__", None)
    object.__setattr__(result, "__pydantic_private__", None)
    return result  # type: ignore[return-value]


def _part(annotation: Any, value: Any, key: Key, wrong: frozenset[Key]) -> Any:
    """The value of the field at `key`. Raises UnknownPart where it, or something in it, is wrong."""
    members = list(_members(annotation))
    model = _schema_for(members, value)
    if model is not None:
        return _model(model, value, key, wrong)
    if key in wrong:
        raise UnknownPart(key)
    items = [get_args(member)[0] for member in members if get_origin(member) is tuple]
    if items and isinstance(value, tuple):
        return tuple(_list_item(items[0], item, (*key, index), wrong) for index, item in enumerate(value))
    if _has_mistake(key, wrong):
        raise UnknownPart(key)
    return value


def _list_item(annotation: Any, value: Any, key: Key, wrong: frozenset[Key]) -> Any:
    """The item of a list at `key`; in the place of a wrong mapping, an item that cannot be read."""
    try:
        return _part(annotation, value, key, wrong)
    except UnknownPart:
        if any(_is_model(member) for member in _members(annotation)):
            return _UnknownItem()
        raise


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives that an annotation allows: the members of unions, without `Annotated`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _schema_for(members: list[Any], value: Any) -> type[BaseModel] | None:
    """The schema that a mapping is meant for: the only one of the members, or the one of its `kind` (without one, that
    which has a default); None otherwise."""
    models = [member for member in members if _is_model(member)] if isinstance(value, dict) else []
    if len(models) > 1:
        pairs = [(model, model.model_fields.get("kind")) for model in models]
        models = [
            model
            for model, kind in pairs
            if kind is not None and value.get("kind", kind.default) in get_args(kind.annotation)
        ]
    return models[0] if len(models) == 1 else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _has_mistake(key: Key, wrong: frozenset[Key]) -> bool:
    """Whether a wrong key lies at `key` or below it."""
    return key in _prefixes(wrong)


@lru_cache(maxsize=4)
def _prefixes(wrong: frozenset[Key]) -> frozenset[Key]:
    """Every key at or below which a wrong one lies."""
    return frozenset(key[:length] for key in wrong for length in range(len(key) + 1))


@cache
def _partial_schema(schema: type[BaseModel]) -> type[BaseModel]:
    """A subclass of the schema in which reading a field without a value raises `UnknownPart`."""

    def missing(self: BaseModel, name: str) -> Any:
        """Raise UnknownPart for a field of the schema, AttributeError for any other name."""
        raise (UnknownPart if name in schema.model_fields else AttributeError)(name)

    class Partial(schema):  # type: ignore[misc, valid-type]
        """A value of the schema with parts missing."""

        __getattr__ = missing

    return Partial
