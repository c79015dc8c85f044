"""`keyferry metrics`: the endpoint that Prometheus scrapes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sync_tasks.cli.log_option import Log

EXAMPLES = """
Serve the metrics of an installation to Prometheus.

They are read from the database at each scrape; one such process can tell of all tasks, and of the spool of its own
host. It stays in the foreground and listens on 127.0.0.1:9754 unless KEYFERRY_METRICS_ADDRESS and
KEYFERRY_METRICS_PORT say otherwise. It asks for no password: names of accounts and tasks are in the labels, addresses
and secrets are not.

\b
Examples:
  keyferry metrics
  keyferry metrics --port 9100 --state /var/lib/keyferry
  KEYFERRY_METRICS_ADDRESS=10.0.0.7 keyferry metrics

\b
keyferry up --metrics-port N does the same beside everything else. What is there: docs/observe.md.

\b
Exit: 2 usage, 5 it cannot start; a signal ends it.
"""


def metrics(
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=0, max=65535, help="0: any that is free [default: 9754]")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="the state directory [default: .keyferry]"),
    ] = None,
    log_format: Log = None,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    import setproctitle

    from sync_tasks.cli import failures
    from sync_tasks.observe.logs import to_stderr
    from sync_tasks.supervise import metrics as endpoint
    from sync_tasks.supervise.installation import joined

    os.umask(0o077)
    settings = joined(state, keyed=False, log_format=log_format)
    chosen = next(found for found in (port, settings.metrics_port, endpoint.PORT) if found is not None)
    listener = endpoint.listen(settings, chosen)
    to_stderr(settings)
    setproctitle.setproctitle("keyferry: metrics")
    endpoint.serve(settings, listener, lambda: failures.say(endpoint.url(listener), ()))
    return 0


metrics.__doc__ = EXAMPLES
