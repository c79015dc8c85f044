"""`keyferry worker`: one worker of an installation that others have set up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sync_tasks.cli.log_option import Log

EXAMPLES = """
Run one worker, of snapshots or streams.

It stays in the foreground and logs to stderr. Start as many as you like, on any machine that reaches the database
and the broker; stop one at any time: SIGTERM or Ctrl-C hands its streams to others at a checkpoint, a second one
ends it at once.

\b
Examples:
  keyferry worker --load 4
  keyferry worker --stream 20
  keyferry worker --load 2 --state /var/lib/keyferry      beside a `keyferry up` on the same directory
  KEYFERRY_HOST=rack-3 keyferry worker --stream 20        the name by which Flower shows this machine

\b
Settings come from the environment and the configuration file: see keyferry config --help.

\b
Exit: 0 after SIGTERM or Ctrl-C, 2 usage, 5 it cannot start, 130 or 143 if it was asked twice.
"""


def worker(
    load: Annotated[
        int | None, typer.Option("--load", metavar="N", min=1, max=64, help="processes that load snapshots")
    ] = None,
    stream: Annotated[
        int | None,
        typer.Option("--stream", metavar="N", min=1, max=1000, help="source nodes that can be followed at once"),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="the state directory [default: .keyferry]"),
    ] = None,
    log_format: Log = None,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    from sync_tasks.errors import UsageError

    if (load is None) == (stream is None):
        raise UsageError("give one of --load N and --stream N", hint="see: keyferry worker --help")
    from sync_tasks.cli import core, failures
    from sync_tasks.supervise import reach, roles
    from sync_tasks.supervise.installation import joined
    from sync_tasks.supervise.pulse import Pulse
    from sync_tasks.supervise.worker import Kind, Manner, run

    os.umask(0o077)  # chunks and logs are the users' data
    settings = joined(state, keyed=True, log_format=log_format)
    core.check(settings.require_core)
    reach.at_start(settings, lambda line: failures.say(line, ()))
    roles.preload(lambda: None)
    kind = Kind.STREAM if load is None else Kind.LOAD
    manner = Manner(tag=f"-{os.getpid()}", beats=True, drains=True, pulse=Pulse(settings.state_dir, kind))
    return run(settings, kind, load or stream or 1, manner)


worker.__doc__ = EXAMPLES
