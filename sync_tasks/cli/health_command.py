"""`keyferry health`: for probes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
Tell whether the workers and schedulers of a state directory do their work.

Each of those that were started as processes of their own touches a file below DIR/alive every five seconds. Broker and
database are not asked: a worker that waits for its broker is well, but not ready.

\b
Examples:
  keyferry health                                    a liveness probe
  keyferry health --ready --state /var/lib/keyferry  a readiness probe

\b
Exit: 0 all are well, 2 usage, 5 one is not, or none runs.
"""


def health(
    ready: Annotated[bool, typer.Option("--ready", help="each must take work, too")] = False,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="the state directory [default: .keyferry]"),
    ] = None,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    from sync_tasks import broker_url
    from sync_tasks.errors import ControlError
    from sync_tasks.supervise import pulse
    from sync_tasks.supervise.installation import chosen

    settings = chosen(state)
    directory, kind = settings.state_dir, broker_url.read(settings.broker()).kind
    found = pulse.seen(directory)
    if not found:
        raise ControlError(
            f"no worker or scheduler runs on {directory}",
            code="not-running",
            hint="give the state directory of one with --state or KEYFERRY_STATE_DIR, or start it",
        )
    for one in found:
        word = "late" if one.late else "ready" if one.ready else f"waiting for its broker ({kind})"
        typer.echo(f"{one.name:20} {word}, {one.age_s:.0f} s ago")
    return 0 if all(not one.late and (one.ready or not ready) for one in found) else 5


health.__doc__ = EXAMPLES
