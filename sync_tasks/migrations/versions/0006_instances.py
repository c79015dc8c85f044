"""Servers may be registered under a name, and tasks made of those."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SIDES = ("source_instance", "target_instance")


def upgrade() -> None:
    op.create_table(
        "instance",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("url", sa.LargeBinary(), nullable=False),
        sa.Column("safe", sa.Text(), nullable=False),
        sa.Column("server", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instance")),
    )
    for side in SIDES:
        op.add_column("task", sa.Column(side, sa.String(length=100), nullable=True))


def downgrade() -> None:
    """Tasks keep the addresses that they were made with."""
    for side in SIDES:
        op.drop_column("task", side)
    op.drop_table("instance")
