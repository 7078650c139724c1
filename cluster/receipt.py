"""What a writer hands out for a blob: where it lies."""

import msgspec

from catalog.model import NewBlob, Run


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

    def as_new_blob(self, transform: int = 0, seal: bytes | None = None) -> NewBlob:
        """The catalog's view of the blob; `transform` and `seal` as in `BlobRow`."""
        return NewBlob(
            id=self.blob_id,
            size=self.size,
            k=self.k,
            m=self.m,
            stripe_bytes=self.stripe_bytes,
            nodes=self.nodes,
            stripes=self.stripes,
            runs=self.runs,
            transform=transform,
            seal=seal,
        )
