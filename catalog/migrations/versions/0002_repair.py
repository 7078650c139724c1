"""What repair, membership and restore need; `catalog/schema.py` says what each column is for.

Revision ID: 0002
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _text() -> sa.types.TypeEngine[Any]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add to the tables of 0001; rows that are there get the defaults."""
    op.add_column("nodes", sa.Column("directory", _text(), nullable=True))
    op.add_column(
        "repairs", sa.Column("spare", sa.SmallInteger(), nullable=False, server_default=sa.text("0"))
    )
    op.create_index("repairs_by_spare", "repairs", ["spare", "due_ms"], unique=False)
    for name in ("k", "m"):
        op.add_column(
            "garbage", sa.Column(name, sa.SmallInteger(), nullable=False, server_default=sa.text("0"))
        )
    op.add_column(
        "meta",
        sa.Column("orphans_allowed", sa.SmallInteger(), nullable=False, server_default=sa.text("1")),
    )
    op.create_table(
        "progress",
        sa.Column("name", _text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
