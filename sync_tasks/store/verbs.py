"""What operators ask of a running task: rest, go on, change, end. Each one transaction with its event."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from sync_tasks import lifecycle, names
from sync_tasks.errors import ControlError, Side
from sync_tasks.models import Chunk, Lease, Node, Op, Task
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ENDED, RESTING, RUNNING, UNBEGUN, OpState, TaskState
from sync_tasks.store import extents, leases, rows, sharing
from sync_tasks.store.grants import Grants
from sync_tasks.store.op_rows import MAY_GO_ON, busy, open_op
from sync_tasks.store.ops import ask_modify, modified, revoke
from sync_tasks.store.receiving import receive
from sync_tasks.store.runs import begin, stop
from sync_tasks.views import OpView, TaskView

Change = Callable[[TaskSpec], TaskSpec]

FOR_GOOD = {
    "fenced": "a copy of the database has taken over: go on there, or restart the task here",
    "refused-command": "mend the key on the target, then restart the task",
    "cannot-continue": "empty the target, then restart the task: it copies everything again",
}
"""Failures that a resumption cannot heal, and what to do instead."""


class Verbs(Grants):
    """Verbs of operators; illegal ones raise ControlError with the reason."""

    def halt(self, task_id: int, reason: str = "asked", receive_bytes: int | None = None) -> TaskView:
        """The streams stop at a checkpoint, the task is suspended; nothing happens if it is.

        Args:
            receive_bytes: what follows is received to disk, until so many bytes wait there for each node; None: not.
        """
        with self._task(task_id) as (session, task):
            if task.state not in RUNNING and task.state != TaskState.SUSPENDED:
                raise _illegal(task, "be suspended")
            if receive_bytes is None:
                stop(session, task, reason)
            else:
                receive(session, task, reason, receive_bytes)
            return sharing.view(session, task)

    def resume(self, task_id: int) -> TaskView:
        """Go on from the checkpoint; nothing happens if it runs. A failed task may be resumed, too.

        Raises:
            ControlError: it cannot; or a role that it has assumed is not granted any more.
        """
        self.renew_grants(task_id)
        with self._run(task_id) as (session, task):
            if task.state in RUNNING:
                return sharing.view(session, task)
            if task.state not in RESTING:
                raise _illegal(task, "be resumed")
            _raise_for_good(task)
            _raise_busy(session, task)
            begin(session, task)
            return sharing.view(session, task)

    def modify(self, task_id: int, spec: TaskSpec | Change) -> TaskView:
        """`change`; the task as it is then."""
        self.change(task_id, spec)
        with self.database.read() as session:
            return sharing.view(session, session.get_one(Task, task_id))

    def change(self, task_id: int, spec: TaskSpec | Change) -> OpView | None:
        """New settings. A stream takes them up at its next checkpoint; one that still loads, with its next shift.

        Args:
            spec: all of them, or what makes them of the present ones.

        Returns the operation that has to look at both servers first, if they add databases or keys to what is copied
        already; None: the task has them.

        Raises:
            ControlError: it cannot be modified now; `loading`: nor databases and keys while a snapshot is loaded.
            UsageError: the databases contradict the URLs; or what `spec` raises.
        """
        with self._task(task_id) as (session, task):
            if task.state in ENDED:
                raise _illegal(task, "be modified")
            op = open_op(session, task_id)
            if op is not None and (op.state == OpState.RUNNING or op.kind in MAY_GO_ON):
                raise busy(op)  # it works by the settings that it began with
            before = rows.spec_of(task)
            after = spec(before) if callable(spec) else spec
            if extents.widens(session, task, after):
                return rows.op_view(ask_modify(session, task, after))
            modified(session, task, after)
            return None

    def finish(self, task_id: int) -> TaskView:
        """Cut over at once, whoever writes: the streams drain what the source has written, settle expiries, close the
        target for good. `ask_finish` looks first.

        One that is suspended in between, or fails, goes on with that when it is resumed.
        """
        with self._run(task_id) as (session, task):
            if task.state == TaskState.FINISHED:
                return sharing.view(session, task)
            if task.state not in RUNNING and task.state != TaskState.SUSPENDED:
                raise _illegal(task, "be finished")
            _raise_busy(session, task)
            if not task.finishing:
                task.finishing = True
                lifecycle.note(session, task.id, "finishing", "drains, settles expiries, then closes the target")
            if task.state == TaskState.SUSPENDED:
                begin(session, task)
            return sharing.view(session, task)

    def revoked(self, name: str, row_id: int) -> None:
        """Somebody revoked a Celery task: what it worked for rests, so that nobody sends it again.

        Args:
            name: of the Celery task.
            row_id: its argument.
        """
        tables = {names.FOLLOW: Node.task_id, names.LOAD: Chunk.task_id, names.OPS: Op.task_id, names.PART: Op.task_id}
        if name not in tables:
            return  # it worked for no task
        column = tables[name]
        with self.database.read() as session:
            task_id = session.scalar(select(column).where(column.class_.id == row_id))
        if task_id is None:
            return
        with self._task(task_id) as (session, task):
            if name in (names.OPS, names.PART):
                revoke(session, task, row_id)
            elif task.state in RUNNING or task.state == TaskState.SUSPENDED:
                stop(session, task, f"its {name} was revoked")

    def drain(self, owner_prefix: str) -> int:
        """Streams of owners so named end at a checkpoint and go to others. How many."""
        prefix = owner_prefix.rstrip(":") + ":"
        with self.database.read() as session:
            theirs = session.scalars(
                select(Node.id)
                .join(Lease, Lease.name == leases.OF_NODE)
                .where(Lease.owner.startswith(prefix, autoescape=True))
            ).all()
        for node_id in theirs:
            with self.database.write() as session:
                session.execute(update(Node).where(Node.id == node_id).values(turn=True))
        return len(theirs)


def _raise_busy(session: Session, task: Task) -> None:
    """An operation on the target and a stream of the same task must not meet."""
    op = open_op(session, task.id)
    if op is not None and op.kind not in MAY_GO_ON:
        raise busy(op)


def _raise_for_good(task: Task) -> None:
    error = task.error or {}
    hint = FOR_GOOD.get(error.get("code", ""))
    if task.state == TaskState.FAILED and hint is not None:
        raise ControlError(
            f"it failed for good: {error['message']}", code=error["code"], side=Side(error["side"]), hint=hint
        )


def _illegal(task: Task, verb: str) -> ControlError:
    hints = dict.fromkeys(UNBEGUN, "start it first") | {
        TaskState.PRECHECK_FAILED: "see its error, mend that, and start it",
        TaskState.FAILED: "see its error; resume it, or restart it",
        TaskState.FINISHED: "it is cut over: make a new task",
        TaskState.RELEASED: "it is released: make a new task",
    }
    hint = hints.get(TaskState(task.state), "see its events")
    return ControlError(f"a task that is {task.state} cannot {verb}", hint=hint, code="transition")
