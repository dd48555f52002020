"""Mutants of all that counts what layers, optimizers and phases cost: each count changed by one factor, one at a time.

    python -m tests.support.mutants [--sample NUMBER] [--only TEXT]

runs the tests of costs on each mutant and says which test noticed it; it exits with 1 where one survives. Mutants are
found, not listed: those of a layer by asking every kind, those of the phases in the source of `fahw/work`.
"""

import argparse
import ast
import contextlib
import functools
import importlib
import io
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import CodeType

import pytest

from fahw.layers.catalogue import examples
from fahw.layers.layer import Layer
from fahw.layers.weighted import Weighted
from fahw.optimizers import OPTIMIZERS, Optimizer
from fahw.technology.operations import LANE_PRICES
from fahw.work.counts.optimizer import OptimizerCosts
from tests.support.strategies import ROOT

FACTOR, WIDTH = 2, 31
"""What a count is multiplied by; a width that no test's chip has."""
TESTS = (
    "tests/layers/test_counts.py", "tests/work/test_lanes_by_hand.py", "tests/work/test_update_cost.py",
    "tests/chip/test_worked_example.py",
    "tests/work/test_more_rules.py", "tests/work/test_update_options.py", "tests/work/test_norm_constants.py",
    "tests/work/test_transport_options.py", "tests/work/test_residual.py", "tests/work/test_mesh.py",
    "tests/work/test_training_step.py", "tests/work/plan/test_prices.py",
)  # fmt: skip
"""The tests of costs, those first that notice most."""
GEOMETRY = {"in_shape", "weight_shape", "fans"}
"""Properties of layers that are no counts: shapes, and what initial weights are drawn by."""
FLAGS = ("rereads_input", "same_values")
"""What a kind says of its values by yes or no, and costs depend on."""
SEED = 20


@dataclass(frozen=True)
class Mutant:
    """A changed count: what it is, and how a monkeypatch makes it."""

    name: str
    apply: Callable[[pytest.MonkeyPatch], None]


def mutants():
    """All of them."""
    return [*of_layers(), *of_optimizers(), *of_source()]


# layers


def of_layers():
    """Every number that a kind gives: operations and their widths, bits, values, parameters."""
    for layer in examples():
        for name in sorted({*vars(Layer), *vars(Weighted)} if layer.weighted else vars(Layer)):
            if name.endswith(("_operations", "_constants")):
                for place, operation in enumerate(getattr(layer, name)()):
                    title = f"{layer.kind}: {name} {place}, {operation.action}"
                    yield Mutant(f"{title}, times", functools.partial(change_times, type(layer), name, place))
                    yield Mutant(f"{title}, width", functools.partial(change_width, type(layer), name, place))
            elif name in FLAGS and getattr(layer, name):
                yield Mutant(f"{layer.kind}: not {name}", functools.partial(change_flag, type(layer), name))
            elif name not in GEOMETRY and isinstance(getattr(type(layer), name), property):
                yield from of_property(layer, name)


def of_property(layer, name):
    """Mutants of a whole number, or of each whole number of several, that is not 0."""
    value, kind = getattr(layer, name), type(layer)
    if isinstance(value, tuple):
        for place in range(len(value)):
            if value[place]:
                yield Mutant(f"{layer.kind}: {name} {place}", functools.partial(change_property, kind, name, place))
    elif isinstance(value, int) and not isinstance(value, bool) and value:
        yield Mutant(f"{layer.kind}: {name}", functools.partial(change_property, kind, name, None))


def change_times(kind, name, place, monkeypatch):
    change_operation(kind, name, place, lambda each: each._replace(times=FACTOR * each.times), monkeypatch)


def change_width(kind, name, place, monkeypatch):
    change_operation(kind, name, place, lambda each: each._replace(widths=(WIDTH, *each.widths[1:])), monkeypatch)


def change_operation(kind, name, place, change, monkeypatch):
    original = getattr(kind, name)

    def changed(self):
        return tuple(change(each) if number == place else each for number, each in enumerate(original(self)))

    monkeypatch.setattr(kind, name, changed)


def change_property(kind, name, place, monkeypatch):
    original = getattr(kind, name).fget

    def changed(self):
        value = original(self)
        if place is None:
            return FACTOR * value
        return tuple(FACTOR * each if number == place else each for number, each in enumerate(value))

    monkeypatch.setattr(kind, name, property(changed))


def change_flag(kind, name, monkeypatch):
    monkeypatch.setattr(kind, name, not getattr(kind, name))


# optimizers


def of_optimizers():
    """Every number that an optimizer gives, and the roundings that follow from them."""
    for name, optimizer in OPTIMIZERS.items():
        for field in (field.name for field in fields(Optimizer)):
            value = getattr(optimizer, field)
            if isinstance(value, int) and value:
                yield Mutant(f"{name}: {field}", functools.partial(change_optimizer, name, {field: FACTOR * value}))
        for action, times in optimizer.float_operations.items():
            more = dict(optimizer.float_operations) | {action: FACTOR * times}
            yield Mutant(f"{name}: {action}", functools.partial(change_optimizer, name, {"float_operations": more}))
    yield Mutant("roundings of the update", functools.partial(change_property, OptimizerCosts, "roundings", None))


