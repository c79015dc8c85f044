"""`keyferry task list|show|watch|events`: looking without touching."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_tasks.cli.task_options import Json, JsonLines, State, Which, connected, put
from sync_tasks.supervise.outcome import Reading

if TYPE_CHECKING:
    from sync_tasks.client import Client
    from sync_tasks.task import Event
    from sync_tasks.verification import Touched, Verification

LIST_EVERY_S = 1.0
LINES_EVERY_S = 5.0  # where it is no terminal
FOLLOW_EVERY_S = 0.5
LAST_EVENTS = 10


def list_(
    watch: Annotated[bool, typer.Option("--watch", help="again and again, until Ctrl-C")] = False,
    released: Annotated[bool, typer.Option("--all", help="released ones, too")] = False,
    environment: Annotated[str | None, typer.Option("--environment", metavar="TAG", help="of this one alone")] = None,
    resource_group: Annotated[str | None, typer.Option("--group", metavar="TAG", help="of this resource group")] = None,
    json: Annotated[bool, typer.Option("--json", help="one array on stdout: the tasks with their progress")] = False,
    state: State = None,
) -> int:
    """Show all tasks.

    A line for each: state, keys loaded, bytes of the stream that the target has not, delay, and what it waits for.

    \b
    Examples:
      keyferry task list
      keyferry task list --watch
      keyferry task list --environment online
      keyferry task list --json | jq -r '.[] | select(.state == "failed") | .name'
    """
    from sync_tasks.waiting import looks

    with connected(state) as client:
        show = _Rows(json=json, watch=watch)
        try:
            tags = {"environment": environment, "resource_group": resource_group}
            for readings in looks(lambda: client.readings(released=released, **tags), show.every_s):
                show(readings)
                if not watch:
                    break
        finally:
            show.end()
    return 0


class _Rows:
    """Where the table goes: a terminal, a file, a program."""

    def __init__(self, *, json: bool, watch: bool) -> None:
        self._json = json
        self._terminal = not json and sys.stdout.isatty()
        self.every_s = LIST_EVERY_S if json or self._terminal else LINES_EVERY_S
        self._live: Any = None
        self._before = ""
        if self._terminal and watch:
            from rich.live import Live

            self._live = Live(auto_refresh=False)
            self._live.start()

    def __call__(self, readings: Sequence[Reading]) -> None:
        from sync_tasks.cli.task_table import plain, table

        if self._json:
            put([_summary(reading) for reading in readings])
        elif self._live is not None:
            self._live.update(table(readings), refresh=True)
        elif self._terminal:
            from rich.console import Console

            Console().print(table(readings) if readings else "no tasks yet: keyferry task create --help")
        else:
            typer.echo(self._before + plain(readings))
            self._before = "\n"

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()


def _summary(reading: Reading) -> dict[str, Any]:
    from sync_tasks.progress import Progress
    from sync_tasks.task import Task

    return {**Task.of(reading.task).as_dict(), "progress": Progress.of(reading).as_dict()}


def show(tasks: Which, json: Json = False, state: State = None) -> int:
    """Show all about tasks: settings, progress, open retry windows, the last events.

    \b
    Examples:
      keyferry task show orders-move
    """
    from sync_tasks.cli.task_table import page

    with connected(state) as client:
        found = [
            (client.reading(one), client.events(one)[-LAST_EVENTS:], client.verification(one), client.touched(one))
            for one in tasks
        ]
    if json:
        put([_detail(*one) for one in found])
        return 0
    typer.echo("\n\n".join("\n".join(page(*one)) for one in found))
    return 0


def _detail(
    reading: Reading, events: Sequence[Event], verification: Verification | None = None, touched: Touched | None = None
) -> dict[str, Any]:
    from dataclasses import asdict

    from sync_tasks.progress import RetryState

    retries = [state for window in reading.retries if (state := RetryState.of(window)) is not None]
    return {
        **_summary(reading),
        "retries": [asdict(state) for state in retries],
        "events": [_event(event) for event in events],
        "verification": verification.as_dict() if verification else None,
        "touched": touched.as_dict() if touched else None,
    }


def watch(tasks: Which, json: JsonLines = False, state: State = None) -> int:
    """Watch tasks until they have ended or failed.

    Ctrl-C ends the watching alone. The exit code is 0 if they have ended, else that of the first failure.

    \b
    Examples:
      keyferry task watch orders-move
      keyferry task watch --json orders-move | jq .delay_ms
    """
    from sync_tasks.cli.task_watch import choose, look_on

    with connected(state) as client:
        return look_on(client, [client.get(one).id for one in tasks], choose(json=json))


def events(
    tasks: Which,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as they happen, until Ctrl-C")] = False,
    json: JsonLines = False,
    state: State = None,
) -> int:
    """Show what has happened to tasks, oldest first.

    \b
    Examples:
      keyferry task events orders-move
      keyferry task events --follow --json orders-move
    """
    from sync_tasks.waiting import looks

    with connected(state) as client:
        names = {found.id: found.name for found in map(client.get, tasks)}
        after = dict.fromkeys(names, 0)
        for news in looks(lambda: _news(client, after), FOLLOW_EVERY_S):
            for event in news:
                after[event.task_id] = event.id
                _say_event(event, names, json)
            if not follow:
                break
    return 0


def _news(client: Client, after: dict[int, int]) -> list[Event]:
    """Events of all these tasks since those shown, in the order in which they happened."""
    return sorted((event for task_id, last in after.items() for event in client.events(task_id, last)), key=_by_id)


def _by_id(event: Event) -> int:
    return event.id


def _say_event(event: Event, names: dict[int, str], json: bool) -> None:
    from sync_tasks.cli.task_table import event_line

    if json:
        put(_event(event))
    else:
        of = f"{names[event.task_id]}  " if len(names) > 1 else ""
        typer.echo(of + event_line(event))


def _event(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "task_id": event.task_id,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "text": event.text,
    }
