"""The table of `keyferry task list`, and the page of `keyferry task show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sync_tasks.cli import words
from sync_tasks.states import RUNNING, UNBEGUN, TaskState
from sync_tasks.supervise.outcome import Reading
from sync_tasks.views import EventView, TaskView

if TYPE_CHECKING:
    from rich.table import Table

    from sync_tasks.verification import Touched, Verification

NAMED = 10  # keys that differ
HEADINGS = ("id", "name", "state", "loaded", "behind", "delay", "")
STYLES = {
    TaskState.SYNCHRONIZING: "green",
    TaskState.INITIALIZING: "cyan",
    TaskState.RETRYING: "yellow",
    TaskState.FAILED: "red",
    TaskState.PRECHECK_FAILED: "red",
}


def cells(reading: Reading) -> tuple[str, ...]:
    """One task, by the headings."""
    task = reading.task
    measured = task.state not in UNBEGUN
    live = task.state in RUNNING
    delays = [node.delay_ms for node in reading.nodes if node.delay_ms is not None]
    return (
        str(task.id),
        task.name,
        state(reading),
        _loaded(reading) if measured else "",
        words.size(words.behind(reading)) if live or words.receives(reading) else "",
        words.delay(max(delays)) if live and delays else "",
        words.trouble(reading) or words.on_disk(reading),
    )


def state(reading: Reading) -> str:
    """The state, with what it does not say by itself."""
    task = reading.task
    if task.finishing and task.state in RUNNING:
        return f"{task.state.value}, being finished"
    return "in sync" if task.state is TaskState.SYNCHRONIZING and reading.in_sync else task.state.value


def table(readings: Sequence[Reading]) -> Table:
    """For a terminal."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in HEADINGS:
        grid.add_column(heading, no_wrap=heading in ("id", "state", "loaded", "behind", "delay"), overflow="fold")
    for reading in readings:
        row = [Text(cell) for cell in cells(reading)]
        row[2].stylize(STYLES.get(reading.task.state, ""))
        grid.add_row(*row)
    return grid


def plain(readings: Sequence[Reading]) -> str:
    """For a file or another program."""
    rows = [HEADINGS, *map(cells, readings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def page(
    reading: Reading, events: Sequence[EventView], verification: Verification | None = None,
    touched: Touched | None = None,
) -> Iterator[str]:
    """All about one task, line by line."""
    task = reading.task
    yield f"{task.name}: task {task.id}, uid {task.uid}"
    for name, text in _facts(reading):
        yield f"  {name:9} {text}"
    if task.error:
        yield f"  {'error':9} {task.error['side']}: {task.error['message']}"
        if task.error["hint"]:
            yield f"  {'':9} {task.error['hint']}"
    if verification is not None:
        yield f"  {'verified':9} {verification.line()}"
    if touched is not None:
        yield f"  {'touched':9} {touched.line()}"
        yield from (f"  {'':9} {one.kind} db {one.db} {one.key}" for one in touched.keys[:NAMED])
    if events:
        yield "  last events"
        yield from (f"    {event_line(event)}" for event in events)


def event_line(event: EventView) -> str:
    """When, what, in which words; the time is the reader's."""
    return f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}  {event.kind:14} {event.text}"


def _facts(reading: Reading) -> Iterator[tuple[str, str]]:
    task = reading.task
    yield "state", state(reading)
    yield "source", task.source
    yield "target", task.target
    yield "settings", _settings(task)
    if task.state not in UNBEGUN:
        size = words.size(sum(node.bytes_done for node in reading.nodes))
        yield "loaded", f"{_loaded(reading)}, {size}"
    for node in reading.nodes:
        if node.begun:
            applied, received = words.number(node.applied_offset), words.number(node.received_offset)
            source = words.number(node.source_offset)
            delay = words.delay(node.delay_ms)
            yield "stream", f"node {node.number}: delay {delay}, applied {applied}, received {received} of {source}"
            if node.held:
                yield "", f"{words.number(node.held)} expiries held"
    if waiting := words.on_disk(reading):
        yield "waits", waiting
    for window in reading.retries:
        yield "retry", f"{window.kind}, {words.retry(window)}"


def _settings(task: TaskView) -> str:
    databases = "all databases"
    if task.databases is not None:
        databases = "databases " + ", ".join(f"{here} to {there}" for here, there in sorted(task.databases.items()))
    retry = f"retry {_connection(task)} (connection), {task.spec.retry.other_min} min (other)"
    tags = "".join(f"{tag}; " for tag in (task.spec.environment, task.spec.resource_group) if tag)
    return f"{tags}{databases}; {task.spec.conflict_mode}; expiries + {task.spec.extend_expiry_s} s; {retry}"


def _connection(task: TaskView) -> str:
    held = task.shared
    if held is None or held.by is None:
        return f"{task.spec.retry.connection_min} min"
    return (
        f"{held.minutes} min instead of {task.spec.retry.connection_min}, shortened by task {held.by}, {held.by_name}"
    )


def _loaded(reading: Reading) -> str:
    keys = sum(node.keys_done for node in reading.nodes)
    totals = [node.keys_total for node in reading.nodes]
    known = [total for total in totals if total is not None]
    total = sum(known) if len(known) == len(totals) else None
    return f"{words.number(keys)} / {words.number(total)} keys"
