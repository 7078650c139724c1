"""Frozen values that leave the package. Keys are bytes, sizes bytes, times milliseconds since 1970 (UTC)."""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct


class Versioning(IntEnum):
    """State of a bucket. Once enabled it is never NEVER again."""

    NEVER = 0
    ENABLED = 1
    SUSPENDED = 2


class Bucket(Struct, frozen=True):
    """One bucket. `id` is never reused, so a request that holds one of a deleted bucket hits nothing."""

    id: int
    name: str
    owner: str
    region: str
    created_ms: int
    versioning: Versioning = Versioning.NEVER
    quota_bytes: int | None = None
    """How many bytes all its versions may have together; None: no limit."""


class Checksum(Struct, frozen=True, array_like=True):
    """A checksum as S3 shows it: algorithm `CRC32` …, type `FULL_OBJECT` or `COMPOSITE`, value in base64
    (a composite one with its `-N`)."""

    algorithm: str
    type: str
    value: str


class Attributes(Struct, frozen=True, omit_defaults=True):
    """What is rarely looked at, in one column. `headers` by lower-case name (cache-control,
    content-disposition, content-encoding, content-language, expires, …); `metadata` without `x-amz-meta-`."""

    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    checksum: Checksum | None = None
    storage_class: str = "STANDARD"


class PartRef(Struct, frozen=True, array_like=True, gc=False):
    """One part of a completed multipart object: `etag` is its hex MD5, `checksum` base64 without algorithm."""

    number: int
    blob_id: bytes
    size: int
    etag: str
    checksum: str | None = None


class Run(Struct, frozen=True, gc=False):
    """From `first_stripe` on, shard i mod (k+m) of each stripe lies on node number `nodes[i]`, 0 being nobody
    (S9)."""

    first_stripe: int
    nodes: tuple[int, ...]


def _nodes_at(first: tuple[int, ...], later: tuple[Run, ...], stripe: int) -> tuple[int, ...]:
    for run in reversed(later):
        if run.first_stripe <= stripe:
            return run.nodes
    return first


class BlobRow(Struct, frozen=True):
    """The bytes of one upload or part and where they lie. A composite blob has a `manifest`, no stripes of
    its own. `runs` are the runs after the first, normally none (S9); read layouts with `nodes_at`."""

    id: bytes
    size: int
    k: int
    m: int
    stripe_bytes: int
    codec: int
    transform: int
    nodes: tuple[int, ...]
    manifest: tuple[PartRef, ...] | None = None
    runs: tuple[Run, ...] = ()

    def nodes_at(self, stripe: int) -> tuple[int, ...]:
        """The layout of one stripe: entry i holds shard i mod (k+m), node 0 is nobody."""
        return _nodes_at(self.nodes, self.runs, stripe)


class PlacementUse(Struct, frozen=True, gc=False):
    """An assignment that at least one blob names, with the code of one of those blobs. Blobs of another code
    of the same width may share it: take each blob's own `k` and `m` when it comes to its turn."""

    number: int
    nodes: tuple[int, ...]
    k: int
    m: int


class NewBlob(Struct, frozen=True):
    """A blob whose shards are durable and that no row names yet. `id` is 16 bytes: epoch u32, counter u32
    (big-endian), random u64. `stripes` counts what may lie on nodes, also for an unfinished one."""

    id: bytes
    size: int
    k: int
    m: int
    stripe_bytes: int
    nodes: tuple[int, ...]
    stripes: int
    runs: tuple[Run, ...] = ()
    codec: int = 1
    transform: int = 0
    stored_stripe_bytes: int = 0

    @property
    def epoch(self) -> int:
        """The upload epoch the id was made in (S19)."""
        return int.from_bytes(self.id[:4], "big")


class ObjectRow(Struct, frozen=True):
    """The current version of a key. `version_id` is None in a bucket that never had versioning. `etag` is
    without quotes."""

    key: bytes
    version_id: str | None
    sequence: int
    size: int
    etag: str
    modified_ms: int
    content_type: str
    attributes: Attributes
    blob: BlobRow


class Source(Struct, frozen=True):
    """What a copy was prepared from; the transaction raises Changed unless it still is so (S14)."""

    bucket_id: int
    key: bytes
    blob_id: bytes
    sequence: int


