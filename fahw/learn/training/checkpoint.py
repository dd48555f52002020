"""A training that was stopped, and goes on: all that its next epoch depends on, in one file that is whole or absent."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fahw.files import write_bytes
from fahw.learn.model import Model
from fahw.learn.training.model_state import PlainState, model_state, most_bytes, take_over
from fahw.learn.training.result import EpochRow, check_rows
from fahw.learn.training.tensor_file import packed, unpacked
from fahw.version import code_digest

SAVE_EVERY_S = 30.0
"""The least time between two checkpoints in seconds: shorter trainings write none."""
NOT_TRAINING = ("chip", "cli", "mapping", "report", "study", "technology", "work")
"""Folders of the package whose code no training runs. A change of any other code makes a checkpoint count as none."""
_LAYOUT = 2
"""The version of what a file holds; files of version 1 ended in `.pt` and are not read."""
_HEADER_BYTES, _EPOCH_BYTES = 1 << 20, 3 << 10
"""The room in a header for all but the epochs, and for an epoch of one layer."""
_LOG = logging.getLogger(__name__)


_Plain = tuple[PlainState, tuple[EpochRow, ...]]
"""All of a checkpoint but its tensors."""


@cache
def _schema() -> TypeAdapter[_Plain]:
    """The reader and writer of the plain values, which takes nothing for a value of another type."""
    return TypeAdapter(_Plain, config=ConfigDict(strict=True, allow_inf_nan=False))


class Checkpoint:
    """The checkpoint file of one training, at `path`; `identity` names all that the training's result depends on. The
    file of another training, of other code or a damaged one counts as none, and a line in the log says so. It is
    written at most every `every_s` seconds."""

    def __init__(self, path: Path, identity: str, every_s: float = SAVE_EVERY_S) -> None:
        self._path, self._every_s, self._saved = path, every_s, time.monotonic()
        self._identity = f"{_LAYOUT} {identity} {torch.__version__} {code_digest(NOT_TRAINING)}"

    def load(self, model: Model, epochs: int) -> list[EpochRow]:
        """Bring the model to where the training was saved last, on any device. Returns the epochs until then, less than
        `epochs`; none where there is nothing to go on from, and the model is as it was."""
        try:
            if self._path.is_file():
                return self._read(model, epochs)
            if _of_old_version(self._path).is_file():
                raise ValueError("a checkpoint of an older version, which is not read")
        except OSError as error:
            self._refuse(f"it cannot be read ({error.strerror or error})")
        except ValidationError:
            self._refuse("its values are not those of a training")
        except ValueError as error:
            self._refuse(str(error))
        return []

    def _read(self, model: Model, epochs: int) -> list[EpochRow]:
        """The epochs of the file, whose state the model takes over. Raises OSError and ValueError where there is no
        such file or state."""
        most_header = _most_header(model, epochs)
        most = most_header + most_bytes(model)
        with self._path.open("rb") as file:
            content = bytearray(file.read(most + 1))
        if len(content) > most:
            raise ValueError("it is larger than a checkpoint of this training")
        tensors, texts = unpacked(content, most_header)
        if texts.get("identity") != self._identity:
            raise ValueError("it is of another training, or of another version of fahw")
        state, rows = _schema().validate_json(texts.get("plain", ""))
        if len(rows) >= epochs:
            raise ValueError("it has more epochs than the training")
        check_rows(rows, model.network)
        take_over(model, state, tensors)
        return list(rows)

    def _refuse(self, reason: str) -> None:
        _LOG.warning("%s: %s; the training starts anew", self._path, reason)

    def save(self, model: Model, rows: list[EpochRow], epochs: int) -> None:
        """Save the model after the epochs `rows` of `epochs`, unless the last save was a moment ago. Nothing is raised
        where the file cannot be written: the training goes on."""
        if time.monotonic() - self._saved < self._every_s:
            return
        state, tensors = model_state(model)
        texts = {"identity": self._identity, "plain": _schema().dump_json((state, tuple(rows))).decode()}
        with suppress(OSError, ValueError):
            write_bytes(self._path, packed(tensors, texts, _most_header(model, epochs)))
        self._saved = time.monotonic()


def remove_checkpoint(path: Path) -> None:
    """Remove the checkpoint file at `path`, as the result of its training is stored. Nothing is raised where it must
    stay."""
    for each in (path, _of_old_version(path)):
        with suppress(OSError):
            each.unlink(missing_ok=True)


def _of_old_version(path: Path) -> Path:
    """Where an older version of fahw kept what is now at `path`."""
    return path.with_suffix(".pt")


def _most_header(model: Model, epochs: int) -> int:
    """More bytes than the header of any checkpoint of a training has: what an epoch says of a layer, tensors' names."""
    return _HEADER_BYTES + len(model.network.weighted) * _EPOCH_BYTES * (epochs + model.pending.delay)
