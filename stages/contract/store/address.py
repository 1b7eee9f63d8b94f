"""Addresses of stores and of what lies in them. An S3 address may end with `?options`, and they stay at its end."""

from __future__ import annotations


def split(uri: str) -> tuple[str, str]:
    """Return an address without its options, and the options with their `?`; a folder's name may hold one itself."""
    base, mark, options = uri.partition("?") if uri.startswith("s3://") else (uri, "", "")
    return base, mark + options


def join(uri: str, path: str) -> str:
    """Return the address of what lies at `path` below another address."""
    base, options = split(uri)
    return f"{base.rstrip('/')}/{path}{options}"
