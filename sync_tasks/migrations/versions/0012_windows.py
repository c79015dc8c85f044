"""How many windows a stream's owner has committed, for metrics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("node", sa.Column("windows", BIG, nullable=True))


def downgrade() -> None:
    op.drop_column("node", "windows")
