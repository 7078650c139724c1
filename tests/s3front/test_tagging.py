"""Tags in headers and bodies: what AWS takes and what it refuses."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front import errors
from s3front.wire import tagging
from s3front.wire.tagging import document_bucket_tags, document_object_tags, header_tags, tag_set_xml
from s3front.wire.xml_writer import document

BYTES_MAX = 1 << 20
WORDS = st.text(st.characters(categories=("L", "N", "Z"), include_characters="_.:/=+-@"), max_size=20).filter(
    lambda word: not word.startswith("aws:")
)


def _document(tags: dict[str, str]) -> bytes:
    return document("Tagging", tag_set_xml(tags))


@given(tags=st.dictionaries(WORDS.filter(bool), WORDS, max_size=10))
def test_what_is_written_is_read_back(tags: dict[str, str]) -> None:
    # An XML parser makes one line end of those that are separators, too.
    plain = {key: value for key, value in tags.items() if not {"\u2028", "\u2029", "\x85"} & {*key, *value}}
    assert document_object_tags(_document(plain), max_bytes=BYTES_MAX) == plain
    assert header_tags(urlencode(tags)) == tags
    assert header_tags(urlencode(tags, quote_via=quote)) == tags


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ("a=b", {"a": "b"}),
        ("foo=bar&bar", {"foo": "bar", "bar": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1&&b=2&", {"a": "1", "b": "2"}),
        ("Straße=gro%C3%9F".encode().decode("latin-1"), {"Straße": "groß"}),
    ],
)
def test_header(header: str, tags: dict[str, str]) -> None:
    assert header_tags(header) == tags


@pytest.mark.parametrize("header", ["a=1&a=2", "a=%FF", "\xff=a"])
def test_headers_that_are_no_query(header: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        header_tags(header)


@pytest.mark.parametrize(
    "tags",
    [
        {"": "value"},
        {"k" * 129: "value"},
        {"key": "v" * 257},
        {"key!": "value"},
        {"key": "value<"},
        {"aws:key": "value"},
        {"emoji \U0001f600": ""},
        {str(number): "" for number in range(11)},
    ],
)
def test_tags_that_an_object_cannot_have(tags: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidTag):
        document_object_tags(_document(tags), max_bytes=BYTES_MAX)
    with pytest.raises(errors.InvalidTag):
        header_tags(urlencode(tags) if "" not in tags else "=value")


def test_the_most_there_may_be() -> None:
    longest = {f"{number:0>128}": "ö" * 256 for number in range(tagging.OBJECT_TAGS_MAX)}
    assert document_object_tags(_document(longest), max_bytes=BYTES_MAX) == longest
    fifty = {str(number): "" for number in range(tagging.BUCKET_TAGS_MAX)}
    assert document_bucket_tags(_document(fifty), max_bytes=BYTES_MAX) == fifty
    with pytest.raises(errors.InvalidTag):
        document_bucket_tags(_document(fifty | {"one more": ""}), max_bytes=BYTES_MAX)


@pytest.mark.parametrize(
    ("inside", "error"),
    [
        ("", errors.MalformedXML),
        ("<TagSet/><TagSet/>", errors.MalformedXML),
        ("<TagSet><Other/></TagSet>", errors.MalformedXML),
        ("<TagSet><Tag><Key>k</Key></Tag></TagSet>", errors.MalformedXML),
        ("<TagSet><Tag><Value>v</Value></Tag></TagSet>", errors.MalformedXML),
        ("<TagSet><Tag><Key>k</Key><Key>l</Key><Value/></Tag></TagSet>", errors.MalformedXML),
        ("<TagSet/>more<More/>", errors.MalformedXML),
        (f"<TagSet>{'<Tag><Key>k</Key><Value>v</Value></Tag>' * 2}</TagSet>", errors.InvalidTag),
    ],
)
def test_bodies_that_are_refused(inside: str, error: type[errors.S3Error]) -> None:
    with pytest.raises(error):
        document_object_tags(f"<Tagging>{inside}</Tagging>".encode(), max_bytes=BYTES_MAX)


def test_tags_are_shown_by_key() -> None:
    assert tag_set_xml({"b": "2", "a": "<"}) == (
        "<TagSet><Tag><Key>a</Key><Value>&lt;</Value></Tag><Tag><Key>b</Key><Value>2</Value></Tag></TagSet>"
    )
