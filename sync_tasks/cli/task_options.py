"""What the verbs of `keyferry task` have in common: arguments, options, and how they are read."""

from __future__ import annotations

import contextlib
import json as json_format
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_tasks.errors import ControlError, UsageError

if TYPE_CHECKING:
    from sync_tasks.client import Client


def complete(context: typer.Context, incomplete: str) -> list[str]:
    """Names of tasks for the shell; ids for names that it would part at their spaces."""
    from sync_tasks.connect import has_tables
    from sync_tasks.secrets import SecretBox
    from sync_tasks.states import TaskState
    from sync_tasks.store import Store
    from sync_tasks.supervise.installation import chosen

    with contextlib.suppress(Exception):  # what cannot be looked up is not offered
        settings = chosen(context.params.get("state"))
        if settings.database_url is not None or has_tables(settings):
            tasks = Store(settings.database(), SecretBox()).tasks()
            words = [str(t.id) if " " in t.name else t.name for t in tasks if t.state is not TaskState.RELEASED]
            return [word for word in words if word.startswith(incomplete)]
    return []


Which = Annotated[
    list[str],
    typer.Argument(metavar="TASK", help="id, name or uid of each", autocompletion=complete, show_default=False),
]
State = Annotated[Path | None, typer.Option("--state", metavar="DIR", help="the state directory [default: .keyferry]")]
Json = Annotated[bool, typer.Option("--json", help="the tasks as one array on stdout")]
JsonLines = Annotated[bool, typer.Option("--json", help="one object a line on stdout")]
Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="how long to wait until it is so; 0: only ask")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="settings of the task")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="one setting, as in FILE.toml; may be given several times"),
]


def connected(state: Path | None, *, fresh: bool = False, account: str | None = None) -> Client:
    """The client of the installation that the options and the environment name.

    Args:
        fresh: a state directory that holds nothing yet is set up.
        account: whose tasks and instances are meant; None: as the environment says.

    Raises:
        ControlError: it holds nothing, or the database cannot be used.
    """
    from sync_tasks.client import Client
    from sync_tasks.connect import has_tables
    from sync_tasks.supervise.installation import chosen

    settings = chosen(state)
    if not fresh and settings.database_url is None and not has_tables(settings):
        raise ControlError(
            f"there are no tasks in {settings.state_dir.absolute()}",
            code="no-state",
            hint="name another directory with --state, or a database with KEYFERRY_DATABASE_URL",
        )
    return Client(settings, account=account)


def settings_of(pairs: Iterable[str] | None, **more: Any) -> dict[str, Any]:
    """The settings that --set gives, and those of options that were given.

    Raises:
        UsageError: a pair is none.
    """
    from sync_tasks.changes import laid

    table: dict[str, Any] = {}
    for pair in pairs or ():
        table = laid(table, _setting(pair))
    return table | {name: value for name, value in more.items() if value is not None}


def _setting(pair: str) -> dict[str, Any]:
    name, equals, value = (part.strip() for part in pair.partition("="))
    for text in (value, json_format.dumps(value)):  # a bare word is text
        with contextlib.suppress(tomllib.TOMLDecodeError):
            if equals:
                return tomllib.loads(f"{name} = {text}")
    raise UsageError(
        f"--set {pair} cannot be read", hint="write --set NAME=VALUE, as in --set retry.other_min=5", code="set"
    )


def put(found: Any) -> None:
    """One line of JSON."""
    typer.echo(json_format.dumps(found, separators=(",", ":")))
