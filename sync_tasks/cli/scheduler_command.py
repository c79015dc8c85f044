"""`keyferry scheduler`: one scheduler of an installation that others have set up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sync_tasks.cli.log_option import Log

EXAMPLES = """
Run the scheduler.

It sends what is due, takes work from the dead, ends tasks whose retry windows are past. It stays in the foreground and
logs to stderr. Any number may run, on any machine that reaches the database and the broker: one leads, and another
takes over within seconds of its death.

\b
Examples:
  keyferry scheduler
  keyferry scheduler --state /var/lib/keyferry

\b
Settings come from the environment and the configuration file: see keyferry config --help.

\b
Exit: 0 after SIGTERM or Ctrl-C, 2 usage, 5 it cannot start.
"""


def scheduler(
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="the state directory [default: .keyferry]"),
    ] = None,
    log_format: Log = None,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    import setproctitle

    from sync_tasks.cli import failures
    from sync_tasks.supervise import reach, roles
    from sync_tasks.supervise.installation import joined
    from sync_tasks.supervise.pulse import Pulse

    os.umask(0o077)
    settings = joined(state, keyed=False, log_format=log_format)
    reach.at_start(settings, lambda line: failures.say(line, ()))
    setproctitle.setproctitle("keyferry: scheduler")
    pulse = Pulse(settings.state_dir, "scheduler")
    roles.schedule(settings, pulse)
    pulse.end()
    return 0


scheduler.__doc__ = EXAMPLES
