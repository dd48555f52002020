"""One traced operation as layers: which kind takes it, with which options, and why it cannot be taken."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from pydantic import ValidationError
from torch import fx, nn

from fahw.config.allowed import Allowed
from fahw.layers.catalogue import KINDS
from fahw.layers.layer import Entry, Layer, Misfit, Shape, TorchCall, TorchOperation

IN_PLACE_OPERATORS = tuple(
    getattr(operator, f"__i{name[2:]}") for name in dir(operator) if hasattr(operator, f"__i{name[2:]}")
)
"""What Python calls for `x += y` and its like: `__iadd__` beside `__add__`."""


class Known(NamedTuple):
    """A kind of layer, and the operation that it is captured from."""

    kind: type[Layer]
    operation: TorchOperation


class _Table(NamedTuple):
    """All operations that a kind knows: those of `torch.nn`, functions, and methods of a tensor by name."""

    modules: dict[type[nn.Module], Known]
    functions: dict[Any, Known]
    methods: dict[str, Known]


def supported() -> str:
    """What can be taken, for messages."""
    modules = [name for known in _known() for name in known.operation.modules]
    calls = [called for known in _known() if (called := _called(known.operation))]
    return f"{', '.join(modules)} and Identity; as functions or methods {', '.join(calls)}"


def _known() -> Iterator[Known]:
    return (Known(kind, operation) for kind in KINDS.values() for operation in kind.torch)


def _called(operation: TorchOperation) -> str:
    """The names of an operation's functions and methods, without those that overwrite their input."""
    functions = [name for name in operation.functions if _function(name) not in IN_PLACE_OPERATORS]
    names = [name.rpartition(".")[2].rstrip("_") for name in (*functions, *operation.methods)]
    return ", ".join(dict.fromkeys(names)) + (f" ({operation.note})" if operation.note else "")


def _function(name: str) -> Any:
    """The function of a name with its package."""
    package, _, path = name.partition(".")
    return operator.attrgetter(path)(import_module(package))


def _table() -> _Table:
    return _table_of(tuple(_known()))


@cache
def _table_of(operations: tuple[Known, ...]) -> _Table:
    table = _Table({}, {}, {})
    for known in operations:
        table.modules.update({getattr(nn, name): known for name in known.operation.modules})
        table.functions.update({_function(name): known for name in known.operation.functions})
        table.methods.update(dict.fromkeys(known.operation.methods, known))
    return table


def known_operation(node: fx.Node, root: nn.Module) -> Known | None:
    """The kind of layer that an operation is and how it is captured, or None if it is none."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        classes = (base for base in type(module).__mro__ if base in _table().modules)
        return next((_table().modules[base] for base in classes if _is_plain(module, base)), None)
    if node.op == "call_function":
        return _table().functions.get(node.target)
    return _table().methods.get(str(node.target)) if node.op == "call_method" else None


def is_known(module: nn.Module) -> bool:
    """Whether a module is a layer by itself, not something that holds layers."""
    return type(module) in _table().modules


def stays_whole(module: nn.Module) -> bool:
    """Whether a module is a layer with parameters or statistics, whatever else its class does with them."""
    return isinstance(module, tuple(_table().modules)) and bool(module.state_dict())


def _is_plain(module: nn.Module, base: type[nn.Module]) -> bool:
    """Whether a module is of the known class and does what that does; a layer that carries a rule computes the same."""
    own_class = type(module)
    return isinstance(module, base) and (own_class.forward is base.forward or own_class.__module__.startswith("fahw."))


def tensors_of(node: fx.Node, shapes: dict[fx.Node, Shape]) -> list[fx.Node]:
    """The tensors that an operation is given, in order; one that is given twice stands twice."""
    found: list[fx.Node] = []

    def note(given: fx.Node) -> fx.Node:
        """The node, which is noted if its value is a tensor."""
        if given in shapes:
            found.append(given)
        return given

    fx.node.map_arg((node.args, node.kwargs), note)
    return found


def options_of(node: fx.Node, operation: TorchOperation, root: nn.Module, values: dict[fx.Node, Any]) -> dict[str, Any]:
    """The options of an operation, by name; `values` holds what sizes computed in the forward pass came to."""
    names = operation.options
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return {name: getattr(module, name) for name in names if hasattr(module, name)}
    given = dict(zip(names, node.args[operation.inputs :], strict=False))
    given |= {name: value for name, value in node.kwargs.items() if name in names}
    return {name: fx.node.map_arg(value, lambda node: values.get(node, node)) for name, value in given.items()}


def in_place(node: fx.Node, operation: TorchOperation, root: nn.Module) -> bool:
    """Whether an operation overwrites its first input."""
    name = str(getattr(node.target, "__name__", node.target))
    overwrites = node.op != "call_module" and name.endswith("_") and not name.endswith("__")
    flagged = bool(options_of(node, operation, root, {}).get("inplace", False))
    return flagged or overwrites or node.target in IN_PLACE_OPERATORS


def layers_of(known: Known, call: TorchCall) -> list[Layer]:
    """The layers that do what an operation does, without names and sources; each reads the one before.

    Raises Misfit with the reason why there are none: inputs of another number, options that are not supported, a result
    of another shape than the layers'.
    """
    _check_number_of_inputs(known.kind, len(call.in_shapes))
    layers: list[Layer] = []
    shapes = call.in_shapes
    for entry in known.operation.entries(call):
        layers.append(_layer({"kind": known.kind.kind} | entry, shapes))
        shapes = (layers[-1].out_shape,)
    if shapes != (call.out_shape,):
        raise Misfit(f"turns {call.in_shapes[0]} into {call.out_shape}, a {known.kind.kind} layer into {shapes[0]}")
    return layers


def _check_number_of_inputs(kind: type[Layer], inputs: int) -> None:
    most = kind.most_sources
    if inputs > most or (inputs > 1) != (most > 1):
        needed = "one" if most == 1 else "two" if most == 2 else "two or more"
        raise Misfit(f"takes {inputs} tensors; supported: {needed}")


def _layer(entry: Entry, shapes: tuple[Shape, ...]) -> Layer:
    """The layer that a model file describes by `entry`, on inputs of `shapes`."""
    kind = KINDS[entry["kind"]]
    for shape in shapes:
        if kind.axes not in (None, len(shape)):
            raise Misfit(f"a {kind.kind} layer takes {kind.axes} axes per sample, here it gets {shape}")
    try:
        spec = kind.spec.model_validate(entry)
    except ValidationError as error:
        wrong = sorted({str(detail["loc"][0]) for detail in error.errors()})
        allowed = [f"{name}={entry.get(name)} (supported: {Allowed(kind.spec, (name,), entry)})" for name in wrong]
        raise Misfit(f"has {', '.join(allowed)}") from None
    return kind.make(spec, "", shapes, ())
