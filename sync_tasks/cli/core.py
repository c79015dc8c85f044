"""Whether the core is compiled, for commands that move data."""

from __future__ import annotations

import pkgutil

import typer

from sync_tasks import names


def check(required: bool, *, quiet: bool = False) -> None:
    """Say that the core runs in plain Python, unless `quiet`; raise ControlError if it must not."""
    if required:
        pkgutil.resolve_name(names.REQUIRE_CORE)()
    elif not quiet and pkgutil.resolve_name(names.CORE)() != "compiled":
        typer.echo("keyferry: the core runs in plain Python: exact, but slow (keyferry doctor says why)", err=True)
