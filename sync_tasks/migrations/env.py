"""Alembic's environment: migrates the connection that `store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from sync_tasks.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter a column in place: Alembic copies the table.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
