"""Mutations of data files: what numpy, zip, IDX, gzip and image files say of themselves, and their bytes."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from random import Random
from typing import Any

import numpy as np

from tests.support.fuzzing.text import mutated_bytes

_NAMES = ("x_train", "y_train", "x_test", "y_test", "maximum", "classes", "x_trian", "../x_train", "x\x00", "ü" * 100)
_KINDS = ("|u1", "|b1", "<f2", "<f8", ">i8", "<f16", "<c16", "|S1", "U9", "|V0", "|O", "<M8[s]", "'", "x")
_SHAPES = (
    "(12, 4, 4)", "(4,)", "()", "(True, 12)", "(-1, 4, 4)", "(0, 1000000000000)", "(1000000000000,)", "(10**9,)", "7",
    "(1.5, 2)", "(" + "1, " * 70 + ")", "[2, 2]", "(2, (2, 2))", "None", "(" * 300,
)  # fmt: skip
_BROKEN = ("{'descr': [", "{'descr': '|u1'}", "", "x", "1" * 9000, "[" * 9000, "-" * 9000 + "1", "{" * 90, "\x00" * 9)


def _header(random: Random) -> str:
    """The header of an array: broken, or of any type and shape."""
    if random.random() < 0.3:
        return random.choice(_BROKEN)
    kind = random.choice(("[('a', '<i4'), ('b', '|O')]", *(f"'{name}'" for name in _KINDS)))
    order = random.choice(("True", "False", "0"))
    return f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {random.choice(_SHAPES)}}}"


def npz(random: Random) -> bytes:
    """An archive of arrays, right or wrong in names, types, shapes, values, headers, packing or bytes."""
    members = [_member(random, name) for name in _NAMES[:4]]
    if random.random() < 0.1:
        members += [_member(random, random.choice(_NAMES))]
    if random.random() < 0.05:
        del members[random.randrange(len(members))]
    buffer = io.BytesIO()
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    packing = random.choice((*kinds * 9, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, content in members:
            archive.writestr(random.choice((f"{name}.npy",) * 9 + (name,)), content)
    content = buffer.getvalue()
    return content if random.random() < 0.6 else mutated_bytes(random, content)


def _member(random: Random, name: str) -> tuple[str, bytes]:
    """The name and the bytes of one array."""
    stream = io.BytesIO()
    np.save(stream, _values(random, name), allow_pickle=True)
    content = stream.getvalue()
    if random.random() < 0.06:
        text = _header(random).encode()
        version = random.choice(((1, 0), (2, 0), (3, 0), (9, 9)))
        size = struct.pack("<H", min(len(text), 65535)) if version[0] == 1 else struct.pack("<I", len(text))
        return name, b"\x93NUMPY" + bytes(version) + size + text + content[128:]
    return name, mutated_bytes(random, content) if random.random() < 0.03 else content


def _values(random: Random, name: str) -> Any:
    """The values of one array, mostly right."""
    generator = np.random.default_rng(random.randrange(1 << 30))
    count = 12 if "train" in name else 5
    if not name.startswith("x"):
        labels = [generator.integers(0, 3, count), np.array(3), np.array([-1] * count), np.zeros(0), np.zeros((5, 3))]
        return random.choice([labels[0]] * 40 + labels)
    pixels = generator.integers(0, 256, (count, 4, 4))
    small = pixels.astype(np.uint8)
    kinds = [
        small, small, pixels / 255, pixels, pixels > 128, small[:, None], np.full((count, 4), np.nan), small[..., None],
        np.full((count, 4), 1e400), pixels.astype("U3"), np.array([[None] * 3] * count), np.zeros((count, 0), np.uint8),
        np.asfortranarray(small[:, 0]), (pixels / 300).astype(np.float32),
    ]  # fmt: skip
    return random.choice([random.choice(kinds[:5])] * 40 + kinds)


def idx(random: Random, axes: int, count: int) -> bytes:
    """The bytes of an IDX file of `count` images or labels, packed or not, right or wrong."""
    sizes = [count, 28, 28][:axes]
    if random.random() < 0.08:
        sizes[random.randrange(axes)] = random.choice((0, 1, 27, 255, 1 << 16, (1 << 32) - 1, 1 << 31))
    kind = random.choice((*(8,) * 80, 9, 13, 0, 255))
    content = bytes((0, 0, kind, axes)) + struct.pack(f">{axes}I", *sizes)
    content += random.choices((b"\x00", b"\x01", b"\x09"), k=1)[0] * (count * (784 if axes == 3 else 1))
    if random.random() < 0.12:
        content = mutated_bytes(random, content)
    if random.random() < 0.5:
        content = gzip.compress(content, mtime=0)
        if random.random() < 0.12:
            content = mutated_bytes(random, content)
    return content


def cifar(random: Random) -> bytes:
    """The bytes of a batch of CIFAR-10, right or wrong in labels, in size or in bytes; or a pickled one."""
    count = random.choice((1, 2, 2, 3))
    labels = [random.choice((*range(10),) * 9 + (10, 255)) if random.random() < 0.1 else 7 for _ in range(count)]
    content = b"".join(bytes([label]) + bytes([label]) * 3072 for label in labels)
    choice = random.random()
    if choice < 0.1:
        content = mutated_bytes(random, content)
    elif choice < 0.13:
        content = random.choice((b"", content[1:], content + b"\x00", content[:3072], b"cos\nsystem\n(S'true'\ntR."))
    return content


def image(random: Random, is_wrong: bool) -> tuple[str, bytes]:
    """The name and the bytes of an image file, right, or of another kind or damaged."""
    pillow = __import__("PIL.Image").Image
    picture = pillow.new(
        random.choice(("L", "L", "RGB", "P", "1", "RGBA", "I;16", "CMYK") if is_wrong else ("L",)), (4, 4), 1
    )
    kind = random.choice(("PNG", "PPM", "JPEG", "PNG", "GIF", "TIFF", "BMP") if is_wrong else ("PNG", "PPM", "JPEG"))
    stream = io.BytesIO()
    try:
        picture.save(stream, kind)
    except (OSError, ValueError, KeyError):
        picture.convert("L").save(stream, "PNG")
    content = stream.getvalue()
    choice = random.random() if is_wrong else 1.0
    if choice < 0.2:
        content = _png_header(random, content)
    elif choice < 0.7:
        content = mutated_bytes(random, content)
    elif choice < 0.8:
        sizes = random.choice((b"4 4", b"100000 100000", b"0 0", b"-4 4", b"4 4 # x", b"9" * 400 + b" 4", b"4"))
        content = random.choice((b"P5 ", b"P6\n", b"P2 ", b"P1 ", b"P7 ", b"Pf ")) + sizes + b" 255\n" + b"\x01" * 60
    elif choice < 0.85:
        content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n"
    return random.choice(("a.png", "a.png", "b.ppm", "c.jpg", "d.pgm", "e.JPEG", "f.txt")), content


def _png_header(random: Random, content: bytes) -> bytes:
    """A PNG whose header says another size, with a right checksum."""
    if content[:4] != b"\x89PNG":
        return content
    sizes = [random.choice((0, 1, 4, 5, 20_000, 100_000, (1 << 31) - 1, (1 << 32) - 1)) for _ in range(2)]
    header = b"IHDR" + struct.pack(">II", *sizes) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def json_edit(random: Random, content: bytes) -> bytes:
    """A JSON file in which one value is another, missing, or there twice."""
    try:
        root = json.loads(content)
    except ValueError:
        return content
    holder = root
    while isinstance(holder, dict | list) and holder:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = random.choice(keys)
        if not isinstance(holder[key], dict | list) or not holder[key] or random.random() < 0.2:
            _edit(random, holder, key)
            break
        holder = holder[key]
    return json.dumps(root, indent=random.choice((None, 1))).encode()


def _edit(random: Random, holder: Any, key: Any) -> None:
    """Change, or remove, one item of a list or mapping."""
    values: list[Any] = [
        None, True, [], {}, "", "x", -1, 0, 1, 10**400, 1e308, float("nan"), float("inf"), [[]], {"a": 1}, 0.5, 10**12,
        "=1", "<script>", "\x00", "\ud800", "x" * 5000, -(10**30), [1] * 50,
    ]  # fmt: skip
    if random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = random.choice(values)
