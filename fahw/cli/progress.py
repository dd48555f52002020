"""Progress in the terminal."""

from __future__ import annotations

import sys
import time
from math import ceil


class Progress:
    """A line on stderr: done, total, what finished last, time left. Quiet lines where stderr is not a terminal."""

    def __init__(self, unit: str) -> None:
        self._unit, self._start = unit, time.monotonic()
        self._done_before: int | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty() and self._done_before is not None:
            sys.stderr.write("\n")

    def update(self, done: int, total: int, what: str) -> None:
        """Say how far the work is."""
        if self._done_before is None:
            self._done_before, self._start = done, time.monotonic()
        text = f"{done}/{total} {self._unit}{f' ({what})' if what else ''}{self._left(done, total)}"
        sys.stderr.write(f"\r\x1b[K{text}" if sys.stderr.isatty() else f"{text}\n")
        sys.stderr.flush()

    def _left(self, done: int, total: int) -> str:
        fresh = done - (self._done_before or 0)
        if not fresh or done == total:
            return ""
        seconds = ceil((time.monotonic() - self._start) / fresh * (total - done))
        return f", {seconds // 60} min {seconds % 60:02d} s left"


def download(name: str, here: int, total: int) -> None:
    """How far a download is, where stderr is a terminal."""
    if sys.stderr.isatty():
        end = "\n" if here == total else ""
        sys.stderr.write(f"\r\x1b[K{name}: {here / 1e6:.1f} of {total / 1e6:.1f} MB{end}")
        sys.stderr.flush()
