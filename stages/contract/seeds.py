"""One way to derive seeds, so that every random choice of a run follows from `RunSpec.seed`."""

from __future__ import annotations

import hashlib
import json


def derive_seed(root: int, *path: str | int) -> int:
    """Return a 63-bit seed for the choice that `path` names, such as `(seed, "sample", 3, "train", "mbpp/601", 7)`.

    Equal paths give equal seeds on every machine; different paths give unrelated ones.
    """
    text = json.dumps([root, *path])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
