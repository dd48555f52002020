"""Downloads of a known data set's files: checked, resumed, and never over a good file.

What arrives goes to `NAME.part` beside the file; it takes the file's name only once its checksum is right. A `.part`
that is left over is continued. A connection that breaks, and a server that is busy, are tried again after a while. Of
an archive, the files that fahw reads are unpacked beside it.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
import zlib
from collections.abc import Callable
from gzip import GzipFile
from http.client import HTTPException, HTTPResponse
from io import BufferedReader
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from fahw.datasets.catalogue import DatasetEntry, RemoteFile, dataset_entry
from fahw.datasets.idx import open_packed
from fahw.datasets.images import MOST_UNPACKED_BYTES
from fahw.errors import ConfigError, Problem, check_path
from fahw.files import expanded, write_bytes

Progress = Callable[[str, int, int], None]
"""A function of the file's name, the bytes received and the bytes of the file (0: not known)."""

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 30.0
_TRIES = 5
"""Attempts before an address is given up; counted anew after each one that brings new bytes."""
_WAIT_S = 0.5
"""Pause before the second attempt; doubled before each further one."""
_BUSY_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _FailedError(Exception):
    """One address did not yield the file; the next may."""


class _BrokenError(_FailedError):
    """The connection broke or the server is busy; the same address may yield the rest."""


def fetch(name: str, dest: Path, *, base_url: str | None = None, on_progress: Progress | None = None) -> list[Path]:
    """Download data set `name` into `dest/name` and return its files' paths; none for a set that ships with fahw.

    `base_url`: a folder on another server to use instead of the publisher's. Files that are here and right stay as
    they are; an archive's come after it. Raises ConfigError for an unknown name, a server that does not answer or lacks
    the file, a wrong checksum and a folder that cannot be written.
    """
    entry = dataset_entry(name)
    check_path("data_dir", dest)
    folder = expanded("data_dir", Path(dest)) / entry.name
    urls = entry.urls if base_url is None else (base_url,)
    for url in urls:
        _check_address(url)
    paths = [_fetch_file(file, folder, urls, on_progress) for file in entry.files]
    return paths + (_unpack(entry, paths[0]) if entry.members else [])


def _check_address(url: str) -> None:
    """Raise ConfigError unless `url` is an address of a server."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (TypeError, ValueError, AttributeError):
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(Problem("base_url", f"not an http:// or https:// address (got {url!r})"))


def is_right(path: Path, file: RemoteFile) -> bool:
    """Whether the file is the published one, as it stands or packed anew or unpacked. An unreadable one is not."""
    try:
        with path.open("rb") as stream:
            if _sha256(stream) == file.sha256:
                return True
        if not file.unpacked_sha256:
            return False
        with open_packed(path) as stream:
            return _sha256(stream) == file.unpacked_sha256
    except (OSError, EOFError, zlib.error):
        return False


def _fetch_file(file: RemoteFile, folder: Path, urls: tuple[str, ...], on_progress: Progress | None) -> Path:
    """The path of one file, fetched from the first address that yields it unless it is here and right."""
    target = folder / file.name
    if is_right(target, file):
        return target
    reasons = []
    for url in urls:
        address = f"{url.rstrip('/')}/{file.name}"
        new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            _download(address, target, file, on_progress)
            return target
        except _FailedError as error:
            reasons.append(f"{address}: {error}")
        except OSError as error:  # network errors are _FailedError by now: this is the disk
            raise ConfigError(Problem(str(folder), f"cannot be written ({error.strerror or error})")) from error
        finally:
            _remove_empty(new_folders)
    advice = f"check the connection and try again, or put the file into {folder} yourself"
    raise ConfigError(Problem(str(target), f"not fetched ({'; '.join(reasons)}); {advice}"))


def _remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders, innermost first, that a failed download made and left empty."""
    for path in folders:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _download(address: str, target: Path, file: RemoteFile, on_progress: Progress | None) -> None:
    """Download one file: continue its `.part`, or start it; where a continued one turns out wrong, start over once."""
    part = target.with_name(f"{target.name}.part")
    resumed = part.is_file() and part.stat().st_size > 0
    if not (resumed and is_right(part, file)):
        _transfer(address, part, file, on_progress)
    if not is_right(part, file) and resumed:
        part.unlink()
        _transfer(address, part, file, on_progress)
    if not is_right(part, file):
        with part.open("rb") as stream:
            digest = _sha256(stream)
        part.unlink()  # else the next try would continue a wrong file
        raise _FailedError(f"wrong checksum: SHA-256 {digest}, expected {file.sha256}")
    part.replace(target)


