"""`python -m leti_ctl`, and the command `leti-ctl`."""

from __future__ import annotations

import sys
from typing import NoReturn

from leti_ctl import ending


def main() -> NoReturn:
    """Run the command line; see `cli`, whose imports take most of a command's first moments."""
    ending.listen()
    try:
        from leti_ctl.cli import main as command

        command()
    except KeyboardInterrupt as error:
        print(f"leti-ctl: {ending.describe(error)}; run the command again", file=sys.stderr)
        sys.exit(ending.exit_code(error))


if __name__ == "__main__":
    main()
