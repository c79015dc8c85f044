"""Operations that a worker carries out: precheck, restart, release, ... A row says what, a message where to look."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from sync_tasks import lifecycle, names
from sync_tasks.cutover import Asked
from sync_tasks.errors import ControlError, Fenced, KeyferryError
from sync_tasks.models import Chunk, Lease, Node, Op, Task, Touched
from sync_tasks.retry_policy import is_final_at_once, pause
from sync_tasks.spec import TaskSpec
from sync_tasks.states import BESIDE, ENDED, MAY, RUNNING, ChunkState, OpKind, OpState, TaskState
from sync_tasks.store import cutover_rows, ended, extents, grants, locks, parts, prechecks, rows, shards, verifications
from sync_tasks.store.ended import Ended
from sync_tasks.store.jobs import due
from sync_tasks.store.op_rows import OPEN, add, busy, open_op, refuse_paused
from sync_tasks.store.runs import begin, take_up
from sync_tasks.store.tasks import set_spec
from sync_tasks.views import OpView, TaskView

if TYPE_CHECKING:
    from sync_tasks.precheck.item import Result

MOST_ATTEMPTS = 8
"""Failures that a retry may heal, after which an operation is given up: with their pauses about a minute."""

DONE_TO = {
    OpKind.PRECHECK: "prechecked",
    OpKind.RESTART: "restarted",
    OpKind.RELEASE: "released",
    OpKind.MODIFY: "modified",
    OpKind.FINISH: "finished",
    OpKind.LATE: "watched",
    OpKind.VERIFY: "verified",
    OpKind.PART: "compared in part",
}
LIVE = {"name", "environment", "resource_group", "retry", "throttle", "instance_class"}
"""Settings that scheduler and workers look at all the while."""


class Ops(Ended, prechecks.Prechecks):
    """Operations, asked for and carried out."""

    def request(
        self,
        task_id: int,
        kind: OpKind,
        *,
        start: bool = False,
        force: bool = False,
        items: Sequence[str] | None = None,
    ) -> OpView:
        """Ask for an operation; of one that is open already, that one.

        Args:
            start: a precheck that passes starts the task.
            force: a release goes on although the target cannot be reached.
            items: of a precheck, those to ask; the others keep what was found of them. None: all.

        Raises:
            ControlError: the task's state does not allow it, or another operation is open.
        """
        with self._task(task_id) as (session, task):
            if kind is OpKind.RELEASE:
                refuse_paused(session, task_id, self._clock(), both=False)
            found = open_op(session, task_id)
            if found is not None:
                return rows.op_view(_same(found, kind, start=start, force=force, items=items))
            return rows.op_view(_ask(session, task, kind, start=start, force=force, items=items))

    def op(self, op_id: int) -> OpView:
        """One operation. Raises ControlError if there is none."""
        with self.database.read() as session:
            found = session.get(Op, op_id)
            if found is None:
                raise ControlError(f"there is no operation {op_id}", hint="see the task's events", code="no-op")
            return rows.op_view(found)

    def ops(self, task_id: int) -> list[OpView]:
        """All operations of a task, oldest first, without the parts of a verification."""
        query = select(Op).where(Op.task_id == task_id, Op.kind != OpKind.PART).order_by(Op.id)
        with self.database.read() as session:
            return [rows.op_view(row) for row in session.scalars(query)]

    def claim_op(self, op_id: int, owner: str) -> OpHandle | None:
        """An operation to carry out, or None: taken, done, not due yet, or somebody still works for its task."""
        with self.database.write() as session:
            asked = session.execute(select(Op.task_id, Op.kind).where(Op.id == op_id)).one_or_none()
            if asked is None or (asked.kind not in BESIDE and _at_work(session, asked.task_id)):
                return None
            op = session.get(Op, op_id, with_for_update={"skip_locked": True})
            if op is None or op.state != OpState.READY or not due(op.next_at, self._clock()):
                return None
            task = session.get_one(Task, op.task_id)
            op.state = OpState.RUNNING
            op.owner = owner
            op.epoch += 1
            op.beat = 0
            return OpHandle(self, rows.task_view(task), rows.op_view(op), owner)


class OpHandle(cutover_rows.CutOverHandle, parts.PartsHandle):
    """One worker's hold on one operation; every write is fenced by its epoch."""

    def __init__(self, store: Ops, task: TaskView, op: OpView, owner: str) -> None:
        self.task = task
        self.op = op
        self._store = store
        self._owner = owner

    def renew(self) -> None:
        """A beat. Raises Fenced when it was taken away."""
        with self._store.database.write() as session:
            self._held(session).beat += 1

    def done(self) -> None:
        """Carried out: what it means for the task, in the same transaction. Then spools that held it are told."""
        with self._store._run(self.task.id) as (session, task):
            op = self._held(session)
            op.state, op.owner, op.error = OpState.DONE, None, None
            spools = [] if op.kind in BESIDE else ended.note(session, task)
            _DONE[OpKind(op.kind)](session, task, op)
        self._store.tell_spools(self.op.id, self.task.name, spools)

    def failed(self, error: KeyferryError) -> None:
        """It failed: tried again after a pause if that can help, else over."""
        with self._store._task(self.task.id) as (session, task):
            op = self._held(session)
            op.owner, op.error = None, lifecycle.as_dict(error)
            op.attempts += 1
            again = op.kind not in BESIDE or op.kind in (OpKind.VERIFY, OpKind.PART)
            if again and not is_final_at_once(error) and op.attempts < MOST_ATTEMPTS:
                op.state, op.dispatched_at = OpState.READY, None
                op.next_at = self._store._clock() + pause(op.attempts, self._store._rng)
                return
            op.state = OpState.FAILED
            if op.kind == OpKind.VERIFY:
                parts.drop(session, op)
            if op.kind == OpKind.PRECHECK:
                lifecycle.move(session, task, TaskState.PRECHECK_FAILED, "the precheck failed", error)
                return
            if op.kind == OpKind.PART:
                parts.over(session, task, op)
                return
            cutover_rows.given_up(session, task, op)
            if not Asked.of(op.options).dry_run:
                lifecycle.note(session, task.id, f"{op.kind}-failed", error.line())
            if op.kind not in BESIDE and task.state != TaskState.FAILED:
                # What made it fail decides what may be done with it: that stays.
                task.error = lifecycle.as_dict(error)

    def asked_items(self) -> set[str]:
        """Ids of the precheck items of which something was found before."""
        return {row.item for row in self._store.precheck_items(self.task.id) if row.finding is not None}

    def found(self, results: list[Result]) -> None:
        """Keep what a precheck has found of some items."""
        with self._store._task(self.task.id) as (session, task):
            self._held(session)
            prechecks.record(session, task.id, results)

    def event(self, kind: str, text: str) -> None:
        """Record what people should know."""
        with self._store._task(self.task.id) as (session, task):
            self._held(session)
            lifecycle.note(session, task.id, kind, text)

    def _held(self, session: Session) -> Op:
        op = session.get(Op, self.op.id, with_for_update=True, populate_existing=True)
        if op is None or op.state != OpState.RUNNING or op.epoch != self.op.epoch or op.owner != self._owner:
            raise Fenced(f"operation {self.op.id} was taken away", hint="nothing to do: its new owner goes on")
        return op


