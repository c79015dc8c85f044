"""Which shard of a source cluster each node of a task is, and how slots pass from one node to another.

A slot is carried to the target by one node at a time. Its node gives it up when the cluster says that another serves it
now, and holds it until its own stream has committed on the target that it does not act on it any more; only then may
the node of the shard that serves it now take it: its stream copies the slot's keys as they are there, and carries it
from a proven offset on (`workers.adding`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from sync_tasks import lifecycle, names
from sync_tasks.models import Lease, Node, Task
from sync_tasks.slots import ALL, SLOTS, Ranges, meet, members, ranges, read, size, written
from sync_tasks.topology import Shard, same


class Shards:
    """What the stream job of a cluster's node says and asks of shards."""

    if TYPE_CHECKING:

        def _write(self) -> AbstractContextManager[tuple[Session, Node, Task]]: ...

    def lay_out(self, found: Sequence[Shard]) -> None:
        """The cluster is like this now: each node learns its shard, and one is made for each shard that has none."""
        with self._write() as (session, node, task):
            lay_out(session, task, found, node)

    def reshard(self, found: Sequence[Shard], serves: Ranges, end: int = 0) -> bool:
        """The cluster, as the master of the job's own shard sees it; whether that changes what its stream carries.

        Args:
            serves: slots of that master. What it serves no more is given up, once the stream has begun; what it serves
                is taken, if no other node holds it.
            end: stream offset behind all that came of what is given up.
        """
        with self._write() as (session, node, task):
            lay_out(session, task, found, node)
            if not node.begun or node.shard is None:
                return False
            mine, now = members(read(node.shard["slots"])), members(serves)
            gained = now - mine - _held(session, node)
            if mine <= now and not gained:
                return False
            held = members(read(node.shard["holds"])) | gained
            slots = (mine & now) | gained
            _say(session, node, "gives up", "the cluster has moved them", mine - now)
            late = (mine - now) & _closed(session, node, found)
            if late:
                why = "the shard that has them was cut over already, so their keys are not on the target any more"
                _say(session, node, "loses", why, late)
            _say(session, node, "takes over", "its shard serves them now", gained)
            now_is: dict[str, Any] = {"slots": written(ranges(slots)), "holds": written(ranges(held))}
            if mine - now:
                gen, before = node.shard.get("drained", (0, 0))
                now_is["drained"] = [node.gen, max(end, before if gen == node.gen else 0)]
            if late:
                now_is["lost"] = written(ranges(late | _lost(node)))
            node.shard = node.shard | now_is
            for one in _unfinished(session, node):  # they may have stood before that: each is to look once more
                if one.shard is not None and "stands" in one.shard:
                    one.shard = {name: value for name, value in one.shard.items() if name != "stands"}
            node.turn, node.in_sync = True, False
            return True

    def others(self) -> list[int]:
        """Numbers of the task's other nodes that write to the target still."""
        with self._write() as (session, node, _task):
            rest = select(Node.number).where(Node.task_id == node.task_id, Node.id != node.id)
            return list(session.scalars(rest.where(Node.finished.is_(False))))

    def stand(self, offset: int | None) -> bool:
        """The stream stands still at an offset, to be closed there; None: it goes on. Whether all nodes of the task
        stand still, or are closed, and no slot is on its way between them: then each is to be closed where it stands,
        whatever it says afterwards."""
        with self._write() as (session, node, _task):
            every = list(session.scalars(select(Node).where(Node.task_id == node.task_id)))
            rest = [one for one in every if one.id != node.id]
            others = all(one.finished or (one.shard or {}).get("stands") is not None for one in rest)
            others = others and len(set[int]().union(*map(_kept, every))) == SLOTS
            row = node.shard or {}
            if others and row.get("stands") is not None:
                return True
            if row.get("stands") != offset:
                node.shard = row | {"stands": offset}
            return others and offset is not None

    def untaken(self) -> Ranges:
        """Slots that a node of the task has given up, and none has taken since."""
        with self._write() as (session, node, _task):
            every = session.scalars(select(Node).where(Node.task_id == node.task_id))
            return ranges(members(ALL).difference(*map(_kept, every)))

    def holds(self, slots: Ranges) -> None:
        """The target says that this stream acts on no other slots any more: others may take those that it gave up."""
        with self._write() as (_session, node, _task):
            if node.shard is not None:
                held = members(slots) | members(read(node.shard["slots"]))
                node.shard = node.shard | {"holds": written(ranges(held))}


def carried(shard: Any) -> str | None:
    """Which slots a node is to carry, of its column as a driver gives it; None: it is no cluster's."""
    row = json.loads(shard) if isinstance(shard, str) else shard  # PostgreSQL's driver has read it
    return None if row is None else str(row["slots"])


