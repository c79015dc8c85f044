"""The cut-over goes by steps: how far a task's is, what its streams have come to, and where a way back begins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("task", sa.Column("cutover", sa.String(16), nullable=True))
    op.add_column("node", sa.Column("unextended", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("node", sa.Column("changed_offset", BIG, nullable=True))
    op.add_column("node", sa.Column("changed_by", sa.String(64), nullable=True))
    op.add_column("node", sa.Column("way_back", sa.String(100), nullable=True))
    op.add_column("node", sa.Column("begins_at", sa.String(100), nullable=True))


def downgrade() -> None:
    """The older version cuts over at once: what was only asked for is forgotten."""
    op.execute("DELETE FROM op WHERE kind = 'finish'")
    for name in ("begins_at", "way_back", "changed_by", "changed_offset", "unextended"):
        op.drop_column("node", name)
    op.drop_column("task", "cutover")
