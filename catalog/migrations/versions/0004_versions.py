"""Versions, object lock, lifecycle, encryption, configurations; `catalog/schema.py` says what each column is for.

Revision ID: 0004
"""

import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _text() -> sa.types.TypeEngine[Any]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add tables and columns. Nothing written before has versions, keys or rules."""
    op.create_table(
        "bucket_documents",
        sa.Column("bucket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", "kind", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "encryption_keys",
        sa.Column("name", _text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("enabled", sa.SmallInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lifecycle_queue",
        sa.Column("bucket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("lifecycle_queue_by_due", "lifecycle_queue", ["due_ms"])
    op.add_column("versions", sa.Column("noncurrent_ms", sa.BigInteger(), nullable=True))
    op.create_index("versions_newest", "versions", ["bucket_id", "key", sa.text("sequence DESC")])
    # The lock clock has not run so far, and nothing is locked that it could free.
    op.execute(sa.text("UPDATE meta SET clock_ms = :now").bindparams(now=time.time_ns() // 1_000_000))
    op.add_column("blobs", sa.Column("seal", sa.LargeBinary(), nullable=True))
