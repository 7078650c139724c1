"""``x-amz-storage-class``: kept and shown; which code the bytes are stored in is `cluster.policies`' to say."""

from __future__ import annotations

from collections.abc import Mapping

from s3front.errors import InvalidStorageClass

STORAGE_CLASSES = frozenset(
    """STANDARD REDUCED_REDUNDANCY STANDARD_IA ONEZONE_IA INTELLIGENT_TIERING GLACIER GLACIER_IR DEEP_ARCHIVE
    EXPRESS_ONEZONE""".split()
)


def storage_class(headers: Mapping[str, str]) -> str:
    """The storage class a request asks for; STANDARD by default. Raises InvalidStorageClass."""
    name = headers.get("x-amz-storage-class", "STANDARD")
    if name not in STORAGE_CLASSES:
        raise InvalidStorageClass(StorageClassRequested=name)
    return name
