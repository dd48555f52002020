"""Data sets: the bundled digits, files on disk, downloads, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import fahw.datasets.fetch as fetch_module
from fahw.datasets import catalogue
from fahw.datasets.catalogue import DATASETS, RemoteFile
from fahw.datasets.dataset import data_folder, load_dataset
from fahw.datasets.fetch import fetch
from fahw.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent.parent
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def contents(count: int = 6) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    out = {}
    for part, n in (("train", count), ("t10k", count // 2)):
        out[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28), np.uint8))
        out[f"{part}-labels-idx1-ubyte"] = idx(np.arange(n, dtype=np.uint8) % 10)
    return out


def write(folder: Path, files: dict[str, bytes], pack: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / (f"{name}.gz" if pack else name)).write_bytes(gzip.compress(value) if pack else value)
    return folder


# Digits


def test_digits_are_the_published_images() -> None:
    data = load_dataset("digits")
    assert data.train_images.shape == (1437, 1, 8, 8)
    assert data.test_images.shape == (360, 1, 8, 8)
    assert (data.shape, data.classes, data.maximum) == ((1, 8, 8), 10, 16)
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == np.int64
    labels = np.concatenate([data.train_labels, data.test_labels])
    # Class counts that the repository states for this part.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert max(data.train_images.max(), data.test_images.max()) == 16
    # The mean of the copy that scikit-learn loads, 4.88416.
    pixels = np.concatenate([data.train_images, data.test_images]).astype(float)
    assert pixels.mean() == pytest.approx(4.8842, abs=5e-5)


def test_digits_split_is_stratified_disjoint_and_fixed() -> None:
    data, again = load_dataset("digits"), load_dataset("digits")
    assert np.abs(np.bincount(data.test_labels) - np.bincount(data.train_labels) / 4).max() <= 1
    train = {image.tobytes() for image in data.train_images}
    assert not any(image.tobytes() in train for image in data.test_images)
    assert data.content_hash == again.content_hash
    assert data.content_hash.startswith("cb42e5c255c139ca")


def test_content_hash_follows_every_value() -> None:
    data = load_dataset("digits")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        changed = getattr(data, name).copy()
        changed.flat[3] += 1
        assert replace(data, **{name: changed}).content_hash != data.content_hash
    assert replace(data, maximum=15).content_hash != data.content_hash


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no data set 'minst' \(did you mean 'mnist'\?\); known: digits, mnist"):
        load_dataset("minst")
    with pytest.raises(ConfigError, match="no data set 'cifar'"):
        fetch("cifar", Path("nowhere"))


# Files on disk


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("below", ["", "mnist"])
def test_idx_files_in_the_folder_or_below_packed_or_not(tmp_path: Path, pack: bool, below: str) -> None:
    files = contents()
    write(tmp_path / below, files, pack)
    data = load_dataset("mnist", tmp_path)
    assert data.train_images.shape == (6, 1, 28, 28)
    assert data.test_images.shape == (3, 1, 28, 28)
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.train_images.tobytes() == files[IMAGES][16:]


def test_names_with_a_dot_and_unpacked_files_that_kept_gz(tmp_path: Path) -> None:
    for name, value in contents().items():
        kept = f"{name}.gz" if "t10k" in name else name.replace("-idx", ".idx")
        (tmp_path / kept).write_bytes(value)
    assert len(load_dataset("mnist", tmp_path).test_labels) == 3


def test_the_folder_is_chosen_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAHW_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder() == tmp_path / "cache" / "fahw"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".cache" / "fahw"
    monkeypatch.setenv("FAHW_DATA", str(tmp_path / "given"))
    assert data_folder() == tmp_path / "given"
    assert data_folder(tmp_path) == tmp_path
    write(tmp_path / "given" / "fashion_mnist", contents())
    assert load_dataset("fashion_mnist").name == "fashion_mnist"


def test_missing_folder_and_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no mnist here or in 'mnist/'.*run 'fahw data fetch mnist'"):
        load_dataset("mnist", tmp_path / "absent")
    files = contents()
    del files[LABELS]
    write(tmp_path, files)
    with pytest.raises(ConfigError, match=rf"{LABELS}\.gz missing.*fahw data fetch mnist"):
        load_dataset("mnist", tmp_path)


def cut(value: bytes) -> bytes:
    return value[:-10]


def counted(value: bytes, count: int) -> bytes:
    return value[:4] + struct.pack(">I", count) + value[8:]


WRONG: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": (IMAGES, lambda v: b"", r"not an IDX file of bytes with 3 axes: it starts , not 00000803"),
    "magic": (IMAGES, lambda v: b"\x00\x00\x09\x03" + v[4:], "it starts 00000903, not 00000803"),
    "labels for images": (IMAGES, lambda v: contents()[LABELS], "it starts 00000801, not 00000803"),
    "short header": (IMAGES, lambda v: v[:9], "the header ends after 9 of 16 bytes"),
    "fewer bytes": (IMAGES, cut, "= 4704 bytes of values, the file holds 4694 bytes"),
    "more bytes": (IMAGES, lambda v: v + b"x", "the file holds more"),
    "larger count": (IMAGES, lambda v: counted(v, 1_000_000), "the file holds 4704 bytes"),
    "absurd count": (IMAGES, lambda v: counted(v, 0xFFFFFFFF), "at most 20,000,000 images and 1,073,741,824 bytes"),
    "no images": (IMAGES, lambda v: counted(v, 0)[:16], "expected n x 28 x 28 with n > 0"),
    "image size": (IMAGES, lambda v: idx(np.zeros((6, 14, 14), np.uint8)), "6 x 14 x 14 values, expected n x 28 x 28"),
    "label range": (LABELS, lambda v: idx(np.array([0, 1, 10, 0, 0, 0], np.uint8)), "label 2 is 10, expected 0 to 9"),
    "label count": (LABELS, lambda v: idx(np.zeros(5, np.uint8)), f"5 labels, but {IMAGES}.gz holds 6 images"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_what_was_expected(tmp_path: Path, case: str) -> None:
    name, change, message = WRONG[case]
    files = contents()
    write(tmp_path, files | {name: change(files[name])})
    with pytest.raises(ConfigError, match=message) as caught:
        load_dataset("mnist", tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "fahw data fetch mnist" in str(caught.value)


@pytest.mark.parametrize("change", [cut, lambda v: v[:60], lambda v: v[:200] + b"\x55" * 90 + v[290:], lambda v: v[:2]])
def test_damaged_gzip_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path, contents()) / f"{IMAGES}.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ConfigError, match="damaged or cut-off gzip"):
        load_dataset("mnist", tmp_path)


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents()
    known = DATASETS["mnist"]
    labels = replace(known.files[1], unpacked_sha256=hashlib.sha256(files[LABELS]).hexdigest())
    fake = replace(known, files=(known.files[0], labels, *known.files[2:]))
    monkeypatch.setitem(catalogue.DATASETS, "mnist", fake)
    write(tmp_path, files)
    assert load_dataset("mnist", tmp_path).name == "mnist"
    with pytest.raises(ConfigError, match="this is mnist, not fashion_mnist"):
        load_dataset("fashion_mnist", tmp_path)


def real_mnist() -> Path | None:
    roots = [os.environ.get("FAHW_DATA"), REPOSITORY.parent / "shared" / "data"]
    return next((Path(r) for r in roots if r and (Path(r) / "mnist" / f"{IMAGES}.gz").is_file()), None)


def test_real_mnist() -> None:
    root = real_mnist()
    if root is None:
        pytest.skip("MNIST is not on this machine")
    data = load_dataset("mnist", root)
    assert data.train_images.shape == (60000, 1, 28, 28)
    assert data.test_images.shape == (10000, 1, 28, 28)
    assert data.train_labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    # The mean that is quoted everywhere for normalisation.
    assert data.train_images.mean() / data.maximum == pytest.approx(0.1307, abs=5e-5)


def test_real_mnist_counts_as_fetched() -> None:
    root = real_mnist()
    if root is None:
        pytest.skip("MNIST is not on this machine")
    paths = fetch("mnist", root, base_url="http://127.0.0.1:9/")  # nothing listens there
    assert [path.name for path in paths] == [file.name for file in DATASETS["mnist"].files]


# Downloads


class Handler(BaseHTTPRequestHandler):
    """Serves `files`; `ranges` whether it can continue; `limit` cuts the body off, `piece` every answer after as many
    bytes; `busy` answers are 503 first; `asked` notes the Range headers."""

    def __init__(self, state: Server, *args: object) -> None:
        self.state = state
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.state.asked.append((self.path, asked))
        body = self.state.files.get(self.path.rpartition("/")[2])
        if body is None:
            self.send_error(404)
            return
        if self.state.busy:
            self.state.busy -= 1
            self.send_error(503)
            return
        start = int(re.findall(r"\d+", asked)[0]) if asked and self.state.ranges else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = self.state.limit if self.state.piece is None else start + self.state.piece
        self.wfile.write(body[start:end])

    def log_message(self, *args: object) -> None: ...


class Server:
    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.ranges, self.busy = files, True, 0
        self.limit: int | None = None
        self.piece: int | None = None
        self.asked: list[tuple[str, str | None]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/sets"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves a small set that goes by the name of mnist; nobody waits between two attempts."""
    monkeypatch.setattr(fetch_module, "_WAIT_S", 0)
    files = {f"{name}.gz": gzip.compress(value, mtime=0) for name, value in contents().items()}
    order = [file.name for file in DATASETS["mnist"].files]
    remote = tuple(RemoteFile(n, len(files[n]), hashlib.sha256(files[n]).hexdigest()) for n in order)
    server = Server(files)
    fake = replace(DATASETS["mnist"], files=remote, urls=(f"{server.url}/gone/missing", server.url))
    monkeypatch.setitem(catalogue.DATASETS, "mnist", fake)
    yield server
    server.close()


