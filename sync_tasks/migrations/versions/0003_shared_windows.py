"""Tasks know the servers that they share; a retry window's length follows the settings as they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SERVERS = {Side.SOURCE: ("source_safe", "source_server"), Side.TARGET: ("target_safe", "target_server")}


def upgrade() -> None:
    for _, column in SERVERS.values():
        op.add_column("task", sa.Column(column, sa.String(length=32), nullable=True))
    for side in SERVERS:
        _name_servers(side)
    op.add_column("retry_window", sa.Column("wall_from", sa.Float(53), nullable=False, server_default="0"))
    op.execute("UPDATE retry_window SET wall_from = deadline - length_s")
    op.drop_column("retry_window", "deadline")
    op.drop_column("retry_window", "length_s")


def _name_servers(side: Side) -> None:
    """Of the URLs that are stored for showing: the sealed ones cannot be opened here, and name the same servers."""
    shown, column = SERVERS[side]
    rows = op.get_bind().execute(sa.text(f"SELECT id, {shown} FROM task WHERE state <> 'released'")).all()  # noqa: S608
    for task_id, url in rows:
        try:
            server = Endpoint.stored(url, side).identity()
        except KeyferryError:
            continue  # it shares its servers with nobody until its addresses are given again
        statement = sa.text(f"UPDATE task SET {column} = :server WHERE id = :id")  # noqa: S608
        op.get_bind().execute(statement, {"server": server, "id": task_id})


def downgrade() -> None:
    """Windows that are open begin anew, with the longest length that there is: the settings are not read here."""
    op.add_column("retry_window", sa.Column("deadline", sa.Float(53), nullable=False, server_default="0"))
    op.add_column("retry_window", sa.Column("length_s", sa.Float(53), nullable=False, server_default="86400"))
    op.execute("UPDATE retry_window SET deadline = wall_from + length_s")
    op.drop_column("retry_window", "wall_from")
    for _, column in SERVERS.values():
        op.drop_column("task", column)
