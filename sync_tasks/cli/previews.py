"""`keyferry task preview`, and `create --preview`: what makes the same task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sync_tasks.cli.task_options import Json, State, Which, connected, put
from sync_tasks.errors import Side

if TYPE_CHECKING:
    from sync_tasks.preview import End, Preview


def preview(tasks: Which, json: Json = False, state: State = None) -> int:
    """Show the command and the Python code that would make the same tasks.

    Settings that are as when left out are left out; passwords are never shown.

    \b
    Examples:
      keyferry task preview orders-move
      keyferry task create --preview --set extend_expiry_s=0 redis://old:6379 redis://new:6379
    """
    with connected(state) as client:
        found = [client.preview(task) for task in tasks]
    if json:
        put([asdict(one) for one in found])
    else:
        typer.echo("\n\n".join(map(_text, found)))
    return 0


def of_words(source: str, target: str, config: Path | None, settings: Mapping[str, Any], json: bool) -> int:
    """Of a task that is not made."""
    from sync_tasks import reading
    from sync_tasks.changes import changed
    from sync_tasks.preview import Preview
    from sync_tasks.spec import mapping

    (here, here_db), (there, there_db) = _end(source, Side.SOURCE), _end(target, Side.TARGET)
    spec = changed(reading.usual(None if isinstance(here, str) else here), config, settings, "create")
    if not isinstance(here, str):
        reading.check(spec, here)
    mapping(spec.databases, here_db, there_db)
    found = Preview.of(here, there, spec)
    put(asdict(found)) if json else typer.echo(_text(found))
    return 0


def _end(text: str, side: Side) -> tuple[End, int | None]:
    """An end as it is written, and its database; an instance is not looked up."""
    from sync_tasks.endpoints import Endpoint
    from sync_tasks.places import named

    if (one := named(text, side)) is not None:
        return text, one.db
    endpoint = Endpoint.parse(text, side, files=True)
    return endpoint, endpoint.db


def _text(found: Preview) -> str:
    return f"{found.command}\n\n{found.python}"
