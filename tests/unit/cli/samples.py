"""Views with everything set, for tests that change one thing."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from sync_tasks.spec import TaskSpec
from sync_tasks.states import ChunkState, TaskState
from sync_tasks.supervise.outcome import Reading
from sync_tasks.views import DatabaseLoad, NodeView, RetryView, TaskView

TASK = TaskView(
    id=1,
    uid="0" * 16,
    name="a move",
    state=TaskState.SYNCHRONIZING,
    source="redis://a:6379",
    target="redis://b:6379",
    spec=TaskSpec(),
    databases=None,
    error=None,
)

NODE = NodeView(
    id=7,
    task_id=1,
    number=0,
    wanted=True,
    fresh=False,
    begun=True,
    gen=1,
    replid="r" * 40,
    snapshot_offset=100,
    stream_db=0,
    snapshot_done=True,
    received_offset=250,
    applied_offset=200,
    source_offset=300,
    delay_ms=12.5,
    in_sync=True,
    settled=True,
    held=0,
    keys_done=40,
    keys_total=40,
    bytes_done=4000,
    bytes_total=4000,
    epoch=3,
)

RETRY = RetryView(
    kind="connection",
    side="source",
    attempts=4,
    seconds_left=33.333,
    code="connection",
    last_error="source: connection refused",
    opened_at=datetime(2026, 1, 1, tzinfo=UTC),
)

LOAD = DatabaseLoad(db=0, chunks={ChunkState.DONE: 3}, keys=40, keys_done=40, bytes=4000, bytes_done=4000)


def task(**changes: Any) -> TaskView:
    return dataclasses.replace(TASK, **changes)


def node(**changes: Any) -> NodeView:
    return dataclasses.replace(NODE, **changes)


def reading(*nodes: NodeView, **changes: Any) -> Reading:
    return dataclasses.replace(Reading(task=TASK, nodes=nodes or (NODE,), loads=(LOAD,)), **changes)
