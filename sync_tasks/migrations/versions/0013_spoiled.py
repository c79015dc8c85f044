"""What load workers have found of a snapshot whose chunks are in an object store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("node", sa.Column("spoiled", sa.String(40), nullable=True))


def downgrade() -> None:
    op.drop_column("node", "spoiled")
