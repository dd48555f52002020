"""The shape of the source: imports run one way, modules and functions stay small, rules are values."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from fahw.rules.catalogue import RULES
from tests.support.strategies import ROOT

ORDER = (
    "errors", "units", "files", "rules", "optimizers", "prng", "config", "layers", "network", "technology", "systolic",
    "row_stationary", "topology", "activity", "work", "learn", "chip", "report", "study", "show", "cli",
)  # fmt: skip
NEVER = {("learn", "chip"), ("chip", "learn"), ("learn", "work"), ("learn", "technology")}
MODULES = sorted((ROOT / "fahw").rglob("*.py"))
INNER = [path for path in MODULES if path.parent != ROOT / "fahw" or not path.stem.startswith("__")]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def label(path):
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else None


def package_of(dotted):
    """The second name: `fahw.hardware.chip` -> `config`."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "fahw" and len(parts) > 1 else None


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(node):
    """Dotted names that a module imports anywhere in its code, imports for type checkers aside."""
    if is_type_checking(node):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "relative import"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


@pytest.mark.parametrize("path", INNER, ids=label)
def test_imports_run_one_way(path):
    """A module imports only from its own package and from those before it; the seam between chip and learn is data."""
    own = package_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert own in ORDER, f"{own} has no place in the order"
    used = {package_of(name) for name in imports(tree_of(path))} - {None, own, "__version__"}
    assert used <= set(ORDER[: ORDER.index(own)])
    assert not {(own, package) for package in used} & NEVER


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_modules_are_at_most_400_lines(path):
    """A module fits in a reader's head."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_functions_are_at_most_40_lines(path):
    """A function fits on a screen."""
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno + 1 > 40}
    assert not long


def constants(node):
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "rules.py"], ids=label)
def test_no_module_asks_for_a_rule_by_name(path):
    """What a rule does follows from its choices: no comparison or match with a rule's name outside fahw/rules.py."""
    asked = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            asked += [f"line {node.lineno}: {name}" for name in constants(node) & set(RULES)]
    assert not asked


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
    if path.name not in ("cli.py", "show.py"):
        assert "print" not in calls


@pytest.mark.parametrize("code", ["import fahw", "from fahw.cli.verbs import app; app(['--help'], standalone_mode=False)",
                                  "import fahw; fahw.simulate('edge_dual', 'mlp_digits')"])  # fmt: skip
def test_light_commands_load_neither_torch_nor_matplotlib(code):
    """Importing fahw, its help and the cost simulation are quick: no torch, no matplotlib."""
    check = "; import sys; heavy = {'torch', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
