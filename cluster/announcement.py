"""How a node that runs by itself tells a front where it is: a small JSON document, sealed with the cluster's secret.

A node knows nothing of the catalog, a front does; so a node that was started says who it is and where others reach
it, and the front writes that down. The seal proves that the sender has the secret; the time in the document keeps
an old one from being used again later. It is not secret, and without TLS the network is trusted (S25).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

import msgspec

PATH: Final = "/-/join"
SEAL_HEADER: Final = "x-trivet-seal"
BODY_BYTES_MAX: Final = 4096
SKEW_S_MAX: Final = 300.0
"""Clocks of two hosts may differ by so much."""

_PURPOSE: Final = b"trivet join 1\n"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45}")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class AnnouncementRefused(Exception):
    """It is not believed, or makes no sense; the message is for a person."""


class Announcement(msgspec.Struct, frozen=True):
    """`node_id` in hexadecimal; `host` and `port`: where fronts and stewards reach the node; `time`: seconds since
    1970. What a later release adds is overlooked by this one.
    """

    node_id: str
    name: str
    region: str
    zone: str
    host: str
    port: int
    time: float


class Answer(msgspec.Struct, frozen=True):
    """What the front says: the node's `state` in the catalog, or why it can't join."""

    state: str = ""
    problem: str = ""


def seal(secret: bytes, body: bytes) -> str:
    """The header's value for `body`."""
    return hmac.digest(secret, _PURPOSE + body, hashlib.sha256).hex()


def opened(secret: bytes, body: bytes, given_seal: str, now_s: float) -> Announcement:
    """The document, proved and checked. Raises AnnouncementRefused."""
    if not hmac.compare_digest(seal(secret, body).encode(), given_seal.encode("utf-8", "replace")):
        raise AnnouncementRefused("the seal is wrong: this node's join token is of another store")
    try:
        document = msgspec.json.decode(body, type=Announcement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AnnouncementRefused(f"not understood: {error}") from None
    if abs(now_s - document.time) > SKEW_S_MAX:
        raise AnnouncementRefused(
            f"the clocks of the node and of this front differ by {abs(now_s - document.time):.0f} s: set them"
        )
    _check(document)
    return document


def _check(document: Announcement) -> None:
    """A host that begins with a slash would name a file on the front's machine."""
    if not _ID.fullmatch(document.node_id):
        raise AnnouncementRefused("a node's id has 32 hexadecimal digits")
    if not _HOST.fullmatch(document.host) or not 0 < document.port < 1 << 16:
        raise AnnouncementRefused("host and port are no address that others could reach")
    for word, what in ((document.region, "region"), (document.zone, "zone")):
        if not _WORD.fullmatch(word):
            raise AnnouncementRefused(f"the {what} is no word of letters, digits, dots, dashes, underscores")
