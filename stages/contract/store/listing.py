"""Pages of a bucket's listing as the server spells them, read without boto3, whose parser of dates takes most of its
time. Whoever gets None asks boto3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from stages.contract.store.verbs import Entry


class Page(NamedTuple):
    """Up to a thousand objects."""

    entries: list[Entry]
    """With their keys as the bucket has them."""
    more: str | None
    """What the next page is asked for with; None after the last."""

    def is_sound(self, prefix: str, last: str) -> bool:
        """Whether its keys begin with the prefix and rise from `last` on; if not, it came altered."""
        keys = [last, *(entry.key for entry in self.entries)]
        rises = all(before < after for before, after in itertools.pairwise(keys))
        return rises and all(key.startswith(prefix) for key in keys[1:])


def page_query(prefix: str, more: str | None) -> str:
    """Return what a page is asked for with, in canonical form: names sorted, values quoted."""
    asked = {"encoding-type": "url", "list-type": "2", "prefix": prefix}
    if more is not None:
        asked["continuation-token"] = more
    return "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(asked.items()))


def read_page(body: bytes) -> Page | None:
    """Return what a `ListBucketResult` says; None for what is none or is not whole."""
    try:
        root = ElementTree.fromstring(body)
        if _name(root) != "ListBucketResult":
            return None
        fields = _fields(root)
        spell: Callable[[str], str] = unquote if fields.get("EncodingType") == "url" else str
        entries = [_entry(_fields(each), spell) for each in root if _name(each) == "Contents"]
        return Page(entries, fields["NextContinuationToken"] if fields["IsTruncated"] == "true" else None)
    except (ElementTree.ParseError, KeyError, ValueError):
        return None


def _entry(fields: dict[str, str], spell: Callable[[str], str]) -> Entry:
    modified = datetime.fromisoformat(fields["LastModified"])
    aware = modified if modified.tzinfo else modified.replace(tzinfo=UTC)
    return Entry(spell(fields["Key"]), int(fields["Size"]), aware.timestamp())


def _fields(element: ElementTree.Element) -> dict[str, str]:
    return {_name(each): each.text or "" for each in element}


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
