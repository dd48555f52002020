"""A torch module as a Network: geometry only, read from one symbolic trace.

`torch.fx` yields the operations in order, a pass over the meta device their shapes. What is not one of the kinds of
layer is refused by its name in the module.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from types import NoneType
from typing import Any

import torch
from torch import Tensor, fx, nn

from fahw.errors import ConfigError, Problem, check_integer, check_kind
from fahw.layers.layer import INPUT, WEIGHTED, Kind, Layer, Shape
from fahw.learn.torch_modules.copies import copied
from fahw.learn.torch_modules.traced_operation import (
    SUPPORTED,
    Refused,
    check_geometry,
    describe,
    in_place,
    is_known,
    kind_of,
    only_subsamples,
)
from fahw.network.graph import Network

_BATCH = 2  # not 1, so that an operation that folds the batch axis away shows


class _Tracer(fx.Tracer):
    """Layers stay whole, also those that carry a learning rule."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layer = isinstance(m, nn.Linear | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d)
        return layer or super().is_leaf_module(m, module_qualified_name)


class _Values(fx.Interpreter):
    """Runs the graph; notes the shape of every tensor and every other value. `at` is the node that runs."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, Shape] = {}
        self.others: dict[fx.Node, Any] = {}
        self.at = next(iter(module.graph.nodes))
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        self.at = n
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        else:
            self.others[n] = value
        return value


def from_torch(module: nn.Module, input_shape: tuple[int, ...], name: str | None = None) -> Network:
    """The geometry of `module` for samples of `input_shape` (without the batch axis), named after its class.

    Layers are named by their path in the module (`net.0`), functions by kind and number (`relu1`). The module is left
    alone; a batch norm's eps and momentum are not read. Raises ConfigError that names every operation that cannot be
    taken: all but `SUPPORTED`.
    """
    check_kind("module", module, nn.Module, "a torch.nn.Module")
    check_kind("input_shape", input_shape, (tuple, list), "the shape of one sample, as (1, 28, 28)")
    shape = tuple(operator.index(size) if hasattr(size, "__index__") else size for size in input_shape)
    for size in shape:
        check_integer("input_shape", size, 1, 10_000_000)
    check_kind("name", name, (str, NoneType), "text")
    root = copied(module).to("meta").eval()
    if is_known(root):  # a lone layer would be traced into its own arithmetic
        root = nn.Sequential(root)
    graph = _trace(root)
    _refuse_unsupported(graph, root)
    layers = _Walk(graph, root, _values(graph, root, shape)).layers()
    if not layers or layers[-1].kind != "linear":
        last = f"ends with {layers[-1].kind} '{layers[-1].name}'" if layers else "has no layers"
        raise ConfigError(Problem("module", f"{last}; the last layer must be linear, with one output per class"))
    return Network(name or type(module).__name__.lower(), shape, layers)


def _trace(root: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(root)
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        message = f"cannot be traced ({_first_line(error)}); the forward pass must not branch on values or shapes"
        raise ConfigError(Problem("module", message)) from error


def _values(graph: fx.Graph, root: nn.Module, input_shape: Shape) -> _Values:
    """What every node comes to, for a batch of `_BATCH`."""
    dtype = next((parameter.dtype for parameter in root.parameters()), torch.float32)
    interpreter = _Values(fx.GraphModule(root, graph))
    try:
        with torch.no_grad():
            interpreter.run(torch.empty(_BATCH, *input_shape, dtype=dtype, device="meta"))
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError) as error:
        message = f"does not fit a sample of shape {input_shape} ({_first_line(error)})"
        raise ConfigError(Problem(_place(interpreter.at), message)) from error
    return interpreter


def _refuse_unsupported(graph: fx.Graph, root: nn.Module) -> None:
    """All operations without a kind of layer, at once."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ConfigError(Problem("module", f"takes {len(inputs)} inputs; supported: one"))
    bad = [
        node for node in graph.nodes if not _auxiliary(node) and not _identity(node, root) and not kind_of(node, root)
    ]
    if bad:
        problems = [Problem(_place(node), _why_not(node, root)) for node in bad]
        raise ConfigError([*problems, Problem("module", f"supported: {SUPPORTED}")])


def _why_not(node: fx.Node, root: nn.Module) -> str:
    if node.op == "get_attr":
        return "is used as a value; a weight or constant can only be used by its own layer"
    what = type(root.get_submodule(str(node.target))).__name__ if node.op == "call_module" else _label(node)
    hint = "; leave it out: it is part of the loss" if "softmax" in what.lower() else ""
    return f"{what} is not supported{hint}"


def _auxiliary(node: fx.Node) -> bool:
    """What is no operation on the data: input, output, and a shape read to reshape by."""
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] == "shape"
    reads_shape = node.op == "call_method" and node.target == "size"
    picks = node.op == "call_function" and node.target is operator.getitem and _auxiliary_read(node.args[0])
    return node.op in ("placeholder", "output") or reads_shape or picks


