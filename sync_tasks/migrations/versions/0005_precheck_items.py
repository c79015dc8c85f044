"""What prechecks have found is kept item by item, with what is ignored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "precheck_item",
        sa.Column("task_id", BIG, nullable=False),
        sa.Column("item", sa.String(length=40), nullable=False),
        sa.Column("finding", sa.String(length=16), nullable=True),
        sa.Column("found", sa.Text(), nullable=False),
        sa.Column("repair", sa.Text(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("ignored", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_precheck_item_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "item", name=op.f("pk_precheck_item")),
    )


def downgrade() -> None:
    op.drop_table("precheck_item")
