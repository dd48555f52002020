"""The base of every schema of a YAML file."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler

MOST_NAME_CHARACTERS = 200
"""Characters of a name: figures lay out each of them."""


class Frozen(BaseModel):
    """Base of every schema: unknown keys are errors, values do not change, text is not silently turned into numbers.

    The text under a key is its description in the JSON schema.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The JSON schema with the descriptions of the keys.

        They are read from the source here, not by pydantic when the class is made: that takes a tenth of the import.
        """
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        texts = [_descriptions(base) for base in cls.__mro__ if issubclass(base, Frozen)]
        for name, field in cls.model_fields.items():
            text = next((found[name] for found in texts if name in found), None)
            if text is not None:
                properties[field.alias or name]["description"] = text
        return schema


def _descriptions(schema: type[BaseModel]) -> dict[str, str]:
    """The text under each key in the source of a schema itself, its bases left out."""
    texts = {}
    for key, text in pairwise(_class_bodies(schema.__module__).get(schema.__name__, ())):
        match key, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(found))):
                texts[name] = inspect.cleandoc(found)
    return texts


@cache
def _class_bodies(module: str) -> dict[str, list[ast.stmt]]:
    """The statements of the classes of a module by their names; empty where its source is not there."""
    try:
        source = inspect.getsource(sys.modules[module])
    except OSError:  # a program packed without sources
        return {}
    return {found.name: found.body for found in ast.parse(source).body if isinstance(found, ast.ClassDef)}
