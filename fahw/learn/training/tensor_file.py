"""Files of tensors and texts in the layout of safetensors, in which nothing can run.

The length of a header in 8 bytes, the header as JSON, and the bytes of the tensors as they come in it. Source:
https://github.com/huggingface/safetensors, "Format". A digest of all else is one of the texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fahw.stored_json import json_value

_TYPES = {"I8": "<i1", "U8": "<u1", "F32": "<f4", "F64": "<f8"}
_NAMES = {torch.int8: "I8", torch.uint8: "U8", torch.float32: "F32", torch.float64: "F64"}
_MOST_AXES = 8
_TEXTS, _DIGEST = "__metadata__", "sha256"


def packed(tensors: Mapping[str, Tensor], texts: Mapping[str, str], most_header: int) -> bytes:
    """The content of a file of the tensors, wherever they are, and texts. Raises ValueError where its header would have
    more than `most_header` bytes."""
    parts = [tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in tensors.values()]
    header: dict[str, Any] = {_TEXTS: dict(texts)}
    end = 0
    for (name, tensor), part in zip(tensors.items(), parts, strict=True):
        start, end = end, end + len(part)
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    data = b"".join(parts)
    header[_TEXTS][_DIGEST] = _digest(header, data)
    head = json.dumps(header).encode()
    if len(head) > most_header:
        raise ValueError(f"a header of {len(head):,} bytes, more than {most_header:,}")
    return len(head).to_bytes(8, "little") + head + data


def unpacked(content: bytearray, most_header: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, which lie in `content`, and the texts. Raises ValueError for anything else than such a file."""
    start = 8 + int.from_bytes(content[:8], "little")
    if not 8 < start <= min(len(content), 8 + most_header):
        raise ValueError("it is damaged or not a checkpoint")
    try:
        header = json_value(content[8:start].decode())
    except ValueError:
        raise ValueError("its header is no JSON") from None
    texts = header.get(_TEXTS) if isinstance(header, dict) else None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("its header is not one of a checkpoint")
    tensors, data = {}, memoryview(content)[start:]
    end = 0
    for name, entry in header.items():
        if name != _TEXTS:
            tensors[name], end = _tensor(name, entry, data, end)
    if end != len(data):
        raise ValueError(f"it has {len(data):,} bytes of tensors, {end:,} by its header")
    if texts.pop(_DIGEST, None) != _digest(header, data):
        raise ValueError("its checksum is wrong: it is damaged")
    return tensors, texts


def _tensor(name: str, entry: Any, data: memoryview, start: int) -> tuple[Tensor, int]:
    """The tensor that the header's entry says begins at `start`, and where it ends. Raises ValueError for an entry of
    another form or place."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(first), int(end)]} if kind in _TYPES:
            pass
        case _:
            raise ValueError(f"its header has no type, shape and place of {name[:60]!r}")
    is_shape = len(shape) <= _MOST_AXES and all(type(size) is int and size >= 0 for size in shape)
    dtype = np.dtype(_TYPES[kind])
    if not is_shape or first != start or end > len(data) or end - start != prod(shape) * dtype.itemsize:
        raise ValueError(f"the size or place of {name[:60]!r} in it is wrong")
    return torch.from_numpy(np.frombuffer(data[start:end], dtype).reshape(shape)), end


def _digest(header: Mapping[str, Any], data: bytes | memoryview) -> str:
    """The SHA-256 of a header without its digest, and of the bytes of tensors."""
    return sha256(json.dumps(header).encode() + data).hexdigest()
