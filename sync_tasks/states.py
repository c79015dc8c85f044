"""States of a task, node and chunk, and the legal transitions; nowhere else."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """SPEC 5."""

    NOT_CONFIGURED = "not-configured"
    NOT_STARTED = "not-started"
    PRECHECKING = "prechecking"
    PRECHECK_FAILED = "precheck-failed"
    PRECHECK_PASSED = "precheck-passed"
    INITIALIZING = "initializing"
    SYNCHRONIZING = "synchronizing"
    RETRYING = "retrying"
    SUSPENDED = "suspended"
    MODIFYING = "modifying"
    FAILED = "failed"
    FINISHED = "finished"
    RELEASED = "released"


T = TaskState
RUNNING = frozenset({T.INITIALIZING, T.SYNCHRONIZING, T.RETRYING, T.MODIFYING})

TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    T.NOT_CONFIGURED: frozenset({T.NOT_STARTED, T.RELEASED}),
    T.NOT_STARTED: frozenset({T.PRECHECKING, T.RELEASED}),
    T.PRECHECKING: frozenset({T.PRECHECK_FAILED, T.PRECHECK_PASSED, T.RELEASED}),
    T.PRECHECK_FAILED: frozenset({T.PRECHECKING, T.RELEASED}),
    T.PRECHECK_PASSED: frozenset({T.PRECHECKING, T.INITIALIZING, T.RELEASED}),
    T.INITIALIZING: frozenset({T.SYNCHRONIZING, T.RETRYING, T.SUSPENDED, T.FAILED, T.FINISHED}),
    T.SYNCHRONIZING: frozenset({T.RETRYING, T.SUSPENDED, T.MODIFYING, T.FAILED, T.FINISHED, T.INITIALIZING}),
    T.RETRYING: frozenset({T.INITIALIZING, T.SYNCHRONIZING, T.SUSPENDED, T.FAILED, T.FINISHED}),
    T.SUSPENDED: frozenset({T.INITIALIZING, T.SYNCHRONIZING, T.MODIFYING, T.FAILED, T.FINISHED, T.RELEASED}),
    T.MODIFYING: frozenset({T.INITIALIZING, T.SYNCHRONIZING, T.SUSPENDED, T.FAILED}),
    T.FAILED: frozenset({T.PRECHECKING, T.INITIALIZING, T.SYNCHRONIZING, T.RELEASED}),
    T.FINISHED: frozenset({T.RELEASED}),
    T.RELEASED: frozenset(),
}


class ChunkState(StrEnum):
    """READY waits for a loader, RUNNING has one, DONE is marked on the target, VOID belongs to a dead snapshot."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    VOID = "void"
