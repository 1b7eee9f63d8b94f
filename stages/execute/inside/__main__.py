"""Entry of every process inside the sandbox: `role` and its configuration as JSON are the two arguments."""

from __future__ import annotations

import json
import sys
import warnings


def main() -> None:
    """Run the role named by the first argument."""
    role, text = sys.argv[1:3]
    del sys.argv[1:]
    sys.argv[0] = "<string>"
    warnings.simplefilter("ignore")
    config = json.loads(text)
    if role == "keeper":
        from inside import keeper

        keeper.main(config)
    elif role == "zygote":
        from inside import zygote

        zygote.main(config)
    else:
        from inside import referee

        referee.main(config)
