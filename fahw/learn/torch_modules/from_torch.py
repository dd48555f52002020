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
from fahw.learn.torch_modules.copies import module_copy
from fahw.learn.torch_modules.traced_operation import (
    SUPPORTED,
    Refused,
    check_geometry,
    in_place,
    is_known,
    kind_of,
    layers_of,
    only_subsamples,
)
from fahw.network.graph import Network

_BATCH = 2  # not 1: an operation that folds the batch axis away would not show


class _Tracer(fx.Tracer):
    """A tracer that leaves layers whole, also those that carry a learning rule."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the tracer leaves a module whole; the name plays no part for layers."""
        layer = isinstance(m, nn.Linear | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d)
        return layer or super().is_leaf_module(m, module_qualified_name)


class _Values(fx.Interpreter):
    """Runs the graph. `shapes`: the shape of the tensor that a node yields, `others`: the value of a node that yields
    something else; `at` is the node that runs."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, Shape] = {}
        self.others: dict[fx.Node, Any] = {}
        self.at = next(iter(module.graph.nodes))
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node, which is noted."""
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
    root = module_copy(module).to("meta").eval()
    if is_known(root):  # a lone layer would be traced into its own arithmetic
        root = nn.Sequential(root)
    graph = _trace(root)
    _refuse_unsupported(graph, root)
    layers = _LayerBuilder(graph, root, _values(graph, root, shape)).build()
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
    """The shapes and other values of all nodes for a batch of `_BATCH` samples. Raises ConfigError where the module
    cannot take samples of this shape."""
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
    """Raise ConfigError with all operations that are no kind of layer."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ConfigError(Problem("module", f"takes {len(inputs)} inputs; supported: one"))
    unsupported = [
        node for node in graph.nodes if not _auxiliary(node) and not _identity(node, root) and not kind_of(node, root)
    ]
    if unsupported:
        problems = [Problem(_place(node), _why_not(node, root)) for node in unsupported]
        raise ConfigError([*problems, Problem("module", f"supported: {SUPPORTED}")])


def _why_not(node: fx.Node, root: nn.Module) -> str:
    if node.op == "get_attr":
        return "is used as a value; a weight or constant can only be used by its own layer"
    operation = type(root.get_submodule(str(node.target))).__name__ if node.op == "call_module" else _label(node)
    hint = "; leave it out: it is part of the loss" if "softmax" in operation.lower() else ""
    return f"{operation} is not supported{hint}"


def _auxiliary(node: fx.Node) -> bool:
    """Whether a node is no operation on the data: an input, the output, or a shape read to reshape by."""
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] == "shape"
    reads_shape = node.op == "call_method" and node.target == "size"
    reads_one_size = node.op == "call_function" and node.target is operator.getitem and _auxiliary_read(node.args[0])
    return node.op in ("placeholder", "output") or reads_shape or reads_one_size


def _auxiliary_read(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op != "placeholder" and _auxiliary(node)


def _identity(node: fx.Node, root: nn.Module) -> bool:
    return node.op == "call_module" and isinstance(root.get_submodule(str(node.target)), nn.Identity)


class _LayerBuilder:
    """Turns the operations into layers, first to last. `layer_of`: name of the layer whose output a node is."""

    def __init__(self, graph: fx.Graph, root: nn.Module, values: _Values) -> None:
        self.graph, self.root, self.values = graph, root, values
        self.layers_by_name: dict[str, Layer] = {}
        self.layer_of: dict[fx.Node, str] = {}
        self.place_of: dict[str, str] = {}
        self.used_paths: set[str] = set()

    def build(self) -> tuple[Layer, ...]:
        """All layers of the graph, first to last. Raises ConfigError where an operation cannot be a layer as it is
        used, where a result is not read, and where the module returns something else than its last layer's output."""
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self.layer_of[node] = INPUT
            elif node.op == "output":
                self._finish(node.args[0])
            elif _identity(node, self.root):
                self.layer_of[node] = self.layer_of[node.all_input_nodes[0]]
            elif node in self.values.shapes and (kind := kind_of(node, self.root)):
                self._take(node, kind)
        return tuple(self.layers_by_name.values())

    def _finish(self, returned: Any) -> None:
        last = next(reversed(self.layers_by_name), INPUT)
        if not isinstance(returned, fx.Node) or self.layer_of.get(returned) != last:
            raise ConfigError(Problem("module", "must return the output of its last layer and nothing else"))
        read_names = {source for layer in self.layers_by_name.values() for source in layer.sources} | {last}
        unread = [
            Problem(self.place_of[name], "nothing reads its result")
            for name in self.layers_by_name
            if name not in read_names
        ]
        if unread:
            raise ConfigError(unread)

    def _take(self, node: fx.Node, kind: Kind) -> None:
        shapes = self.values.shapes
        inputs = list(node.args[:2]) if kind == "add" else [n for n in node.all_input_nodes if n in shapes]
        try:
            sources = [n for n in inputs if isinstance(n, fx.Node) and n in shapes]
            if len(sources) != (2 if kind == "add" else 1):
                raise Refused(f"takes {len(sources)} tensors; supported: {'two' if kind == 'add' else 'one'}")
            layers = self._layers_of(node, kind, sources)
        except Refused as refusal:
            raise ConfigError(Problem(_place(node), str(refusal))) from refusal
        for layer in layers:
            self.layers_by_name[layer.name] = layer
            self.place_of[layer.name] = _place(node)
        self.layer_of[node] = layers[-1].name
        if in_place(node, self.root):  # what reads the input from now on reads this
            self.layer_of[sources[0]] = layers[-1].name

    def _layers_of(self, node: fx.Node, kind: Kind, sources: list[fx.Node]) -> list[Layer]:
        inside, outside = self.values.shapes[sources[0]], self.values.shapes[node]
        if outside[0] != _BATCH:
            raise Refused(f"turns {inside} into {outside}: it must keep the batch axis")
        if kind == "add" and len({self.values.shapes[source] for source in sources}) > 1:
            raise Refused(f"adds shapes {' and '.join(str(self.values.shapes[n][1:]) for n in sources)}; one is needed")
        bare = Layer("", kind, inside[1:], outside[1:], sources=tuple(self.layer_of[source] for source in sources))
        layer_below = self.layers_by_name.get(bare.sources[0])
        layers: list[Layer] = []
        for layer in layers_of(node, self.root, bare, self.values.others):
            check_geometry(layer)
            wired = layer if not layers else replace(layer, sources=(layers[-1].name,))
            pads = kind == "shortcut" and bare.in_shape[0] != bare.out_shape[0] and len(sources[0].users) == 1
            if pads and layer_below is not None and only_subsamples(layer_below):
                layers.append(
                    replace(layer_below, out_shape=layer.out_shape)
                )  # every s-th pixel, then zeros: one shortcut
            else:
                layers.append(replace(wired, name=self._name(node, layer.kind)))
        return layers

    def _name(self, node: fx.Node, kind: Kind) -> str:
        """The layer's name: the module's path; kind and number for a function; a number behind the path of a module
        that is used again."""
        path = str(node.target)
        is_module = node.op == "call_module"
        if is_module and path in self.used_paths and (kind in WEIGHTED or kind.startswith("batchnorm")):
            raise Refused("is used twice; a layer with parameters can be used once")
        stem, number = (path, 0) if is_module else (kind, 1)
        self.used_paths.add(path)
        while (name := f"{stem}{number or ''}") in self.layers_by_name:
            number = number + 1 if number or not is_module else 2
        return name


def _label(node: fx.Node) -> str:
    """The name by which the user knows a node: the module's path, or the function's name."""
    return str(getattr(node.target, "__name__", node.target)) if node.op == "call_function" else str(node.target)


def _place(node: fx.Node) -> str:
    kind = "module" if node.op == "call_module" else "parameter" if node.op == "get_attr" else "operation"
    return f"{kind} '{_label(node) if node.op in ('call_module', 'get_attr') else node.name}'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