def _transfer(address: str, part: Path, file: RemoteFile, on_progress: Progress | None) -> None:
    """Append to `part` all that it lacks, in as many connections as it takes."""
    tries = 0
    while True:
        size_before = _size(part)
        try:
            _connect(address, part, file, on_progress)
            return
        except _BrokenError:
            tries = tries + 1 if _size(part) <= size_before else 1
            if tries >= _TRIES:
                raise
            time.sleep(_WAIT_S * 2 ** (tries - 1))


def _size(path: Path) -> int:
    """The bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def _connect(address: str, part: Path, file: RemoteFile, on_progress: Progress | None) -> None:
    """Append to `part` what it lacks, or write it anew where the server cannot continue."""
    received = _size(part)
    with _open(address, received) as response:
        if response.status != 206:
            received = 0
        length = response.headers.get("Content-Length", "")
        total = received + int(length) if length.isdigit() else 0
        part.parent.mkdir(parents=True, exist_ok=True)  # not before there is something to put into it
        with part.open("ab" if received else "wb") as out:
            while chunk := _read(response):
                out.write(chunk)
                received += len(chunk)
                if on_progress:
                    on_progress(file.name, received, total)
                if received > 2 * file.size + _CHUNK_BYTES:
                    raise _FailedError(f"more than {received:,} bytes, expected {file.size:,}")
            out.flush()
            os.fsync(out.fileno())
    if received < total:
        raise _BrokenError(f"the connection broke after {received} of {total} bytes; another try goes on from there")


def _open(address: str, start: int) -> HTTPResponse:
    """The response that yields the file from byte `start` on (status 206), or the whole file (200)."""
    try:
        request = Request(address, headers={"User-Agent": "fahw"} | ({"Range": f"bytes={start}-"} if start else {}))
        response: HTTPResponse = urlopen(request, timeout=_TIMEOUT_S)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # nothing after `start`: what is here is not a beginning of that file
            return _open(address, 0)
        kind = _BrokenError if error.code in _BUSY_STATUS else _FailedError
        raise kind(f"the server answers {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise _BrokenError(f"no answer within {_TIMEOUT_S:g} s") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _FailedError(str(getattr(error, "reason", error))) from error
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        response.close()
        return _open(address, 0)
    return response


def _read(response: HTTPResponse) -> bytes:
    """The next bytes of the response, empty at its end. Raises _BrokenError where the connection breaks."""
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"the connection broke ({error}); another try goes on from there") from error


def _unpack(entry: DatasetEntry, archive: Path) -> list[Path]:
    """The paths of the archive's files that fahw reads, unpacked whole or not at all; those that are here stay."""
    targets = {member: archive.parent / member for member in entry.members}
    missing = {member: path for member, path in targets.items() if not path.is_file()}
    try:
        with tarfile.open(archive) as packed:
            for member in packed if missing else ():
                if member.name in missing and member.isfile() and (stream := packed.extractfile(member)):
                    write_bytes(missing.pop(member.name), stream.read())
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(Problem(str(archive), f"cannot be unpacked ({reason})")) from error
    if missing:
        raise ConfigError(Problem(str(archive), f"{', '.join(missing)} not in it"))
    return list(targets.values())


def _sha256(stream: GzipFile | BufferedReader) -> str:
    """The SHA-256 of the rest of the stream, in hexadecimal; of more than `MOST_UNPACKED_BYTES`, that of the first."""
    digest, left = hashlib.sha256(), MOST_UNPACKED_BYTES
    while left > 0 and (chunk := stream.read(1 << 20)):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()
