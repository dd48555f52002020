"""A training that was stopped, and goes on: all that its next epoch depends on, in one file that is whole or absent.

The file is a digest and the model as PyTorch stores objects (tensors that share memory still do afterwards). It is read
by an unpickler that knows the classes of fahw and the few functions that rebuild arrays, and calls nothing else.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from fahw.files import write_bytes
from fahw.learn.kernels.device import CPU
from fahw.version import code_digest

SAVE_EVERY_S = 30.0
"""The least time between two checkpoints in seconds: shorter trainings write none."""
_DIGEST = 32
NOT_TRAINING = ("chip", "cli", "report", "study", "technology", "work")
"""Folders of the package whose code no training runs. A change of any other code makes a checkpoint count as none."""
_REBUILD = {
    ("collections", "OrderedDict"), ("numpy", "dtype"), ("numpy", "ndarray"), ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor_v2"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
}  # fmt: skip


class Checkpoint:
    """The checkpoint file of one training, at `path`; `identity` names all that the training's result depends on. The
    file of another training, of other code or a damaged one counts as none. It is written at most every `every_s`
    seconds."""

    def __init__(self, path: Path, identity: str, every_s: float = SAVE_EVERY_S) -> None:
        self._path, self._every_s, self._saved = path, every_s, time.monotonic()
        self._identity = f"{identity} {torch.__version__} {code_digest(NOT_TRAINING)}"

    def load(self, device: torch.device = CPU) -> Any:
        """The state that was saved last, by a training on any device; None where there is nothing to go on from."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return None
        if sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        stream = io.BytesIO(content[_DIGEST:])
        try:
            identity, state = torch.load(stream, device, _plain(device), weights_only=False)
        except pickle.UnpicklingError:
            return None
        return state if identity == self._identity else None

    def save(self, state: Callable[[], Any]) -> None:
        """Save the state that `state` returns, unless the last save was a moment ago. Nothing is raised where the file
        cannot be written: the training goes on."""
        if time.monotonic() - self._saved < self._every_s:
            return
        buffer = io.BytesIO()
        torch.save((self._identity, state()), buffer, pickle_protocol=4)
        content = buffer.getvalue()
        with suppress(OSError):
            write_bytes(self._path, sha256(content).digest() + content)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove the file: the training is over."""
        self._path.unlink(missing_ok=True)


def _attribute(owner: object, name: str) -> Any:
    """The bound method `name` of one of fahw's objects, which pickles store so. Raises UnpicklingError for others."""
    if not type(owner).__module__.startswith("fahw.") or name.startswith("_"):
        raise pickle.UnpicklingError(f"{name} of {type(owner).__name__} is not read")
    return getattr(owner, name)


class _Unpickler(pickle.Unpickler):
    """An unpickler that reads data alone, onto `device`."""

    device = CPU

    def find_class(self, module: str, name: str) -> Any:
        """The class of fahw, type of tensors or function that rebuilds an array of this name. Raises UnpicklingError
        for all other names."""
        if (module, name) == ("builtins", "getattr"):
            return _attribute
        if (module, name) == ("torch", "device"):  # the one that it is read onto, whichever it was
            return lambda *_: self.device
        if (module, name) in _REBUILD:
            return super().find_class(module, name)
        named = super().find_class(module, name) if module.partition(".")[0] in ("fahw", "torch") else None
        if isinstance(named, torch.dtype) or (module.startswith("fahw.") and isinstance(named, type)):
            return named
        if isinstance(named, type) and issubclass(named, torch.storage.TypedStorage | torch.storage._LegacyStorage):
            return named
        raise pickle.UnpicklingError(f"a checkpoint names {module}.{name}, which is not data")


def _plain(device: torch.device) -> Any:
    """An object that `torch.load` takes in place of the module `pickle`, and whose unpickler is `_Unpickler`."""
    reader = type("_Placed", (_Unpickler,), {"device": device})
    return SimpleNamespace(Unpickler=reader, __name__="checkpoint")
