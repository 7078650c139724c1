"""All tables (S15). Keys and ids are bytes and ordered as bytes; times are milliseconds since 1970 (UTC).

Tables without a rowid lie in the order of their key: a LIST page is one stretch of the file. What is rarely
read stands in the last columns, so that a large value spills to overflow pages that a scan never touches.
Migrations only add (S25); `migrations/versions` makes the same schema step by step, and a test compares.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

HEAD_REVISION = "0005"
"""The newest migration this code knows."""

metadata = MetaData()

# SQLite gives out row numbers only for exactly INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

# SQLite orders text by its bytes; elsewhere that depends on how the database was made, unless a column says it.
_Text = Text().with_variant(Text(collation="C"), "postgresql")

meta = Table(
    "meta",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),  # always 1
    Column("catalog_id", LargeBinary, nullable=False),  # S18: 16 random bytes, new at each creation
    Column("cluster_id", LargeBinary, nullable=False),
    Column("term", BigInteger, nullable=False),  # S18: rises at creation, restore and takeover
    Column("upload_epoch", BigInteger, nullable=False),  # S19: the first four bytes of new blob ids
    Column("collect_horizon", BigInteger, nullable=False),  # S19: blobs of this epoch or older are refused
    Column("config_generation", BigInteger, nullable=False),  # S16: rises with buckets, nodes and epoch
    Column("batch", BigInteger, nullable=False),  # S17 slot: number of the last group commit
    Column("clock_ms", BigInteger, nullable=False),  # S26 slot: the lock clock, which only advances
    Column("created_ms", BigInteger, nullable=False),
    # S18: 0 after a restore, until an operator accepts that what this catalog does not know is deleted
    Column("orphans_allowed", SmallInteger, nullable=False, server_default=text("1")),
    sqlite_with_rowid=False,
)

buckets = Table(
    "buckets",
    metadata,
    Column(
        "id", _Number, Identity(), primary_key=True
    ),  # never reused: a late request must not hit another bucket
    Column("name", _Text, nullable=False, unique=True),
    Column("owner", _Text, nullable=False),
    Column("region", _Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("versioning", SmallInteger, nullable=False),
    Column("quota_bytes", BigInteger),
    Column("lock_default", LargeBinary),  # msgpack of LockConfiguration; NULL: object lock is not enabled
    Column("configuration", LargeBinary),  # msgpack of BucketActions; NULL: nothing but defaults
    sqlite_autoincrement=True,
)


# What lies in each bucket, counted as it changes: an operator and a quota must not wait for a scan.
bucket_usage = Table(
    "bucket_usage",
    metadata,
    Column("bucket_id", BigInteger, primary_key=True, autoincrement=False),
    Column("objects", BigInteger, nullable=False),  # keys with a current version that is no delete marker
    Column("versions", BigInteger, nullable=False),  # all versions, the current ones and delete markers too
    Column("bytes", BigInteger, nullable=False),  # of all versions, as their owner counts them
    sqlite_with_rowid=False,
)

# On a database with several writers at once, what each of them has added to the books since: they would all wait for
# the one row of `bucket_usage`. The books of a bucket are that row and its shares together.
bucket_usage_shares = Table(
    "bucket_usage_shares",
    metadata,
    Column("bucket_id", BigInteger, primary_key=True, autoincrement=False),
    Column("share", Integer, primary_key=True, autoincrement=False),
    Column("objects", BigInteger, nullable=False),
    Column("versions", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Configurations that S3 clients put and read back, and that change nothing here (what is acted on stands in `buckets`).
bucket_documents = Table(
    "bucket_documents",
    metadata,
    Column("bucket_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", _Text, primary_key=True),  # the subresource: tagging, logging, analytics, …
    Column("name", _Text, primary_key=True),  # of one among several (analytics, inventory, …), else empty
    Column("document", LargeBinary, nullable=False),  # the XML as it is handed back
    sqlite_with_rowid=False,
)

# The local key ring of server-side encryption: each version of each key, encrypted under the cluster's secret.
encryption_keys = Table(
    "encryption_keys",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),  # the highest encrypts, all decrypt
    Column("sealed_key", LargeBinary, nullable=False),
    Column("enabled", SmallInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Access keys beside the root key, which is no row: it must work when the catalog holds none.
access_keys = Table(
    "access_keys",
    metadata,
    Column("access_key", _Text, primary_key=True),
    Column("sealed_secret", LargeBinary, nullable=False),  # encrypted under a key that is not in the catalog
    Column("role", _Text, nullable=False),
    Column("enabled", SmallInteger, nullable=False),
    Column("description", _Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def _version_columns(*, sequence_in_key: bool) -> list[Column[Any]]:
    return [
        Column("bucket_id", BigInteger, primary_key=True, autoincrement=False),
        Column("key", LargeBinary, primary_key=True),
        # S13: highest of the key + 1
        Column("sequence", BigInteger, primary_key=sequence_in_key, autoincrement=False, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("modified_ms", BigInteger, nullable=False),
        Column("etag", _Text, nullable=False),
        Column("storage_class", _Text),  # NULL: STANDARD
        Column("checksum_code", SmallInteger),  # algorithm and type as attributes.CHECKSUM_KINDS numbers them
        Column("blob_id", LargeBinary),
        Column("version_id", _Text),  # NULL: the bucket never had versioning, or the null version
        Column("content_type", _Text, nullable=False),
        Column("attributes", LargeBinary),  # msgpack of model.Attributes; NULL: nothing but defaults
    ]


# The current version, one row a key. GET and LIST touch nothing else, whatever the number of versions (P9).
objects = Table(
    "objects",
    metadata,
    *_version_columns(sequence_in_key=False),
    sqlite_with_rowid=False,
)

# Older versions, and delete markers (without a blob).
versions = Table(
    "versions",
    metadata,
    *_version_columns(sequence_in_key=True),
    Column("delete_marker", SmallInteger, nullable=False),
    Column(
        "noncurrent_ms", BigInteger
    ),  # since when there is a newer version; NULL: a delete marker without one
    sqlite_with_rowid=False,
)
Index("versions_newest", versions.c.bucket_id, versions.c.key, versions.c.sequence.desc())
Index("versions_by_id", versions.c.bucket_id, versions.c.key, versions.c.version_id, unique=True)
Index(
    "versions_null",
    versions.c.bucket_id,
    versions.c.key,
    unique=True,
    sqlite_where=versions.c.version_id.is_(None),
    postgresql_where=versions.c.version_id.is_(None),
)

# What the bytes are and where. Everything else names blobs by id.
blobs = Table(
    "blobs",
    metadata,
    Column("id", LargeBinary, primary_key=True),  # epoch u32, counter u32, random u64: inserts stay local
    Column("size", BigInteger, nullable=False),
    Column("refs", BigInteger, nullable=False),  # versions, part rows and manifests that name it (S14)
    Column("condemned", SmallInteger, nullable=False),  # S14: 1 once its deletion has begun
    Column("placement_id", BigInteger, nullable=False),  # of its first run
    Column("stripes", BigInteger, nullable=False),
    Column("k", SmallInteger, nullable=False),
    Column("m", SmallInteger, nullable=False),
    Column("codec", SmallInteger, nullable=False),
    Column("stripe_bytes", Integer, nullable=False),
    Column("runs", SmallInteger, nullable=False),  # S9: rows in blob_runs, normally 0
    Column("parts", Integer, nullable=False),  # of a composite blob, whose manifest is in manifests; else 0
    Column(
        "transform", SmallInteger, nullable=False
    ),  # S24: 0 = stored as it came, 1 = sealed (codec.sealing)
    Column("stored_stripe_bytes", Integer, nullable=False),  # S24 slot: 0 = stripe_bytes
    Column("seal", LargeBinary),  # of an encrypted blob: what its key was derived with (codec.sealing)
    sqlite_with_rowid=False,
)
Index("blobs_by_placement", blobs.c.placement_id)

blob_runs = Table(
    "blob_runs",
    metadata,
    Column("blob_id", LargeBinary, primary_key=True),
    Column("first_stripe", BigInteger, primary_key=True, autoincrement=False),
    Column("placement_id", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("blob_runs_by_placement", blob_runs.c.placement_id)

# Written once; apart from blobs so that a change of refs does not rewrite a megabyte of parts (P9).
manifests = Table(
    "manifests",
    metadata,
    Column("blob_id", LargeBinary, primary_key=True),
    Column("parts", LargeBinary, nullable=False),  # msgpack of tuple[model.PartRef, ...]
    sqlite_with_rowid=False,
)

# Each distinct assignment of shards to nodes, once, never changed and never deleted.
placements = Table(
    "placements",
    metadata,
    Column("id", _Number, Identity(), primary_key=True),
    Column("nodes", LargeBinary, nullable=False, unique=True),  # node numbers by shard, u32 big-endian each
    sqlite_autoincrement=True,
)
placement_nodes = Table(
    "placement_nodes",
    metadata,
    Column("node", BigInteger, primary_key=True, autoincrement=False),
    Column("placement_id", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# Open multipart uploads; ids rise with time, so that this is ListMultipartUploads' order.
uploads = Table(
    "uploads",
    metadata,
    Column("number", _Number, Identity(), primary_key=True),  # never reused
    Column("bucket_id", BigInteger, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("upload_id", _Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),  # S14: raised by each part commit
    Column("owner", _Text, nullable=False),
    Column("storage_class", _Text),
    Column("checksum_algorithm", _Text),
    Column("checksum_type", _Text),
    Column("content_type", _Text, nullable=False),
    Column("attributes", LargeBinary),
    sqlite_autoincrement=True,
)
Index("uploads_by_key", uploads.c.bucket_id, uploads.c.key, uploads.c.upload_id, unique=True)
Index("uploads_by_age", uploads.c.created_ms)

parts = Table(
    "parts",
    metadata,
    Column("upload_number", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("modified_ms", BigInteger, nullable=False),
    Column("etag", _Text, nullable=False),
    Column("checksum", _Text),
    Column("blob_id", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# What a completed upload leaves behind for a while, so that a second completion answers alike.
completions = Table(
    "completions",
    metadata,
    Column("bucket_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, primary_key=True),
    Column("upload_id", _Text, primary_key=True),
    Column("completed_ms", BigInteger, nullable=False),
    Column("etag", _Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("modified_ms", BigInteger, nullable=False),
    Column("version_id", _Text),
    sqlite_with_rowid=False,
)
Index("completions_by_age", completions.c.completed_ms)

# Part rows of closed uploads, and uploads of deleted buckets, are cleared in slices (P9: completion is O(1)).
sweeps = Table(
    "sweeps",
    metadata,
    Column("id", _Number, Identity(), primary_key=True),
    Column("kind", _Text, nullable=False),  # upload or bucket
    Column("subject", BigInteger, nullable=False),  # uploads.number or buckets.id
    Column("unused", LargeBinary),  # msgpack of the part numbers to release; NULL: all
    sqlite_autoincrement=True,
)

# Keys that a lifecycle rule may concern, and when to look at them: at most one row a key, none without rules.
lifecycle_queue = Table(
    "lifecycle_queue",
    metadata,
    Column("bucket_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, primary_key=True),
    Column("due_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("lifecycle_queue_by_due", lifecycle_queue.c.due_ms)

# Blobs to delete from their nodes once due, also such as never had a row in blobs.
garbage = Table(
    "garbage",
    metadata,
    Column("blob_id", LargeBinary, primary_key=True),
    Column("due_ms", BigInteger, nullable=False),
    Column("condemned", SmallInteger, nullable=False),
    Column("placement_id", BigInteger, nullable=False),
    Column("stripes", BigInteger, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("released", Integer, nullable=False),  # parts of a composite blob whose reference is dropped
    # Of the blob; both 0 in rows older than these columns, whose layouts have one entry a shard.
    Column("k", SmallInteger, nullable=False, server_default=text("0")),
    Column("m", SmallInteger, nullable=False, server_default=text("0")),
    sqlite_with_rowid=False,
)
Index("garbage_by_due", garbage.c.due_ms)

# S20 slot: single copies that a move or a late append left over.
extra_copies = Table(
    "extra_copies",
    metadata,
    Column("blob_id", LargeBinary, primary_key=True),
    Column("stripe", BigInteger, primary_key=True, autoincrement=False),
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("node", BigInteger, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("due_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("extra_copies_by_due", extra_copies.c.due_ms)

repairs = Table(
    "repairs",
    metadata,
    Column("blob_id", LargeBinary, primary_key=True),
    Column("reported_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("worker", _Text),  # S20: one worker at a time per blob
    Column("faults", LargeBinary, nullable=False),  # msgpack of list[model.FaultReport], bounded
    # How many more copies its worst stripe can lose, as far as reported; rows older than the column come first
    Column("spare", SmallInteger, nullable=False, server_default=text("0")),
    sqlite_with_rowid=False,
)
Index("repairs_by_due", repairs.c.due_ms)
Index("repairs_by_spare", repairs.c.spare, repairs.c.due_ms)

events = Table(
    "events",
    metadata,
    Column("number", _Number, Identity(), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", _Text, nullable=False),
    Column("node", BigInteger),
    Column("detail", _Text, nullable=False),
    sqlite_autoincrement=True,
)

nodes = Table(
    "nodes",
    metadata,
    Column("number", _Number, Identity(), primary_key=True),  # never reused
    Column("node_id", LargeBinary, nullable=False, unique=True),
    Column("name", _Text, nullable=False, unique=True),
    Column("region", _Text, nullable=False),
    Column("zone", _Text, nullable=False),
    Column("host", _Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("state", _Text, nullable=False),
    Column(
        "directory", _Text
    ),  # where the supervisor of its machine starts it; NULL: it is started otherwise
    sqlite_autoincrement=True,
)

# S22: judged by the counter standing still over the observer's own monotonic time.
leases = Table(
    "leases",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("holder", _Text),  # NULL: free
    sqlite_with_rowid=False,
)

# How far long walks have come (repair, scrub, rebalance), each state in its owner's own format.
progress = Table(
    "progress",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# What the fronts did in each minute, summed over all of them; older minutes are dropped.
metrics_minutes = Table(
    "metrics_minutes",
    metadata,
    Column("minute_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("operation", _Text, primary_key=True),
    Column("figures", LargeBinary, nullable=False),  # msgpack of history.Figures
    sqlite_with_rowid=False,
)

# Long work that an operator asked for: recovery, drain, scrub. How far it is follows from the rest of the catalog.
operations = Table(
    "operations",
    metadata,
    Column("number", _Number, Identity(), primary_key=True),  # never reused
    Column("kind", _Text, nullable=False),
    Column("node", BigInteger),
    Column("state", _Text, nullable=False),  # running, done, failed, cancelled
    Column("started_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("memo", LargeBinary, nullable=False),  # what the owner of the kind must know, in its own format
    sqlite_autoincrement=True,
)

# S17 slot: log records of group commits that are not yet on two nodes.
outbox = Table(
    "outbox",
    metadata,
    Column("batch", BigInteger, primary_key=True, autoincrement=False),
    Column("record", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
