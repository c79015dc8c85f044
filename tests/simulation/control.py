"""A model of the control plane: the lease of the stream, the snapshot's chunks, and who may still write to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sync_tasks.errors import Fenced, KeyferryError, Retry
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ChunkState, TaskState
from sync_tasks.throttle import Limits
from sync_tasks.views import ChunkView, LoadState, NodeView, Orders, TaskView
from tests.simulation.world import Process, World

UID = "0123456789abcdef"
TASK = TaskView(1, UID, "t", TaskState.SYNCHRONIZING, "s", "t", TaskSpec(extend_expiry_s=0), None, None)
NEW = NodeView(
    1, 1, 0, True, True, False, 0, None, None, 0, False,
    None, None, None, None, False, False, None, 0, None, 0, None, 0,
)  # fmt: skip
PAUSE_S = 0.2


class Control:
    """The database of one task with one node."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.node = NEW
        self.epoch = 0
        self.held = False  # somebody has the lease
        self.spool = 0  # where the log lies
        self.rows: list[ChunkView] = []
        self.failed: KeyferryError | None = None
        self.finishing = self.finished = self.released = False
        self.loaded: Callable[[], None] = lambda: None  # told that a chunk is done
        self.asked: Callable[[Process], None] = lambda _: None  # told of who has just been told that its right stands

    def claim(self, spool: int) -> StreamPort:
        self.epoch += 1
        self.held = True
        return StreamPort(self, self.epoch, moved=self.spool != spool, spool=spool)

    def give_away(self) -> None:
        self.held = False

    def has_asked(self) -> None:
        """Whoever acts was told that its right stands. What it believes from now on may be wrong."""
        party = self.world.party
        if party is not None and not party.name.endswith("job"):  # whose beats change nothing
            self.asked(party.process)
            if party.process.paused:
                self.world.wait(lambda: True)

    def ready(self) -> list[ChunkView]:
        """Chunks that wait for a loader."""
        return [c for c in self.rows if c.state == ChunkState.READY and c.gen == self.node.gen]

    def load(self, chunk: ChunkView) -> ChunkPort:
        chunk = self.put(chunk, state=ChunkState.RUNNING, epoch=chunk.epoch + 1)
        return ChunkPort(self, chunk)

    def put(self, chunk: ChunkView, **values: Any) -> ChunkView:
        self.rows[chunk.id - 1] = new = replace(self.rows[chunk.id - 1], **values)
        return new


class StreamPort:
    """One claimed stream job."""

    def __init__(self, control: Control, epoch: int, moved: bool, spool: int) -> None:
        self.control, self.epoch, self.moved, self._spool = control, epoch, moved, spool
        self.task = replace(TASK, finishing=control.finishing)

    def holds(self) -> bool:
        return self.control.held and self.control.epoch == self.epoch

    def _guard(self) -> Control:
        if not self.holds():
            raise Fenced("the lease was given away")
        return self.control

    def node(self) -> NodeView:
        return self.control.node

    def renew(self) -> Orders:
        control = self._guard()
        control.has_asked()
        return Orders(finishing=control.finishing)

    def raise_epoch(self, epoch: int) -> None:
        control = self._guard()
        control.epoch = self.epoch = max(epoch, self.epoch)
        control.node = replace(control.node, fresh=False)

    def begin_snapshot(
        self, replid: str, offset: int, db: int, keys_total: int | None, bytes_total: int | None, gen: int | None = None
    ) -> int:
        control = self._guard()
        control.rows = [replace(c, state=ChunkState.VOID) for c in control.rows]
        gen = max(control.node.gen + 1, gen or 0)
        control.node = replace(
            control.node, gen=gen, replid=replid, snapshot_offset=offset, stream_db=db, snapshot_done=False,
            begun=False,
        )  # fmt: skip
        return gen

    def add_chunk(self, *, gen: int, seq: int, db: int, shard: int, huge: bool, path: str, keys: int, size: int) -> int:
        rows = self._guard().rows
        number = len(rows) + 1
        rows.append(ChunkView(number, 1, 1, gen, seq, db, shard, huge, path, keys, size, ChunkState.READY, 0, 0))
        return number

    def end_snapshot(self, gen: int, keys: int, size: int) -> None:
        control = self._guard()
        control.node = replace(control.node, snapshot_done=True)

    def load_state(self, gen: int) -> LoadState:
        rows = self.chunks(gen)
        return LoadState(len(rows), sum(c.state == ChunkState.DONE for c in rows), 0, 0)

    def chunks(self, gen: int, *, every: bool = False) -> list[ChunkView]:
        return [c for c in self.control.rows if c.gen == gen]

    def reload(self, chunk_ids: list[int]) -> None:
        control = self._guard()
        for chunk in [control.rows[number - 1] for number in chunk_ids]:
            if chunk.state in (ChunkState.DONE, ChunkState.VOID):
                control.put(chunk, state=ChunkState.READY)

    def void_chunks(self, gen: int) -> None:
        control = self._guard()
        for chunk in control.rows:
            if chunk.state in (ChunkState.READY, ChunkState.RUNNING):
                control.put(chunk, state=ChunkState.VOID)

    def begin_stream(self) -> None:
        control = self._guard()
        control.node = replace(control.node, begun=True, snapshot_done=True)

    def progress(self, values: Mapping[str, Any]) -> None:
        control = self._guard()
        if "stream_db" in values:
            control.node = replace(control.node, stream_db=values["stream_db"])

    def failing(self, error: KeyferryError) -> float:
        self._guard().world.say("failing:", error.line())
        if error.retry is Retry.FATAL:
            raise error
        return PAUSE_S

    def healed(self, side: str, quiet_s: float = 0.0) -> None:
        self._guard()

    def fail(self, error: KeyferryError) -> None:
        self._guard().failed = error

    def moved_in(self) -> None:
        self._guard().spool = self._spool

    def took_up(self) -> None: ...

    def finished(self) -> None:
        self._guard().finished = True

    def event(self, kind: str, text: str) -> None:
        self._guard().world.say("event:", kind, text)


class ChunkPort:
    """One claimed chunk."""

    node_number = 0
    task = TASK
    limits = Limits()

    def __init__(self, control: Control, chunk: ChunkView) -> None:
        self.control, self.chunk = control, chunk

    def _guard(self) -> ChunkView:
        row = self.control.rows[self.chunk.id - 1]
        if row.state != ChunkState.RUNNING or row.epoch != self.chunk.epoch:
            raise Fenced("the chunk was given away, or is void")
        return row

    def renew(self, keys_done: int) -> None:
        self._guard()
        self.control.has_asked()

    def done(self, keys: int, left_out: str = "") -> None:
        self.control.put(self._guard(), state=ChunkState.DONE)
        self.control.loaded()

    def failed(self) -> None:
        """Another attempt is made."""
        try:
            self.control.put(self._guard(), state=ChunkState.READY)
        except Fenced:
            return