def lay_out(session: Session, task: Task, found: Sequence[Shard], asks: Node) -> None:
    """Each node of a task that is held learns its shard; shards without one get one.

    Args:
        asks: the node whose job says this.
    """
    nodes = list(session.scalars(select(Node).where(Node.task_id == task.id).order_by(Node.number)))
    first = next((node for node in nodes if node.shard is None), None)
    pairs, left = _paired(nodes, found, asks), {shard.node_id: shard for shard in found}
    for node in nodes:
        if node.shard is not None:
            now = {name: value for name, value in node.shard.items() if name != "gone"}
            if (shard := pairs.get(node.id)) is not None:
                del left[shard.node_id]
                now |= {"members": sorted(shard.members), "address": shard.address}
            else:
                now["gone"] = True
            if now != node.shard:
                node.shard = now
    for shard in sorted(left.values(), key=lambda shard: shard.slots):
        if first is not None:
            node, first = first, None
        else:
            node = _another(session, nodes)
            nodes.append(node)
        # One that comes later has yet to be given what it serves.
        slots = written(ranges(members(shard.slots) - _held(session, node)))
        node.shard = {"members": sorted(shard.members), "address": shard.address, "slots": slots, "holds": slots}
        lifecycle.note(session, task.id, "shard", f"node {node.number}: the shard of {shard.address}, slots {slots}")
    session.flush()


def _paired(nodes: Sequence[Node], found: Sequence[Shard], asks: Node) -> dict[int, Shard]:
    """Which shard is whose, by the ids of nodes: a node may have none.

    By the names of masters first, then of replicas: a server whose slots have all gone becomes a replica in another
    shard, which may be another node's. Of a shard that is no node's, by whoever follows its master while all servers of
    its own have gone. If several fit, by what slots they have in common.
    """
    ways: list[Callable[[Any, Shard], bool]] = [
        lambda node, one: one.node_id in node.shard["members"],
        lambda node, one: not one.members.isdisjoint(node.shard["members"]),
        lambda node, one: one.followed and node is asks,
    ]
    pairs: dict[int, Shard] = {}
    for fits in ways:
        left = [shard for shard in found if shard not in pairs.values()]
        both = [(node, one) for node in nodes if node.shard is not None for one in left if fits(node, one)]
        for node, one in sorted(both, key=lambda pair: -_common(*pair)):
            if node.id not in pairs and one not in pairs.values():
                pairs[node.id] = one
    return pairs


def _common(node: Any, shard: Shard) -> int:
    return size(meet(read(node.shard["slots"]), shard.slots) or ())


def _another(session: Session, nodes: Sequence[Node]) -> Node:
    """A node beside those that there are, which runs as they do."""
    one = nodes[0]
    node = Node(
        task_id=one.task_id, number=max(node.number for node in nodes) + 1, wanted=one.wanted, fresh=True,
    )  # fmt: skip
    session.add(node)
    session.flush()
    session.add(Lease(name=names.node_lease(node.id)))
    return node


def forget(session: Session, task: Task) -> None:
    """The task begins anew: which shards there are is found out again."""
    others = session.scalars(select(Node.id).where(Node.task_id == task.id, Node.number > 0)).all()
    session.execute(delete(Lease).where(Lease.name.in_([names.node_lease(node) for node in others])))
    session.execute(delete(Node).where(Node.id.in_(others)))
    for node in session.scalars(select(Node).where(Node.task_id == task.id)):
        node.shard = None


def _of(row: dict[str, Any], found: Iterable[Shard]) -> Shard | None:
    return same(row["members"], (), found)


def _held(session: Session, node: Node) -> set[int]:
    """Slots that other nodes of the task may still carry to the target: one that is cut over carries none."""
    mine = select(Node).where(Node.task_id == node.task_id, Node.id != node.id, Node.finished.is_(False))
    others = session.scalars(mine)
    return {slot for one in others if one.shard is not None for slot in members(read(one.shard["holds"]))}


def _unfinished(session: Session, node: Node) -> Iterable[Node]:
    """The nodes of a task that write to the target still, this one too."""
    return session.scalars(select(Node).where(Node.task_id == node.task_id, Node.finished.is_(False)))


def _lost(node: Node) -> set[int]:
    """Slots that a node gave up when their shard was closed already: nobody is going to take them."""
    return members(read((node.shard or {}).get("lost", "")))


def _kept(node: Node) -> set[int]:
    """Slots of a node that nobody has to wait for."""
    return members(read(node.shard["slots"])) | _lost(node) if node.shard is not None else set()


def _closed(session: Session, node: Node, found: Sequence[Shard]) -> set[int]:
    """Slots of shards whose streams have ended at the target for good."""
    over = session.scalars(select(Node).where(Node.task_id == node.task_id, Node.finished.is_(True)))
    shards = [shard for one in over if one.shard is not None and (shard := _of(one.shard, found)) is not None]
    return {slot for shard in shards for slot in members(shard.slots)}


def _say(session: Session, node: Node, what: str, why: str, slots: set[int]) -> None:
    if slots:
        text = f"node {node.number} {what} slots {written(ranges(slots))}: {why}"
        lifecycle.note(session, node.task_id, "slots", text[:500])
