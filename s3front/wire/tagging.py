"""Tags: names and values on objects and buckets, in the ``x-amz-tagging`` header and in XML.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/tagging-managing.html
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

from s3front.errors import InvalidArgument, InvalidTag, MalformedXML
from s3front.wire import xml
from s3front.wire.xml_writer import element, text

OBJECT_TAGS_MAX = 10
BUCKET_TAGS_MAX = 50
TAG_KEY_CHARS_MAX = 128
TAG_VALUE_CHARS_MAX = 256

HEADER = "x-amz-tagging"
_RESERVED_PREFIX = "aws:"
_SIGNS = frozenset("_.:/=+-@")
_KINDS = frozenset("LNZ")
"""Letters, numbers and separators of any script, by the first letter of their Unicode category."""


def header_tags(value: str) -> dict[str, str]:
    """The tags of an ``x-amz-tagging`` header, `value` as HTTP has it: parameters of a URL query.

    Raises InvalidArgument when it is none or names a tag twice, InvalidTag for tags that an object can't have.
    """
    pairs = [pair.partition("=") for pair in value.split("&") if pair]
    try:
        decoded = [(_decode(name), _decode(content)) for name, _, content in pairs]
    except UnicodeError:
        raise _bad_header(value) from None
    tags = dict(decoded)
    if len(tags) != len(decoded):
        raise _bad_header(value)
    check_tags(tags.items(), tags_max=OBJECT_TAGS_MAX, target="Object")
    return tags


def _decode(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode()


def _bad_header(value: str) -> InvalidArgument:
    return InvalidArgument(
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag "
        "name duplicates.",
        ArgumentName=HEADER,
        ArgumentValue=value,
    )


def document_object_tags(body: bytes, *, max_bytes: int) -> dict[str, str]:
    """The tags of a PutObjectTagging body. Raises MalformedXML and InvalidTag."""
    return _tags(_tag_set(body, max_bytes), tags_max=OBJECT_TAGS_MAX, target="Object")


def document_bucket_tags(body: bytes, *, max_bytes: int) -> dict[str, str]:
    """The tags of a PutBucketTagging body. Raises MalformedXML and InvalidTag."""
    return bucket_element_tags(_tag_set(body, max_bytes))


def bucket_element_tags(parent: xml.Element) -> dict[str, str]:
    """The ``Tag`` children of `parent`, which has no others. Raises MalformedXML and InvalidTag."""
    return _tags(parent, tags_max=BUCKET_TAGS_MAX, target="Bucket")


def _tag_set(body: bytes, max_bytes: int) -> xml.Element:
    root = xml.parse(body, root="Tagging", max_bytes=max_bytes)
    root.allow_only("TagSet")
    tag_set = root.child("TagSet")
    if tag_set is None:
        raise MalformedXML
    return tag_set


def _tags(parent: xml.Element, *, tags_max: int, target: str) -> dict[str, str]:
    parent.allow_only("Tag")
    pairs: list[tuple[str, str]] = []
    for tag in parent:
        tag.allow_only("Key", "Value")
        key, value = tag.text("Key"), tag.text("Value")
        if key is None or value is None:
            raise MalformedXML
        pairs.append((key, value))
    check_tags(pairs, tags_max=tags_max, target=target)
    return dict(pairs)


def check_tags(pairs: Iterable[tuple[str, str]], *, tags_max: int, target: str) -> None:
    """Raise InvalidTag unless an object or bucket (`target`, for the message) may have these tags together."""
    seen: set[str] = set()
    for key, value in pairs:
        if not 1 <= len(key) <= TAG_KEY_CHARS_MAX or not _is_allowed(key):
            raise InvalidTag("The TagKey you have provided is invalid", TagKey=key)
        if key.startswith(_RESERVED_PREFIX):
            raise InvalidTag("System tags cannot be added/updated by requester", TagKey=key)
        if len(value) > TAG_VALUE_CHARS_MAX or not _is_allowed(value):
            raise InvalidTag("The TagValue you have provided is invalid", TagKey=key, TagValue=value)
        if key in seen:
            raise InvalidTag("Cannot provide multiple Tags with the same key", TagKey=key)
        seen.add(key)
    if len(seen) > tags_max:
        raise InvalidTag(f"{target} tags cannot be greater than {tags_max}")


def _is_allowed(word: str) -> bool:
    return all(char in _SIGNS or unicodedata.category(char)[0] in _KINDS for char in word)


def tag_set_xml(tags: Mapping[str, str]) -> str:
    """``<TagSet>…</TagSet>``, by key."""
    return element(
        "TagSet",
        *(element("Tag", text("Key", key), text("Value", value)) for key, value in sorted(tags.items())),
    )
