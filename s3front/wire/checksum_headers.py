"""How a stored checksum leaves in response headers."""

from __future__ import annotations

from catalog.model import Checksum
from s3front.response import Header


def checksum_header(checksum: Checksum) -> Header:
    """``x-amz-checksum-<algorithm>``."""
    return b"x-amz-checksum-" + checksum.algorithm.lower().encode(), checksum.value.encode()


def checksum_headers(checksum: Checksum) -> list[Header]:
    """The same and its type, which parts are answered without."""
    return [checksum_header(checksum), (b"x-amz-checksum-type", checksum.type.encode())]
