"""What the address of a bucket says: `s3://bucket/prefix?option=value&...`."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from stages.contract.errors import UsageError
from stages.contract.store.wire import TIMEOUT

OPTIONS = {
    "endpoint_url": "http://host:port of an S3-compatible server",
    "addressing": "path or virtual: where the bucket's name goes; left out, boto3 decides",
    "profile": "a profile of the AWS configuration",
    "region": "the bucket's region",
    "dialect": "aws or gcs; left out, the endpoint's host decides",
    "settle": "seconds; for a server without conditional writes, see `claims`",
    "transfer": "crt: large objects by the AWS Common Runtime",
    "timeout": "seconds without a byte after which a request is sent again; 20",
}
LONGEST = 3600.0
"""Seconds that an option may name."""


class Options(NamedTuple):
    """An address, validated; None is what it leaves open."""

    uri: str
    bucket: str
    root: str
    """How all keys begin: the prefix with a slash at its end, or ""."""
    endpoint_url: str | None
    addressing: str
    profile: str | None
    region: str | None
    dialect: str | None
    settle: float | None
    transfer: str | None
    timeout: float


def parse(uri: str) -> Options:
    """Return what an address says; `UsageError` for an option that there is not, or a value that none takes."""
    parts = urlsplit(uri)
    given = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if parts.fragment or set(given) - set(OPTIONS):
        raise UsageError(f"store {uri!r}: the options are {', '.join(OPTIONS)}; drop the rest")
    prefix = parts.path.strip("/")
    return Options(
        uri=uri,
        bucket=parts.netloc,
        root=f"{prefix}/" if prefix else "",
        endpoint_url=given.get("endpoint_url"),
        addressing=given.get("addressing", "auto"),
        profile=given.get("profile"),
        region=given.get("region"),
        dialect=_one_of(uri, given, "dialect", ("aws", "gcs")),
        settle=_seconds(uri, given, "settle"),
        transfer=_one_of(uri, given, "transfer", ("crt",)),
        timeout=_seconds(uri, given, "timeout") or TIMEOUT,
    )


def _one_of(uri: str, given: dict[str, str], name: str, known: tuple[str, ...]) -> str | None:
    value = given.get(name)
    if value is not None and value not in known:
        raise UsageError(f"store {uri}: {name} {value!r}; write {' or '.join(known)}, or leave it out")
    return value


def _seconds(uri: str, given: dict[str, str], name: str) -> float | None:
    if name not in given:
        return None
    try:
        seconds = float(given[name])
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise UsageError(f"store {uri}: {name} {given[name]!r}; write seconds, such as {name}=10")
    return seconds
