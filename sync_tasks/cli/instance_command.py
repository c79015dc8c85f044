"""`keyferry instance`: servers that are known by a name."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from sync_tasks.cli.task_options import State, connected, put

EXAMPLES = """
Servers that are known by a name.

Registered once, a server is instance://NAME, or instance://NAME/3 for one database, wherever a task takes a URL. Its
address and password are sealed with the key of the installation, and never shown again.

\b
Examples:
  keyferry instance add orders-old redis://keyferry:PASSWORD@old:6379
  keyferry instance add orders-new - < url.txt
  keyferry instance check orders-old
  keyferry task create instance://orders-old instance://orders-new
"""

instance = typer.Typer(help=EXAMPLES)
Name = Annotated[str, typer.Argument(metavar="NAME", help="letters, digits, dots and hyphens")]
Json = Annotated[bool, typer.Option("--json", help="objects on stdout")]


@instance.command("add")
def add(
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="as for a task, without /db; -: one line of stdin")],
    json: Json = False,
    state: State = None,
) -> int:
    """Register a server, or give one other credentials.

    The tasks made of it have them from then on: a stream takes them up when it connects in its next shift. A server
    that tasks use cannot become another one.

    \b
    Examples:
      keyferry instance add orders-old redis://keyferry:PASSWORD@old:6379
      keyferry instance add orders-new - < url.txt
    """
    given = sys.stdin.readline().strip() if url == "-" else url
    with connected(state, fresh=True) as client:
        made = client.add_instance(name, given)
    if json:
        put(asdict(made) | {"created_at": made.created_at.isoformat()})
    else:
        typer.echo(f"{name}: {made.url}")
    return 0


@instance.command("list")
def list_(json: Json = False, state: State = None) -> int:
    """Show all of them, without passwords.

    \b
    Examples:
      keyferry instance list --json
    """
    with connected(state) as client:
        found = client.instances()
    if json:
        put([asdict(one) | {"created_at": one.created_at.isoformat()} for one in found])
        return 0
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        tasks = f"  {one.tasks} task{'s' * (one.tasks != 1)}" if one.tasks else ""
        typer.echo(f"{one.name:{width}}  {one.url}{tasks}")
    return 0


@instance.command("check")
def check(name: Name, json: Json = False, state: State = None) -> int:
    """Ask a server whether it lets us in, what it is, and how far away.

    \b
    Examples:
      keyferry instance check orders-old
    """
    from sync_tasks.places import SCHEME

    with connected(state) as client:
        told = client.connectivity(f"{SCHEME}{name}")
    if json:
        typer.echo(json_format.dumps(told.as_dict(), separators=(",", ":")))
    else:
        typer.echo(f"{name}: {told.line()}")
    return 0


@instance.command("remove")
def remove(name: Name, state: State = None) -> int:
    """Forget a server. Tasks that have not ended must not use it.

    \b
    Examples:
      keyferry instance remove orders-old
    """
    with connected(state) as client:
        client.remove_instance(name)
    typer.echo(f"{name}: removed")
    return 0
