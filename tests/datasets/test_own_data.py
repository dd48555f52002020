"""The user's own data: NPZ files, image folders, CIFAR-10's batches; what is wrong with them is said at once."""

from __future__ import annotations

import importlib
import pickle
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw.datasets.image_folder as folder_module
from fahw.datasets.cifar import BATCHES
from fahw.datasets.dataset import Dataset, load_dataset
from fahw.datasets.images import Converted, Images, Joined
from fahw.errors import ConfigError
from tests.support.strategies import ROOT


def rng(seed=0):
    return np.random.default_rng(seed)


def arrays(**changes: Any) -> dict[str, Any]:
    """A set of 12 and 4 images, 3 classes."""
    good = {
        "x_train": rng(0).integers(0, 256, (12, 2, 5, 4), np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": rng(1).integers(0, 256, (4, 2, 5, 4), np.uint8),
        "y_test": np.arange(4) % 3,
    }
    return good | changes


def saved(path: Path, values: dict[str, Any], packed: bool = False) -> str:
    (np.savez_compressed if packed else np.savez)(path, **values)
    return str(path)


# NPZ


@pytest.mark.parametrize("packed", [False, True])
def test_an_npz_of_bytes_comes_back_as_it_was_saved(tmp_path, packed):
    values = arrays()
    data = load_dataset(saved(tmp_path / "own.npz", values, packed))

    assert (data.shape, data.classes, data.maximum) == ((2, 5, 4), 3, 255)
    for part in ("train", "test"):
        assert np.array_equal(getattr(data, f"{part}_images"), values[f"x_{part}"])
        assert getattr(data, f"{part}_labels").tolist() == values[f"y_{part}"].tolist()
    assert isinstance(data.train_images, np.memmap) is not packed


def test_a_byte_that_changed_in_an_npz_is_noticed(tmp_path):
    """Also in arrays that are mapped into memory rather than unpacked: ZIP keeps a checksum of each."""
    values = arrays(x_train=rng(0).integers(0, 256, (3000, 2, 5, 4), np.uint8), y_train=np.arange(3000) % 3)
    path = Path(saved(tmp_path / "own.npz", values))
    content = bytearray(path.read_bytes())
    content[content.index(values["x_train"].tobytes()) + 99_999] ^= 1
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"cannot be read as an NPZ file .*x_train"):
        load_dataset(str(path))


def test_an_npz_is_found_beside_the_other_data_and_keeps_its_name(tmp_path):
    saved(tmp_path / "own.npz", arrays())

    assert load_dataset("own.npz", tmp_path).name == "own.npz"


def test_the_form_of_the_file_does_not_change_the_content_hash(tmp_path):
    values = arrays()
    fortran = {name: np.asfortranarray(value) for name, value in values.items()}
    wide = {name: value.astype(np.int32) for name, value in values.items()}
    paths = [
        saved(tmp_path / "a.npz", values), saved(tmp_path / "b.npz", values, packed=True),
        saved(tmp_path / "c.npz", fortran), saved(tmp_path / "d.npz", wide),
    ]  # fmt: skip

    assert len({load_dataset(path).content_hash for path in paths}) == 1


def test_fractions_are_kept_to_16_bits_and_images_of_two_axes_get_a_channel(tmp_path):
    fractions = rng().random((12, 5, 4), np.float32)
    fractions.flat[:2] = 0, 1
    data = load_dataset(saved(tmp_path / "own.npz", arrays(x_train=fractions, x_test=fractions[:4])))

    assert (data.shape, data.maximum) == ((1, 5, 4), 65535)
    assert isinstance(data.train_images, Images)
    restored = data.train_images[:] / data.maximum
    assert np.abs(restored[:, 0] - fractions).max() <= 0.5 / 65535 + 1e-7
    assert np.array_equal(data.train_images[np.array([7, 2])], data.train_images[:][[7, 2]])


def test_a_maximum_and_classes_of_its_own(tmp_path):
    small = {"x_train": rng().integers(0, 17, (12, 8)), "x_test": rng().integers(0, 17, (4, 8))}
    data = load_dataset(saved(tmp_path / "own.npz", arrays(**small, maximum=16, classes=7)))

    assert (data.shape, data.maximum, data.classes) == ((8,), 16, 7)
    assert data.train_images[:].dtype == np.uint8


