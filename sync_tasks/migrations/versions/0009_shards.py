"""Sources that are clusters: which shard a source node is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("node", sa.Column("shard", sa.JSON(), nullable=True))


def downgrade() -> None:
    """The older version knows no clusters: their tasks fail there."""
    op.drop_column("node", "shard")
