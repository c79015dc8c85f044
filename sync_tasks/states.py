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
UNBEGUN = frozenset({T.NOT_CONFIGURED, T.NOT_STARTED, T.PRECHECKING, T.PRECHECK_FAILED, T.PRECHECK_PASSED})
RESTING = frozenset({T.SUSPENDED, T.FAILED})
ENDED = frozenset({T.FINISHED, T.RELEASED})

TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    T.NOT_CONFIGURED: frozenset({T.NOT_STARTED, T.RELEASED}),
    T.NOT_STARTED: frozenset({T.PRECHECKING, T.RELEASED}),
    T.PRECHECKING: frozenset({T.PRECHECK_FAILED, T.PRECHECK_PASSED, T.RELEASED}),
    T.PRECHECK_FAILED: frozenset({T.PRECHECKING, T.PRECHECK_PASSED, T.RELEASED}),
    T.PRECHECK_PASSED: frozenset({T.PRECHECKING, T.INITIALIZING, T.RELEASED}),
    T.INITIALIZING: frozenset({T.SYNCHRONIZING, T.RETRYING, T.SUSPENDED, T.FAILED, T.FINISHED}),
    T.SYNCHRONIZING: frozenset({T.RETRYING, T.SUSPENDED, T.MODIFYING, T.FAILED, T.FINISHED, T.INITIALIZING}),
    T.RETRYING: frozenset({T.INITIALIZING, T.SYNCHRONIZING, T.SUSPENDED, T.FAILED, T.FINISHED}),
    T.SUSPENDED: frozenset(
        {T.INITIALIZING, T.SYNCHRONIZING, T.MODIFYING, T.FAILED, T.FINISHED, T.RELEASED, T.PRECHECKING}
    ),
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


class OpKind(StrEnum):
    """Operations that a worker carries out, since it can reach the servers."""

    PRECHECK = "precheck"
    RESTART = "restart"
    RELEASE = "release"
    MODIFY = "modify"
    FINISH = "finish"
    LATE = "late"
    VERIFY = "verify"
    PART = "verify-part"


class Stage(StrEnum):
    """How far a cut-over is. Up to SETTLE it can be taken back, and is if anything fails."""

    ASKED = "asked"
    SETTLE = "settle"  # its streams give every expiry the source's own time, and go on
    CLOSE = "close"  # its streams close the target


class OpState(StrEnum):
    """READY waits for a worker, RUNNING has one."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


MAY: dict[OpKind, frozenset[TaskState]] = {
    OpKind.PRECHECK: UNBEGUN,
    # What runs is suspended first: a restart gives up what it had anyway.
    OpKind.RESTART: RUNNING | RESTING,
    OpKind.RELEASE: UNBEGUN | RESTING | {T.FINISHED},
    # It looks at both servers, and stops nothing.
    OpKind.MODIFY: RUNNING | RESTING,
    OpKind.FINISH: RUNNING,
    OpKind.LATE: frozenset({T.FINISHED}),
    OpKind.VERIFY: RUNNING,
    OpKind.PART: frozenset(),  # a verification makes them
}
"""In which states an operation may be asked for."""
BESIDE = frozenset({OpKind.PRECHECK, OpKind.MODIFY, OpKind.FINISH, OpKind.LATE, OpKind.VERIFY, OpKind.PART})
"""Operations beside which a stream may be at work, and that end with the first failure."""
