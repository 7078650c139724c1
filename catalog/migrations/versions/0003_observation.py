"""Usage of buckets, access keys, history of metrics, operations; `catalog/schema.py` says what each column is for.

Revision ID: 0003
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _text() -> sa.types.TypeEngine[Any]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add tables, and count what lies in the buckets so far."""
    op.create_table(
        "bucket_usage",
        sa.Column("bucket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("versions", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO bucket_usage (bucket_id, objects, versions, bytes) "
        "SELECT buckets.id, COALESCE(c.n, 0), COALESCE(c.n, 0) + COALESCE(v.n, 0), "
        "COALESCE(c.size, 0) + COALESCE(v.size, 0) FROM buckets "
        "LEFT JOIN (SELECT bucket_id, COUNT(*) AS n, SUM(size) AS size FROM objects GROUP BY bucket_id) AS c "
        "ON c.bucket_id = buckets.id "
        "LEFT JOIN (SELECT bucket_id, COUNT(*) AS n, SUM(size) AS size FROM versions GROUP BY bucket_id) AS v "
        "ON v.bucket_id = buckets.id"
    )
    op.create_table(
        "access_keys",
        sa.Column("access_key", _text(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("role", _text(), nullable=False),
        sa.Column("enabled", sa.SmallInteger(), nullable=False),
        sa.Column("description", _text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("access_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metrics_minutes",
        sa.Column("minute_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("operation", _text(), nullable=False),
        sa.Column("figures", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("minute_ms", "operation"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "operations",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False
        ),
        sa.Column("kind", _text(), nullable=False),
        sa.Column("node", sa.BigInteger(), nullable=True),
        sa.Column("state", _text(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.Column("memo", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
