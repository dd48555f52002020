"""docs/limits.md names every limit of the code, with its value."""

import ast
import importlib
import re

import pytest

from tests.support.strategies import ROOT
from tests.support.tree import MODULES, tree_of

LIMITS = [
    (path.relative_to(ROOT / "fahw").as_posix(), target.id)
    for path in MODULES
    for node in tree_of(path).body
    if isinstance(node, ast.Assign)
    for target in node.targets
    if isinstance(target, ast.Name) and target.id.startswith("MOST_")
]


@pytest.mark.parametrize(("module", "name"), LIMITS)
def test_the_page_of_limits_has_every_limit_with_its_value(module, name):
    """A row names the constant by its module."""
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    value = getattr(importlib.import_module(f"fahw.{module.removesuffix('.py').replace('/', '.')}"), name)
    assert re.findall(rf"\| ([\d,]+) \| `{re.escape(module)}` `{name}` \|", text) == [f"{value:,}"]


def test_the_page_of_limits_has_no_other():
    """What the page names is in the code."""
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"`([\w/]+\.py)`\s`(MOST_\w+)`", text)) == sorted(LIMITS)