def test_fetch_then_load_then_nothing_to_do(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    paths = fetch("mnist", tmp_path, base_url=server.url, on_progress=lambda *step: seen.append(step))
    assert [path.parent for path in paths] == [tmp_path / "mnist"] * 4
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == sorted(server.files)
    assert seen[-1][1] == seen[-1][2] == len(server.files[seen[-1][0]])
    assert load_dataset("mnist", tmp_path).train_labels.tolist() == [0, 1, 2, 3, 4, 5]
    before = len(server.asked)
    assert fetch("mnist", tmp_path, base_url=server.url) == paths
    assert len(server.asked) == before
    assert fetch("digits", tmp_path) == []


def test_fetch_goes_on_with_a_part(server: Server, tmp_path: Path) -> None:
    name = f"{IMAGES}.gz"
    part = tmp_path / "mnist" / f"{name}.part"
    part.parent.mkdir()
    part.write_bytes(server.files[name][:1000])
    fetch("mnist", tmp_path, base_url=server.url)
    assert server.asked[0] == (f"/sets/{name}", "bytes=1000-")
    assert (tmp_path / "mnist" / name).read_bytes() == server.files[name]
    assert not part.exists()


@pytest.mark.parametrize("left", ["wrong", "complete", "too long"])
@pytest.mark.parametrize("ranges", [True, False])
def test_fetch_starts_over_where_a_part_is_of_no_use(server: Server, tmp_path: Path, left: str, ranges: bool) -> None:
    name = f"{IMAGES}.gz"
    body = server.files[name]
    part = tmp_path / "mnist" / f"{name}.part"
    part.parent.mkdir()
    part.write_bytes({"wrong": b"x" * 1000, "complete": body, "too long": body + b"x"}[left])
    server.ranges = ranges
    fetch("mnist", tmp_path, base_url=server.url)
    assert (tmp_path / "mnist" / name).read_bytes() == body
    asked = [path for path, _ in server.asked if path.endswith(name)]
    assert len(asked) == {"wrong": 2 if ranges else 1, "complete": 0, "too long": 2 if ranges else 1}[left]


def test_a_broken_connection_is_reported_and_continued(server: Server, tmp_path: Path) -> None:
    server.limit = 500
    with pytest.raises(ConfigError, match=r"the connection broke.*another try goes on from there"):
        fetch("mnist", tmp_path, base_url=server.url)
    assert (tmp_path / "mnist" / f"{IMAGES}.gz.part").stat().st_size == 500
    server.limit = None
    assert len(fetch("mnist", tmp_path, base_url=server.url)) == 4
    assert (f"/sets/{IMAGES}.gz", "bytes=500-") in server.asked


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_again_and_again_is_continued(server: Server, tmp_path: Path, ranges: bool) -> None:
    """As long as every connection brings something; a server that always starts over never gets further."""
    name, server.piece, server.ranges = f"{IMAGES}.gz", 700, ranges
    connections = -(-len(server.files[name]) // 700)
    if ranges:
        assert len(fetch("mnist", tmp_path, base_url=server.url)) == 4
        assert [asked for path, asked in server.asked if path.endswith(name)] == [
            None, *(f"bytes={700 * i}-" for i in range(1, connections))
        ]  # fmt: skip
        return
    with pytest.raises(ConfigError, match="the connection broke after 700 of"):
        fetch("mnist", tmp_path, base_url=server.url)
    assert len(server.asked) == fetch_module._TRIES


@pytest.mark.parametrize(("busy", "reached"), [(3, True), (100, False)])
def test_a_busy_server_is_asked_again_for_a_while(server: Server, tmp_path: Path, busy: int, reached: bool) -> None:
    server.busy = busy
    if reached:
        assert len(fetch("mnist", tmp_path, base_url=server.url)) == 4
        return
    with pytest.raises(ConfigError, match="the server answers 503"):
        fetch("mnist", tmp_path, base_url=server.url)
    assert len(server.asked) == fetch_module._TRIES


def test_the_waits_between_attempts_grow(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetch_module, "_WAIT_S", 0.5)
    monkeypatch.setattr(fetch_module.time, "sleep", waits.append)
    server.busy = 3
    fetch("mnist", tmp_path, base_url=server.url)
    assert waits == [0.5, 1, 2]


def test_a_full_disk_is_said_and_the_part_kept(server: Server, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    part = tmp_path / "mnist" / f"{IMAGES}.gz.part"
    part.parent.mkdir()
    part.symlink_to("/dev/full")  # every write to it finds the disk full
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\)"):
        fetch("mnist", tmp_path, base_url=server.url)
    assert part.is_symlink()
    assert [path.name for path in part.parent.iterdir()] == [part.name]


def test_a_server_that_never_stops_is_cut_off(server: Server, tmp_path: Path) -> None:
    server.files[f"{IMAGES}.gz"] = b"x" * 1_000_000
    with pytest.raises(ConfigError, match=r"more than [\d,]+ bytes, expected"):
        fetch("mnist", tmp_path, base_url=server.url)
    assert (tmp_path / "mnist" / f"{IMAGES}.gz.part").stat().st_size < 200_000


def archive(members: dict[str, bytes]) -> bytes:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, BytesIO(content))
    return out.getvalue()


@pytest.fixture
def cifar_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Serves a small CIFAR-10, with files in its archive that nobody asked for."""
    known = DATASETS["cifar10"]
    record = bytes([3]) + bytes(range(256)) * 12
    packed = archive({"../outside": b"x", "/tmp/outside": b"x", **dict.fromkeys(known.members, record), "more": b"x"})
    file = RemoteFile(known.files[0].name, len(packed), hashlib.sha256(packed).hexdigest())
    monkeypatch.setitem(catalogue.DATASETS, "cifar10", replace(known, files=(file,)))
    server.files = {file.name: packed}
    return server


def test_an_archive_is_fetched_and_only_what_is_read_is_unpacked(cifar_server: Server, tmp_path: Path) -> None:
    paths = fetch("cifar10", tmp_path, base_url=cifar_server.url)
    data = load_dataset("cifar10", tmp_path)
    assert (len(data.train_labels), len(data.test_labels), data.train_labels[0]) == (5, 1, 3)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == sorted(str(path.relative_to(tmp_path)) for path in paths)
    assert not (tmp_path.parent / "outside").exists()

    paths[2].unlink()  # as after a crash in between
    before = len(cifar_server.asked)
    assert fetch("cifar10", tmp_path, base_url=cifar_server.url) == paths
    assert load_dataset("cifar10", tmp_path).content_hash == data.content_hash
    assert len(cifar_server.asked) == before


def test_a_wrong_checksum_keeps_what_was_there(server: Server, tmp_path: Path) -> None:
    name = f"{LABELS}.gz"
    server.files[name] += b"tampered"
    kept = tmp_path / "mnist" / name
    kept.parent.mkdir()
    kept.write_bytes(b"the user's own file")
    with pytest.raises(ConfigError, match=r"wrong checksum: SHA-256 \w{64}, expected \w{64}.*put the file into"):
        fetch("mnist", tmp_path, base_url=server.url)
    assert kept.read_bytes() == b"the user's own file"
    assert sorted(path.name for path in kept.parent.iterdir()) == sorted([name, f"{IMAGES}.gz"])


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    del server.files[f"{LABELS}.gz"]
    with pytest.raises(ConfigError, match=r"gone/missing/.*404.*sets/train-labels.*404"):
        fetch("mnist", tmp_path)


def test_no_server_and_no_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not fetched \(http://127.0.0.1:9/.*refused.*check the connection"):
        fetch("mnist", tmp_path, base_url="http://127.0.0.1:9/")
    for address in ("file:///etc", "sets", ""):
        with pytest.raises(ConfigError, match="not an http"):
            fetch("mnist", tmp_path, base_url=address)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mnist").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        fetch("mnist", tmp_path, base_url=server.url)
