"""Rows of cut-overs: what their workers write, how they end, and the task that goes back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from sync_tasks import lanes, lifecycle, names
from sync_tasks.cutover import Asked
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, KeyferryError, Side, UsageError
from sync_tasks.lanes import Lane
from sync_tasks.models import Lease, Node, Op, Task
from sync_tasks.point import Point
from sync_tasks.reversing import reversed_spec
from sync_tasks.slots import written
from sync_tasks.spec import mapping
from sync_tasks.states import RUNNING, OpKind, OpState, Stage, TaskState
from sync_tasks.store import parts, rows
from sync_tasks.store.op_rows import OPEN, add
from sync_tasks.views import NodeView, OpView, TaskView


def reverse(session: Session, task: Task, unseal: Callable[[bytes], str], seal: Callable[[str], bytes]) -> Task:
    """Make the task that goes back, and have it started. Its target is what `task`, which is held, came from."""
    if task.state != TaskState.FINISHED:
        hint = "cut it over first: keyferry task finish --reverse does both"
        raise ControlError(f"a task that is {task.state} cannot be reversed", hint=hint, code="transition")
    own_alone(task)
    spec = rows.spec_of(task)
    databases = mapping(spec.databases, task.source_db, task.target_db)  # which one URL alone may have named
    spec = reversed_spec(spec.model_copy(update={"databases": databases}), task.name)
    begins = _begins(session, task)
    source = Endpoint.stored(unseal(task.target), Side.SOURCE)
    target = Endpoint.stored(unseal(task.source), Side.TARGET)
    made = Task(
        uid=secrets.token_hex(8),
        name=spec.name or "",
        state=TaskState.NOT_STARTED,
        source=seal(source.url()), target=seal(target.url()),
        source_safe=source.safe(), target_safe=target.safe(),
        source_db=task.target_db, target_db=task.source_db,
        source_server=source.identity(), target_server=target.identity(),
        spec=spec.model_dump(mode="json"),
        account=task.account,
        source_instance=task.target_instance, source_owner=task.target_owner,
        target_instance=task.source_instance, target_owner=task.source_owner,
    )  # fmt: skip
    session.add(made)
    session.flush()
    for number, (point, shard) in enumerate(begins):
        node = Node(task_id=made.id, number=number, begins_at=str(point), shard=shard)
        session.add(node)
        session.flush()
        session.add(Lease(name=names.node_lease(node.id)))
    where = f"{made.source_safe} to {made.target_safe}"
    lifecycle.note(session, made.id, "created", f"{where}: the way back of {task.name}")
    lifecycle.note(session, task.id, "reversed", f"task {made.id}, {made.name}, goes back from {_in_words(begins)}")
    _watch_no_more(session, task.id, "a task goes back to the source")
    add(session, made, OpKind.PRECHECK, start=True, force=False, items=None)
    return made


Begin = tuple[Point, dict[str, Any] | None]
"""Where a node of the task that goes back begins, and its shard, if the new master is a cluster."""


def _begins(session: Session, task: Task) -> list[Begin]:
    """One for each server that has a stream there. Raises ControlError: one kept none."""
    nodes = session.execute(select(Node.number, Node.way_back).where(Node.task_id == task.id)).all()
    given = [lane for lane in lanes.read(task.lanes) if lane.slots]
    if not given:
        return [(_last([way_back for _, way_back in nodes]), None)]
    return [_of_lane(lane, {number for number, _ in nodes}) for lane in sorted(given, key=lambda lane: lane.slots)]


def _of_lane(lane: Lane, nodes: set[int]) -> Begin:
    """Of a master, once the streams of all source nodes have closed it."""
    if {one.node for one in lane.closed} != nodes:
        raise no_way_back()
    members = sorted({name for one in lane.closed for name in one.members})
    slots = written(lane.slots)
    shard = {"members": members, "address": lane.closed[-1].address, "slots": slots, "holds": slots}
    return _last([one.point for one in lane.closed]), shard


def _last(found: Sequence[str | None]) -> Point:
    """Of several streams into one server where the last one ended: what lies before is what came from the source."""
    points = [Point.parse(text) for text in found]
    if None in points or not points:
        raise no_way_back()
    return max((point for point in points if point is not None), key=lambda point: point.offset)


def _in_words(begins: Sequence[Begin]) -> str:
    return ", ".join(f"{shard['address']} {point}" if shard else str(point) for point, shard in begins)


def no_way_back() -> ControlError:
    return ControlError(
        "there is no way back: the target kept no stream when it was closed, or its slots were moving",
        code="no-way-back",
        hint="make a task from the new master to the old one, which copies everything; next time: finish --way-back",
    )


def own_alone(task: Task) -> None:
    """Access by a role is revoked with the cut-over, and the way back needs another one anyway."""
    for owner in (task.source_owner, task.target_owner):
        if owner is not None and owner != task.account:
            raise UsageError(
                f"there is no way back by itself: an instance of account {owner} is used by a role",
                code="no-way-back",
                hint="make a task from the new master to the old one, with a role that allows to write there",
            )


def _watch_no_more(session: Session, task_id: int, why: str) -> None:
    """Nobody is to be told any more of what is written to the source. What is paused there goes by itself."""
    watching = Op.task_id == task_id, Op.kind == OpKind.LATE, Op.state.in_(OPEN)
    if session.scalars(update(Op).where(*watching).values(state=OpState.DONE, owner=None).returning(Op.id)).all():
        lifecycle.note(session, task_id, "watch-over", why)


class CutOverHandle:
    """What a worker that carries a cut-over out, or watches afterwards, writes; part of `ops.OpHandle`."""

    _store: Any
    task: TaskView
    op: OpView
    _held: Callable[[Session], Op]

    def state(self) -> tuple[TaskView, list[NodeView]]:
        """The task and its nodes as they are now."""
        with self._store.database.read() as session:
            task = rows.task_view(session.get_one(Task, self.task.id))
            return task, rows.nodes(session, select(Node.id).where(Node.task_id == self.task.id))

    def keep(self, options: dict[str, Any]) -> None:
        """Remember how far it is."""
        with self._store._task(self.task.id) as (session, _task):
            self._held(session).options = options

    def later(self, seconds: float, error: KeyferryError | None = None) -> None:
        """Give it back: somebody goes on with it after a pause."""
        with self._store._task(self.task.id) as (session, _task):
            op = self._held(session)
            op.state, op.owner, op.dispatched_at = OpState.READY, None, None
            op.next_at = self._store._clock() + seconds
            op.error = lifecycle.as_dict(error) if error is not None else None
            if error is None:
                parts.went_on(op)

    def order(self, stage: Stage | None) -> None:
        """What the streams are to do. Once they are to close the target, that cannot be taken back."""
        with self._store._task(self.task.id) as (session, task):
            self._held(session)
            if task.cutover == Stage.CLOSE and stage is not Stage.CLOSE:
                return
            if task.state not in RUNNING and stage is not None:
                raise ControlError(
                    f"it was {task.state} before it was cut over", hint="resume it, and ask again", code="suspended"
                )
            task.cutover = stage
            if stage is Stage.CLOSE and not task.finishing:
                task.finishing = True
                lifecycle.note(session, task.id, "finishing", "the target is being closed")

    def watch(self, options: dict[str, Any]) -> None:
        """Have the source watched from now on."""
        with self._store._task(self.task.id) as (session, task):
            self._held(session)
            watching = Op.task_id == task.id, Op.kind == OpKind.LATE
            if session.scalar(select(Op.id).where(*watching).limit(1)) is None:
                add(session, task, OpKind.LATE, **options)

    def reverse(self) -> str:
        """Make and start the task that goes back; its name. Raises ControlError, UsageError."""
        with self._store._run(self.task.id) as (session, task):
            op = self._held(session)
            if "reversed" not in op.options:
                made = reverse(session, task, self._store._box.open, self._store._box.seal)
                op.options = {**op.options, "reversed": made.name}
            return str(op.options["reversed"])


def ended(session: Session, task: Task, op: Op) -> None:
    """A cut-over was carried out."""
    if Asked.of(op.options).dry_run:
        return
    task.cutover = None
    if task.state in RUNNING:  # it is not at its end yet, but will be
        task.cutover, task.finishing = Stage.CLOSE, True


def given_up(session: Session, task: Task, op: Op) -> None:
    """A cut-over has failed, or was revoked: its streams go back to following, unless they close the target by now."""
    if op.kind == OpKind.FINISH and not Asked.of(op.options).dry_run and task.cutover != Stage.CLOSE:
        task.cutover = None
