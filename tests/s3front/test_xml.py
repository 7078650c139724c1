"""XML in and out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from s3front import errors
from s3front.wire import xml, xml_writer
from s3front.wire.xml_writer import document, element, escape, optional, text

MAX = 1 << 20
DELETE = b"""<?xml version="1.0" encoding="UTF-8"?>
<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <!-- comments and <?pi?> do not count -->
  <Quiet>true</Quiet>
  <Object><Key> a &amp; b </Key></Object>
  <Object><Key>c<!-- in the middle -->d</Key><VersionId>null</VersionId></Object>
</Delete>"""


def parse(body: bytes, root: str = "Delete", max_bytes: int = MAX) -> xml.Element:
    return xml.parse(body, root=root, max_bytes=max_bytes)


@pytest.mark.parametrize(
    "namespace", [b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', b"", b' xmlns="x"']
)
def test_reading(namespace: bytes) -> None:
    root = parse(DELETE.replace(b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', namespace))
    assert root.name == "Delete"
    assert root.boolean("Quiet") is True
    assert [item.text("Key") for item in root.children("Object")] == [" a & b ", "cd"]
    assert [item.text("VersionId") for item in root.children("Object")] == [None, "null"]
    assert [child.name for child in root] == ["Quiet", "Object", "Object"]
    root.allow_only("Quiet", "Object")
    with pytest.raises(errors.MalformedXML):
        root.allow_only("Object")
    with pytest.raises(errors.MalformedXML):
        root.child("Object")
    with pytest.raises(errors.MalformedXML):
        root.children("Object")[0].required_text("ETag")
    with pytest.raises(errors.MalformedXML):
        root.content  # noqa: B018


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"1", 1),
        (b" 42 ", 42),
        (b"-7", -7),
        (b"", None),
        (b"1.0", None),
        (b"1_0", None),
        (b"--1", None),
        ("٣".encode(), None),
        (b"9" * 19, None),
        (b"9" * 10_000, None),
        (b"<x/>", None),
    ],
)
def test_integers(value: bytes, number: int | None) -> None:
    root = parse(b"<P><N>" + value + b"</N></P>", "P")
    if number is None:
        with pytest.raises(errors.MalformedXML):
            root.required_int("N")
    else:
        assert root.required_int("N") == number


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("FALSE", False), ("", False), ("1", None)])
def test_booleans(value: str, expected: bool | None) -> None:
    root = parse(f"<P><B>{value}</B></P>".encode(), "P")
    if expected is None:
        with pytest.raises(errors.MalformedXML):
            root.boolean("B")
    else:
        assert root.boolean("B") is expected
    assert root.boolean("Absent") is False


BOMB = (
    b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<Delete><Object><Key>&b;</Key></Object></Delete>"
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"not xml",
        b"<Delete>",
        b"<Delete></Other>",
        b"<Delete/><Delete/>",
        b"<Delete>&undefined;</Delete>",
        b"<Delete><a b='1' b='2'/></Delete>",
        b"<Delete>\xff</Delete>",
        b"<Delete>\x00</Delete>",
        b"<Delete>\x01</Delete>",
        b"<Delete>&#0;</Delete>",
        b"<Delete>&#x1;</Delete>",
        BOMB,
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete/>',
        b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete>&x;</Delete>',
        b'<!DOCTYPE d [<!ENTITY % x SYSTEM "http://127.0.0.1/x.dtd"> %x;]><Delete/>',
        b"<!DOCTYPE Delete><Delete/>",
        b"<?xml version='1.0' encoding='UTF-16'?>" + "<Delete/>".encode("utf-16"),
        "<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'b'>]><Delete>&a;</Delete>".encode("utf-16"),
        "<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'b'>]><Delete>&a;</Delete>".encode("utf-32"),
        b"<?xml version='1.0' encoding='cp037'?>" + "<!DOCTYPE d []><Delete/>".encode("cp037"),
        "<?xml version='1.0' encoding='cp037'?><!DOCTYPE d []><Delete/>".encode("cp037"),
        b"<?xml version='1.0' encoding='utf-7'?>+ADwAIQ-DOCTYPE d []+AD4-<Delete/>",
        "<Delete/>".encode("utf-16"),
        b"<Other/>",
        b"<x:Delete/>",
        b"<Delete>" + b"<a>" * 10_000 + b"</a>" * 10_000 + b"</Delete>",
        b"<Delete>" + b"<a>" * xml.DEPTH_MAX + b"</a>" * xml.DEPTH_MAX + b"</Delete>",
        b"<Delete>" + b"<a/>" * (2 * xml.ELEMENTS_MAX) + b"</Delete>",
    ],
)
def test_refused(body: bytes) -> None:
    with pytest.raises(errors.MalformedXML):
        parse(body, max_bytes=8 * MAX)


def test_depth_and_declared_encoding_within_bounds() -> None:
    depth = xml.DEPTH_MAX - 1
    parse(b"<Delete>" + b"<a>" * depth + b"</a>" * depth + b"</Delete>")
    assert parse(b"<?xml version='1.0' encoding='UTF-8'?><Delete><K>\xc3\xa9</K></Delete>").text("K") == "é"
    assert parse(b"\xef\xbb\xbf<Delete/>").name == "Delete"


def test_size_is_checked_before_parsing() -> None:
    with pytest.raises(errors.MaxMessageLengthExceeded) as caught:
        parse(b"<" * 101, max_bytes=100)
    assert caught.value.elements == {"MaxMessageLengthBytes": 100}


def test_several_roots_may_be_allowed() -> None:
    assert xml.parse(b"<B/>", root=("A", "B"), max_bytes=MAX).name == "B"


# -- writing ---------------------------------------------------------------------------------------------------


def test_writing() -> None:
    body = document(
        "List", text("Name", "a&b"), text("N", 3), text("T", True), optional("X", None), element("E")
    )
    assert body == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<List xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<Name>a&amp;b</Name><N>3</N><T>true</T><E></E></List>"
    )


def test_control_characters_leave_as_references() -> None:
    assert escape("a\x00\x01\r\n\tb\x7f\ufffe") == "a&#x0;&#x1;&#xD;&#xA;&#x9;b&#x7F;&#xFFFE;"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\ufffe\uffff")))
def test_what_is_written_is_read_back(value: str) -> None:
    legal = "".join(char for char in value if char >= " " or char in "\t\r\n")
    assert etree.fromstring(document("R", text("V", legal)))[0].text in (legal, None)
    xml_writer.escape(value)


@given(st.binary(max_size=200) | st.text("<>/&;!?[]DOCTYPEntity\"'= ax", max_size=60).map(str.encode))
def test_arbitrary_bytes_raise_malformed_xml_only(body: bytes) -> None:
    try:
        found = parse(body)
    except errors.MalformedXML:
        return
    assert found.name == "Delete"
