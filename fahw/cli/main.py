"""The entry of the command line. It loads next to nothing before signals are heeded."""

from __future__ import annotations

import sys

from fahw.cli.stops import stoppable


def main() -> None:
    """The command line runs; wrong input is listed on stderr, exit code 2."""
    with stoppable():
        from fahw.cli.outcome import exit_code

        sys.exit(exit_code())
