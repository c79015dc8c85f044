"""Claims by several processes at once."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from itertools import chain
from multiprocessing.connection import Connection
from typing import Any

from sync_tasks.store import Store
from tests.unit.control.conftest import chunk

PROCESSES = 4
CHUNKS = 60


def in_processes(work: Callable[[int], Any]) -> list[Any]:
    """The results of `work(number)` in forked processes that begin together."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(PROCESSES)

    def run(number: int, answer: Connection) -> None:
        try:
            barrier.wait(10)
            answer.send((True, work(number)))
        except BaseException:
            answer.send((False, traceback.format_exc()))
        finally:
            os._exit(0)

    pipes = []
    children = []
    for number in range(PROCESSES):
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=run, args=(number, theirs))
        child.start()
        theirs.close()
        pipes.append(mine)
        children.append(child)
    results = [pipe.recv() for pipe in pipes]
    for child in children:
        child.join(10)
    for fine, value in results:
        assert fine, value
    return [value for _, value in results]


def test_each_chunk_goes_to_one_of_many_loaders(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    ids = [handle.add_chunk(**chunk(seq)) for seq in range(CHUNKS)]  # type: ignore[arg-type]

    def load(number: int) -> list[int]:
        mine = []
        for chunk_id in ids:
            taken = store.claim_chunk(chunk_id, f"h:{number}:1:x")
            if taken is not None:
                taken.renew(5)
                taken.done(10)
                mine.append(chunk_id)
        return mine

    taken = in_processes(load)
    assert sorted(chain.from_iterable(taken)) == ids
    state = handle.load_state(1)
    assert (state.done, state.keys_done) == (CHUNKS, CHUNKS * 10)


def test_a_stream_has_one_owner_at_a_time_and_epochs_never_repeat(store: Store, task_id: int) -> None:
    def follow(number: int) -> list[int]:
        epochs = []
        for turn in range(30):
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
    """A deferred transaction of SQLite would lose most of these, or fail."""
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, 0, None)

    def add(number: int) -> None:
        from sync_tasks.models import Node

        for _ in range(50):
            with store.database.write() as session:
                node = session.get_one(Node, 1)
                node.keys_total = (node.keys_total or 0) + 1

    in_processes(add)
    assert handle.node().keys_total == PROCESSES * 50
