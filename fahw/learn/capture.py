"""A torch module as a Network: geometry only, read from one symbolic trace.

`torch.fx` yields the operations in order, a pass over the meta device their shapes. The result is a chain; what is not
a chain, or not one of the seven kinds of layer, is refused by its name in the module.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from fahw.errors import ConfigError, Problem
from fahw.network import Kind, Layer, Network, Shape, spatial

SUPPORTED = (
    "Linear, Conv2d, MaxPool2d, AvgPool2d, Flatten, ReLU, Tanh and Identity, and max_pool2d, avg_pool2d, flatten,"
    " relu, tanh, view and reshape to one row per sample as functions or methods"
)
_BATCH = 2  # not 1, so that an operation that folds the batch axis away shows

_MODULES: dict[type[nn.Module], Kind] = {
    nn.Linear: "linear",
    nn.Conv2d: "conv2d",
    nn.MaxPool2d: "maxpool2d",
    nn.AvgPool2d: "avgpool2d",
    nn.Flatten: "flatten",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
}
_FUNCTIONS: dict[Callable[..., Any], Kind] = {
    functional.max_pool2d: "maxpool2d",
    torch.max_pool2d: "maxpool2d",
    functional.avg_pool2d: "avgpool2d",
    torch.flatten: "flatten",
    functional.relu: "relu",
    functional.relu_: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",
    functional.tanh: "tanh",
    torch.tanh: "tanh",
}
_METHODS: dict[str, Kind] = {
    "flatten": "flatten",
    "view": "flatten",
    "reshape": "flatten",
    "relu": "relu",
    "relu_": "relu",
    "tanh": "tanh",
    "tanh_": "tanh",
}
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "maxpool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avgpool2d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
}
"""Options of a pooling function after its input, in order; the modules' attributes are named the same."""


class _Refused(Exception):  # noqa: N818
    """Why one operation cannot be taken; the place is added where it is known."""


class _Tracer(fx.Tracer):
    """Weighted layers stay whole, also those that carry a learning rule."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Linear | nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs the graph and notes the shape of every node's value; `at` is the node that runs."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, Shape] = {}
        self.at = next(iter(module.graph.nodes))
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        self.at = n
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        return value


def from_torch(module: nn.Module, input_shape: tuple[int, ...], name: str | None = None) -> Network:
    """The geometry of `module` for samples of `input_shape` (without the batch axis), named after its class.

    Layers are named by their path in the module (`net.0`), functions by kind and number (`relu1`). The module is left
    alone. Raises ConfigError that names the operation that cannot be taken: anything but a chain of `SUPPORTED`.
    """
    shape = tuple(int(size) for size in input_shape)
    root = copy.deepcopy(module).to("meta").eval()
    if type(root) in _MODULES:  # a lone layer would be traced into its own arithmetic
        root = nn.Sequential(root)
    graph = _trace(root)
    _refuse_unsupported(graph, root)
    layers = tuple(_layers(graph, root, _shapes(graph, root, shape)))
    if not layers or layers[-1].kind != "linear":
        last = f"ends with {layers[-1].kind} '{layers[-1].name}'" if layers else "has no layers"
        raise ConfigError(Problem("module", f"{last}; the last layer must be linear, with one output per class"))
    return Network(name or type(module).__name__.lower(), shape, layers)


def _trace(root: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(root)
    except (fx.proxy.TraceError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        message = f"cannot be traced ({_first_line(error)}); the forward pass must not branch on values or shapes"
        raise ConfigError(Problem("module", message)) from error


def _shapes(graph: fx.Graph, root: nn.Module, input_shape: Shape) -> dict[fx.Node, Shape]:
    """Shape of every tensor in the graph, for a batch of `_BATCH`."""
    dtype = next((parameter.dtype for parameter in root.parameters()), torch.float32)
    interpreter = _Shapes(fx.GraphModule(root, graph))
    try:
        with torch.no_grad():
            interpreter.run(torch.empty(_BATCH, *input_shape, dtype=dtype, device="meta"))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        message = f"does not fit a sample of shape {input_shape} ({_first_line(error)})"
        raise ConfigError(Problem(_place(interpreter.at), message)) from error
    return interpreter.shapes


def _refuse_unsupported(graph: fx.Graph, root: nn.Module) -> None:
    """All operations without a kind of layer, at once."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ConfigError(Problem("module", f"takes {len(inputs)} inputs; supported: one"))
    bad = [node for node in graph.nodes if not _auxiliary(node) and not _identity(node, root) and not _kind(node, root)]
    if bad:
        problems = [Problem(_place(node), _why_not(node, root)) for node in bad]
        raise ConfigError([*problems, Problem("module", f"supported: {SUPPORTED}")])