def nan(shape, at):
    values = np.zeros(shape, np.float32)
    values[at] = np.nan
    return values


def at(values, place, value):
    out = values.copy()
    out[place] = value
    return out


GOOD = arrays()
WRONG_NPZ = {
    "nan": ({"x_train": nan((12, 5, 4), (7, 0, 3))}, r"x_train\[7, 0, 3\] is nan, expected 0 to 1"),
    "nan far in": (
        {"x_train": nan((3_000_000, 2), (2_999_999, 1)), "y_train": np.arange(3_000_000) % 3},
        r"x_train\[2999999, 1\] is nan",
    ),
    "inf": ({"x_test": at(np.zeros((4, 2, 5, 4)), (1, 1, 0, 0), np.inf)}, r"x_test\[1, 1, 0, 0\] is inf"),
    "not scaled": ({"x_train": np.full((12, 5, 4), 255.0)}, r"is 255.0, expected 0 to 1 \(and 239 more\); divide"),
    "negative": ({"x_train": at(np.zeros((12, 5, 4), np.int16), (3, 0, 0), -1)}, r"x_train\[3, 0, 0\] is -1"),
    "negative label": ({"y_train": at(GOOD["y_train"], 5, -1)}, r"y_train\[5\] is -1, expected 0 to 65534"),
    "unknown label": ({"y_test": at(GOOD["y_test"], 2, 3)}, r"y_test\[2\] is 3, expected 0 to 2"),
    "above classes": ({"classes": 2}, r"y_train\[2\] is 2, expected 0 to 1 \(and 3 more\)"),
    "one-hot": ({"y_train": np.eye(12)}, r"y_train has shape \(12, 12\); expected class numbers \(n,\), as argmax"),
    "float labels": ({"y_train": np.arange(12.0)}, r"y_train holds float64 of shape \(12,\); expected whole numbers"),
    "count": ({"y_train": np.arange(11) % 3}, "y_train has 11 labels, x_train 12 images"),
    "sizes": ({"x_test": np.zeros((4, 2, 5, 5), np.uint8)}, r"x_train's are \(2, 5, 4\), x_test's \(2, 5, 5\)"),
    "channels last": ({"x_train": np.zeros((12, 8, 8, 3), np.uint8)}, r"\(12, 8, 8, 3\): channels last"),
    "axes": ({"x_train": np.zeros(12, np.uint8)}, r"x_train has shape \(12,\); expected \(n, features\)"),
    "none": ({"x_test": np.zeros((0, 2, 5, 4), np.uint8)}, r"x_test has shape \(0, 2, 5, 4\)"),
    "text": ({"x_train": np.full((12, 5, 4), "a")}, "x_train holds <U1; expected whole numbers"),
    "objects": ({"x_train": np.array([{}, []], object)}, "x_train holds Python objects, which are not unpickled"),
    "kinds": ({"x_test": np.zeros((4, 2, 5, 4), np.float32)}, "x_train and x_test must both be whole numbers or both"),
    "maximum": ({"maximum": 0}, "maximum: must be one whole number from 1 to 65535"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_NPZ)
def test_a_wrong_npz_is_named_with_the_array_and_the_index(tmp_path, case):
    change, message = WRONG_NPZ[case]
    path = saved(tmp_path / "own.npz", arrays(**change))

    with pytest.raises(ConfigError, match=message) as caught:
        load_dataset(path)
    assert path in str(caught.value)


def test_every_mistake_of_an_npz_is_listed_at_once(tmp_path):
    path = saved(tmp_path / "own.npz", arrays(x_train=nan((12, 5, 4), (1, 2, 3)), y_test=np.full(4, 9)))

    with pytest.raises(ConfigError) as caught:
        load_dataset(path)
    assert [str(problem).count("[") for problem in caught.value.problems] == [1, 1, 0]


def test_missing_arrays_are_named_with_the_nearest_that_is_there(tmp_path):
    values = arrays()
    values["xtrain"] = values.pop("x_train")

    with pytest.raises(ConfigError, match=r"no array 'x_train' \(did you mean 'xtrain'\?\); needs x_train, y_train"):
        load_dataset(saved(tmp_path / "own.npz", values))


@given(st.data())
def test_a_damaged_npz_is_refused_or_read_but_never_a_traceback(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("npz") / "own.npz"
    saved(path, arrays(), packed=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    with suppress(ConfigError):
        assert isinstance(load_dataset(str(path)), Dataset)


# Folders


def draw(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def image_folder(root: Path, ending="png", size=(6, 5), test="val") -> dict[str, np.ndarray]:
    """Two classes of three training images and a test image each; the pixels by path."""
    drawn = {}
    for part, count in (("train", 3), (test, 1)):
        for name in ("cat", "dog"):
            for number in range(count):
                where = f"{part}/{name}/{number}.{ending}"
                drawn[where] = rng(len(drawn)).integers(0, 256, (*size, 3), np.uint8)
                draw(root / where, drawn[where])
    return drawn


@pytest.mark.parametrize("ending", ["png", "ppm"])
@pytest.mark.parametrize("test", ["val", "test"])
def test_an_image_folder_comes_back_pixel_for_pixel(tmp_path, ending, test):
    drawn = image_folder(tmp_path, ending, test=test)
    (tmp_path / "train" / "cat" / "Thumbs.db").write_bytes(b"not an image")
    data = load_dataset(str(tmp_path))

    assert (data.shape, data.classes, data.maximum) == ((3, 6, 5), 2, 255)
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_labels.tolist() == [0, 1]
    expected = np.stack([pixels for where, pixels in drawn.items() if where.startswith("train")])
    assert np.array_equal(data.train_images, expected.transpose(0, 3, 1, 2))


def test_jpeg_pixels_are_pillows_and_grey_images_have_one_channel(tmp_path):
    from PIL import Image

    image_folder(tmp_path, "jpg", size=(16, 16))
    expected = np.asarray(Image.open(tmp_path / "train" / "dog" / "1.jpg"))
    assert np.array_equal(load_dataset(str(tmp_path)).train_images[4], expected.transpose(2, 0, 1))

    for path in tmp_path.rglob("*.jpg"):
        draw(path.with_suffix(".pgm"), np.asarray(Image.open(path).convert("L")))
        path.unlink()
    assert load_dataset(str(tmp_path)).shape == (1, 16, 16)


def test_a_large_folder_is_decoded_batch_by_batch_to_the_same_pixels(tmp_path, monkeypatch):
    image_folder(tmp_path)
    held = load_dataset(str(tmp_path))
    monkeypatch.setattr(folder_module, "_IN_MEMORY_BYTES", 0)
    streamed = load_dataset(str(tmp_path))

    assert isinstance(streamed.train_images, Images)
    assert np.array_equal(streamed.train_images[np.array([5, 0, 5])], held.train_images[[5, 0, 5]])
    before = streamed.content_hash
    draw(tmp_path / "train" / "cat" / "1.png", np.zeros((6, 5, 3), np.uint8))
    assert load_dataset(str(tmp_path)).content_hash != before


def test_sizes_that_differ_are_named_and_image_size_makes_them_one(tmp_path):
    image_folder(tmp_path)
    draw(tmp_path / "train" / "dog" / "1.png", np.full((8, 12, 3), 70, np.uint8))
    draw(tmp_path / "val" / "dog" / "0.png", np.full((9, 9, 3), 7, np.uint8))

    with pytest.raises(ConfigError, match=r"train/dog/1.png: 8 x 12, but 0.png is 6 x 5: sizes differ") as caught:
        load_dataset(str(tmp_path))
    assert len(caught.value.problems) == 2
    data = load_dataset(str(tmp_path), image_size=(4, 3))
    assert data.shape == (3, 4, 3)
    assert (data.train_images[4] == 70).all()


def test_every_damaged_file_and_unknown_class_is_named_before_anything_trains(tmp_path):
    image_folder(tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"nothing")
    whole = (tmp_path / "train" / "dog" / "2.png").read_bytes()
    draw(tmp_path / "val" / "dog" / "0.png", np.zeros((6, 5), np.uint16))
    with pytest.raises(ConfigError, match=r"train/cat/0.png: not an image that can be read") as caught:
        load_dataset(str(tmp_path))
    assert "pixels of kind 'I;16'; expected 8 bits" in str(caught.value)

    image_folder(tmp_path)
    (tmp_path / "train" / "dog" / "2.png").write_bytes(whole[:70])
    with pytest.raises(ConfigError, match=r"train/dog/2.png: cannot be decoded"):
        load_dataset(str(tmp_path))

    draw(tmp_path / "val" / "dgo" / "0.png", np.zeros((6, 5, 3), np.uint8))
    (tmp_path / "train" / "bird").mkdir()
    with pytest.raises(ConfigError, match=r"val/dgo: no class .* train/ \(did you mean 'dog'\?\)") as caught:
        load_dataset(str(tmp_path))
    assert "train/bird: no images in it" in str(caught.value)


def test_a_folder_of_something_else_and_a_missing_path_say_what_is_expected(tmp_path):
    with pytest.raises(ConfigError, match=r"not an image folder: needs train/CLASS/\*.png and test/ \(or val/\) alike"):
        load_dataset(str(tmp_path))
    with pytest.raises(ConfigError, match=r"no file or folder '.*absent.npz'"):
        load_dataset(str(tmp_path / "absent.npz"))
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ConfigError, match=r"notes.txt: expected an .npz file"):
        load_dataset(str(tmp_path / "notes.txt"))
    with pytest.raises(ConfigError, match=r"no data set 'ciphar10' \(did you mean 'cifar10'\?\).*the path of an"):
        load_dataset("ciphar10")


def test_without_pillow_the_message_says_what_to_install(tmp_path, monkeypatch):
    image_folder(tmp_path)
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(folder_module, "import_module", without)
    with pytest.raises(ConfigError, match=r"image folders need Pillow: pip install 'fahw\[images\]'"):
        load_dataset(str(tmp_path))


# CIFAR-10


def cifar(count=4):
    """Labels and images of six small batches."""
    return [(rng(i).integers(0, 10, count), rng(i).integers(0, 256, (count, 3, 32, 32), np.uint8)) for i in range(6)]


def write_binary(folder: Path, batches) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (labels, images) in zip(BATCHES, batches, strict=True):
        rows = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(len(labels), -1)], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


def write_pickled(folder: Path, batches) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (labels, images) in zip(BATCHES, batches, strict=True):
        value = {b"data": images.reshape(len(labels), -1), b"labels": labels.tolist(), b"filenames": [b"a.png"]}
        (folder / name).write_bytes(pickle.dumps(value, 2))
    return folder


@pytest.mark.parametrize("below", ["", "cifar10", "cifar10/cifar-10-batches-bin", "cifar-10-batches-bin"])
def test_binary_batches_are_found_and_stay_on_disk(tmp_path, below):
    batches = cifar()
    write_binary(tmp_path / below, batches)
    data = load_dataset("cifar10", tmp_path)

    assert (data.shape, data.classes, len(data.train_labels), len(data.test_labels)) == ((3, 32, 32), 10, 20, 4)
    assert isinstance(data.train_images, Joined)
    images, labels = np.concatenate([b[1] for b in batches[:5]]), np.concatenate([b[0] for b in batches[:5]])
    order = np.array([19, 0, 7, 7, 12])
    assert np.array_equal(data.train_images[order], images[order])
    assert np.array_equal(data.train_images[3:9], images[3:9])
    assert np.array_equal(data.train_labels, labels)
    assert np.array_equal(data.test_images, batches[5][1])


def test_a_pickled_batch_is_refused_unopened_and_converted_as_the_howto_says(tmp_path, monkeypatch):
    """Wherever the archive puts the pickles; and the lines of Python in docs/howto.md make the same set of them."""
    batches = cifar()
    for below in ("", "cifar-10-batches-py", "cifar10/cifar-10-batches-py"):
        folder = write_pickled(tmp_path / "in" / str(len(below)) / below, batches)
        with pytest.raises(ConfigError, match=r"pickled batch.*can run code: get the binary version") as caught:
            load_dataset("cifar10", tmp_path / "in" / str(len(below)))
        assert str(folder / "data_batch_1") in str(caught.value)
    howto = (ROOT / "docs" / "howto.md").read_text(encoding="utf-8")
    monkeypatch.chdir(folder)
    exec(next(text for text in re.findall(r"```text\n(.*?)```", howto, re.S) if "pickle.loads" in text))

    expected = load_dataset(str(write_binary(tmp_path / "bin", batches)))
    assert load_dataset(str(folder)).content_hash == expected.content_hash


def test_nothing_of_a_pickle_runs_nor_hangs(tmp_path, monkeypatch):
    """A dictionary that is referenced twice, 40 levels deep, is 2^40 dictionaries to who walks through it."""
    monkeypatch.chdir(tmp_path)
    deep: Any = {}
    for _ in range(40):
        deep = {0: deep, 1: deep}
    for value in (Evil(), deep):
        (tmp_path / "test_batch").write_bytes(pickle.dumps(value))
        with pytest.raises(ConfigError, match="pickled batch"):
            load_dataset(".")
    assert not (tmp_path / "pwned").exists()


class Evil:
    def __reduce__(self):
        return subprocess.call, (["touch", "pwned"],)


@pytest.mark.parametrize(("change", "message"), [
    (lambda b: b[:-1], "12,291 bytes are not whole records of 3,073 bytes"),
    (lambda b: b"", "0 bytes are not whole records"),
    (lambda b: b[:3073] + b"\x0a" + b[3074:], "label 1 is 10, expected 0 to 9"),
])  # fmt: skip
def test_a_wrong_binary_batch_is_named(tmp_path, change, message):
    folder = write_binary(tmp_path, cifar())
    path = folder / "data_batch_3.bin"
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(ConfigError, match=message) as caught:
        load_dataset("cifar10", tmp_path)
    assert str(path) in str(caught.value)


def test_a_batch_that_is_missing_is_named_and_no_batches_say_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"no cifar10 here or in 'cifar10/'.*fahw data fetch cifar10"):
        load_dataset("cifar10", tmp_path)
    write_binary(tmp_path, cifar())
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(ConfigError, match=r"data_batch_4.bin missing"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.slow
def test_real_cifar10(tmp_path):
    script = ROOT.parent / "shared" / "data" / "cifar10_unpack.py"
    if not script.is_file():
        pytest.skip("CIFAR-10 is not on this machine")
    subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True)
    data = load_dataset("cifar10", tmp_path)

    assert (len(data.train_labels), len(data.test_labels)) == (50000, 10000)
    assert np.bincount(data.train_labels).tolist() == [5000] * 10
    # The means of the three channels that are quoted everywhere for normalisation.
    means = np.mean([data.train_images[i : i + 5000].mean((0, 2, 3)) for i in range(0, 50000, 5000)], axis=0) / 255
    assert means == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)


