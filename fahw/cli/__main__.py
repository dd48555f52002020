"""`python -m fahw.cli` is the command `fahw`."""

from fahw.cli.main import main

main()
