"""`keyferry sync`: options, and what they mean before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sync_tasks.supervise.until import Until

EXAMPLES = """
Keep TARGET in step with SOURCE.

It copies everything, then follows every write until Ctrl-C; the same command goes on where it was.

\b
Examples:
  keyferry sync redis://old:6379 redis://:password@new:6379
  keyferry sync --until in-sync --json redis://old:6379 redis://new:6379
  keyferry sync --state /var/lib/orders --config orders.toml redis://old:6379/0 redis://new:6379/5
  keyferry sync --until full dump.rdb redis://new:6379
  zcat dump.rdb.gz | keyferry sync --until full - redis://new:6379

\b
Passwords need not stand on the command line: ?password_file=FILE in a URL, or KEYFERRY_SOURCE_PASSWORD
and KEYFERRY_TARGET_PASSWORD in the environment.

\b
Exit: 0 done, 2 usage, 3 source, 4 target, 5 control, 130 after Ctrl-C, 143 after SIGTERM.
"""


def sync(
    source_url: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE_URL",
            help="redis://[user:password@]host:port[/db]; others: docs/addresses.md; an RDB file, or -",
        ),
    ],
    target_url: Annotated[str, typer.Argument(metavar="TARGET_URL", help="the same; /db: where the source's /db goes")],
    state: Annotated[
        Path, typer.Option("--state", metavar="DIR", help="holds everything of the run, to go on from")
    ] = Path(".keyferry"),
    until: Annotated[
        Until,
        typer.Option("--until", help="full: the snapshot is loaded; in-sync: nothing is behind; never: run on"),
    ] = Until.NEVER,
    json: Annotated[bool, typer.Option("--json", help="one object a line on stdout, at least twice a second")] = False,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="settings of the task")] = None,
    load_workers: Annotated[
        int,
        typer.Option("--load-workers", metavar="N", min=1, max=64, help="processes that load the snapshot"),
    ] = 2,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    from sync_tasks import reading
    from sync_tasks.changes import changed
    from sync_tasks.cli import core, foreground
    from sync_tasks.dumps import STDIN
    from sync_tasks.endpoints import Endpoint
    from sync_tasks.errors import Side, UsageError
    from sync_tasks.settings import Settings
    from sync_tasks.spec import mapping
    from sync_tasks.supervise import stdin

    environment = Settings()
    piped = source_url == STDIN
    source = (
        stdin.endpoint(state)
        if piped
        else Endpoint.parse(source_url, Side.SOURCE, environment.password(Side.SOURCE), files=True)
    )
    target = Endpoint.parse(target_url, Side.TARGET, environment.password(Side.TARGET))
    spec = changed(reading.usual(source), config, {}, str(config))
    reading.check(spec, source)
    if spec.verify.mode != "off":
        raise UsageError(
            "verify.mode is for tasks of the service: this command may end before all is compared",
            hint="leave it out, and run keyferry verify beside it or behind it",
            code="option",
        )
    scope = mapping(spec.databases, source.db, target.db)
    request = foreground.Request(
        source=source,
        target=target,
        spec=spec,
        scope=scope,
        state=state,
        until=until,
        load_workers=load_workers,
        json=json,
        secrets=tuple(filter(None, (source.secret(), source.query, target.secret()))),
        piped=piped,
    )
    core.check(environment.require_core, quiet=json)
    return foreground.run(request)


sync.__doc__ = EXAMPLES