class Condition(Struct, frozen=True):
    """Conditions on the current object of a key, evaluated in the transaction. ETags without quotes, or `*`.
    `if_match` on a missing key raises NoSuchKey; every other miss raises PreconditionFailed."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_match_modified_ms: int | None = None
    if_match_size: int | None = None


class PutResult(Struct, frozen=True):
    """A committed version."""

    version_id: str | None
    sequence: int
    modified_ms: int


class DeleteResult(Struct, frozen=True):
    """`existed` is whether a current object was there; deleting a missing key succeeds all the same."""

    existed: bool
    version_id: str | None = None
    delete_marker: bool = False


class ListEntry(Struct, frozen=True, gc=False):
    """One key of a LIST page."""

    key: bytes
    size: int
    etag: str
    modified_ms: int
    storage_class: str
    checksum_algorithm: str | None
    checksum_type: str | None


class Page(Struct, frozen=True):
    """A LIST page: keys and common prefixes, each ascending by bytes. `last` is the greatest of both, to be
    handed back as `after`; empty when the page is."""

    entries: list[ListEntry]
    prefixes: list[bytes]
    truncated: bool
    last: bytes


class UploadRow(Struct, frozen=True):
    """An open multipart upload. `number` is the catalog's own name for it. `revision` rises with each part
    (S14). Attributes are those the object will have, still without its checksum value."""

    number: int
    upload_id: str
    bucket_id: int
    key: bytes
    created_ms: int
    revision: int
    owner: str
    content_type: str
    attributes: Attributes
    checksum_algorithm: str | None
    checksum_type: str | None


class PartRow(Struct, frozen=True, gc=False):
    """One uploaded part of an open upload."""

    number: int
    blob_id: bytes
    size: int
    etag: str
    checksum: str | None
    modified_ms: int


class PartPage(Struct, frozen=True):
    """Parts ascending by number."""

    parts: list[PartRow]
    truncated: bool


class UploadEntry(Struct, frozen=True, gc=False):
    """One upload of a ListMultipartUploads page."""

    key: bytes
    upload_id: str
    created_ms: int
    owner: str
    storage_class: str
    checksum_algorithm: str | None
    checksum_type: str | None


class UploadPage(Struct, frozen=True):
    """Uploads by key, then by age; `next_key` and `next_upload_id` are the markers of the next page
    (`next_upload_id` is empty when the page ends with a common prefix)."""

    entries: list[UploadEntry]
    prefixes: list[bytes]
    truncated: bool
    next_key: bytes
    next_upload_id: str


class RequestedPart(Struct, frozen=True, gc=False):
    """A part as CompleteMultipartUpload lists it: ETag without quotes, checksum in base64 if sent."""

    number: int
    etag: str
    checksum: str | None = None


class CompletionPlan(Struct, frozen=True):
    """A completion as prepared outside the transaction, bound to the upload's revision (S14)."""

    upload: UploadRow
    parts: tuple[PartRef, ...]
    size: int
    manifest: bytes
    unused: tuple[int, ...]


class Completion(Struct, frozen=True):
    """The marker a completed upload leaves, so that completing it again gives the same answer."""

    etag: str
    result: PutResult


class GarbageItem(Struct, frozen=True):
    """A blob to delete from its nodes. A composite one has `parts` > 0 and nothing on nodes."""

    blob_id: bytes
    due_ms: int
    condemned: bool
    stripes: int
    parts: int
    nodes: tuple[int, ...]
    runs: tuple[Run, ...] = ()
    k: int = 0
    m: int = 0

    def nodes_at(self, stripe: int) -> tuple[int, ...]:
        """The layout of one stripe: entry i holds shard i mod `width`, node 0 is nobody."""
        return _nodes_at(self.nodes, self.runs, stripe)

    @property
    def width(self) -> int:
        """Shards a stripe; garbage of the first schema does not say k and m, and has one entry a shard."""
        return self.k + self.m or len(self.nodes)


class FaultReport(Struct, frozen=True, array_like=True, gc=False):
    """A block found missing or bad. `kind` is a short word: missing, corrupt, …"""

    stripe: int
    shard: int
    node: int
    kind: str


class RepairItem(Struct, frozen=True):
    """A blob to look at, with the faults that were reported of it. `spare`: how many more copies its worst
    stripe can lose, as far as reported; below 0 it can't be read."""

    blob_id: bytes
    reported_ms: int
    due_ms: int
    attempts: int
    faults: tuple[FaultReport, ...]
    spare: int = 0


class ExtraCopy(Struct, frozen=True, array_like=True, gc=False):
    """One stored copy of a block that the blob's layout does not name; `sequence` is its record's (S20)."""

    blob_id: bytes
    stripe: int
    shard: int
    node: int
    sequence: int


class Event(Struct, frozen=True):
    """Something that happened to a node or the cluster."""

    number: int
    at_ms: int
    kind: str
    node: int | None
    detail: str


class NodeRow(Struct, frozen=True):
    """A storage node. `state`: joining, up, suspect, down, draining, removed. A node is known from its first
    `up` on and then refuses an empty directory (S23). `number` is never reused. `directory`: where the
    supervisor of its machine starts it, None if it is started otherwise."""

    number: int
    node_id: bytes
    name: str
    region: str
    zone: str
    host: str
    port: int
    state: str
    directory: str | None = None


class Lease(Struct, frozen=True):
    """A lease row as last read. Compare `counter` with `leases.LeaseWatch`, never a clock (S22)."""

    name: str
    holder: str | None
    counter: int


class Meta(Struct, frozen=True):
    """The catalog's own row: identity and term (S18), upload epoch and collect horizon (S19). While not
    `orphans_allowed`, nothing may be deleted because this catalog does not know it (S18)."""

    catalog_id: bytes
    cluster_id: bytes
    term: int
    upload_epoch: int
    collect_horizon: int
    config_generation: int
    orphans_allowed: bool = True
