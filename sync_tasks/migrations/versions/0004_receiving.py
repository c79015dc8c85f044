"""A suspended task's stream may be received to disk: up to how much, and whether its owner has come to rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("node", sa.Column("receive_bytes", BIG, nullable=True))
    op.add_column("node", sa.Column("resting", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Streams that were only received would be applied by the older version: they stop instead."""
    op.execute("UPDATE node SET wanted = false WHERE receive_bytes IS NOT NULL")
    op.drop_column("node", "resting")
    op.drop_column("node", "receive_bytes")
