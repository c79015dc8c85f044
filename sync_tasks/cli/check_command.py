"""`keyferry task check`: whether servers can be used, and what the users of a task must be allowed."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_tasks.cli.task_options import State, connected
from sync_tasks.errors import KeyferryError, Side

if TYPE_CHECKING:
    from sync_tasks.precheck.connectivity import Connectivity

Url = Annotated[str | None, typer.Option(metavar="URL", help="ask this server: a URL, or instance://NAME")]


def check(
    source: Url = None,
    target: Url = None,
    json: Annotated[bool, typer.Option("--json", help="one object on stdout")] = False,
    state: State = None,
) -> int:
    """Show the least that the users of a task must be allowed, and ask servers whether they answer.

    The lines are tried on real servers: enough for load, stream, cut-over, verification and release. Give them on each
    server with a password of your own, and name the user in the URLs: redis://keyferry:PASSWORD@host:port.

    With --source or --target that server is asked instead: whether it lets the user in, what it is, how far away. No
    task is needed, and nothing is written.

    \b
    Examples:
      keyferry task check
      keyferry task check --source redis://keyferry@old:6379 --target rediss://keyferry@new:6379
    """
    urls = [(side, url) for side, url in ((Side.SOURCE, source), (Side.TARGET, target)) if url]
    return _ask(urls, json, state) if urls else _lines(json)


def _lines(json: bool) -> int:
    from sync_tasks.precheck.grants import line

    lines = {
        "source": line(Side.SOURCE),
        "source_before_7": line(Side.SOURCE, (6, 2)),
        "source_scan_psync": line(Side.SOURCE, continued=True),
        "source_scan_psync_before_7": line(Side.SOURCE, (6, 2), continued=True),
        "target": line(Side.TARGET),
    }
    if json:
        typer.echo(json_format.dumps(lines, separators=(",", ":")))
        return 0
    heads = (
        "on the source:",
        "on a source before 7.0:",
        'on a source with scan_changes = "psync":',
        "on such a source before 7.0 (before 6.2 without the last two words):",
        "on the target:",
    )
    typer.echo("\n".join(f"{head}\n  {text}" for head, text in zip(heads, lines.values(), strict=True)))
    return 0


def _told(url: str, side: Side, state: Path | None) -> Connectivity:
    """What a server says. An instance is known to the installation; a URL needs none."""
    from sync_tasks.endpoints import Endpoint
    from sync_tasks.places import SCHEME
    from sync_tasks.precheck.connectivity import probe
    from sync_tasks.settings import Settings

    if not url.startswith(SCHEME):
        return probe(Endpoint.parse(url, side, Settings().password(side), files=True))
    with connected(state) as client:
        return client.connectivity(url, side)


def _ask(urls: list[tuple[Side, str]], json: bool, state: Path | None) -> int:
    """Both are asked, whatever the first one says. Raises the first thing that is wrong."""
    found, wrong = dict[str, Any](), list[KeyferryError]()
    for side, url in urls:
        try:
            told = _told(url, side, state)
            found[side.value] = told.as_dict()
            if not json:
                typer.echo(f"{side.value} {told.address}: {told.line()}")
        except KeyferryError as error:
            wrong.append(error)
            found[side.value] = None
    if json:
        typer.echo(json_format.dumps(found, separators=(",", ":")))
    if wrong:
        raise wrong[0]
    return 0
