"""The bytes of objects: any part of any object can be made again from a seed, so what comes back is compared with
what was sent, byte for byte, and no copy is kept.

All objects are slices of one long pseudo-random text, each with an offset of its own. To compare is one memcmp against
that text: faster than any checksum, and it cannot be deceived.
"""

from __future__ import annotations

import hashlib
from random import Random

_BLOCK_BYTES = (1 << 22) - 3
"""The text repeats after so many; odd, so that no two stripes, parts or pages of an object are alike."""
_OFFSETS = 1_048_573
"""A prime: consecutive numbers get different offsets until all are used."""
_STRIDE = 618_041


class Contents:
    """The objects of one seed, none of which is longer than `longest_bytes`."""

    def __init__(self, seed: int, longest_bytes: int) -> None:
        block = hashlib.shake_128(f"trivet bench {seed}".encode()).digest(_BLOCK_BYTES)
        length = longest_bytes + _OFFSETS
        self.text = (block * (length // _BLOCK_BYTES + 1))[:length]
        self._view = memoryview(self.text)

    @staticmethod
    def offset(number: int) -> int:
        """Where object `number` begins in `text`."""
        return number * _STRIDE % _OFFSETS

    def slice(self, number: int, start: int, size: int) -> memoryview:
        """The bytes of object `number` from `start` on."""
        at = self.offset(number) + start
        return self._view[at : at + size]


def sizes(seed: int, count: int, smallest_bytes: int, largest_bytes: int) -> list[int]:
    """Sizes of `count` objects, evenly spread over the range; the same for the same seed."""
    random = Random(f"sizes {seed}")
    return [random.randint(smallest_bytes, largest_bytes) for _ in range(count)]
