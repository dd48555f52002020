"""docs/validation.md, put together from sections that compute their own figures.

A section is a module `tests/validation/<name>.py`, named in `SECTIONS`, with

    TITLE      its heading
    section()  its Markdown below the heading, from figures computed with fahw; paragraphs are wrapped later.
               Raises MissingReferenceError without its reference
    SLOW       optional: True where it takes more than a second or two; it is then compared by a slow test
    pictures() optional: {file name in docs/images: SVG text}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from textwrap import fill
from types import ModuleType

from tests.support.strategies import REFERENCE, ROOT

SECTIONS = ("cycles", "sram", "engine", "schemes", "layers", "feedback_sources", "claims")
"""In the order of the page."""

PAGE = ROOT / "docs" / "validation.md"
PICTURES = ROOT / "docs" / "images"
HEAD = ROOT / "tests" / "validation" / "head.md"
_KEPT = ("|", "#", "* ", "- ", "<", "!", " ")
_WHOLE_WORDS = {"break_long_words": False, "break_on_hyphens": False}
_MARK = "<!-- {}: written by `make validation` -->"


class MissingReferenceError(Exception):
    """What a section compares with is not here."""


def module_of(name: str) -> ModuleType:
    """The module of a section."""
    return import_module(f"tests.validation.{name}")


def is_slow(name: str) -> bool:
    """Whether a section takes long."""
    return bool(getattr(module_of(name), "SLOW", False))


def section(name: str) -> str:
    """A section with its mark and heading."""
    module = module_of(name)
    return f"{_MARK.format(name)}\n## {module.TITLE}\n\n{_wrapped(module.section().strip())}\n"


def _wrapped(text: str) -> str:
    """The same Markdown with its paragraphs at most 120 wide; lists, tables and indented text as they are."""
    blocks = text.split("\n\n")
    return "\n\n".join(block if block.startswith(_KEPT) else fill(block, 120, **_WHOLE_WORDS) for block in blocks)


def sections_of(text: str) -> dict[str, str]:
    """The sections of a page by name; what stands before the first is `head`."""
    found = list(re.finditer(_MARK.format("(\\w+)"), text))
    edges = [match.start() for match in found] + [len(text)]
    spans = zip(found, edges, edges[1:], strict=False)
    parts = {match[1]: text[start:end].strip() + "\n" for match, start, end in spans}
    return {"head": text[: edges[0]].strip() + "\n"} | parts


def render(old: str) -> tuple[str, list[tuple[str, str]]]:
    """The page, and the sections of `old` that were kept because their reference is missing, with the reason."""
    before, kept, parts = sections_of(old), [], [HEAD.read_text(encoding="utf-8")]
    for name in SECTIONS:
        try:
            parts.append(section(name))
        except MissingReferenceError as missing:
            if name not in before:
                raise
            parts.append(before[name])
            kept.append((name, str(missing)))
    return "\n".join(parts), kept


def pictures() -> Iterator[tuple[str, str]]:
    """Every picture that a section draws."""
    for name in SECTIONS:
        module = module_of(name)
        if hasattr(module, "pictures"):
            yield from module.pictures().items()


def reference(name: str) -> str:
    """Text of a reference file. Raises MissingReferenceError."""
    path = REFERENCE / name
    if not path.exists():
        raise MissingReferenceError(f"no {name} in the reference folder beside this checkout")
    return path.read_text(encoding="utf-8")


def table(head: Iterable[str], rows: Iterable[Iterable[object]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are text."""
    names = list(head)
    lines = [names, ["---"] * left + ["--:"] * (len(names) - left), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
