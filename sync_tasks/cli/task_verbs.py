"""`keyferry task create|start|suspend|resume|modify|restart|release`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_tasks.cli import previews
from sync_tasks.cli.task_options import Config, Json, Set, State, Wait, Which, connected, put, settings_of

if TYPE_CHECKING:
    from sync_tasks.task import Task

WAIT_S = 30.0


def create(
    source_url: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE_URL",
            help="redis://[user:password@]host:port[/db], others as in docs/addresses.md, instance://NAME [asked for]",
        ),
    ] = None,
    target_url: Annotated[
        str | None, typer.Argument(metavar="TARGET_URL", help="the same; /db: where the source's /db goes")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="for people [default: from the addresses]")] = None,
    config: Config = None,
    set_: Set = None,
    start: Annotated[bool, typer.Option("--start", help="start it, too")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="make nothing: show the command and the Python code that would")
    ] = False,
    wait: Wait = WAIT_S,
    json: Annotated[bool, typer.Option("--json", help="the task as one object on stdout")] = False,
    state: State = None,
) -> int:
    """Make a task.

    It is not started, unless --start says so; then it is prechecked first. The addresses are sealed with the key of
    the installation, and no output shows a password. Without addresses it asks for them on a terminal, and for the
    settings, step by step.

    \b
    Examples:
      keyferry task create --name orders-move --start redis://old:6379 redis://:password@new:6379
      keyferry task create
      keyferry task create --config orders.toml --set extend_expiry_s=0 redis://old:6379/0 redis://new:6379/5

    \b
    Passwords need not stand on the command line: ?password_file=FILE in a URL (a path on the workers' machines,
    too), or KEYFERRY_SOURCE_PASSWORD and KEYFERRY_TARGET_PASSWORD in the environment.
    """
    settings = settings_of(set_, name=name)
    if source_url is None or target_url is None:
        return _asked(settings, wait, state)
    if preview:
        return previews.of_words(source_url, target_url, config, settings, json)
    with connected(state, fresh=True) as client:
        task = client.create(source_url, target_url, config=config, **settings)
        if start:
            if not json:
                typer.echo(f"{task.name}: task {task.id} is made")
            try:
                client.start([task], wait)
            finally:  # whatever became of the start, it is made
                task = client.get(task)
                put(task.as_dict()) if json else typer.echo(line(task))
        elif json:
            put(task.as_dict())
        else:
            typer.echo(f"{task.name}: task {task.id} is made; to start it: keyferry task start {task.id}")
    return 0


def _asked(given: dict[str, Any], wait: float, state: Path | None) -> int:
    """Make a task of what is answered on the terminal."""
    import sys

    from sync_tasks.cli import wizard
    from sync_tasks.errors import UsageError

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("the addresses are missing", hint="give SOURCE_URL and TARGET_URL, or call it on a terminal")
    with connected(state, fresh=True) as client:
        source, target, asked = wizard.ask(client, wizard.prompt, lambda line: typer.echo(line, err=True))
        settings = given | asked
        previews.of_words(source, target, None, settings, json=False)
        if not typer.confirm("Make it?", default=True, err=True):
            return 1
        task = client.create(source, target, **settings)
        typer.echo(f"{task.name}: task {task.id} is made")
        if typer.confirm("Precheck and start it now?", default=False, err=True):
            typer.echo(line(client.start([task], wait)[0]))
    return 0


def start(tasks: Which, wait: Wait = WAIT_S, json: Json = False, state: State = None) -> int:
    """Start tasks, or let them go on.

    One that has not begun is prechecked first; one that is suspended or has failed goes on from its checkpoint; one
    that runs is left alone. It needs workers and a scheduler: keyferry up starts both.

    \b
    Examples:
      keyferry task start orders-move
      keyferry task start 1 2 3 --wait 60
    """
    with connected(state) as client:
        return _report(client.start(tasks, wait), json)


def suspend(
    tasks: Which,
    receive: Annotated[
        bool, typer.Option("--receive/--stop", help="what follows goes to disk; or the streams stop")
    ] = True,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="BYTES",
            help="how much of each node's stream may wait on disk [default: the setting suspend_bytes]",
        ),
    ] = None,
    wait: Wait = WAIT_S,
    json: Json = False,
    state: State = None,
) -> int:
    """Let running tasks rest.

    Their streams end at a checkpoint, from which keyferry task resume goes on; until then nothing is written to the
    target. What the source writes meanwhile is received to disk, so that a small backlog of the source loses nothing;
    at the limit the link to the source is closed. With --stop it is closed at once, and the source's backlog must
    reach. A task that still copies stops in any case. Tasks that are suspended may be switched from one to the other.

    \b
    Examples:
      keyferry task suspend orders-move
      keyferry task suspend --limit 10737418240 orders-move
      keyferry task suspend --stop orders-move
    """
    with connected(state) as client:
        return _report(client.suspend(tasks, wait, receive=receive, limit_bytes=limit), json)


def resume(tasks: Which, wait: Wait = WAIT_S, json: Json = False, state: State = None) -> int:
    """Let suspended or failed tasks go on from their checkpoints.

    \b
    Examples:
      keyferry task resume orders-move
    """
    with connected(state) as client:
        return _report(client.resume(tasks, wait), json)


def modify(
    tasks: Which, config: Config = None, set_: Set = None, wait: Wait = WAIT_S, json: Json = False, state: State = None
) -> int:
    """Change settings of tasks.

    What is not named stays as it is. A running stream takes new settings up at its next checkpoint. Databases and keys
    that are added are loaded while it goes on, once a worker has looked whether they may be; what is taken away stays
    on the target as it was.

    \b
    Examples:
      keyferry task modify orders-move --set retry.other_min=30
      keyferry task modify orders-move --set 'databases={"0"=0,"2"=2}'
      keyferry task modify 1 2 3 --config defaults.toml
    """
    with connected(state) as client:
        return _report(client.modify(tasks, config=config, wait_s=wait, **settings_of(set_)), json)


def restart(tasks: Which, wait: Wait = WAIT_S, json: Json = False, state: State = None) -> int:
    """Begin tasks anew.

    What a task knows is given up, and everything is copied again. It heals a task whose source cannot continue its
    stream. The target must be empty again, as at the first start; with conflict_mode ignore-and-proceed it is
    overwritten, and keys that the source has deleted since stay there.

    \b
    Examples:
      keyferry task restart orders-move
    """
    with connected(state) as client:
        return _report(client.restart(tasks, wait), json)


def release(
    tasks: Which,
    force: Annotated[
        bool, typer.Option("--force", help="even if the target cannot be reached: its keyferry: keys then stay there")
    ] = False,
    wait: Wait = WAIT_S,
    json: Json = False,
    state: State = None,
) -> int:
    """Give tasks up that do not run.

    Their own keys are removed from the target (what keeps latecomers out expires a day later), their files from the
    spool, their addresses from the database. What was copied stays.

    \b
    Examples:
      keyferry task release orders-move
      keyferry task release --force orders-move
    """
    with connected(state) as client:
        return _report(client.release(tasks, force, wait), json)


def _report(tasks: Sequence[Task], json: bool) -> int:
    if json:
        put([task.as_dict() for task in tasks])
        return 0
    for task in tasks:
        typer.echo(line(task))
    return 0


def line(task: Task) -> str:
    from sync_tasks.states import RUNNING

    return f"{task.name}: {task.state.value}{', being finished' if task.finishing and task.state in RUNNING else ''}"
