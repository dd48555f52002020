"""Write docs/validation.md and docs/sensitivity.md anew: `make validation`."""

import sys

from fahw.files import write_text
from tests.validation import sensitivity_page
from tests.validation.page import PAGE, PICTURES, MissingReferenceError, pictures, render


def main() -> None:
    """Every section in order; one whose reference is not here is kept as it stands."""
    text, kept = render(PAGE.read_text(encoding="utf-8"))
    write_text(PAGE, text)
    write_text(sensitivity_page.PAGE, sensitivity_page.render())
    for name, data in pictures():
        write_text(PICTURES / name, data)
    for name, reason in kept:
        sys.stderr.write(f"{name}: kept as it was, {reason}\n")


if __name__ == "__main__":
    try:
        main()
    except MissingReferenceError as missing:
        sys.exit(str(missing))
