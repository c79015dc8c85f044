"""`keyferry task precheck|ignore`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sync_tasks.cli.task_options import Json, State, Wait, Which, connected, put

if TYPE_CHECKING:
    from sync_tasks.client import Client
    from sync_tasks.task import Precheck

WAIT_S = 30.0


def precheck(
    tasks: Which,
    item: Annotated[
        list[str] | None,
        typer.Option("--item", metavar="ID", help="ask this one again; may be given several times [default: all]"),
    ] = None,
    wait: Wait = WAIT_S,
    json: Json = False,
    state: State = None,
) -> int:
    """Ask both servers whether a task can start.

    A worker does: it needs one that runs. A task starts when every item has passed, or is a warning that is ignored:
    see keyferry task ignore. The exit code names the side of the first thing that stands against it. With --item, the
    others keep what was found of them before.

    \b
    Examples:
      keyferry task precheck orders-move
      keyferry task precheck --item target-memory orders-move
    """
    with connected(state) as client:
        found = _watched(client, tasks, item, wait) if not json and sys.stderr.isatty() else None
        if found is None:
            found = client.precheck(tasks, wait, items=item)
            if json:
                put([result.as_dict() for result in found])
            else:
                _say(found)
    for result in found:
        if result.error is not None:
            raise result.error.exception()
    return 0


def ignore(
    tasks: Which,
    item: Annotated[list[str], typer.Option("--item", metavar="ID", help="whose warning; may be given several times")],
    json: Json = False,
    state: State = None,
) -> int:
    """Let tasks start in spite of warnings.

    Of these items, found already or by a later precheck; that is recorded with the task. What has failed cannot be
    ignored: mend it, and ask again.

    \b
    Examples:
      keyferry task ignore --item eviction --item value-types orders-move
    """
    with connected(state) as client:
        changed = client.ignore(tasks, item)
    if json:
        put([task.as_dict() for task in changed])
        return 0
    for task in changed:
        typer.echo(f"{task.name}: {task.state.value}, goes on in spite of {', '.join(item)}")
    return 0


def _watched(client: Client, tasks: Sequence[str], items: Sequence[str] | None, wait: float) -> list[Precheck]:
    """The results, shown as they come."""
    from sync_tasks.cli.precheck_table import Board
    from sync_tasks.precheck.asked import Asked

    asking = Asked(lambda: client.precheck(tasks, wait, items=items))
    with Board() as board:
        asking.start()
        while asking.is_alive():
            asking.join(0.15)
            board.show([(task, client.precheck_items(task)) for task in tasks])
        if asking.error is not None:
            raise asking.error
        found: list[Precheck] = asking.answer
        board.show([(result.task.name, result.items) for result in found])
    return found


def _say(found: Sequence[Precheck]) -> None:
    from sync_tasks.cli.precheck_table import lines

    words = {True: "passed", False: "failed", None: "asked for"}
    for result in found:
        typer.echo(f"{result.task.name}: {words[result.passed]}")
        for line in lines(result.items):
            typer.echo(f"  {line}")
