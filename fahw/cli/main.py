"""The entry of the command line: what ends it, and with which exit code.

Exit codes: 0 done, 2 the input is wrong (every mistake is listed, nothing is half-written), 1 fahw failed.
"""

from __future__ import annotations

import errno
import sys

import typer

from fahw.cli.verbs import app
from fahw.errors import ConfigError

_WRONG_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a path that cannot be one: the user's mistake, wherever it shows."""
_INTERRUPTED = 130
"""The exit code after Ctrl-C. Some versions of typer make it of a KeyboardInterrupt, others let that pass."""


def main() -> None:
    """The command line runs; wrong input is listed on stderr, exit code 2."""
    try:
        app(prog_name="fahw")
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"error: {_one_line(str(problem))}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        code = _INTERRUPTED if isinstance(end, KeyboardInterrupt) else end.code
        if code == _INTERRUPTED:
            typer.echo("interrupted; the same command goes on where it stopped", err=True)
        sys.exit(code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        typer.echo(f"error: {_one_line(str(error))}", err=True)
        sys.exit(2 if error.errno in _WRONG_NAME else 1)


def _one_line(text: str) -> str:
    """A text with what does not print escaped: names come from files and may hold anything, a mistake is one line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
