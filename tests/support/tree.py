"""The modules of the package, what each imports and says of itself; their list for docs/architecture.md:

    python -m tests.support.tree

prints the modules in an order in which each imports only from those above it, folders together where that can be.
"""

import ast
import sys
from functools import cache

from tests.support.strategies import ROOT

MODULES = sorted((ROOT / "fahw").rglob("*.py"))


@cache
def tree_of(path):
    """The syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path):
    """`fahw/chip/cost.py` -> `fahw.chip.cost`; a package goes by the name of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {dotted(path): path for path in MODULES}


@cache
def imported(path):
    """The modules of fahw that a module imports anywhere in its code, those for type checkers included."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in KNOWN else node.module for name in full}
    return {name for name in names if name.partition(".")[0] == "fahw"} - {dotted(path)}


def summary(path):
    """The first sentence or paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(tree_of(path)) or ""
    return " ".join(text.partition("\n\n")[0].split())


def circles(imports):
    """Groups of names that import each other, by what each imports; none where imports have an order."""
    left = dict(imports)
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    return set(left)


def listing():
    """All modules but packages, each below those that it imports, as lines of docs/architecture.md. A folder is begun
    where all of it can follow, else where most of it can."""
    left = {name: imported(path) for name, path in KNOWN.items() if path.name != "__init__.py"}
    lines = []
    while left:
        folders = {KNOWN[name].parent: 0 for name in left}
        for folder in folders:
            members = {name for name in left if KNOWN[name].parent == folder}
            ready = reachable(members, left)
            folders[folder] = (len(ready) == len(members), len(ready))
        folder = max(folders, key=folders.get)
        lines.append(f"{folder.relative_to(ROOT).as_posix()}/")
        for name in reachable({name for name in left if KNOWN[name].parent == folder}, left):
            lines.append(f"  {KNOWN[name].stem:<18} {summary(KNOWN[name])}")
            del left[name]
    return lines


def reachable(members, left):
    """Those of `members` that can follow each other now, in an order of imports."""
    done = []
    while more := [name for name in sorted(members - set(done)) if not (left[name] & set(left)) - set(done)]:
        done.append(more[0])
    return done


if __name__ == "__main__":
    sys.stdout.write("\n".join(listing()) + "\n")
