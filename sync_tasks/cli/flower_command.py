"""`keyferry flower`: Flower on the broker of an installation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sync_tasks.cli.log_option import Log

EXAMPLES = """
Show workers and jobs in a web page.

That page is Flower's, on the broker of this installation. It stays in the foreground, listens on the loopback
address alone, and asks for a password. KEYFERRY_FLOWER_ADDRESS is where else it listens (0.0.0.0: everywhere), for a
proxy with TLS: it speaks plain HTTP. Its pages /metrics and /healthcheck, which ask for no password, are there on the
loopback address alone.

\b
Examples:
  keyferry flower
  keyferry flower --state /var/lib/keyferry
  KEYFERRY_FLOWER_PORT=8888 KEYFERRY_BROKER_URL=redis://broker:6379 keyferry flower

\b
The user is keyferry (KEYFERRY_FLOWER_USER), the password is in DIR/flower.password unless KEYFERRY_FLOWER_PASSWORD
is set. Flower comes with: pip install 'keyferry[flower]'

\b
Exit: 2 usage, 5 it cannot start; a signal ends it.
"""


def flower(
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="the state directory [default: .keyferry]"),
    ] = None,
    log_format: Log = None,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    import setproctitle

    from sync_tasks.cli import failures
    from sync_tasks.keyfile import flower_password
    from sync_tasks.observe.logs import to_stderr
    from sync_tasks.supervise import flower as page
    from sync_tasks.supervise import reach
    from sync_tasks.supervise.installation import attached, chosen, whole

    page.check()
    os.umask(0o077)
    given = chosen(state, log_format=log_format)
    sockets = page.listen(given.flower_address, given.flower_port)
    settings = whole(given, attached(given), keyed=False)
    password = flower_password(settings)
    reach.at_start(settings, lambda line: failures.say(line, ()))
    to_stderr(settings)
    setproctitle.setproctitle("keyferry: flower")
    page.serve(
        settings, password, sockets, lambda: failures.say(f"{page.url(sockets)}, user {settings.flower_user}", ())
    )
    return 0


flower.__doc__ = EXAMPLES
