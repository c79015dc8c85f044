"""Targets that are clusters: the parts in which they are written to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("task", sa.Column("lanes", sa.JSON(), nullable=True))


def downgrade() -> None:
    """The older version knows no clusters: release such tasks before."""
    op.drop_column("task", "lanes")
