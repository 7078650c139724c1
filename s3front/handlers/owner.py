"""The one owner there is: the account of the store. Every access key works for it."""

import hashlib

from s3front.wire.xml_writer import element, text

OWNER_ID = hashlib.sha256(b"trivet root").hexdigest()
"""A canonical user id has 64 hex digits; it stays the same when the root key is changed."""

OWNER_NAME = "root"


def owner_xml(tag: str = "Owner") -> str:
    """The owner as lists show it; uploads also show it as ``Initiator``."""
    return element(tag, text("ID", OWNER_ID), text("DisplayName", OWNER_NAME))
