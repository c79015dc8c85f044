"""`keyferry task check`: what the users of a task must be allowed."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer

from sync_tasks.errors import Side
from sync_tasks.precheck.grants import line


def check(json: Annotated[bool, typer.Option("--json", help="one object on stdout")] = False) -> int:
    """Show the least that the users of a task must be allowed, as the lines that give it.

    They are tried on real servers: enough for load, stream, cut-over, verification and release. Give them on each
    server with a password of your own, and name the user in the URLs: redis://keyferry:PASSWORD@host:port.

    \b
    Examples:
      keyferry task check
    """
    lines = {
        "source": line(Side.SOURCE),
        "source_before_7": line(Side.SOURCE, (6, 2)),
        "target": line(Side.TARGET),
    }
    if json:
        typer.echo(json_format.dumps(lines, separators=(",", ":")))
        return 0
    heads = ("on the source:", "on a source before 7.0:", "on the target:")
    typer.echo("\n".join(f"{head}\n  {text}" for head, text in zip(heads, lines.values(), strict=True)))
    return 0
