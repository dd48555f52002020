"""The shape of the source: imports run one way, modules and functions stay small, rules are values."""

import ast
import re
import statistics
import subprocess
import sys
from collections import Counter
from typing import get_args

import pytest

from fahw.hardware.arrays.catalogue import DATAFLOWS
from fahw.hardware.memories.catalogue import MEMORY_KINDS
from fahw.layers.catalogue import KINDS
from fahw.learn.training.checkpoint import NOT_TRAINING
from fahw.rules.catalogue import RULES
from fahw.study.costs.cost_record import COST_MODULES, NOT_COSTS
from fahw.version import code_files
from tests.support.strategies import ROOT
from tests.support.tree import KNOWN, MODULES, circles, dotted, imported, summary, tree_of

NEVER = {("learn", "chip"), ("chip", "learn"), ("learn", "work"), ("work", "learn"), ("learn", "technology")}
"""Folders that do not know each other, whatever the order: learning knows no energy, the chip no accuracy."""
MOST_LINES, MOST_MODULES, MOST_OF_A_FUNCTION = 350, 14, 40
INNER = [path for path in MODULES if path.name != "__init__.py"]


def label(path):
    return path.relative_to(ROOT).as_posix()


def listed():
    """The modules in the order of docs/architecture.md, each with what is said of it there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"^## Every module.*?^```text\n(.*?)^```", text, re.M | re.S)
    assert block, "docs/architecture.md has no list of modules"
    rows, folder = {}, ""
    for line in filter(str.strip, block[1].splitlines()):
        if not line.startswith(" "):
            folder = line.strip()
        else:
            name, _, said = line.strip().partition(" ")
            rows[f"{folder}{name}".replace("/", ".")] = said.strip()
    return rows


LISTED = listed()
PLACE = {name: number for number, name in enumerate(LISTED)}


def test_the_architecture_page_lists_every_module_with_what_it_says_of_itself():
    """In docs/architecture.md each module stands once, with the first sentence of its docstring.

    `python -m tests.support.tree` prints a list that is right.
    """
    assert {dotted(path): summary(path) for path in INNER} == LISTED


@pytest.mark.parametrize("path", INNER, ids=label)
def test_imports_run_one_way(path):
    """A module imports only modules above it in docs/architecture.md, for type checkers too; the seams are data."""
    own, used = dotted(path), imported(path)
    packages = {name for name in used if KNOWN[name].name == "__init__.py"}
    assert {own, *used - packages} <= set(PLACE), "not in docs/architecture.md: python -m tests.support.tree lists all"
    below = {name for name in used - packages if PLACE[name] > PLACE[own]}
    assert not below
    assert not packages, "a package is imported: name the module"
    assert not {(own.split(".")[1], name.split(".")[1]) for name in used} & NEVER


def test_no_modules_import_each_other():
    """No circle of imports, those of packages and for type checkers counted, wherever they stand in a module."""
    assert not circles({name: imported(path) for name, path in KNOWN.items()})


def test_circles_are_seen():
    """A circle of three is found behind a module that only leads to it."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}, "e": set()}) == {"a", "b", "c", "d"}


