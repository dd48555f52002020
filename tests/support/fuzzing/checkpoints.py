"""Mutations of checkpoints, mostly with the right checksum over them, and the training that finds one of them."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from fahw.datasets.dataset import Dataset
from fahw.errors import ConfigError, Problem
from fahw.formats.precision import FP32, Precision, RoundingModes
from fahw.learn.state.delays import IN_TIME, Delays
from fahw.learn.training.checkpoint import Checkpoint
from fahw.learn.training.model_state import model_state
from fahw.learn.training.result import TrainResult
from fahw.learn.training.setup import TrainingSetup
from fahw.learn.training.tensor_file import packed, unpacked
from fahw.learn.training.train import train_model
from fahw.network.recipe import Recipe
from tests.support.fuzzing import binary
from tests.support.fuzzing.text import mutated_bytes, mutated_text
from tests.support.models import everything, mlp, setup_of

_IDENTITY, _MOST_HEADER, _LONGEST_LINE = "t", 1 << 30, 400
_ROUNDED = RoundingModes(activation="stochastic", error="stochastic", gradient="stochastic", update="stochastic")
_RECIPE = Recipe(learning_rate=0.05, epochs=2, batch_size=8)
_CASES = (
    (mlp(16, 12, 4), "bp", FP32, None, IN_TIME),
    (mlp(16, 12, 8, 4), "dfa", Precision(activation=12), _ROUNDED, Delays(1, 2)),
    (mlp(16, 12, 8, 4), "brsf", Precision(), _ROUNDED, Delays(3, 0)),
    (mlp(16, 12, 4), "kp", FP32, None, Delays(1, 1)),
    (everything(), "dfa", FP32, None, IN_TIME),
    (everything(), "bp", Precision(), None, IN_TIME),
)
"""Networks, rules, formats, roundings and delays: all that a state can have is in one of them."""
_TYPES = (torch.int8, torch.uint8, torch.float32, torch.float64)
_FACTORS = (0.0, -1.0, 0.5, 1e3, -1e15, 1e30, 1e300, float("nan"), float("inf"))
_NAMES = ("", "x", "random.0", "random.99", "feedback.linear0", "waiting.0.linear0.bias", "__metadata__", "ü" * 5000)
_Bits = tuple[Any, dict[str, bytes], TrainResult]


class WrongBitsError(Exception):
    """A training that did not take its checkpoint ended otherwise than one without."""


@dataclass(frozen=True)
class _Original:
    """A training, the checkpoint of its first epoch, and what it ends with."""

    setup: TrainingSetup
    content: bytes
    end: _Bits


@cache
def _data(shape: tuple[int, ...]) -> Dataset:
    """48 random images of four classes to train with, and 20 to test with."""
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (68, *shape), np.uint8), generator.integers(0, 4, 68)
    return Dataset("random", images[:48], labels[:48], images[48:], labels[48:], 4, 255)


@cache
def _original(number: int) -> _Original:
    """The training of a case; `content` is what it writes after its first epoch."""
    network, rule, precision, rounding, delays = _CASES[number]
    setup = setup_of(network, rule, precision, rounding, recipe=_RECIPE, seed=number, delays=delays)
    written: list[bytes] = []

    class Kept(Checkpoint):
        def save(self, model: Any, rows: Any, epochs: int) -> None:
            super().save(model, rows, epochs)
            written.append(self._path.read_bytes())

    with tempfile.TemporaryDirectory() as folder:
        end = _bits(setup, Kept(Path(folder) / "x.state", _IDENTITY, 0))
    return _Original(setup, written[0], end)


def _bits(setup: TrainingSetup, checkpoint: Checkpoint) -> _Bits:
    """What a training ends with, to the bit."""
    model, result = train_model(setup, _data(setup.network.input_shape), checkpoint=checkpoint)
    plain, tensors = model_state(model)
    return plain, {name: x.numpy().tobytes() for name, x in tensors.items()}, result


def stages(random: Random, folder: Path, good: Path) -> Iterator[Any]:
    """A training that finds a mutant: it goes on from there, or says in one line why not and ends as without it."""
    original = _original(random.randrange(len(_CASES)))
    path = folder / "x.state"
    path.write_bytes(mutant(random, original.content))
    yield lambda: _trained(original, path)


def _trained(original: _Original, path: Path) -> None:
    """Train with the mutant. Raises ConfigError with what is said of a mutant that is not taken."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("fahw.learn.training.checkpoint")
    logger.addHandler(handler)
    try:
        end = _bits(original.setup, Checkpoint(path, _IDENTITY, 1e9))
    finally:
        logger.removeHandler(handler)
    if not said:
        return
    (line,) = said
    if "\n" in line or len(line) > _LONGEST_LINE + len(str(path)):
        raise WrongBitsError(f"a line of {len(line)} characters: {line[:600]!r}")
    if end != original.end:
        raise WrongBitsError(f"other bits after {line}")
    raise ConfigError(Problem(str(path), line))


