"""What ends a command, what is said of it, and with which exit code.

Exit codes: 0 done, 2 the input is wrong (every mistake is listed, nothing is half-written), 1 fahw failed; as in shells
130 after Ctrl-C, 143 where it was told to end, 141 where nobody reads what it prints.
"""

from __future__ import annotations

import errno
import sys

from fahw.cli.stops import ENDED, farewell
from fahw.cli.terminal import ReaderGoneError, abandon, prepare, say
from fahw.errors import ConfigError, Problem, is_path

_WRONG_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a path that cannot be one: the user's mistake, wherever it shows."""
_INTERRUPTED, _READER_GONE = 130, 141


def exit_code() -> int | str | None:
    """The exit code of the command line, after it has run and all is said."""
    try:
        return _code_of_verb()
    except (ReaderGoneError, OSError) as error:  # what it prints arrives nowhere
        abandon()
        return _READER_GONE if isinstance(error, ReaderGoneError) else 1


def _code_of_verb() -> int | str | None:
    """The exit code of the command, once it has ended and has said why."""
    try:
        prepare()
        _check_arguments()
        from fahw.cli.verbs import app  # within reach of Ctrl-C, as all that it loads

        app(prog_name="fahw")
    except ConfigError as error:
        for problem in error.problems:
            say(f"error: {problem}", err=True)
        return 2
    except KeyboardInterrupt:  # of a library; typer may have made an exit of it
        return _stopped(_INTERRUPTED)
    except SystemExit as end:
        return _stopped(end.code) if end.code in ENDED else end.code
    except OSError as error:
        say(f"error: {error}", err=True)
        return 2 if error.errno in _WRONG_NAME else 1
    return 0


def _stopped(code: int | str | None) -> int | str | None:
    """The exit code, after the line that says what comes next."""
    say(farewell(sys.argv[1:]), err=True)
    return code


def _check_arguments() -> None:
    """Raise ConfigError with every argument that no name, path or value can be."""
    wrong = [text for text in sys.argv[1:] if not is_path(text)]
    if wrong:
        raise ConfigError(Problem(text, "no argument holds NUL, or bytes that are not UTF-8") for text in wrong)
