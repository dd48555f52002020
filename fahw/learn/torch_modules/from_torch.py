"""A torch module as a Network: geometry only, read from one symbolic trace.

`torch.fx` yields the operations in order, a pass over the meta device their shapes. What is not one of the kinds of
layer is refused by its name in the module.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from types import NoneType
from typing import Any

import torch
from torch import Tensor, fx, nn

from fahw.errors import ConfigError, Problem, check_integer, check_kind
from fahw.layers.catalogue import KINDS
from fahw.layers.layer import INPUT, Layer, Misfit, Shape, TorchCall
from fahw.learn.torch_modules.copies import module_copy
from fahw.learn.torch_modules.traced_operation import (
    IN_PLACE_OPERATORS,
    Known,
    in_place,
    is_known,
    known_operation,
    layers_of,
    options_of,
    stays_whole,
    supported,
    tensors_of,
)
from fahw.network.error_path import frozen_problems
from fahw.network.graph import Network

_BATCH = 2  # not 1: an operation that folds the batch axis away would not show


class _Traced(fx.Proxy):
    """A value in a trace, for which `x += y` is an operation in place; to torch's own it is `x = x + y`."""


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda value, other: value.tracer.create_proxy("call_function", function, (value, other), {})


for _operator in IN_PLACE_OPERATORS:
    setattr(_Traced, f"__{_operator.__name__}__", _in_place(_operator))


class _Tracer(fx.Tracer):
    """A tracer that leaves layers whole, also those that carry a learning rule."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for a node's value in the trace."""
        return _Traced(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the tracer leaves a module whole; the name plays no part for layers."""
        return stays_whole(m) or super().is_leaf_module(m, module_qualified_name)


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
    taken, and those that can.
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
    if not layers or not layers[-1].ends_network:
        last = f"ends with {layers[-1].kind} '{layers[-1].name}'" if layers else "has no layers"
        ends = " or ".join(kind.kind for kind in KINDS.values() if kind.ends_network)
        raise ConfigError(Problem("module", f"{last}; the last layer must be {ends}, with one output per class"))
    if problems := [Problem(f"module '{layers[index].name}'", text) for index, text in frozen_problems(layers)]:
        raise ConfigError(problems)
    return Network(name or type(module).__name__.lower(), shape, layers)


def _trace(root: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(root)
    except (AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError) as error:
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
    operations = [node for node in graph.nodes if not _auxiliary(node) and not _identity(node, root)]
    unsupported = [node for node in operations if not known_operation(node, root)]
    if unsupported:
        problems = [Problem(_place(node), _why_not(node, root)) for node in unsupported]
        raise ConfigError([*problems, Problem("module", f"supported: {supported()}")])


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
            elif node in self.values.shapes and (known := known_operation(node, self.root)):
                self._take(node, known)
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

    def _take(self, node: fx.Node, known: Known) -> None:
        sources = tensors_of(node, self.values.shapes)
        try:
            for layer in layers_of(known, self._call(node, known, sources)):
                self._append(node, layer, sources)
        except Misfit as misfit:
            raise ConfigError(Problem(_place(node), str(misfit))) from misfit
        if in_place(node, known.operation, self.root):  # what reads the input from now on reads this
            for other in self._nodes_of(self.layer_of[sources[0]]):
                self.layer_of[other] = self.layer_of[node]

    def _nodes_of(self, name: str) -> list[fx.Node]:
        """The nodes whose value is the output of the layer called `name`."""
        return [node for node, layer in self.layer_of.items() if layer == name]

    def _call(self, node: fx.Node, known: Known, sources: list[fx.Node]) -> TorchCall:
        shapes = self.values.shapes
        if sources and shapes[node][0] != _BATCH:
            raise Misfit(f"turns {shapes[sources[0]]} into {shapes[node]}: it must keep the batch axis")
        options = options_of(node, known.operation, self.root, self.values.others)
        return TorchCall(options, tuple(shapes[source][1:] for source in sources), shapes[node][1:])

    def _append(self, node: fx.Node, layer: Layer, sources: list[fx.Node]) -> None:
        """Add a layer of a node, behind the node's layer before it or else on the sources; as one with the layer below
        where that gives one kind and nothing else reads in between."""
        reads = (self.layer_of[node],) if node in self.layer_of else tuple(self.layer_of[n] for n in sources)
        below = self.layers_by_name.get(reads[0])
        alone = len(self._nodes_of(reads[0])) == len(sources[0].users) == 1
        fused = layer.fused_with(below) if below is not None and alone else None
        frozen = layer.trained and _is_frozen(self.root.get_submodule(str(node.target)))
        wired = fused or replace(layer, name=self._name(node, layer), sources=reads, frozen=frozen)
        self.layers_by_name[wired.name] = wired
        self.place_of[wired.name] = _place(node)
        self.layer_of[node] = wired.name

    def _name(self, node: fx.Node, layer: Layer) -> str:
        """The layer's name: the module's path; kind and number for a function; a number behind the path of a module
        that is used again."""
        path = str(node.target)
        is_module = node.op == "call_module"
        if is_module and path in self.used_paths and layer.trained:
            raise Misfit("is used twice; a layer with parameters can be used once")
        stem, number = (path, 0) if is_module else (layer.kind, 1)
        self.used_paths.add(path)
        while (name := f"{stem}{number or ''}") in self.layers_by_name:
            number = number + 1 if number or not is_module else 2
        return name


def _is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of the module asks for a gradient. Raises Misfit where some do and some do not."""
    wanted = {name: parameter.requires_grad for name, parameter in module.named_parameters(recurse=False)}
    wanted.pop("fahw_feedback", None)
    if len(set(wanted.values())) > 1:
        frozen = ", ".join(name for name, requires_grad in wanted.items() if not requires_grad)
        raise Misfit(f"is frozen in part ({frozen} without requires_grad): freeze all of its parameters or none")
    return not all(wanted.values())


def _label(node: fx.Node) -> str:
    """The name by which the user knows a node: the module's path, or the function's name."""
    return str(getattr(node.target, "__name__", node.target)) if node.op == "call_function" else str(node.target)


def _place(node: fx.Node) -> str:
    kind = "module" if node.op == "call_module" else "parameter" if node.op == "get_attr" else "operation"
    return f"{kind} '{_label(node) if node.op in ('call_module', 'get_attr') else node.name}'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
