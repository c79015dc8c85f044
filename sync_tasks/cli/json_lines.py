"""`--json`: SPEC 7's fields, one object a line, at least twice a second."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TextIO

from sync_tasks.errors import KeyferryError, SpoolFull
from sync_tasks.states import TaskState
from sync_tasks.supervise.outcome import Outcome, Reading
from sync_tasks.views import NodeView, RetryView

EVERY_S = 0.4
WAITS_FOR_ROOM = SpoolFull("the disk of the state directory is full", hint="make room: it goes on by itself")
SUMS = ("source_offset", "applied_offset", "keys_done", "keys_total", "bytes_done", "bytes_total")
OF_NODE = (
    "number",
    "replid",
    "source_offset",
    "received_offset",
    "applied_offset",
    "delay_ms",
    "in_sync",
    "settled",
    "held",
    "snapshot_done",
    "keys_done",
    "keys_total",
    "bytes_done",
    "bytes_total",
    "epoch",
)


class JsonLines:
    """Display that writes to a stream, flushed line by line."""

    every_s = EVERY_S

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._state = TaskState.NOT_STARTED

    def starting(self, state: TaskState) -> None:
        """A line of a run whose task is not there yet: all of it unknown."""
        self._state = state
        self._write(blank(state))

    def show(self, reading: Reading) -> None:
        """A line of a running task."""
        self._write(line(reading))

    def end(self, reading: Reading | None, outcome: Outcome) -> None:
        """The last line."""
        if outcome.error is not None and self._state is TaskState.PRECHECKING:
            self._state = TaskState.PRECHECK_FAILED
        last = blank(self._state) if reading is None else line(reading)
        if outcome.error is not None:
            last["error"] = error_fields(outcome.error)
        self._write(last)

    def _write(self, fields: dict[str, Any]) -> None:
        self._out.write(json.dumps(fields, separators=(",", ":")) + "\n")
        self._out.flush()


def blank(state: TaskState) -> dict[str, Any]:
    """All fields, nothing known."""
    unknown = dict.fromkeys(("in_sync", "delay_ms", *SUMS, "retry", "error"))
    return {"phase": state.value, **unknown, "nodes": []}


def line(reading: Reading) -> dict[str, Any]:
    """The fields of SPEC 7. Offsets and counts are sums over the nodes, null when one node's is unknown."""
    nodes = reading.nodes
    return {
        "phase": reading.task.state.value,
        "in_sync": reading.in_sync if nodes else None,
        "delay_ms": _over(max, (node.delay_ms for node in nodes)),
        **{name: _over(sum, (getattr(node, name) for node in nodes)) for name in SUMS},
        "retry": retry_fields(most_pressing(reading.retries)),
        "error": current_error(reading),
        "nodes": [node_fields(node) for node in nodes],
    }


def node_fields(node: NodeView) -> dict[str, Any]:
    """What is known of one source node."""
    return {name: getattr(node, name) for name in OF_NODE}


def most_pressing(retries: Iterable[RetryView]) -> RetryView | None:
    """Of several open windows, the one that closes first."""
    return min(retries, key=lambda retry: retry.seconds_left, default=None)


def retry_fields(retry: RetryView | None) -> dict[str, Any] | None:
    """The retry state, or null."""
    if retry is None:
        return None
    return {
        "kind": retry.kind,
        "side": retry.side,
        "attempts": retry.attempts,
        "seconds_left": round(max(0.0, retry.seconds_left), 1),
        "last_error": retry.last_error,
    }


def error_fields(error: KeyferryError) -> dict[str, str]:
    """An error as its four words."""
    return {"code": error.code, "side": error.side.value, "message": error.message, "hint": error.hint}


def current_error(reading: Reading) -> dict[str, str] | None:
    """Of a failed task its error; of a waiting one the full disk it waits for."""
    if reading.task.error:
        return {name: str(reading.task.error.get(name, "")) for name in ("code", "side", "message", "hint")}
    return error_fields(WAITS_FOR_ROOM) if reading.disk_full else None


def _over(combine: Any, values: Iterable[Any]) -> Any:
    known = list(values)
    return None if not known or None in known else combine(known)
