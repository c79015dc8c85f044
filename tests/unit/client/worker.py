"""A worker and a scheduler in one thread, without servers: takes what is asked for, and does what a test says."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from sync_tasks.errors import Fenced, KeyferryError
from sync_tasks.precheck.item import Result
from sync_tasks.settings import Settings
from sync_tasks.states import ENDED, OpKind, OpState
from sync_tasks.store import Store
from sync_tasks.store.stream import StreamHandle

TICK_S = 0.01


class Worker(threading.Thread):
    """Ends with the `with` block.

    Args:
        state: the state directory.
        streams: whether it follows nodes, too.
    """

    def __init__(self, state: Path, *, streams: bool = True) -> None:
        super().__init__(daemon=True)
        self._store = Store.of(Settings(state_dir=state, database_url=None))
        self._streams = streams
        self._over = threading.Event()
        self._held: dict[int, StreamHandle] = {}
        self.wrong: dict[str, KeyferryError] = {}  # by name of task, or kind of operation: how it fails
        self.results: list[Result] = []  # that prechecks find
        self.idle = False  # operations are taken, and not carried out
        self.leaves: set[OpKind] = set()  # operations that are not taken
        self.stuck = False  # streams do not end
        self.error: BaseException | None = None

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(10)
        self._store.dispose()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            while not self._over.wait(TICK_S):
                for task in self._store.tasks():
                    self._operate(task.id, task.name)
                    if self._streams and task.state not in ENDED:
                        self._follow(task.id)
        except BaseException as error:
            self.error = error

    def _operate(self, task_id: int, name: str) -> None:
        for op in self._store.ops(task_id):
            due = op.state is OpState.READY and op.kind not in self.leaves
            handle = self._store.claim_op(op.id, "h:1:2:x") if due else None
            if handle is None or self.idle:
                continue
            if op.kind is OpKind.PRECHECK:
                handle.found(self.results)
            error = self.wrong.get(name) or self.wrong.get(op.kind)
            if error is not None:
                handle.failed(error)
            else:
                handle.done()

    def _follow(self, task_id: int) -> None:
        for node in self._store.nodes(task_id):
            if node.id not in self._held:
                handle = self._store.claim_node(node.id, "h:1:3:x")
                if handle is None:
                    continue
                self._held[node.id] = handle
                self._begin(handle, fresh=not node.begun)
            self._obey(node.id, self._held[node.id])

    def _begin(self, handle: StreamHandle, *, fresh: bool) -> None:
        with contextlib.suppress(Fenced):  # it was suspended already
            if fresh:
                handle.end_snapshot(handle.begin_snapshot("r" * 40, 0, 0, 0, 0), 0, 0)
                handle.begin_stream()
            handle.took_up()

    def _obey(self, node_id: int, handle: StreamHandle) -> None:
        try:
            orders = handle.renew()
            if orders.finishing and orders.wanted and orders.receive_bytes is None:
                handle.finished()
        except Fenced:
            self._held.pop(node_id)
            return
        if orders.receive_bytes is not None and orders.wanted:
            self._rest(handle, resting=orders.resting)
            return
        self._resume(handle)
        if (orders.finishing or orders.turn or not orders.wanted) and not self.stuck:
            self._store.release_node(node_id, self._held.pop(node_id).epoch)

    def _rest(self, handle: StreamHandle, *, resting: bool) -> None:
        """It is only to receive."""
        if not resting and not self.stuck:
            with contextlib.suppress(Fenced):
                handle.rests()

    def _resume(self, handle: StreamHandle) -> None:
        """A resumption leaves the node to who has it; the claim on the target then takes a higher epoch."""
        with contextlib.suppress(Fenced):
            if handle.node().fresh:
                handle.raise_epoch(handle.epoch + 1)
