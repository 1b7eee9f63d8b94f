"""A store that whoever runs the tests has, used and left as it was."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from stages.contract.errors import LetiError
from stages.contract.store import open_store
from stages.contract.store.s3 import S3Store
from tests.conftest import ACCOUNT


def below(address: str) -> str:
    """Return the address of a new store in a store."""
    parts = urlsplit(address)
    return parts._replace(path=f"{parts.path.rstrip('/')}/leti-test-{secrets.token_hex(8)}").geturl()


@contextmanager
def account(given: Mapping[str, str], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the user's AWS settings in the environment, in place of the tests' own."""
    with patch.context() as mine:
        for name in ACCOUNT.keys() - {"AWS_DEFAULT_REGION"}:
            mine.delenv(name)
        for name, value in given.items():
            mine.setenv(name, value)
        boto3.DEFAULT_SESSION = None  # boto3 keeps the account it found first
        yield
    boto3.DEFAULT_SESSION = None


@contextmanager
def emptied(uri: str) -> Iterator[str]:
    """Remove in the end all that is in a store, what no listing of ours shows as well."""
    yield uri
    store = open_store(uri)
    if not isinstance(store, S3Store):
        shutil.rmtree(Path(store.uri), ignore_errors=True)
        return
    for page in store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=store.root):
        for item in page.get("Contents", ()):
            store.client.delete_object(Bucket=store.bucket, Key=item["Key"])
    with suppress(LetiError):  # a server that cannot list them
        for leftover in store.leftovers(""):
            store.discard(leftover)
    store.client.close()
