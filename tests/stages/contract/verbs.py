"""Each verb of a store, for tests that ask the same of all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.contract.store import Store

VERBS: dict[str, Callable[[Store, str, Path], Any]] = {
    "get": lambda store, key, _: store.get(key),
    "put_if_absent": lambda store, key, _: store.put_if_absent(key, b"data"),
    "upload": lambda store, key, path: store.upload(key, path),
    "list": lambda store, key, _: list(store.list(key)),
    "size": lambda store, key, _: store.size(key),
    "delete": lambda store, key, _: store.delete(key),
}
each_verb = pytest.mark.parametrize("verb", VERBS)
