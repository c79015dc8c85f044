"""Accounts, their instances, roles, policies and tokens; which role a task has assumed; who has asked for what."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OF_TASKS = {"source_instance": 100, "source_owner": 64, "target_instance": 100, "target_owner": 64}
TABLES = ("audit", "token", "grant_of_role", "policy", "role", "instance", "account")


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _of_account(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account"], ["account.name"], name=op.f(f"fk_{table}_account"), ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        "account",
        _text("name", 64),
        sa.Column("description", sa.Text(), nullable=False),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_account")),
    )
    op.create_table(
        "instance",
        _text("account", 64),
        _text("name", 100),
        sa.Column("url", sa.LargeBinary(), nullable=False),
        sa.Column("safe", sa.Text(), nullable=False),
        _text("server", 32),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("account", "name", name=op.f("pk_instance")),
    )
    op.create_table(
        "role",
        _text("account", 64),
        _text("name", 64),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("trust", sa.JSON(), nullable=False),
        sa.Column("policies", sa.JSON(), nullable=False),
        _of_account("role"),
        sa.PrimaryKeyConstraint("account", "name", name=op.f("pk_role")),
    )
    op.create_table(
        "policy",
        _text("account", 64),
        _text("name", 64),
        sa.Column("document", sa.JSON(), nullable=False),
        _of_account("policy"),
        sa.PrimaryKeyConstraint("account", "name", name=op.f("pk_policy")),
    )
    op.create_table(
        "grant_of_role",
        sa.Column("task_id", BIG, nullable=False),
        _text("side", 16),
        _text("owner", 64),
        _text("role", 64),
        _text("instance", 100),
        sa.Column("until", sa.Float(53), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_grant_of_role_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "side", name=op.f("pk_grant_of_role")),
    )
    op.create_table(
        "token",
        sa.Column("id", BIG, nullable=False),
        _text("account", 64),
        _text("name", 100),
        _text("hash", 64),
        _text("scope", 16),
        _moment("expires_at", nullable=True),
        _moment("created_at"),
        _of_account("token"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_token_hash")),
    )
    op.create_table(
        "audit",
        sa.Column("id", BIG, nullable=False),
        _moment("at"),
        _text("account", 64),
        _text("actor", 64),
        _text("action", 40),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_account_id", "audit", ["account", "id"], unique=False)
    op.add_column("task", sa.Column("account", sa.String(length=64), nullable=False, server_default=""))
    for name, length in OF_TASKS.items():
        op.add_column("task", sa.Column(name, sa.String(length=length), nullable=True))


def downgrade() -> None:
    """Tasks keep the addresses that they were made with; whose they are is forgotten."""
    for name in ("account", *OF_TASKS):
        op.drop_column("task", name)
    for name in TABLES:
        op.drop_table(name)
