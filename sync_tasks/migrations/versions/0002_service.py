"""The service: operations that workers carry out, spools of several hosts, shifts, the cut-over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "op",
        sa.Column("id", BIG, nullable=False),
        sa.Column("task_id", BIG, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("beat", BIG, nullable=False),
        sa.Column("dispatched_at", sa.Float(53), nullable=True),
        sa.Column("next_at", sa.Float(53), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_op_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_op")),
    )
    op.create_index("ix_op_state", "op", ["state"], unique=False)
    op.create_index("ix_op_task_id", "op", ["task_id"], unique=False)
    op.create_table("ended_run", sa.Column("uid", sa.String(length=16), nullable=False), sa.PrimaryKeyConstraint("uid"))
    op.add_column("task", _flag("finishing"))
    op.add_column("node", sa.Column("spool", sa.String(length=32), nullable=True))
    op.add_column("node", _flag("turn"))
    op.add_column("node", _flag("finished"))
    op.add_column("chunk", sa.Column("spool", sa.String(length=32), nullable=True))


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def downgrade() -> None:
    op.drop_column("chunk", "spool")
    for name in ("finished", "turn", "spool"):
        op.drop_column("node", name)
    op.drop_column("task", "finishing")
    op.drop_table("ended_run")
    op.drop_table("op")
