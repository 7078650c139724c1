"""What a writer hands out for a blob: where it lies."""

import msgspec

from catalog.model import Run


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """A blob as it lies on the nodes, all of it durable; one of a failed write, as it may lie.

    `nodes` is the layout of its stripes, stored as `placement.packed` says; `runs` are the layouts of later
    stripes that lie differently, normally none (S9).
    """

    blob_id: bytes
    size: int
    k: int
    m: int
    stripe_bytes: int
    nodes: tuple[int, ...]
    stripes: int
    runs: tuple[Run, ...] = ()
