"""Data files that would fill the memory, or run something, are refused by what they say of themselves."""

import gzip
import struct
import tracemalloc
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pytest

from fahw.datasets.catalogue import DATASETS
from fahw.datasets.cifar import BATCHES, MOST_IMAGES
from fahw.datasets.dataset import load_dataset
from fahw.datasets.fetch import is_right
from fahw.datasets.idx import read_idx
from fahw.datasets.image_folder import MOST_PIXELS
from fahw.datasets.images import MOST_SAMPLES, MOST_UNPACKED_BYTES
from fahw.errors import ConfigError

SMALL = 64 << 20


def refused(call, message):
    """The call is refused with this message, and takes little memory."""
    tracemalloc.start()
    with pytest.raises(ConfigError, match=message):
        call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < SMALL


def header(shape):
    """The first bytes of an array of bytes of this shape."""
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_an_npz_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path):
    """Two arrays of 600 MB, packed to 1 MB: each would fit, both would not."""
    images = 600_000
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x_train", "x_test"):
            with archive.open(f"{name}.npy", "w") as member:
                member.write(header((images, 1000)))
                for _ in range(60):
                    member.write(bytes(10_000_000))
        for name in ("y_train", "y_test"):
            stream = BytesIO()
            np.save(stream, np.zeros(images, np.uint8))
            archive.writestr(f"{name}.npy", stream.getvalue())
    assert 2 * images * 1000 > MOST_UNPACKED_BYTES
    refused(lambda: load_dataset(str(tmp_path / "bomb.npz")), f"at most {MOST_UNPACKED_BYTES:,} are held")


def test_a_directory_of_members_is_read_up_to_a_limit(tmp_path):
    """An archive of very many empty members is refused before they are listed; what is in it is read in any size."""
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(12_000):
            archive.writestr(f"{number:060}", b"")
    refused(lambda: load_dataset(str(path)), "its directory of members takes")
    values = np.arange(9_000_000, dtype=np.int64) % 200
    arrays = {"x_train": values.reshape(-1, 1000), "y_train": np.arange(9000) % 3}
    np.savez_compressed(path, x_test=arrays["x_train"], y_test=arrays["y_train"], **arrays)
    assert load_dataset(str(path)).train_images[5:7].tolist() == arrays["x_train"][5:7].tolist()


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_numpy_packs_is_unpacked(tmp_path, packing):
    """Other packings expand a thousand times more from a few bytes, and have errors of their own."""
    with zipfile.ZipFile(tmp_path / "own.npz", "w", packing) as archive:
        for name in ("x_train", "x_test", "y_train", "y_test"):
            stream = BytesIO()
            np.save(stream, np.zeros((3, 4) if name[0] == "x" else 3, np.uint8))
            archive.writestr(f"{name}.npy", stream.getvalue())
    refused(lambda: load_dataset(str(tmp_path / "own.npz")), "x_train is packed in a way that numpy does not use")


def test_more_images_than_can_be_labelled_in_memory_are_refused(tmp_path):
    """A sparse file can hold a billion labels: as int64 they would take 8 GB."""
    count = MOST_SAMPLES + 1
    arrays = {"x_train": np.zeros((count, 1), np.uint8), "y_train": np.zeros(count, np.uint8)}
    np.savez(tmp_path / "own.npz", x_test=np.zeros((2, 1), np.uint8), y_test=np.zeros(2, np.uint8), **arrays)
    with pytest.raises(ConfigError) as caught:
        load_dataset(str(tmp_path / "own.npz"))
    assert [f"at most {MOST_SAMPLES:,}" in problem.message for problem in caught.value.problems] == [True, True]


def test_an_idx_file_that_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path):
    """4 MB of gzip stand for 4 GB of zeros: nothing of them is read."""
    path = tmp_path / "bomb.gz"
    count = MOST_UNPACKED_BYTES // 784 + 1
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    chunks = [packed.compress(bytes((0, 0, 8, 3)) + struct.pack(">3I", count, 28, 28))]
    chunks += [packed.compress(zeros) for _ in range(1100)]
    path.write_bytes(b"".join([*chunks, packed.flush()]))
    refused(lambda: read_idx(path, (28, 28), "x"), f"{MOST_UNPACKED_BYTES:,} bytes are read")


def test_a_batch_of_cifar_with_more_images_than_anybody_published_is_refused(tmp_path):
    """A sparse file of 3 GB takes no room on disk, and six of them took a minute and 16 GB of memory."""
    for name in BATCHES:
        with (tmp_path / f"{name}.bin").open("wb") as file:
            file.truncate(3073 * 1_000_000)
    refused(lambda: load_dataset("cifar10", tmp_path), f"1,000,000 images; at most {MOST_IMAGES:,} are read")


def test_a_checksum_of_what_never_ends_is_not_waited_for(tmp_path, monkeypatch):
    """Where a file is looked up by what it unpacks to, that is read up to the limit."""
    monkeypatch.setattr("fahw.datasets.fetch.MOST_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(bytes(3 << 20)))
    read = []
    monkeypatch.setattr(gzip.GzipFile, "read", counting(read))
    assert not is_right(path, DATASETS["mnist"].files[1])
    assert sum(read) <= 2 << 20


def counting(read):
    """`GzipFile.read`, which notes in `read` how many bytes it gave."""
    original = gzip.GzipFile.read

    def reading(self, size=-1):
        content = original(self, size)
        read.append(len(content))
        return content

    return reading


def folder(tmp_path, content, name="a.png"):
    """An image folder with this file in its only class, for training and for testing."""
    for part in ("train", "test"):
        place = tmp_path / "set" / part / "one"
        place.mkdir(parents=True)
        (place / name).write_bytes(content)
    return str(tmp_path / "set")


def png(width, height):
    """A PNG of a few bytes whose header says this size."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (*chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("content", [png(8193, 8193), png(100_000, 100_000), b"P5 60000 60000 255\n" + bytes(99)])
def test_an_image_that_says_it_is_huge_is_not_decoded(tmp_path, content, recwarn):
    """The limit is named, and Pillow's own warnings do not show."""
    assert MOST_PIXELS < 8193 * 8193
    path = folder(tmp_path, content, "a.png")
    refused(lambda: load_dataset(path, None, (4, 4)), "not an image that can be read")
    assert not [str(warning.message) for warning in recwarn]


def test_a_picture_that_is_a_program_is_not_run(tmp_path, monkeypatch):
    """Pillow hands EPS files to Ghostscript, whatever their name: fahw opens PNG, PPM and JPEG alone."""
    pytest.importorskip("PIL.EpsImagePlugin")
    ran = []
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: ran.append(1))
    monkeypatch.setattr("PIL.EpsImagePlugin.has_ghostscript", lambda: ran.append(2))
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n"
    refused(lambda: load_dataset(folder(tmp_path, program)), "not an image that can be read")
    assert ran == []


@pytest.mark.parametrize("name", ["x" * 100_000, "~nobody_of_this_name/own.npz", "a\0b", "a/" * 5000, "\udcff"])
def test_a_name_that_no_path_can_have_is_no_data_set(name, tmp_path):
    """The system's own complaint does not get through."""
    with pytest.raises(ConfigError, match=r"no system has this one|no such user"):
        load_dataset(name, tmp_path)
