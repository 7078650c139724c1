"""Reading XML bodies: no DTD, no entities, no network; bounded in bytes, elements and depth (P8, P10).

Writing is in ``xml_writer``. Namespaces are ignored, as S3 does: clients send S3's, another one or none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from lxml import etree

from s3front.errors import MalformedXML, MaxMessageLengthExceeded

ELEMENTS_MAX = 150_000
"""CompleteMultipartUpload has 10,000 parts with a number, an ETag and a value for each checksum algorithm."""

DEPTH_MAX = 8

_is_too_deep = etree.XPath("boolean(" + "/*" * (DEPTH_MAX + 1) + ")")


class Element:
    """A read-only element. Every accessor raises MalformedXML for what the schema of S3 does not have."""

    __slots__ = ("_node",)

    def __init__(self, node: Any) -> None:
        self._node = node

    @property
    def name(self) -> str:
        """Without the namespace."""
        return _local_name(self._node)

    @property
    def content(self) -> str:
        """The text of an element without children; white space is kept, because keys may consist of it."""
        if len(self._node):
            raise MalformedXML
        text: str | None = self._node.text
        return text or ""

    def attribute(self, namespace: str, name: str) -> str | None:
        """The attribute of that name in the namespace; None without one."""
        value: str | None = self._node.get(f"{{{namespace}}}{name}")
        return value

    def __iter__(self) -> Iterator[Element]:
        return map(Element, self._node)

    def children(self, name: str) -> list[Element]:
        """All children of that name, in order."""
        return [Element(child) for child in self._node if _local_name(child) == name]

    def child(self, name: str) -> Element | None:
        """The child of that name, or None; it must not come twice."""
        found = self.children(name)
        if len(found) > 1:
            raise MalformedXML
        return found[0] if found else None

    def allow_only(self, *names: str) -> None:
        """Raise unless every child has one of `names`."""
        if any(child.name not in names for child in self):
            raise MalformedXML

    def text(self, name: str) -> str | None:
        """The text of the child of that name; None without one."""
        found = self.child(name)
        return None if found is None else found.content

    def required_text(self, name: str) -> str:
        """The text, not empty, of the child of that name."""
        text = self.text(name)
        if not text:
            raise MalformedXML
        return text

    def required_int(self, name: str) -> int:
        """The decimal number, at most 18 digits, in the child of that name."""
        text = self.required_text(name).strip()
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            raise MalformedXML
        return int(text)

    def boolean(self, name: str) -> bool:
        """The ``true`` or ``false`` in the child of that name; False without one."""
        text = (self.text(name) or "false").strip().lower()
        if text not in ("true", "false"):
            raise MalformedXML
        return text == "true"


def _local_name(node: Any) -> str:
    tag: str = node.tag
    return tag.rpartition("}")[2]


def parse(body: bytes, *, root: str | Collection[str], max_bytes: int) -> Element:
    """The root element of `body`, whose name is `root` or one of them.

    Raises MaxMessageLengthExceeded above `max_bytes`, and MalformedXML for anything but well-formed UTF-8 XML
    without a DTD and within the limits above. What is checked before parsing bounds the parser's work.
    """
    if len(body) > max_bytes:
        raise MaxMessageLengthExceeded(MaxMessageLengthBytes=max_bytes)
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body or body.count(b"<") > 2 * ELEMENTS_MAX:
        raise MalformedXML
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the document says of itself: the checks above are for this encoding
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        node = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise MalformedXML from None
    if node.getroottree().docinfo.internalDTD is not None or _is_too_deep(node):
        raise MalformedXML
    element = Element(node)
    if element.name not in ((root,) if isinstance(root, str) else root):
        raise MalformedXML
    return element