def revoke(session: Session, task: Task, op_id: int) -> None:
    """End an operation of a held task that somebody revoked, unless it is over."""
    op = session.get(Op, op_id, with_for_update=True)
    if op is None or op.state not in OPEN:
        return
    error = ControlError(f"its {op.kind} was revoked", hint="ask for it again", code="revoked")
    op.state, op.owner, op.error = OpState.FAILED, None, lifecycle.as_dict(error)
    cutover_rows.given_up(session, task, op)
    if op.kind == OpKind.VERIFY:
        parts.drop(session, op)
    if op.kind == OpKind.PART:
        parts.over(session, task, op)
    elif op.kind == OpKind.PRECHECK:
        lifecycle.move(session, task, TaskState.PRECHECK_FAILED, "revoked", error)
    else:
        lifecycle.note(session, task.id, "revoked", error.line())


def _ask(session: Session, task: Task, kind: OpKind, **options: Any) -> Op:
    state = TaskState(task.state)
    if state not in MAY[kind]:
        hint = "suspend or finish it first" if kind is OpKind.RELEASE else "see its events"
        raise ControlError(f"a task that is {state} cannot be {DONE_TO[kind]}", hint=hint, code="transition")
    return add(session, task, kind, **options)


def ask_modify(session: Session, task: Task, spec: TaskSpec) -> Op:
    """Have a worker look at what settings add, and then give them to the task."""
    return _ask(session, task, OpKind.MODIFY, spec=spec.model_dump(mode="json"))


