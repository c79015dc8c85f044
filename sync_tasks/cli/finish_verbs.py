"""`keyferry task finish|reverse`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_tasks.cli.task_options import Json, State, Which, connected, put
from sync_tasks.cli.task_verbs import line
from sync_tasks.cutover import DELAY_MS, DEPTHS, LONGEST_PAUSE_S, PAUSE_S

if TYPE_CHECKING:
    from sync_tasks.client import Client
    from sync_tasks.cutover import CutOver, Step

TRY_S = 120.0
WIDTH = 10
FOREVER = Annotated[
    float | None,
    typer.Option(
        "--wait", metavar="SECONDS", min=0, help="how long to wait; 0: only ask [default: as long as it takes]"
    ),
]


def finish(
    tasks: Which,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="change nothing: tell of each step whether it would pass now")
    ] = False,
    pause: Annotated[bool, typer.Option("--pause", help="writes to the source may be paused")] = False,
    pause_limit: Annotated[
        int,
        typer.Option(
            "--pause-limit", metavar="SECONDS", min=1, max=LONGEST_PAUSE_S,
            help="the longest pause until the target is closed; and how long it goes on behind that",
        ),
    ] = PAUSE_S,
    delay_threshold: Annotated[
        int, typer.Option("--delay-threshold", metavar="MS", min=1, help="it begins when the delay is less")
    ] = DELAY_MS,
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify", metavar="DEPTH", help=f"what is compared: {', '.join(DEPTHS)} [default: value, where it can be]"
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="in spite of writers: what they write behind the end is not carried")
    ] = False,
    way_back: Annotated[
        bool, typer.Option("--way-back", help="make the target keep its stream, for keyferry task reverse")
    ] = False,
    reverse: Annotated[
        bool, typer.Option("--reverse", help="then make and start a task from the target back to the source")
    ] = False,
    wait: FOREVER = None,
    json: Json = False,
    state: State = None,
) -> int:  # fmt: skip
    """Cut over.

    It waits until the target is near enough, sees that nobody writes to the source, brings everything it has to the
    target, gives every expiry the source's own time, compares both, and closes the target to the task for good; then
    let your applications write to the target. Whatever fails before that leaves the task as it was. Somebody who
    writes is named, and stops it: stop those writes first, or have them paused with --pause. Writes that reach the
    source after all are told by keyferry task events. See docs/cutover.md.

    \b
    Examples:
      keyferry task finish --dry-run --pause orders-move
      keyferry task finish --pause orders-move && keyferry task release orders-move
      keyferry task finish --pause --reverse orders-move

    \b
    Exit: of --dry-run 0 if every step would pass, else 1.
    """  # fmt: skip
    asked: dict[str, Any] = {
        "pause": pause, "pause_limit_s": pause_limit, "delay_threshold_ms": delay_threshold, "verify": verify,
        "force": force, "way_back": way_back, "reverse": reverse,
    }  # fmt: skip
    with connected(state) as client:
        if dry_run:
            return _try(client, tasks, TRY_S if wait is None else wait, json, asked)
        done = client.finish(tasks, wait, told=None if json else _told(len(tasks) > 1), **asked)
        if json:
            put([{**task.as_dict(), "cut_over": _as_dict(client.cut_over(task))} for task in done])
            return 0
        for task in done:
            typer.echo(f"{line(task)}{_paused(client.cut_over(task))}")
    return 0


def _try(client: Client, tasks: list[str], wait: float, json: bool, asked: dict[str, Any]) -> int:
    told, found = _told(len(tasks) > 1), []
    for one in tasks:
        task = client.get(one)
        tried = client.try_finish(task, wait, **asked)
        found.append(tried)
        for step in () if json else tried.steps:
            told(task.name, step)
    if json:
        put([tried.as_dict() for tried in found])
    return 0 if all(tried.would_pass for tried in found) else 1


def _told(several: bool) -> Any:
    """Prints each step as it is over."""

    def tell(name: str, step: Step) -> None:
        of = f"{name}  " if several else ""
        took = "" if step.seconds is None else f"  [{step.seconds:.2f} s]"
        typer.echo(f"{of}{step.name:<{WIDTH}} {step.state:<7}  {step.text}{took}")

    return tell


def _paused(found: CutOver | None) -> str:
    if found is None or found.paused_s is None:
        return ""
    verified = found.verified_s or 0.0
    return f"; writes were paused for {found.paused_s:.2f} s, {verified:.2f} s of that to verify"


def _as_dict(found: CutOver | None) -> dict[str, Any] | None:
    return found.as_dict() if found is not None else None


def reverse(tasks: Which, json: Json = False, state: State = None) -> int:
    """Take cut-overs back.

    Makes and starts a task from the new master to the old one, which follows what was written since the target was
    closed, and copies nothing else. The new master must have its stream from there on: see --way-back and --reverse of
    keyferry task finish. Writes to the old source must not be paused any more.

    \b
    Examples:
      keyferry task reverse orders-move
    """
    with connected(state) as client:
        made = [client.reverse(one) for one in tasks]
    if json:
        put([task.as_dict() for task in made])
        return 0
    for task in made:
        typer.echo(f"{task.name}: task {task.id} is made and started, from {task.source} to {task.target}")
    return 0