def _why_not(node: fx.Node, root: nn.Module) -> str:
    if node.op == "get_attr":
        return "is used as a value; a weight or constant can only be used by its own layer"
    what = type(root.get_submodule(str(node.target))).__name__ if node.op == "call_module" else _label(node)
    hint = "; leave it out: it drops at random and only in training" if "dropout" in what.lower() else ""
    hint = "; leave it out: it is part of the loss" if "softmax" in what.lower() else hint
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


def _kind(node: fx.Node, root: nn.Module) -> Kind | None:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return next((kind for known, kind in _MODULES.items() if _is_plain(module, known)), None)
    if node.op == "call_function" and callable(node.target):
        return _FUNCTIONS.get(node.target)
    return _METHODS.get(str(node.target)) if node.op == "call_method" else None


def _is_plain(module: nn.Module, known: type[nn.Module]) -> bool:
    """Whether a module is of the known kind and does what that does; a layer that carries a rule computes the same."""
    kind = type(module)
    return isinstance(module, known) and (kind.forward is known.forward or kind.__module__.startswith("fahw."))


def _layers(graph: fx.Graph, root: nn.Module, shapes: dict[fx.Node, Shape]) -> Iterator[Layer]:
    """The chain, first to last."""
    last: fx.Node | None = None
    taken: set[str] = set()
    seen: set[str] = set()
    for node in graph.nodes:
        sources = [source for source in node.all_input_nodes if source in shapes]
        if node.op == "output" and (sources != [last] or not isinstance(node.args[0], fx.Node)):
            raise ConfigError(Problem("module", "must return the output of its last layer and nothing else"))
        kind = _kind(node, root)
        if last is not None and (kind or _identity(node, root)):
            if sources != [last]:
                names = " and ".join(f"'{_label(source)}'" for source in sources)
                message = f"takes {names}, not only '{_label(last)}' before it; supported: a chain of layers"
                raise ConfigError(Problem(_place(node), message))
            if kind:
                yield _layer(node, kind, root, (shapes[last], shapes[node]), _name(node, kind, taken, seen))
        if node in shapes:
            last = node


def _name(node: fx.Node, kind: Kind, taken: set[str], seen: set[str]) -> str:
    """The module's path; kind and number for a function; a number behind the path of a module that is used again."""
    path = str(node.target)
    if node.op == "call_module" and path in seen and kind in ("linear", "conv2d"):
        raise ConfigError(Problem(_place(node), "is used twice; a weighted layer can be used once"))
    stem, number = (path, 0) if node.op == "call_module" else (kind, 1)
    seen.add(path)
    while (name := f"{stem}{number or ''}") in taken:
        number = number + 1 if number or node.op != "call_module" else 2
    taken.add(name)
    return name


def _layer(node: fx.Node, kind: Kind, root: nn.Module, shapes: tuple[Shape, Shape], name: str) -> Layer:
    (_, *inside), (rows, *outside) = shapes
    try:
        if rows != _BATCH:
            raise _Refused(f"turns {shapes[0]} into {shapes[1]}: it must keep the batch axis")
        layer = _describe(node, kind, root, Layer(name, kind, tuple(inside), tuple(outside)))
        _check_geometry(layer)
    except _Refused as why:
        raise ConfigError(Problem(_place(node), str(why))) from why
    return layer


