"""Pages of a bucket's listing, read and asked for."""

from __future__ import annotations

import pytest

from stages.contract.store import Entry
from stages.contract.store.listing import Page, page_query, read_page

ENTRY = (
    "<Contents><Key>runs/a%20b</Key><LastModified>{}</LastModified><ETag>&quot;0&quot;</ETag><Size>12</Size></Contents>"
)


def listing(body: str, *, more: str = "<IsTruncated>false</IsTruncated>", of: str = "ListBucketResult") -> bytes:
    return f'<{of} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{more}{body}</{of}>'.encode()


@pytest.mark.parametrize("modified", ["1970-01-01T00:00:07Z", "1970-01-01T00:00:07.000Z", "1970-01-01T01:00:07+01:00"])
def test_a_page_gives_key_size_and_time_of_each_object(modified: str) -> None:
    url = "<EncodingType>url</EncodingType>"
    assert read_page(listing(url + ENTRY.format(modified))) == Page([Entry("runs/a b", 12, 7.0)], None)
    assert read_page(listing(ENTRY.format(modified))) == Page([Entry("runs/a%20b", 12, 7.0)], None)


def test_a_page_says_how_the_next_is_asked_for() -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>a+b/c=</NextContinuationToken>"
    assert read_page(listing("", more=more)) == Page([], "a+b/c=")
    wanted = "continuation-token=a%2Bb%2Fc%3D&encoding-type=url&list-type=2&prefix=runs%2Fa%20b%2F"
    assert page_query("runs/a b/", "a+b/c=") == wanted


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>login here</html>",
        listing(ENTRY.format("1970-01-01T00:00:07Z"))[:-30],
        listing(ENTRY.format("yesterday")),
        listing(ENTRY.format("1970-01-01T00:00:07Z").replace("12", "many")),
        listing("", more="<IsTruncated>true</IsTruncated>"),
        listing("", more=""),
        listing("", of="ListVersionsResult"),
    ],
)
def test_what_is_not_a_whole_page_is_left_to_boto3(body: bytes) -> None:
    assert read_page(body) is None