# Conversions


def test_joined_arrays_are_indexed_as_their_concatenation():
    parts = [rng(i).integers(0, 256, (n, 2), np.uint8) for i, n in enumerate((3, 1, 4))]
    joined, whole = Joined(parts), np.concatenate(parts)

    for chosen in (slice(None), slice(2, 7), np.array([7, 0, 3, 3, 2]), np.array([], np.int64)):
        assert np.array_equal(joined[chosen], whole[chosen])


def test_converted_arrays_convert_only_what_is_asked_for():
    asked = []

    def convert(block):
        asked.append(len(block))
        return block.astype(np.uint8)

    images = Converted(np.arange(20.0).reshape(10, 2), (2,), np.dtype(np.uint8), convert)
    assert images[np.array([4, 9])].tolist() == [[8, 9], [18, 19]]
    assert asked == [2]


@pytest.mark.parametrize(
    "header",
    ["{'descr': [", "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 12), }\n", "b'''",
     "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -12), }\n", "(" * 5000, "{False: 1, 'shape': 2}",
     "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 12), 'shape': [1, 12]}\n"],
    ids=range(7),
)  # fmt: skip
def test_a_damaged_header_in_an_npz_is_one_error(tmp_path, header):
    """NumPy reads it with Python's own parser, whose errors are of many kinds."""
    path = tmp_path / "own.npz"
    np.savez(path, **arrays())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = header.encode()
    members["x_train.npy"] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ConfigError, match="cannot be read as an NPZ file of numbers"):
        load_dataset(str(path))
