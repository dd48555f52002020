"""What is right in a document with mistakes, as a value whose wrong parts cannot be read.

Cross-checks run on it as on a whole value: one that reaches for a part that is wrong or missing raises `UnknownPart`,
and says nothing; all others say what they find. So mistakes of the schema do not hide those between its parts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from fahw.config.yamltext import Key

Schema = TypeVar("Schema", bound=BaseModel)
T = TypeVar("T")


class UnknownPart(Exception):  # noqa: N818
    """A part of the document is wrong or missing, so that nothing can be said about what depends on it."""


class _Opaque:
    """An item of which nothing is known."""

    def __getattribute__(self, name: str) -> Any:
        raise UnknownPart(name)


def until_unknown(found: Iterator[T]) -> Iterator[T]:
    """What a check finds before it needs a part that is not known."""
    try:
        yield from found
    except UnknownPart:
        return


def known_part(value: object, name: str) -> Iterator[Any]:
    """The part of `value` called `name`; nothing where it is not known."""
    try:
        yield getattr(value, name)
    except UnknownPart:
        return


def partial_value(schema: type[Schema], value: Any, wrong: Collection[Key]) -> Schema:
    """The value of a mapping that is right but for the keys `wrong` (those with a mistake of their own)."""
    return _model(schema, value, (), frozenset(wrong))


def _model(schema: type[Schema], value: dict[str, Any], key: Key, wrong: frozenset[Key]) -> Schema:
    if not _touched(key, wrong):
        return schema.model_validate(value)
    names = {field.alias or name: name for name, field in schema.model_fields.items()}
    strange = any(bad[:-1] == key and bad[-1] not in names for bad in wrong if bad)
    parts: dict[str, Any] = {}
    for alias, name in names.items():
        field = schema.model_fields[name]
        try:
            if alias in value or (*key, alias) in wrong:
                parts[name] = _part(field.annotation, value.get(alias), (*key, alias), wrong)
            elif not strange:  # else the unknown key may be meant for this one
                parts[name] = field.get_default(call_default_factory=True)
        except UnknownPart:
            continue
    result = _damaged(schema).__new__(_damaged(schema))
    object.__setattr__(result, "__dict__", parts)
    object.__setattr__(result, "__pydantic_fields_set__", set(parts))
    object.__setattr__(result, "__pydantic_extra__", None)
    object.__setattr__(result, "__pydantic_private__", None)
    return result  # type: ignore[return-value]


def _part(annotation: Any, value: Any, key: Key, wrong: frozenset[Key]) -> Any:
    members = list(_members(annotation))
    model = _chosen(members, value)
    if model is not None:
        return _model(model, value, key, wrong)
    if key in wrong:
        raise UnknownPart(key)
    items = [get_args(member)[0] for member in members if get_origin(member) is tuple]
    if items and isinstance(value, tuple):
        return tuple(_list_item(items[0], item, (*key, index), wrong) for index, item in enumerate(value))
    if _touched(key, wrong):
        raise UnknownPart(key)
    return value


def _list_item(annotation: Any, value: Any, key: Key, wrong: frozenset[Key]) -> Any:
    try:
        return _part(annotation, value, key, wrong)
    except UnknownPart:
        if any(_is_model(member) for member in _members(annotation)):
            return _Opaque()
        raise


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type, unpacked."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _chosen(members: list[Any], value: Any) -> type[BaseModel] | None:
    """The schema that a mapping is meant for: the only one, or the one of its `kind`."""
    models = [member for member in members if _is_model(member)] if isinstance(value, dict) else []
    if len(models) > 1:
        kinds = [model.model_fields.get("kind") for model in models]
        tag = value.get("kind")
        models = [m for m, k in zip(models, kinds, strict=True) if k is not None and tag in get_args(k.annotation)]
    return models[0] if len(models) == 1 else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _touched(key: Key, wrong: frozenset[Key]) -> bool:
    return any(bad[: len(key)] == key for bad in wrong)


@cache
def _damaged(schema: type[BaseModel]) -> type[BaseModel]:
    """The same schema; a field without a value raises `UnknownPart`."""

    def missing(self: BaseModel, name: str) -> Any:
        raise (UnknownPart if name in schema.model_fields else AttributeError)(name)

    class Damaged(schema):  # type: ignore[misc, valid-type]
        """A value of the schema with parts missing."""

        __getattr__ = missing

    return Damaged
