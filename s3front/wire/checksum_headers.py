"""How a stored checksum leaves in response headers."""

from __future__ import annotations

from catalog.model import Checksum
from s3front.response import Header


def checksum_headers(checksum: Checksum) -> list[Header]:
    """``x-amz-checksum-<algorithm>`` and its type."""
    name = b"x-amz-checksum-" + checksum.algorithm.lower().encode()
    return [(name, checksum.value.encode()), (b"x-amz-checksum-type", checksum.type.encode())]