def mutant(random: Random, content: bytes) -> bytes:
    """A checkpoint with another header, other plain values or tensors under the right checksum; or other bytes."""
    kind = random.random()
    if kind < 0.1:
        return mutated_bytes(random, content)
    if kind < 0.45:
        return _with_other_header(random, content)
    tensors, texts = unpacked(bytearray(content), _MOST_HEADER)
    plain, state = texts["plain"].encode(), dict(tensors)
    if kind < 0.75:
        plain = _other_json(random, plain)
    if kind > 0.7:
        for _ in range(random.choice((1, 1, 2, 5))):
            _change_tensor(random, state)
    return packed(state, texts | {"plain": plain.decode("utf-8", "surrogateescape")}, _MOST_HEADER)


def _other_json(random: Random, text: bytes) -> bytes:
    """JSON with one to three other values, or other text."""
    if random.random() < 0.3:
        return mutated_text(random, text)
    for _ in range(random.choice((1, 1, 3))):
        text = binary.json_edit(random, text)
    return text


def _with_other_header(random: Random, content: bytes) -> bytes:
    """Another header, another length of it, or other bytes of tensors, mostly with the right checksum."""
    size = int.from_bytes(content[:8], "little")
    head, data = content[8 : 8 + size], content[8 + size :]
    kind = random.random()
    if kind < 0.5:
        head = _other_json(random, _with_other_entry(random, head) if random.random() < 0.6 else head)
    elif kind < 0.8:
        head = _with_other_entry(random, head)
    if kind > 0.7:
        data = mutated_bytes(random, data)
    if random.random() < 0.95:
        head = _sealed(head, data)
    length = random.choice((0, 1, len(head) - 1, len(head) + 1, 1 << 20, 1 << 40, (1 << 64) - 1))
    return (len(head) if random.random() < 0.95 else length).to_bytes(8, "little") + head + data


def _with_other_entry(random: Random, head: bytes) -> bytes:
    """A header that says something else of a tensor, or has a tensor more or less."""
    header = json.loads(head)
    names = [name for name in header if name != "__metadata__"]
    entry = header[random.choice(names)]
    match random.randrange(6):
        case 0:
            entry["dtype"] = random.choice(("I8", "U8", "F32", "F64", "F16", "O", "I64", "f32", "|O", "U8\x00"))
        case 1:
            entry["shape"] = random.choice(([], [0], [1 << 62, 4], [-1], [True], [1.0], "3", [1] * 9, [1] * 3000))
        case 2:
            size = len(entry["shape"]) and entry["shape"][0]
            entry["shape"] = random.choice(([*entry["shape"], 1], entry["shape"][::-1], [size], [1, *entry["shape"]]))
        case 3:
            entry["data_offsets"][random.randrange(2)] += random.choice((-8, -1, 1, 4, 8, 1 << 63, 0.5))
        case 4:
            header[random.choice((*names, *_NAMES))] = entry
        case _:
            del header[random.choice(names)]
    return json.dumps(header).encode()


def _sealed(head: bytes, data: bytes) -> bytes:
    """The header with the checksum that the reader wants of it, where it can be read at all."""
    try:
        header = json.loads(head)
        old = header["__metadata__"].pop("sha256")
        new = sha256(json.dumps(header).encode() + data).hexdigest()
        return head.replace(old.encode(), new.encode())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return head


def _change_tensor(random: Random, tensors: dict[str, Any]) -> None:
    """Let a tensor be missing, of another name, shape or type, or hold other numbers."""
    if not tensors:
        return
    name = random.choice(list(tensors))
    x = tensors[name]
    match random.randrange(9):
        case 0:
            del tensors[name]
        case 1:
            tensors[random.choice((*tensors, *_NAMES[:-2]))] = x
        case 2:
            turned = x.mT if x.dim() > 1 else x
            tensors[name] = random.choice((x.flatten(), x[None], x[:0] if x.dim() else x[None], turned))
        case 3:
            tensors[name] = x.to(random.choice(_TYPES))
        case 4:
            noise = random.randbytes(x.numel() * x.element_size())
            tensors[name] = torch.from_numpy(np.frombuffer(noise, x.numpy().dtype).copy()).reshape(x.shape)
        case _:
            tensors[name] = (x.double() * random.choice(_FACTORS) + random.choice((0, 0.5, 1e9))).to(x.dtype)
