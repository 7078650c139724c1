"""Documents that are checked against a shape and handed back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front.errors import MalformedXML
from s3front.handlers.bucket_documents import KINDS, Kind
from s3front.wire import xml
from s3front.wire.shapes import BOOLEAN, NUMBER, TEXT, Shape, Text, canonical, members, one_of

SHAPE: Shape = {
    "Name!": TEXT,
    "Rule*": {"@xsi:type!": one_of("A", "B"), "Count": NUMBER, "Tag+": TEXT},
    "On": BOOLEAN,
}
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def read(inside: str, shape: Shape = SHAPE) -> str:
    return canonical(xml.parse(f"<Root>{inside}</Root>".encode(), root="Root", max_bytes=1 << 20), shape)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("<Name>a</Name>", "<Name>a</Name>"),
        (" <!-- why -->\n<Name> a </Name>", "<Name> a </Name>"),
        ("<x:Name xmlns:x='urn:x' x:more='1'>a</x:Name>", "<Name>a</Name>"),
        ("<On> true </On><Name>&lt;&#65;&gt;</Name>", "<On>true</On><Name>&lt;A&gt;</Name>"),
        (
            f"<Name/><Rule xmlns:y='http://www.w3.org/2001/XMLSchema-instance' y:type='B'><Tag>1</Tag><Tag>2</Tag>"
            f"<Count> -7</Count></Rule><Rule {XSI} xsi:type='A'><Tag/></Rule>",
            f'<Name></Name><Rule {XSI} xsi:type="B"><Tag>1</Tag><Tag>2</Tag><Count>-7</Count></Rule>'
            f'<Rule {XSI} xsi:type="A"><Tag></Tag></Rule>',
        ),
    ],
)
def test_what_is_kept(sent: str, kept: str) -> None:
    """Elements in their order and their text; not comments, prefixes, foreign attributes and layout."""
    assert read(sent) == kept
    assert read(kept) == kept


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "<Name>a</Name><Name>b</Name>",
        "<Name>a</Name><Nmae/>",
        "<Name><Deep/></Name>",
        "<Name/><On>yes</On>",
        f"<Name/><Rule {XSI} xsi:type='A'/>",
        f"<Name/><Rule {XSI} xsi:type='C'><Tag/></Rule>",
        "<Name/><Rule type='A'><Tag/></Rule>",
        "<Name/><Rule><Tag/></Rule>",
        f"<Name/><Rule {XSI} xsi:type='A'><Tag/><Count>1e3</Count></Rule>",
    ],
)
def test_what_is_refused(sent: str) -> None:
    """Missing, doubled, unknown and misplaced elements, and text that is not of its kind."""
    with pytest.raises(MalformedXML):
        read(sent)


@st.composite
def documents(draw: st.DrawFn, shape: Shape) -> str:
    """What a client may send of a shape, as the writer would write it."""
    pieces = []
    for member in members(shape):
        if member.attribute:
            continue
        most = 2 if member.several else 1
        for _ in range(draw(st.integers(1 if member.required else 0, most))):
            if isinstance(member.inside, Text):
                pieces.append(f"<{member.name}>{draw(values(member.inside))}</{member.name}>")
                continue
            types = [each.inside for each in members(member.inside) if each.attribute]
            attribute = f' {XSI} xsi:type="{draw(values(types[0]))}"' if types else ""
            pieces.append(f"<{member.name}{attribute}>{draw(documents(member.inside))}</{member.name}>")
    return "".join(pieces)


def values(kind: Shape | Text) -> st.SearchStrategy[str]:
    assert isinstance(kind, Text)
    if kind.choices:
        return st.sampled_from(kind.choices)
    if kind is NUMBER:
        return st.integers(0, 99).map(str)
    return st.sampled_from(("true", "false") if kind is BOOLEAN else ("", "a b", "é"))


@given(st.data(), st.sampled_from(KINDS))
def test_every_document_comes_back(data: st.DataObject, kind: Kind) -> None:
    """Of every kind: as it was sent when it was sent in the canonical form."""
    sent = data.draw(documents(kind.shape))
    assert read(sent, kind.shape) == sent
