"""Databases and filters of a task may change while it runs: which ones its run had before, and where its keys stay."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("task", sa.Column("extents", sa.JSON(), nullable=True))


def downgrade() -> None:
    """The older version looks for the checkpoint in the lowest database in scope."""
    op.drop_column("task", "extents")
