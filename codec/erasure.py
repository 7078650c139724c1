"""The one door to pyeclib: encode, decode and rebuild one stripe (S8, STYLE 10).

liberasurecode puts an 80-byte header before every shard; it holds library versions, so it never leaves
this module. On the way in it is cut off, on the way out it comes from a template: it depends on k, m, the
stripe's length and the shard's number, never on the data. pyeclib takes `bytes` only (a memoryview ends
the process) and does not notice a flipped byte in a data shard: it is given VerifiedBlocks and nothing else.
"""

from collections import OrderedDict
from collections.abc import Sequence

from pyeclib.ec_iface import ECDriver

from codec.block import CODEC_ISA_L_RS_CAUCHY, Buffer, VerifiedBlock
from codec.geometry import Geometry

_FRAGMENT_HEADER_BYTES = 80
_TEMPLATES_MAX = 64  # stripe lengths; nearly all stripes of a store are of one


class NotEnoughBlocks(Exception):
    """Fewer than k whole, different blocks of the stripe were given."""


class ErasureCode:
    """Encodes and decodes stripes of one geometry. Not thread-safe: one instance per thread."""

    __slots__ = ("_driver", "_k", "_templates", "geometry")

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._k = geometry.k
        self._driver = ECDriver(k=geometry.k, m=geometry.m, ec_type="isa_l_rs_cauchy")
        self._templates: OrderedDict[int, list[bytes]] = OrderedDict()

    def encode(self, stripe: bytes) -> list[Buffer]:
        """The k+m raw shards of a stripe, by shard number, each of ceil(L/k) bytes.

        Data shards that need no padding are views of `stripe`: nothing is copied, so it must live as long.
        ValueError when the stripe is empty or longer than the geometry allows.
        """
        length = len(stripe)
        assert type(stripe) is bytes, "pyeclib aborts the process on anything but bytes"
        if not 0 < length <= self.geometry.stripe_bytes:
            raise ValueError(f"a stripe has 1 to {self.geometry.stripe_bytes} bytes, not {length}")
        shards: list[Buffer] = list(self._driver.encode(stripe))
        size = -(-length // self._k)
        view = memoryview(stripe)
        at = 0
        for i, fragment in enumerate(shards):
            if at + size <= length:
                shards[i] = view[at : at + size]
            else:  # parity, or data that needs padding
                shards[i] = memoryview(fragment)[_FRAGMENT_HEADER_BYTES:]
            at += size
        assert len(shards[-1]) == size, "pyeclib changed its layout"
        return shards

    def decode(self, blocks: Sequence[VerifiedBlock], stripe_length: int) -> bytes:
        """The exact bytes of the stripe from any k whole, different blocks of it.

        Raises NotEnoughBlocks. Blocks of another stripe or geometry are our mistake and fail an assertion.
        """
        payloads = self._whole_payloads(blocks, stripe_length)
        k = self._k
        if all(shard in payloads for shard in range(k)):
            joined = b"".join([payloads[shard] for shard in range(k)])
            return joined if len(joined) == stripe_length else joined[:stripe_length]
        stripe: bytes = self._driver.decode(self._fragments(payloads, stripe_length))
        assert len(stripe) == stripe_length, "pyeclib returned another length"
        return stripe

    def rebuild(
        self, blocks: Sequence[VerifiedBlock], stripe_length: int, missing: Sequence[int]
    ) -> dict[int, bytes]:
        """The raw shards numbered `missing`, equal byte for byte to what `encode` made (S8).

        Raises NotEnoughBlocks. Shards among `missing` that are given are not read.
        """
        if not missing:
            return {}
        wanted = set(missing)
        payloads = self._whole_payloads(
            [b for b in blocks if b.header.key.shard not in wanted], stripe_length
        )
        rebuilt = self._driver.reconstruct(self._fragments(payloads, stripe_length), list(missing))
        return {
            shard: fragment[_FRAGMENT_HEADER_BYTES:] for shard, fragment in zip(missing, rebuilt, strict=True)
        }

    def _whole_payloads(self, blocks: Sequence[VerifiedBlock], stripe_length: int) -> dict[int, memoryview]:
        """Payload by shard number of k of the blocks, the lowest numbers (data) first."""
        payloads: dict[int, memoryview] = {}
        stripes = set()
        for block in sorted(blocks, key=lambda b: b.header.key.shard):
            header = block.header
            stripes.add(header.key[:2])
            assert matches(block, self.geometry, stripe_length), f"{header.key} is not of this stripe"
            if block.is_whole and len(payloads) < self._k:
                payloads[header.key.shard] = block.payload
        assert len(stripes) <= 1, "blocks of several stripes"
        if len(payloads) < self._k:
            raise NotEnoughBlocks(f"{len(payloads)} whole shards of the {self._k} needed")
        return payloads

    def _fragments(self, payloads: dict[int, memoryview], stripe_length: int) -> list[bytes]:
        headers = self._headers(stripe_length)
        return [b"".join((headers[shard], payload)) for shard, payload in payloads.items()]

    def _headers(self, stripe_length: int) -> list[bytes]:
        """liberasurecode's headers for a stripe of that length, by shard; a few lengths are remembered."""
        headers = self._templates.get(stripe_length)
        if headers is None:
            fragments = self._driver.encode(bytes(stripe_length))
            headers = [fragment[:_FRAGMENT_HEADER_BYTES] for fragment in fragments]
            self._templates[stripe_length] = headers
            if len(self._templates) > _TEMPLATES_MAX:
                self._templates.popitem(last=False)
        else:
            self._templates.move_to_end(stripe_length)
        return headers


def matches(block: VerifiedBlock, geometry: Geometry, stripe_length: int) -> bool:
    """True when the block says of itself that it belongs to a stripe of that geometry and length."""
    header = block.header
    return (
        header.codec == CODEC_ISA_L_RS_CAUCHY
        and header.k == geometry.k
        and header.m == geometry.m
        and header.key.shard < geometry.k + geometry.m
        and header.stripe_length == stripe_length
        and header.payload_length == -(-stripe_length // geometry.k)
    )
