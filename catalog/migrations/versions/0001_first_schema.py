"""First schema; `catalog/schema.py` says what each column is for.

Revision ID: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def _number() -> sa.types.TypeEngine[Any]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text() -> sa.types.TypeEngine[Any]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "blob_runs",
        sa.Column("blob_id", sa.LargeBinary(), nullable=False),
        sa.Column("first_stripe", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("placement_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("blob_id", "first_stripe"),
        sqlite_with_rowid=False,
    )
    op.create_index("blob_runs_by_placement", "blob_runs", ["placement_id"], unique=False)
    op.create_table(
        "blobs",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("refs", sa.BigInteger(), nullable=False),
        sa.Column("condemned", sa.SmallInteger(), nullable=False),
        sa.Column("placement_id", sa.BigInteger(), nullable=False),
        sa.Column("stripes", sa.BigInteger(), nullable=False),
        sa.Column("k", sa.SmallInteger(), nullable=False),
        sa.Column("m", sa.SmallInteger(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("stripe_bytes", sa.Integer(), nullable=False),
        sa.Column("runs", sa.SmallInteger(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("transform", sa.SmallInteger(), nullable=False),
        sa.Column("stored_stripe_bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("blobs_by_placement", "blobs", ["placement_id"], unique=False)
    op.create_table(
        "buckets",
        sa.Column("id", _number(), sa.Identity(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("owner", _text(), nullable=False),
        sa.Column("region", _text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("versioning", sa.SmallInteger(), nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("lock_default", sa.LargeBinary(), nullable=True),
        sa.Column("configuration", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "completions",
        sa.Column("bucket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("upload_id", _text(), nullable=False),
        sa.Column("completed_ms", sa.BigInteger(), nullable=False),
        sa.Column("etag", _text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.Column("version_id", _text(), nullable=True),
        sa.PrimaryKeyConstraint("bucket_id", "key", "upload_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("completions_by_age", "completions", ["completed_ms"], unique=False)
    op.create_table(
        "events",
        sa.Column("number", _number(), sa.Identity(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", _text(), nullable=False),
        sa.Column("node", sa.BigInteger(), nullable=True),
        sa.Column("detail", _text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "extra_copies",
        sa.Column("blob_id", sa.LargeBinary(), nullable=False),
        sa.Column("stripe", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("blob_id", "stripe", "shard", "node", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_index("extra_copies_by_due", "extra_copies", ["due_ms"], unique=False)
    op.create_table(
        "garbage",
        sa.Column("blob_id", sa.LargeBinary(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("condemned", sa.SmallInteger(), nullable=False),
        sa.Column("placement_id", sa.BigInteger(), nullable=False),
        sa.Column("stripes", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("released", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("blob_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("garbage_by_due", "garbage", ["due_ms"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", _text(), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("holder", _text(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "manifests",
        sa.Column("blob_id", sa.LargeBinary(), nullable=False),
        sa.Column("parts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("blob_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meta",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("catalog_id", sa.LargeBinary(), nullable=False),
        sa.Column("cluster_id", sa.LargeBinary(), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("upload_epoch", sa.BigInteger(), nullable=False),
        sa.Column("collect_horizon", sa.BigInteger(), nullable=False),
        sa.Column("config_generation", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("clock_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nodes",
        sa.Column("number", _number(), sa.Identity(), nullable=False),
        sa.Column("node_id", sa.LargeBinary(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("region", _text(), nullable=False),
        sa.Column("zone", _text(), nullable=False),
        sa.Column("host", _text(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("state", _text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("node_id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "objects",
        sa.Column("bucket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.Column("etag", _text(), nullable=False),
        sa.Column("storage_class", _text(), nullable=True),
        sa.Column("checksum_code", sa.SmallInteger(), nullable=True),
        sa.Column("blob_id", sa.LargeBinary(), nullable=True),
        sa.Column("version_id", _text(), nullable=True),
        sa.Column("content_type", _text(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("bucket_id", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("batch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("batch"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "parts",
        sa.Column("upload_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.Column("etag", _text(), nullable=False),
        sa.Column("checksum", _text(), nullable=True),
        sa.Column("blob_id", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("upload_number", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "placement_nodes",
        sa.Column("node", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("placement_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("node", "placement_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "placements",
        sa.Column("id", _number(), sa.Identity(), nullable=False),
        sa.Column("nodes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("nodes"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "repairs",
        sa.Column("blob_id", sa.LargeBinary(), nullable=False),
        sa.Column("reported_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("worker", _text(), nullable=True),
        sa.Column("faults", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("blob_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("repairs_by_due", "repairs", ["due_ms"], unique=False)
    op.create_table(
        "sweeps",
        sa.Column("id", _number(), sa.Identity(), nullable=False),
        sa.Column("kind", _text(), nullable=False),
        sa.Column("subject", sa.BigInteger(), nullable=False),
        sa.Column("unused", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "uploads",
        sa.Column("number", _number(), sa.Identity(), nullable=False),
        sa.Column("bucket_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("upload_id", _text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("owner", _text(), nullable=False),
        sa.Column("storage_class", _text(), nullable=True),
        sa.Column("checksum_algorithm", _text(), nullable=True),
        sa.Column("checksum_type", _text(), nullable=True),
        sa.Column("content_type", _text(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("uploads_by_age", "uploads", ["created_ms"], unique=False)
    op.create_index("uploads_by_key", "uploads", ["bucket_id", "key", "upload_id"], unique=True)
    op.create_table(
        "versions",
        sa.Column("bucket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.Column("etag", _text(), nullable=False),
        sa.Column("storage_class", _text(), nullable=True),
        sa.Column("checksum_code", sa.SmallInteger(), nullable=True),
        sa.Column("blob_id", sa.LargeBinary(), nullable=True),
        sa.Column("version_id", _text(), nullable=True),
        sa.Column("content_type", _text(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=True),
        sa.Column("delete_marker", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", "key", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_index("versions_by_id", "versions", ["bucket_id", "key", "version_id"], unique=True)
    op.create_index(
        "versions_null",
        "versions",
        ["bucket_id", "key"],
        unique=True,
        sqlite_where=sa.text("version_id IS NULL"),
        postgresql_where=sa.text("version_id IS NULL"),
    )
