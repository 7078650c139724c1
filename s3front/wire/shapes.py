"""The shapes of XML documents that are checked and handed back, but not understood any further.

A shape is a table of the elements that an element may have. Its names end in how often they may come::

    Name      at most once        Name!     once
    Name*     any number          Name+     at least once
    @name!    not an element but the attribute of that name

Their values say what is inside: another shape, or what the text may be. The shapes are those of AWS's service model;
a test holds them to botocore's copy of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from s3front.errors import MalformedXML
from s3front.wire.xml import Element
from s3front.wire.xml_writer import element, escape, text


@dataclass(frozen=True, slots=True)
class Text:
    """Text of a kind: what does not match is MalformedXML."""

    pattern: re.Pattern[str] | None = None
    choices: tuple[str, ...] = ()

    def checked(self, value: str) -> str:
        """The value as it is handed back."""
        if self.pattern is not None:
            value = value.strip()
            if not self.pattern.fullmatch(value):
                raise MalformedXML
        if self.choices and value not in self.choices:
            raise MalformedXML
        return value


Shape: TypeAlias = "Mapping[str, Shape | Text]"

TEXT = Text()
NUMBER = Text(re.compile("-?[0-9]{1,18}", re.ASCII))
BOOLEAN = Text(re.compile("true|false"))


def one_of(*choices: str) -> Text:
    """Text that is one of these."""
    return Text(choices=choices)


@dataclass(frozen=True, slots=True)
class Member:
    """One row of a shape, its name taken apart."""

    name: str
    inside: Shape | Text
    required: bool
    several: bool
    attribute: bool


def members(shape: Shape) -> list[Member]:
    """The rows of the shape in order."""
    return [
        Member(
            written.strip("@!*+"),
            inside,
            required=written[-1] in "!+",
            several=written[-1] in "*+",
            attribute=written[0] == "@",
        )
        for written, inside in shape.items()
    ]


def canonical(node: Element, shape: Shape) -> str:
    """What is inside `node` as XML: its elements in their order, without comments, foreign attributes and prefixes.

    Raises MalformedXML for an element that the shape does not know, misses or allows only once, and for text that is
    not of its kind.
    """
    known = {member.name: member for member in members(shape) if not member.attribute}
    found: dict[str, int] = {}
    pieces = []
    for child in node:
        member = known.get(child.name)
        if member is None:
            raise MalformedXML
        found[member.name] = found.get(member.name, 0) + 1
        pieces.append(_written(child, member))
    for member in known.values():
        count = found.get(member.name, 0)
        if (member.required and not count) or (count > 1 and not member.several):
            raise MalformedXML
    return "".join(pieces)


def _written(child: Element, member: Member) -> str:
    if isinstance(member.inside, Text):
        return text(member.name, member.inside.checked(child.content))
    attributes = [
        _attribute(child, each.name, each.inside) for each in members(member.inside) if each.attribute
    ]
    opening = " ".join([member.name, *attributes])
    inside = canonical(child, member.inside)
    return f"<{opening}>{inside}</{member.name}>" if attributes else element(member.name, inside)


def _attribute(child: Element, name: str, kind: Shape | Text) -> str:
    prefix, _, local = name.partition(":")
    value = child.attribute(NAMESPACES[prefix], local)
    if value is None or not isinstance(kind, Text):
        raise MalformedXML
    return f'xmlns:{prefix}="{NAMESPACES[prefix]}" {name}="{escape(kind.checked(value))}"'


NAMESPACES = {"xsi": "http://www.w3.org/2001/XMLSchema-instance"}
"""Of attributes, by the prefix that is written."""