def _describe(node: fx.Node, kind: Kind, root: nn.Module, bare: Layer) -> Layer:
    """`bare` with kernel, stride, padding and bias."""
    module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Linear):
        return Layer(bare.name, kind, bare.in_shape, bare.out_shape, bias=module.bias is not None)
    if isinstance(module, nn.Conv2d):
        return _conv(module, bare)
    if kind in _OPTIONS:
        return _pool(_options(node, kind, module), bare)
    return bare


def _conv(module: nn.Conv2d, bare: Layer) -> Layer:
    _refuse({"groups": module.groups, "dilation": _pair(module.dilation), "padding_mode": module.padding_mode},
            {"groups": 1, "dilation": (1, 1), "padding_mode": "zeros"})  # fmt: skip
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    padding = module.padding
    if isinstance(padding, str):
        if padding == "same" and not all(size % 2 for size in kernel):
            raise _Refused(f"pads unevenly (padding 'same' with kernel {kernel}); supported: the same on both sides")
        padding = (kernel[0] // 2, kernel[1] // 2) if padding == "same" else (0, 0)
    bias = module.bias is not None
    return Layer(bare.name, "conv2d", bare.in_shape, bare.out_shape, kernel, stride, _pair(padding), bias)


def _options(node: fx.Node, kind: Kind, module: nn.Module | None) -> dict[str, Any]:
    """Options of a pooling layer, by name."""
    names = _OPTIONS[kind]
    if module is not None:
        return {name: getattr(module, name) for name in names}
    return dict(zip(names, node.args[1:], strict=False)) | {k: v for k, v in node.kwargs.items() if k in names}


def _pool(options: dict[str, Any], bare: Layer) -> Layer:
    kernel = _pair(options["kernel_size"])
    stride = _pair(options.get("stride") or kernel)
    given = {
        "padding": _pair(options.get("padding", 0)),
        "dilation": _pair(options.get("dilation", 1)),
        "return_indices": options.get("return_indices", False),
        "divisor_override": options.get("divisor_override"),
    }
    _refuse(given, {"padding": (0, 0), "dilation": (1, 1), "return_indices": False, "divisor_override": None})
    return Layer(bare.name, bare.kind, bare.in_shape, bare.out_shape, kernel, stride, bias=False)


def _refuse(given: dict[str, Any], supported: dict[str, Any]) -> None:
    wrong = [f"{key}={given[key]} (supported: {want})" for key, want in supported.items() if given[key] != want]
    if wrong:
        raise _Refused(f"has {', '.join(wrong)}")


def _check_geometry(layer: Layer) -> None:
    """What torch computed must be what the layer's own geometry says; `ceil_mode` and odd ranks show here."""
    axes = {"linear": 1, "conv2d": 3, "maxpool2d": 3, "avgpool2d": 3}.get(layer.kind, len(layer.in_shape))
    if len(layer.in_shape) != axes:
        raise _Refused(f"a {layer.kind} layer takes {axes} axes per sample, here it gets {layer.in_shape}")
    if layer.kind == "flatten" and layer.out_shape != (layer.inputs,):
        raise _Refused(f"turns {layer.in_shape} into {layer.out_shape}; supported: one row of {layer.inputs} values")
    if layer.kind in ("conv2d", "maxpool2d", "avgpool2d"):
        sizes = zip(layer.in_shape[1:], layer.kernel, layer.stride, layer.padding, strict=True)
        want = tuple(spatial(*size) for size in sizes)
        if layer.out_shape[1:] != want:
            raise _Refused(f"yields {layer.out_shape[1:]} pixels, not {want}; ceil_mode is not supported")


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *others = value
    return int(first), int(others[0] if others else first)


def _label(node: fx.Node) -> str:
    """How the user knows a node: the module's path, or the function's name."""
    return str(getattr(node.target, "__name__", node.target)) if node.op == "call_function" else str(node.target)


def _place(node: fx.Node) -> str:
    what = "module" if node.op == "call_module" else "parameter" if node.op == "get_attr" else "operation"
    return f"{what} '{_label(node) if node.op in ('call_module', 'get_attr') else node.name}'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
