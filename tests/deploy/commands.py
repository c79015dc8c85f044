"""Whether a command line is one that `keyferry` takes: read by its own parser, not run."""

from __future__ import annotations

from functools import cache
from typing import Any

from typer.main import get_command

from sync_tasks.cli.main import build


@cache
def _root() -> Any:
    return get_command(build([]))


def parses(words: tuple[str, ...]) -> None:
    """Raises what the parser raises."""
    command: Any = _root()
    name: str | None = "keyferry"
    rest, context = [*words], None
    while True:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "commands"):
            return
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, words
