"""Frozen values that leave the package. Keys are bytes, sizes bytes, times milliseconds since 1970 (UTC)."""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from catalog.bucket_model import BucketActions, LockConfiguration


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
    lock: LockConfiguration | None = None
    """None: object lock is not enabled."""
    actions: BucketActions = BucketActions()

    @property
    def is_versioned(self) -> bool:
        """Whether answers name versions: versioning is, or once was, enabled."""
        return self.versioning is not Versioning.NEVER


class Checksum(Struct, frozen=True, array_like=True):
    """A checksum as S3 shows it: algorithm `CRC32` …, type `FULL_OBJECT` or `COMPOSITE`, value in base64
    (a composite one with its `-N`)."""

    algorithm: str
    type: str
    value: str


class Retention(Struct, frozen=True, array_like=True):
    """A version can't be removed before `until_ms` of the lock clock (S26). `mode`: GOVERNANCE or COMPLIANCE."""

    mode: str
    until_ms: int


class Encryption(Struct, frozen=True, omit_defaults=True):
    """How an object's bytes are encrypted. `algorithm`: AES256, aws:kms, aws:kms:dsse, or SSE-C for a key of the
    customer's. `sealed_key` is the object's own data key, encrypted under the key that `key_id` (of the key ring,
    with `key_version`) or the customer's key is. `context` is the encryption context as sent (base64)."""

    algorithm: str
    sealed_key: bytes
    key_id: str = ""
    key_version: int = 0
    context: str = ""
    bucket_key: bool = False


class Attributes(Struct, frozen=True, omit_defaults=True):
    """What is rarely looked at, in one column. `headers` by lower-case name (cache-control,
    content-disposition, content-encoding, content-language, expires, …); `metadata` without `x-amz-meta-`."""

    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    checksum: Checksum | None = None
    storage_class: str = "STANDARD"
    tags: dict[str, str] = {}
    retention: Retention | None = None
    legal_hold: bool | None = None
    """None: none was ever put."""
    encryption: Encryption | None = None


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
    its own. `runs` are the runs after the first, normally none (S9); read layouts with `nodes_at`. `size` counts
    stored bytes: those of a sealed blob (`transform` 1, with a `seal`) are more than the object's (codec.sealing)."""

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
    seal: bytes | None = None

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
    seal: bytes | None = None

    @property
    def epoch(self) -> int:
        """The upload epoch the id was made in (S19)."""
        return int.from_bytes(self.id[:4], "big")


class ObjectRow(Struct, frozen=True):
    """One version of a key, the current one unless another was asked for. `version_id` is None for the null version,
    so for all in a bucket that never had versioning. `size` is that of the plain object. `etag` is without quotes."""

    key: bytes
    version_id: str | None
    sequence: int
    size: int
    etag: str
    modified_ms: int
    content_type: str
    attributes: Attributes
    blob: BlobRow


class MarkerRow(Struct, frozen=True):
    """A delete marker. `version_id` is None for the null version."""

    key: bytes
    version_id: str | None
    sequence: int
    modified_ms: int


class Source(Struct, frozen=True):
    """The version a copy was prepared from; the transaction raises Changed unless it still is so (S14)."""

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
    """A committed version. `version_id` is None for the null version, which S3's answers to writes don't name."""

    version_id: str | None
    sequence: int
    modified_ms: int


class DeleteResult(Struct, frozen=True):
    """`existed` is whether a current object, or the version asked for, was there; deleting what is missing succeeds
    all the same. `delete_marker`: one was made, or removed; `version_id` is that of the marker made or the version
    removed, as answers show it."""

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


class VersionEntry(Struct, frozen=True, gc=False):
    """One version, or delete marker (without size, ETag and class), of a ListObjectVersions page. `version_id` as
    answers show it."""

    key: bytes
    version_id: str
    is_latest: bool
    delete_marker: bool
    size: int
    etag: str
    modified_ms: int
    storage_class: str
    checksum_algorithm: str | None
    checksum_type: str | None


class VersionPage(Struct, frozen=True):
    """Versions by key, then newest first; `next_key` and `next_version` are the markers of the next page
    (`next_version` is empty when the page ends with a common prefix)."""

    entries: list[VersionEntry]
    prefixes: list[bytes]
    truncated: bool
    next_key: bytes
    next_version: str


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
    clock_ms: int = 0
    """The lock clock (S26): retention is judged by it. It only advances."""
