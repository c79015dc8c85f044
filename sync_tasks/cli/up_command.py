"""`keyferry up`: the whole service on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sync_tasks.cli.log_option import Log

EXAMPLES = """
Run the service on this machine.

That is a broker, workers for snapshots and streams, a scheduler, and, if asked, Flower and metrics. It stays in the
foreground; Ctrl-C ends streams at a checkpoint, then everything. Tasks go on with the next start.

\b
Examples:
  keyferry up
  keyferry up --flower --state /var/lib/keyferry
  keyferry up --load 4 --stream 50
  keyferry up --metrics-port 9754
  KEYFERRY_DATABASE_URL=postgresql+psycopg://db/keyferry KEYFERRY_BROKER_URL=redis://broker:6379 keyferry up

\b
With a database or broker of your own, any number of machines share the work: see keyferry config --help.
Without, both live in DIR. Flower listens on http://127.0.0.1:5555 (KEYFERRY_FLOWER_PORT); its user is keyferry
(KEYFERRY_FLOWER_USER), its password is in DIR/flower.password unless KEYFERRY_FLOWER_PASSWORD is set.
Prometheus scrapes http://127.0.0.1:N/metrics; another address is set by KEYFERRY_METRICS_ADDRESS.

\b
Exit: 130 after Ctrl-C, 143 after SIGTERM, 2 usage, 5 it cannot start. A second Ctrl-C ends it at once.
"""


def up(
    flower: Annotated[bool, typer.Option("--flower", help="show workers and jobs in a web page")] = False,
    load: Annotated[int, typer.Option("--load", metavar="N", min=1, max=64, help="processes that load snapshots")] = 2,
    stream: Annotated[
        int, typer.Option("--stream", metavar="N", min=1, max=1000, help="source nodes that can be followed at once")
    ] = 10,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", metavar="N", min=0, max=65535, help="serve metrics there; 0: any that is free"),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="holds everything of this machine [default: .keyferry]"),
    ] = None,
    log_format: Log = None,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    from sync_tasks.cli import core, failures
    from sync_tasks.cli.signals import Signals
    from sync_tasks.supervise import process
    from sync_tasks.supervise.installation import chosen
    from sync_tasks.supervise.service import Plan, Service

    settings = chosen(state, metrics_port=metrics_port, log_format=log_format)
    core.check(settings.require_core)
    signals = Signals()
    signals.install()
    os.umask(0o077)  # DIR holds the users' data: chunks, logs, database
    process.adopt_orphans()
    service = Service(settings, Plan(load, stream, flower), signals, lambda line: failures.say(line, ()))
    try:
        return service.run()
    except Exception as error:  # the last net: a traceback goes to the log alone
        raise failures.explained(error, (), settings.state_dir / "logs" / "keyferry.log") from error


up.__doc__ = EXAMPLES
