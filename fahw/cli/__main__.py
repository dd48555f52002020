"""`python -m fahw.cli` is the command `fahw`."""

from fahw.cli.verbs import main

main()