def _auxiliary_read(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op != "placeholder" and _auxiliary(node)


def _identity(node: fx.Node, root: nn.Module) -> bool:
    return node.op == "call_module" and isinstance(root.get_submodule(str(node.target)), nn.Identity)


class _Walk:
    """Turns the operations into layers, first to last. `made`: layers by name; `value`: whose output a node's is."""

    def __init__(self, graph: fx.Graph, root: nn.Module, values: _Values) -> None:
        self.graph, self.root, self.values = graph, root, values
        self.made: dict[str, Layer] = {}
        self.value: dict[fx.Node, str] = {}
        self.places: dict[str, str] = {}
        self.used: set[str] = set()

    def layers(self) -> tuple[Layer, ...]:
        """All of them. Raises ConfigError for what shows only here."""
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self.value[node] = INPUT
            elif node.op == "output":
                self._finish(node.args[0])
            elif _identity(node, self.root):
                self.value[node] = self.value[node.all_input_nodes[0]]
            elif node in self.values.shapes and (kind := kind_of(node, self.root)):
                self._take(node, kind)
        return tuple(self.made.values())

    def _finish(self, returned: Any) -> None:
        last = next(reversed(self.made), INPUT)
        if not isinstance(returned, fx.Node) or self.value.get(returned) != last:
            raise ConfigError(Problem("module", "must return the output of its last layer and nothing else"))
        read = {source for layer in self.made.values() for source in layer.sources} | {last}
        idle = [Problem(self.places[name], "nothing reads its result") for name in self.made if name not in read]
        if idle:
            raise ConfigError(idle)

    def _take(self, node: fx.Node, kind: Kind) -> None:
        shapes = self.values.shapes
        inputs = list(node.args[:2]) if kind == "add" else [n for n in node.all_input_nodes if n in shapes]
        try:
            sources = [n for n in inputs if isinstance(n, fx.Node) and n in shapes]
            if len(sources) != (2 if kind == "add" else 1):
                raise Refused(f"takes {len(sources)} tensors; supported: {'two' if kind == 'add' else 'one'}")
            made = self._describe(node, kind, sources)
        except Refused as why:
            raise ConfigError(Problem(_place(node), str(why))) from why
        for layer in made:
            self.made[layer.name] = layer
            self.places[layer.name] = _place(node)
        self.value[node] = made[-1].name
        if in_place(node, self.root):  # what reads the input from now on reads this
            self.value[sources[0]] = made[-1].name

    def _describe(self, node: fx.Node, kind: Kind, sources: list[fx.Node]) -> list[Layer]:
        inside, outside = self.values.shapes[sources[0]], self.values.shapes[node]
        if outside[0] != _BATCH:
            raise Refused(f"turns {inside} into {outside}: it must keep the batch axis")
        if kind == "add" and len({self.values.shapes[source] for source in sources}) > 1:
            raise Refused(f"adds shapes {' and '.join(str(self.values.shapes[n][1:]) for n in sources)}; one is needed")
        bare = Layer("", kind, inside[1:], outside[1:], sources=tuple(self.value[source] for source in sources))
        below = self.made.get(bare.sources[0])
        layers: list[Layer] = []
        for layer in describe(node, self.root, bare, self.values.others):
            check_geometry(layer)
            wired = layer if not layers else replace(layer, sources=(layers[-1].name,))
            pads = kind == "shortcut" and bare.in_shape[0] != bare.out_shape[0] and len(sources[0].users) == 1
            if pads and below is not None and only_subsamples(below):
                layers.append(replace(below, out_shape=layer.out_shape))  # every s-th pixel, then zeros: one shortcut
            else:
                layers.append(replace(wired, name=self._name(node, layer.kind)))
        return layers

    def _name(self, node: fx.Node, kind: Kind) -> str:
        """The module's path; kind and number for a function; a number behind the path of a module used again."""
        path = str(node.target)
        own = node.op == "call_module"
        if own and path in self.used and (kind in WEIGHTED or kind.startswith("batchnorm")):
            raise Refused("is used twice; a layer with parameters can be used once")
        stem, number = (path, 0) if own else (kind, 1)
        self.used.add(path)
        while (name := f"{stem}{number or ''}") in self.made:
            number = number + 1 if number or not own else 2
        return name


def _label(node: fx.Node) -> str:
    """How the user knows a node: the module's path, or the function's name."""
    return str(getattr(node.target, "__name__", node.target)) if node.op == "call_function" else str(node.target)


def _place(node: fx.Node) -> str:
    what = "module" if node.op == "call_module" else "parameter" if node.op == "get_attr" else "operation"
    return f"{what} '{_label(node) if node.op in ('call_module', 'get_attr') else node.name}'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