def change_optimizer(name, changes, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, name, replace(OPTIMIZERS[name], **changes))


# counts in the source of the phases


def of_source():
    """Every operation of the lanes, `(action, times, widths)`, and every draw that is written out in `fahw/work`."""
    for path in sorted((ROOT / "fahw" / "work").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for number, (function, node) in enumerate(counts_of(tree)):
            title = f"{module.removeprefix('fahw.work.')}.{function} line {node.lineno}: {ast.unparse(node)}"
            yield Mutant(f"{title}, times", functools.partial(change_source, module, number, double))
            if isinstance(node, ast.Tuple):
                yield Mutant(f"{title}, width", functools.partial(change_source, module, number, widen))


def counts_of(tree):
    """(name of the outermost function, the expression of a count) in the order of the source."""
    for function, name in functions_of(tree):
        for node in ast.walk(function):
            if is_operation(node) or is_draw(node):
                yield name, node


def functions_of(tree):
    """The functions of a module and of its classes, with their qualified names."""
    for item in tree.body:
        members = item.body if isinstance(item, ast.ClassDef) else [item]
        prefix = f"{item.name}." if isinstance(item, ast.ClassDef) else ""
        yield from ((each, prefix + each.name) for each in members if isinstance(each, ast.FunctionDef))


def is_operation(node):
    """Whether an expression is an operation of the lanes: `("compare", values, (bits,))`, `(f"float_{name}", ...)`."""
    if not isinstance(node, ast.Tuple) or len(node.elts) != 3:
        return False
    action = node.elts[0]
    return isinstance(action, ast.JoinedStr) or (isinstance(action, ast.Constant) and action.value in LANE_PRICES)


def is_draw(node):
    """Whether an expression counts random bits: `Count(generator, "generate", tensor, bits)`."""
    return isinstance(node, ast.Call) and ast.unparse(node).startswith("Count(") and "'generate'" in ast.unparse(node)


def double(node):
    """Change a count."""
    values, place = (node.elts, 1) if isinstance(node, ast.Tuple) else (node.args, 3)
    values[place] = ast.BinOp(ast.Constant(FACTOR), ast.Mult(), values[place])


def widen(node):
    """Change the width of an operation's first operand."""
    widths = node.elts[2]
    rest = widths.elts[1:] if isinstance(widths, ast.Tuple) else []
    node.elts[2] = ast.Tuple([ast.Constant(WIDTH), *rest], ast.Load())


def change_source(module, number, change, monkeypatch):
    """Give the function that holds the count the code of the changed source."""
    live = importlib.import_module(module)
    tree = ast.parse(Path(live.__file__).read_text(encoding="utf-8"))
    name, node = list(counts_of(tree))[number]
    change(node)
    code = compile(ast.fix_missing_locations(tree), live.__file__, "exec", dont_inherit=True)
    changed = next(each for each in codes_in(code) if each.co_qualname == name)
    function = functools.reduce(getattr, name.split("."), live)
    monkeypatch.setattr(getattr(function, "fget", function), "__code__", changed)


def codes_in(code):
    """The code of all functions and classes within a piece of code."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from codes_in(each)


# running


class FirstFailure:
    """A plugin of pytest that keeps the name of the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.name:
            self.name = report.nodeid

    def pytest_collectreport(self, report):
        if report.failed and not self.name:
            self.name = report.nodeid


def noticed_by(mutant):
    """The first test that fails on the mutant; empty where it survives all."""
    failure = FirstFailure()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(io.StringIO()):
        mutant.apply(monkeypatch)
        forget_results()
        code = pytest.main(["-x", "-q", "--assert=plain", "-m", "not slow and not long", *TESTS], plugins=[failure])
    forget_results()
    assert code == 0 or failure.name, f"pytest ended with {code} on {mutant.name}: {failure.name}"
    return failure.name


def forget_results():
    """Empty the caches of what was computed with other counts."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fahw."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def main():
    parser = argparse.ArgumentParser(description="Count the mutants of costs that no test notices.")
    parser.add_argument("--sample", type=int, help="only so many, drawn with a fixed seed")
    parser.add_argument("--only", default="", help="only those whose names have this text")
    arguments = parser.parse_args()
    chosen = [mutant for mutant in mutants() if arguments.only in mutant.name]
    if arguments.sample:
        chosen = random.Random(SEED).sample(chosen, arguments.sample)
    survivors = 0
    for mutant in chosen:
        test = noticed_by(mutant)
        survivors += not test
        sys.stdout.write(f"{'noticed ' if test else 'SURVIVED'} {mutant.name}{f'  by {test}' if test else ''}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} mutants, {len(chosen) - survivors} noticed, {survivors} survived\n")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
