"""A whole life of jobs on a database in memory, so that processes forked afterwards share what it leaves behind.

SQLAlchemy works out at first use how classes and rows correspond, and compiles each statement once. A process that does
so for itself takes 6 MB more, and 0.1 s.
"""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.secrets import SecretBox
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store.database import Database
from sync_tasks.store.store import Store

NOWHERE = "sqlite://"
SOURCE = Endpoint(Side.SOURCE, "redis", "source", 1)
TARGET = Endpoint(Side.TARGET, "redis", "target", 1)
OFFSETS = ("received_offset", "applied_offset", "source_offset")


def rehearse(database: Database) -> None:
    """Leave the database as it is, and no connection to it. The caller may fork then."""
    if database.sqlite:
        with database.in_memory():
            _live(_store(database))
    else:
        other = Database(NOWHERE)
        _live(_store(other))
        other.dispose()


def _store(database: Database) -> Store:
    return Store(database, SecretBox(), lambda _: None)


def _live(store: Store) -> None:
    store.migrate()
    task = store.create_task(TaskSpec(), SOURCE, TARGET).id
    store.transition(task, TaskState.PRECHECKING, "")
    store.transition(task, TaskState.PRECHECK_PASSED, "")
    store.start(task)
    (node,) = store.nodes(task)
    _follow(store, node.id)


def _follow(store: Store, node_id: int) -> None:
    """Follow a node from the claim to the stream, with a failure of each side. What is written differs from what was
    there, as it does in earnest: a statement names the columns that change."""
    store.ended(["0" * 16])
    port = store.claim_node(node_id, "host:1:2:x", "spool")
    assert port is not None
    store.endpoints(port.task.id)
    port.moved_in()
    port.renew()
    port.raise_epoch(port.epoch + 1)
    gen = port.begin_snapshot("0" * 40, 1, 0, 1, 1, port.node().gen + 1)
    port.event("snapshot", "begins")
    chunk = port.add_chunk(gen=gen, seq=0, db=0, shard=0, huge=False, path="0", keys=2, size=2)
    port.progress({"stream_db": 0})
    port.end_snapshot(gen, 2, 2)
    port.load_state(gen)
    port.chunks(gen)
    _load(store, chunk)
    port.begin_stream()
    port.took_up()
    for side in (Side.SOURCE, Side.TARGET, Side.CONTROL):
        port.failing(ConnectionLost("lost", side=side))
        port.healed(side)
    port.progress({**dict.fromkeys(OFFSETS, 1), "in_sync": True, "held": 0, "settled": True, "delay_ms": 1.0})
    port.progress(dict.fromkeys(OFFSETS[:2], 1))
    store.release_node(node_id, port.epoch)


def _load(store: Store, chunk_id: int) -> None:
    port = store.claim_chunk(chunk_id, "host:1:2:x")
    assert port is not None
    port.renew(1)
    port.done(2)
