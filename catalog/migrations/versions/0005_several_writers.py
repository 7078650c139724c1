"""Shares of the books for several writers at once; `catalog/schema.py` says what each column is for.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add an empty table: what the books say so far stays in their rows."""
    op.create_table(
        "bucket_usage_shares",
        sa.Column("bucket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("share", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("versions", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", "share"),
        sqlite_with_rowid=False,
    )
