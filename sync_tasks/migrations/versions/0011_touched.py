"""What the stream writes is compared shortly after: what was found of each source node."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "touched",
        sa.Column("node_id", BIG, nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name="fk_touched_node_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id", name="pk_touched"),
    )


def downgrade() -> None:
    """The older version compares a task in one go: what is compared in parts is forgotten."""
    op.execute("DELETE FROM op WHERE kind IN ('verify', 'verify-part')")
    op.drop_table("touched")
