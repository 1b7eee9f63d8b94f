"""Entry of every process inside the sandbox: `role` and its configuration as JSON are the two arguments."""

from __future__ import annotations

import importlib
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
    # Only what a role needs: each module more makes every fork dearer.
    run = importlib.import_module(f"stages.execute.inside.{role}").main
    sys.path.remove(config["home"])
    run(config)
