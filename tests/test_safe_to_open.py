"""No file that fahw opens can run code: its source names no reader of files that do, and no way to run a text."""

import ast
import builtins
from collections.abc import Iterator

import pytest

from tests.support.strategies import ROOT
from tests.support.tree import MODULES, tree_of

READERS = {
    "pickle", "_pickle", "cPickle", "pickletools", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle",
    "dbm", "runpy", "code", "codeop", "ctypes", "cffi", "zipimport", "pkgutil", "imp", "subprocess", "pty", "pdb",
    "timeit", "cProfile", "doctest", "xmlrpc", "h5py",
}  # fmt: skip
"""Modules that read objects or run what they are given."""
CALLS = {
    "eval", "exec", "compile", "__import__", "breakpoint", "globals",
    "importlib.import_module", "importlib.util.*", "importlib.machinery.*", "importlib.metadata.entry_points",
    "importlib.reload", "os.system", "os.popen", "os.exec*", "os.spawn*", "os.posix_spawn*", "sys.path.*",
    "torch.load", "torch.save", "torch.jit.*", "torch.hub.*", "torch.package.*", "torch.export.*", "torch.ops.load*",
    "torch.utils.cpp_extension.*", "numpy.load", "numpy.lib.format.read_array", "numpy.lib.format.open_memmap",
    "numpy.fromregex", "numpy.genfromtxt", "numpy.f2py.*", "yaml.load*", "yaml.full_load*", "yaml.unsafe_load*",
    "yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "yaml.add_*", "yaml.YAMLObject",
    "logging.config.*", "tarfile.TarFile.extract*", "shutil.unpack_archive", "zipfile.Path",
    "multiprocessing.connection.Client", "multiprocessing.connection.Listener",
    "jinja2.Template", "jinja2.FileSystemLoader", "jinja2.DictLoader",
    "builtins.*", "matplotlib.pyplot.*", "matplotlib.rc_file*",
    "matplotlib.style.*", "optuna.load_study", "optuna.storages.*",
}  # fmt: skip
"""Names that are not to be used, at the end of whatever they were imported as; `*` stands for any ending."""
METHODS = {"extractall", "extract", "from_string", "read_pickle", "to_pickle", "__reduce__"}
"""Methods that are not to be called, whatever of."""
ARGUMENTS = {"allow_pickle", "shell", "object_hook", "object_pairs_hook", "weights_only", "pickle_module"}
"""Arguments that are not to be given."""
ALLOWED = {
    ("fahw/__init__.py", "importlib.import_module"): "the modules of fahw's own names, from a table in that file",
    ("fahw/datasets/image_folder.py", "importlib.import_module"): "Pillow, an extra, by a name that stands there",
    ("fahw/learn/kernels/compiled.py", "importlib.import_module"): "a module of fahw, an extra, by its name",
    ("fahw/learn/torch_modules/traced_operation.py", "importlib.import_module"): "names that layer kinds state in code",
}
"""Places that may, and why."""


def imports_of(tree) -> Iterator[tuple[str, str]]:
    """Each name that a module imports, and what it stands for with its package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.asname is not None
                yield (alias.asname or alias.name.partition(".")[0]), alias.name if whole else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def imported_modules(tree) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def full_name(node, known) -> str:
    """`np.load` as `numpy.load`; empty for what is no name."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = full_name(node.value, known)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def matches(name, patterns) -> bool:
    return any(name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in patterns)


def readers(tree) -> set[str]:
    """What of the lists above a module uses."""
    known = dict(imports_of(tree))
    found = {name for name in imported_modules(tree) if name.partition(".")[0] in READERS}
    found |= {name for name in imported_modules(tree) if matches(name, CALLS)} - set(known.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and matches(name := full_name(node, known), CALLS):
            found.add(name)
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            found.add(node.attr)
        if isinstance(node, ast.keyword) and node.arg in ARGUMENTS:
            found.add(node.arg)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_reads_what_can_run(path):
    name = path.relative_to(ROOT).as_posix()
    assert readers(tree_of(path)) == {what for where, what in ALLOWED if where == name}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", "pickle"),
        ("import _pickle as p", "_pickle"),
        ("from pickle import loads", "pickle.loads"),
        ("def f():\n  import cloudpickle", "cloudpickle"),
        ("import torch as t; t.load(1)", "torch.load"),
        ("from torch import load as safe; safe(1)", "torch.load"),
        ("from torch.jit import load\nload(1)", "torch.jit.load"),
        ("import torch.jit\nreader = torch.jit.load", "torch.jit.load"),
        ("import numpy as np; np.load(x)", "numpy.load"),
        ("import numpy; numpy.lib.format.read_array(x)", "numpy.lib.format.read_array"),
        ("f(x, allow_pickle=True)", "allow_pickle"),
        ("import yaml; yaml.load(x)", "yaml.load"),
        ("import yaml; yaml.compose(x, Loader=yaml.Loader)", "yaml.Loader"),
        ("eval(x)", "eval"),
        ("run = exec", "exec"),
        ("compile(x, y, 'exec')", "compile"),
        ("__import__(x)", "__import__"),
        ("import builtins; builtins.eval(x)", "builtins.eval"),
        ("from importlib import import_module as i; i(x)", "importlib.import_module"),
        ("import tarfile; tarfile.open(x).extractall()", "extractall"),
        ("import subprocess", "subprocess"),
    ],
)
def test_readers_are_seen_however_they_are_named(source, found):
    assert found in readers(ast.parse(source))


def test_what_is_harmless_is_not_taken_for_a_reader():
    """`re.compile`, the method `eval` of a torch module, `ast.literal_eval`, the safe loader."""
    source = "import re, ast, yaml\nre.compile(x); module.eval(); ast.literal_eval(x); yaml.compose(x, yaml.BaseLoader)"
    assert readers(ast.parse(source)) == set()


def test_the_lists_name_what_exists():
    """The builtins among them, at least: a misspelt name would forbid nothing."""
    assert {name for name in CALLS if name.isidentifier()} <= set(dir(builtins)) | {"__import__"}
