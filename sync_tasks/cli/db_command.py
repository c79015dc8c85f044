"""`keyferry db`: the database of an installation."""

from __future__ import annotations

import json as json_format
import os
from typing import Annotated

import typer

from sync_tasks.cli.task_options import State

EXAMPLES = """
The database of this installation.

\b
Examples:
  keyferry db upgrade
  KEYFERRY_DATABASE_URL=postgresql+psycopg://db/keyferry keyferry db upgrade
"""

UPGRADE = """
Make the tables, or bring older ones up to date.

What is up to date stays as it is. A database in a state directory does not need it: keyferry up does it there.

\b
Examples:
  keyferry db upgrade
  KEYFERRY_DATABASE_URL=postgresql+psycopg://db.example/keyferry keyferry db upgrade --json
"""

db = typer.Typer(help=EXAMPLES)
Json = Annotated[bool, typer.Option("--json", help="one object on stdout")]


@db.callback()
def _group() -> None:
    pass


@db.command("upgrade")
def upgrade(state: State = None, json: Json = False) -> int:
    """Replaced by UPGRADE: the docstring of a command is its help."""
    from sync_tasks.migrations import HEAD
    from sync_tasks.store import migrate
    from sync_tasks.supervise.directory import Directory
    from sync_tasks.supervise.installation import chosen

    os.umask(0o077)
    settings = chosen(state)
    if settings.database_url is None:
        Directory(settings.state_dir).attach()
    migrate(settings.database())
    typer.echo(json_format.dumps({"revision": HEAD}) if json else f"the database is up to date (revision {HEAD})")
    return 0


upgrade.__doc__ = UPGRADE


@db.command("reseal")
def reseal(state: State = None, json: Json = False) -> int:
    """Seal all addresses anew, to change the secret key.

    Put a new key before the old one, with a space or a line end between, wherever the key is set, and restart workers
    and schedulers: each opens by either. Then reseal, and take the old key away.

    \b
    Examples:
      KEYFERRY_SECRET_KEY="$(keyferry config new-key) $OLD_KEY" keyferry db reseal
    """
    from sync_tasks.cli.task_options import connected

    with connected(state) as client:
        count = client.reseal()
    typer.echo(json_format.dumps({"sealed": count}) if json else f"{count} addresses are sealed with the first key")
    return 0