def test_the_seams_are_seen_from_every_folder():
    """The folders that must not know each other exist."""
    assert {name for pair in NEVER for name in pair} <= {path.parent.name for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_modules_are_at_most_350_lines(path):
    """A module fits in a reader's head."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_folders_are_at_most_14_modules():
    """A folder is read at a glance."""
    sizes = Counter(label(path.parent) for path in INNER)
    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def functions(path):
    """The functions of a module, nested ones and methods included."""
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_functions_are_at_most_40_lines(path):
    """A function fits on a screen."""
    sizes = {node.name: node.end_lineno - node.lineno + 1 for node in functions(path)}
    assert {name: size for name, size in sizes.items() if size > MOST_OF_A_FUNCTION} == {}


def test_most_modules_and_functions_are_far_smaller():
    """Half of the modules have at most 139 lines, half of the functions 6, nine of ten functions 17."""
    modules = [len(path.read_text(encoding="utf-8").splitlines()) for path in INNER]
    sizes = [node.end_lineno - node.lineno + 1 for path in INNER for node in functions(path)]
    assert statistics.median(modules) <= 139
    assert statistics.median(sizes) <= 6
    assert statistics.quantiles(sizes, n=10)[-1] <= 17


@pytest.mark.parametrize(
    ("start", "files"),
    [
        ("fahw.study.costs.cost_record", code_files(NOT_COSTS, COST_MODULES)),
        ("fahw.learn.training.train", code_files(NOT_TRAINING)),
    ],
    ids=["costs", "trainings"],
)
def test_stored_results_name_all_code_that_they_come_from(start, files):
    """What the pricing of a cost or a training imports, and what that imports, is in the digest of its code."""
    needed, pending = set(), {start}
    while pending:
        needed |= pending
        pending = {name for module in pending for name in imported(KNOWN[module])} - needed
    assert {KNOWN[name] for name in needed} <= set(files)


def test_tests_share_what_lies_in_support_and_import_no_other_test():
    """A test file imports from no other one: what several need lies in tests/support or tests/reference."""
    imported_tests = re.compile(r"^\s*(?:from|import) tests\S*\.test_|^\s*from tests\S* import test_", re.M)
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert len(files) > 100
    assert [label(path) for path in files if imported_tests.search(path.read_text(encoding="utf-8"))] == []


def constants(node):
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name != "rules"], ids=label)
def test_no_module_asks_for_a_rule_by_name(path):
    """What a rule does follows from its choices: no comparison or match with a rule's name outside fahw/rules."""
    asked = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            asked += [f"line {node.lineno}: {name}" for name in constants(node) & set(RULES)]
    assert not asked


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name != "layers"], ids=label)
def test_no_kind_of_layer_is_asked_for_by_name(path):
    """What a kind is, costs and computes is said in `fahw.layers` alone; nobody compares its name, or its class."""
    classes = {kind.__name__ for kind in KINDS.values()}
    asked = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Compare) and any(ast.unparse(side).endswith(".kind") for side in sides(node)):
            asked += [f"line {node.lineno}: {name}" for name in constants(node) & set(KINDS)]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            named = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            asked += [f"line {node.lineno}: {name}" for name in named & classes]
    assert not asked


def sides(node):
    """What a comparison compares."""
    return [node.left, *node.comparators]


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_modules_and_public_functions_say_what_they_do(path):
    """Every module and every public class and function of a module has a docstring."""
    tree = tree_of(path)
    kinds = ast.FunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert not [node.name for node in public if not ast.get_docstring(node)]
    assert ast.get_docstring(tree) or not tree.body


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_nothing_is_swallowed_or_drawn_from_a_global_generator(path):
    """No `except Exception`, no bare `except`, no generator that is shared by the whole process."""
    tree = tree_of(path)
    caught = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    assert None not in caught
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    caught += [argument for call in called if ast.unparse(call.func).endswith("suppress") for argument in call.args]
    named = {name.id for kind in caught for name in ast.walk(kind) if isinstance(name, ast.Name)}
    assert not named & {"Exception", "BaseException"}
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    global_draws = {
        f"np.random.{name}" for name in ("seed", "rand", "randn", "normal", "choice", "shuffle", "permutation")
    }
    assert not calls & (global_draws | {"torch.manual_seed", "random.seed", "random.random"})
    if path.parent.name != "cli":
        assert "print" not in calls


LIGHT = (
    "import fahw",
    "from fahw.cli.verbs import app; app(['--help'], standalone_mode=False)",
    "import fahw; fahw.simulate('edge_dual', 'mlp_digits')",
)


@pytest.mark.parametrize("code", LIGHT)
def test_light_commands_load_neither_torch_nor_matplotlib(code):
    """Importing fahw, its help and the cost simulation are quick: no torch, no matplotlib."""
    check = "; import sys; heavy = {'torch', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PARTS = {get_args(kind.model_fields["kind"].annotation)[0] for kind in MEMORY_KINDS} | set(DATAFLOWS)
PARTS -= {"register"}
"""Kinds of memories and dataflows, but for one: a level of memories is called `register`, too."""


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_parts_and_formats_are_asked_not_told_apart(path):
    """No module compares a memory's kind or a dataflow with a name, or asks for the class of a number format."""
    asked = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            asked += [f"line {node.lineno}: {name}" for name in constants(node) & PARTS]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            asked += [f"line {node.lineno}: {name}" for name in ("Fixed", "Float") if name in ast.unparse(node.args[1])]
    assert not asked
