"""Claims by several processes at once."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from sync_tasks.models import Node
from sync_tasks.spec import TaskSpec
from sync_tasks.store import Store
from tests.unit.control.conftest import SOURCE, TARGET, chunk, started
from tests.unit.control.processes import PROCESSES, in_processes

CHUNKS = 200
CONTENDERS = 3  # for each chunk, of the processes at work
NODES = 20


def test_each_chunk_goes_to_one_of_many_loaders(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    ids = [handle.add_chunk(**chunk(seq)) for seq in range(CHUNKS)]  # type: ignore[arg-type]

    def load(number: int) -> list[int]:
        mine = []
        for seq, chunk_id in enumerate(ids):
            if (seq + number) % PROCESSES >= CONTENDERS:
                continue
            taken = store.claim_chunk(chunk_id, f"h:{number}:1:x")
            if taken is not None:
                assert taken.chunk.epoch == 1
                taken.renew(5)
                taken.done(10)
                mine.append(chunk_id)
        return mine

    taken = in_processes(load)
    assert sorted(chain.from_iterable(taken)) == ids
    state = handle.load_state(1)
    assert (state.done, state.keys_done) == (CHUNKS, CHUNKS * 10)


def test_each_node_goes_to_one_of_many_workers(store: Store) -> None:
    tasks = [started(store, store.create_task(TaskSpec(), SOURCE, TARGET).id) for _ in range(NODES)]
    ids = [store.nodes(task_id)[0].id for task_id in tasks]

    def follow(number: int) -> list[tuple[int, int]]:
        found = [(node_id, store.claim_node(node_id, f"h:{number}:1:x")) for node_id in ids]
        return [(node_id, handle.epoch) for node_id, handle in found if handle is not None]

    taken = Counter(chain.from_iterable(in_processes(follow)))
    assert taken == {(node_id, 1): 1 for node_id in ids}


def test_a_stream_has_one_owner_at_a_time_and_epochs_never_repeat(store: Store, task_id: int) -> None:
    def follow(number: int) -> list[int]:
        epochs = []
        for turn in range(10):
            handle = store.claim_node(1, f"h:{number}:1:{turn}")
            if handle is not None:
                handle.progress({"applied_offset": handle.epoch})
                assert handle.node().applied_offset == handle.epoch, "nobody else has written meanwhile"
                store.release_node(1, handle.epoch)
                epochs.append(handle.epoch)
        return epochs

    epochs = list(chain.from_iterable(in_processes(follow)))
    assert sorted(epochs) == list(range(1, len(epochs) + 1))
    assert epochs


def test_read_then_write_loses_no_update(store: Store, task_id: int) -> None:
    """A deferred transaction of SQLite would lose most of these, or fail; so would PostgreSQL without the lock."""
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, 0, None)

    def add(number: int) -> None:
        for _ in range(10):
            with store.database.write() as session:
                node = session.get_one(Node, 1, with_for_update=True)
                node.keys_total = (node.keys_total or 0) + 1

    in_processes(add)
    assert handle.node().keys_total == PROCESSES * 10
