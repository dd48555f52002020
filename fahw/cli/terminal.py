"""The one writer to the terminal: what it is given is printed on a stream of any encoding, and never fails on a letter.

Letters that a stream lacks become their nearest plain ones, others their number; control characters are escaped.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from contextlib import suppress
from unicodedata import normalize

from fahw.errors import printable

_PLAIN = {
    "µ": "u",
    "×": "x",
    "÷": "/",
    "±": "+/-",
    "−": "-",
    "–": "-",
    "—": "-",
    "·": ".",
    "„": '"',
    "“": '"',
    "”": '"',
}
_PLAIN |= {"‘": "'", "’": "'", "→": "->", "≤": "<=", "≥": ">=", "°": " deg", "━": "-", "╸": "-", "╺": "-"}
_HANDLER = "fahw-plain"
_GONE = (errno.EPIPE, errno.EINVAL, errno.ESHUTDOWN)
"""What systems say where nobody reads any more; Windows has EINVAL for it."""


class ReaderGoneError(Exception):
    """Nobody reads what is printed: `fahw ... | head`."""


def plain(text: str) -> str:
    """The text in ASCII: letters without their marks, signs spelt out, the rest as numbers."""
    return "".join(_PLAIN.get(char) or _without_marks(char) or ascii(char)[1:-1] for char in text)


def _without_marks(char: str) -> str:
    """The ASCII letters of a letter; empty where it has none."""
    return normalize("NFKD", char).encode("ascii", "ignore").decode()


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """What stands in the output for letters that its encoding lacks, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    return plain(error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _replaced)


def prepare() -> None:
    """From now on no letter that stdout or stderr lack is an error, whoever prints it."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors=_HANDLER)


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print the text on stdout, or on stderr where `err`. Raises ReaderGoneError where nobody reads it."""
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # as in a process without a terminal on Windows
        return
    try:
        stream.write("\n".join(map(printable, text.split("\n"))) + end)
        stream.flush()  # what is wrong shows here, not when the process ends
    except OSError as error:
        if error.errno in _GONE:
            raise ReaderGoneError from None
        raise


def abandon() -> None:
    """Let go of stdout and stderr, so that nothing is reported about them when the process ends."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