def modified(session: Session, task: Task, spec: TaskSpec) -> None:
    """Give a task other settings, and have them taken up."""
    before, after = rows.spec_of(task).model_dump(), spec.model_dump()
    set_spec(session, task, spec)
    changed = sorted(name for name, value in after.items() if value != before[name])
    lifecycle.note(session, task.id, "modified", ", ".join(changed) or "nothing changed")
    if before["verify"]["mode"] != after["verify"]["mode"]:
        verifications.want(session, task)
    if task.state in RUNNING and not LIVE.issuperset(changed):
        take_up(session, task)


def _same(op: Op, kind: OpKind, *, start: bool, force: bool, items: Sequence[str] | None) -> Op:
    """The open operation, which does what was asked of it before and now."""
    if op.kind != kind:
        raise busy(op)
    before = op.options
    both = None if items is None or before.get("items") is None else sorted({*before["items"], *items})
    op.options = {"start": start or before["start"], "force": force or before["force"], "items": both}
    return op


def _at_work(session: Session, task_id: int) -> bool:
    """Whether a stream or a loader of the task has not ended; no stream begins before the transaction ends."""
    ids = session.scalars(select(Node.id).where(Node.task_id == task_id)).all()
    held = [names.node_lease(node_id) for node_id in ids]
    locks.leases(session, held)
    owned = select(Lease.name).where(Lease.name.in_(held), Lease.owner.is_not(None)).limit(1)
    running = select(Chunk.id).where(Chunk.task_id == task_id, Chunk.state == ChunkState.RUNNING).limit(1)
    return session.scalar(owned) is not None or session.scalar(running) is not None


def _prechecked(session: Session, task: Task, op: Op) -> None:
    if (error := prechecks.verdict(session, task)) is not None:
        op.state, op.error = OpState.FAILED, lifecycle.as_dict(error)
        lifecycle.move(session, task, TaskState.PRECHECK_FAILED, "the precheck failed", error)
        return
    lifecycle.move(session, task, TaskState.PRECHECK_PASSED, "the precheck passed")
    if op.options["start"]:
        begin(session, task)


def _modified(session: Session, task: Task, op: Op) -> None:
    """What was looked at holds; the task may have gone on meanwhile."""
    spec = TaskSpec.model_validate(op.options["spec"])
    try:
        if task.state in ENDED:
            raise ControlError(f"the task is {task.state}", hint="make a new one", code="transition")
        extents.widens(session, task, spec)  # a load may have begun
    except KeyferryError as error:
        op.state, op.error = OpState.FAILED, lifecycle.as_dict(error)
        lifecycle.note(session, task.id, "modify-failed", error.line())
        return
    modified(session, task, spec)


def _restarted(session: Session, task: Task, op: Op) -> None:
    """The old run is fenced and its keys are gone: another begins under names of its own."""
    session.execute(delete(Chunk).where(Chunk.task_id == task.id))
    session.execute(delete(Touched).where(Touched.node_id.in_(select(Node.id).where(Node.task_id == task.id))))
    shards.forget(session, task)
    task.uid = secrets.token_hex(8)
    task.finishing = not rows.spec_of(task).follows
    task.extents = task.lanes = task.cutover = None
    session.execute(
        update(Node)
        .where(Node.task_id == task.id)
        .values(
            begun=False, gen=0, replid=None, snapshot_offset=None, stream_db=0, snapshot_done=False, spool=None,
            received_offset=None, applied_offset=None, source_offset=None, held=None, keys_total=None,
            bytes_total=None, finished=False, turn=False, in_sync=False, settled=False, delay_ms=None,
            unextended=False, changed_offset=None, changed_by=None, way_back=None, begins_at=None,
            spoiled=None,
        )
    )  # fmt: skip
    session.flush()
    add(session, task, OpKind.PRECHECK, start=True, force=False, items=None)


def _released(session: Session, task: Task, op: Op) -> None:
    """What is secret is forgotten; the row stays for those who look up what was."""
    session.execute(delete(Chunk).where(Chunk.task_id == task.id))
    session.execute(update(Op).where(Op.task_id == task.id, Op.kind == OpKind.LATE).values(state=OpState.DONE))
    task.source = task.target = b""
    task.source_server = task.target_server = None
    grants.drop(session, task.id)
    lifecycle.move(session, task, TaskState.RELEASED, "released")


def _watched(_session: Session, _task: Task, _op: Op) -> None:
    """Nothing of it is the task's."""


_DONE = {
    OpKind.PRECHECK: _prechecked,
    OpKind.RESTART: _restarted,
    OpKind.RELEASE: _released,
    OpKind.MODIFY: _modified,
    OpKind.FINISH: cutover_rows.ended,
    OpKind.LATE: _watched,
    OpKind.VERIFY: verifications.ended,
    OpKind.PART: parts.over,
}
