"""`keyferry task verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from sync_tasks.cli.finish_verbs import FOREVER
from sync_tasks.cli.task_options import Json, State, Which, connected, put
from sync_tasks.cli.verify_command import outcome

if TYPE_CHECKING:
    from sync_tasks.verification import Verification

SHOWN = 20


def verify(
    tasks: Which,
    repair: Annotated[bool, typer.Option("--repair", help="copy what differs anew, and compare it again")] = False,
    wait: FOREVER = None,
    json: Json = False,
    state: State = None,
) -> int:
    """Compare both sides of tasks that run.

    A worker does, once the task is in sync, and the task follows on meanwhile. The settings verify.depth, sample and
    limits hold. What came of it is kept: see keyferry task show.

    \b
    Examples:
      keyferry task verify orders-move
      keyferry task verify --repair orders-move

    \b
    Exit: 0 equal (or repaired), 1 different.
    """
    with connected(state) as client:
        names = [client.get(one).name for one in tasks]
        found = client.verify(tasks, wait, repair=repair)
    if json:
        put([{"name": name, **one.as_dict()} for name, one in zip(names, found, strict=True)])
    else:
        for name, one in zip(names, found, strict=True):
            typer.echo("\n".join(_lines(name, one)))
    return 1 if any(one.equal is False for one in found) else 0


def _lines(name: str, found: Verification) -> Iterator[str]:
    yield f"{name}: {found.line()}"
    for key in sorted(found.keys, key=lambda key: key.repaired)[:SHOWN]:
        where = "" if key.db is None else f"db {key.db} "
        field = "" if key.field is None else f" ({key.field})"
        yield f"  {key.kind:8}{where}{key.key}{field}" + outcome(key.repaired, key.why)
    if (found.differences or 0) > SHOWN:
        yield f"  and {(found.differences or 0) - SHOWN:,} more; --json names {len(found.keys):,}"
