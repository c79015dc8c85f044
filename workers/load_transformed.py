"""Loading a chunk through a transform: each record becomes commands, which pass the script (docs/transforms.md).

What a script returns may not bear being done twice. So every batch says how far it has come, beside the chunk's mark
and in the same transaction; whoever loads the chunk next goes on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from sync_tasks.errors import KeyferryError, Retry, TransformError, named
from sync_tasks.lanes import Lane
from sync_tasks.names import at_field, checkpoint_key, marks_key
from workers.codec.resp_cy import encode
from workers.entries import TYPES, commands_of
from workers.full import BATCH_BYTES, BATCH_KEYS, FLYING, FencedBatches
from workers.ports import ChunkPort
from workers.scope import Scope
from workers.spool.chunks import RECORD, TO_THE_END, contents, whole
from workers.spool.sealing import opened, size_of
from workers.spool.tables import read_tables
from workers.target.databases import Databases
from workers.target.knows import ask
from workers.target.link import TargetLink
from workers.target.windows import Window
from workers.transform import Transformer
from workers.transformers import transformer

LONG_BYTES = 4 << 20
"""A value whose commands are longer is not made in one transaction."""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a chunk: where it ends in the file, its key, the source's expiry (-1: none), its type and value."""

    end: int
    key: bytes
    when: int
    kind: int
    value: BinaryIO


def records(path: Path, start: int) -> Iterator[Record]:
    """The records of a chunk file from position `start`; one that is not whole ends them."""
    with opened(path) as file:
        head = file.read(RECORD.size)
        if len(head) == RECORD.size and RECORD.unpack(head)[2] == TO_THE_END:
            when, key_size, _ = RECORD.unpack(head)
            if not start:
                yield Record(size_of(path), file.read(key_size), when, file.read(1)[0], file)
            return
        with contents(path) as data:
            while size := whole(data, start):
                when, key_size, _ = RECORD.unpack_from(data, start)
                at = start + RECORD.size + key_size
                start += size
                key, value = bytes(data[at - key_size : at]), bytes(data[at + 1 : start])
                yield Record(start, key, when, data[at], BytesIO(value))


def transformer_for(
    port: ChunkPort, link: TargetLink, key: bytes, home: int, lane: Lane | None,
    left_out: Callable[[int, str, bytes], None],
) -> tuple[Transformer, bool]:  # fmt: skip
    """That of a chunk's task, and whether the target's streams have counters.

    Args:
        link: to the target; `key` is one of our own there.
        lane: the part of a cluster that is meant; None: it stands alone.
        left_out: told of what the target has no place for.
    """
    task, knows = port.task, ask(link, key, filtered=lane is not None)
    scope = Scope(task.databases, task.spec.filter, None, lane, shown=lane is not None)
    return transformer(task.spec, scope, home, knows, left_out), bool(knows.reads.counters)


def rehearse(port: ChunkPort, link: TargetLink, home: int, lane: Lane, check: Callable[[], None]) -> None:
    """What `Loading` does, without sending any of it. Raises what file and script say, and `check`."""
    chunk, key = port.chunk, checkpoint_key(port.task.uid, port.node_number)
    if not chunk.bytes:
        return  # a range of a source in which there was nothing
    version, _, _ = read_tables(Path(chunk.path).parent)
    made, counters = transformer_for(port, link, key, home, lane, lambda *_: None)
    for record in records(Path(chunk.path), 0):
        check()
        for argv in made_of(record, version, counters):
            made.entry(chunk.db, [argv], TYPES.get(record.kind, ""), 0, Window())


def made_of(record: Record, version: int, counters: bool) -> Iterator[list[bytes]]:
    """The commands that make a record's key; the rest as for `commands_of`."""
    first = record.value.tell()
    return commands_of(
        record.key, record.kind, record.value.read, lambda: record.value.seek(first), version, record.when, counters
    )


class Loading:
    """One attempt at one chunk.

    Args:
        port: the claimed chunk.
        batches: of this attempt, none sent yet.
        transformer: of the task.
        version: RDB version of the source.
        counters: whether the target's streams have counters.
    """

    def __init__(
        self, port: ChunkPort, batches: FencedBatches, transformer: Transformer, version: int, counters: bool
    ) -> None:
        self._chunk, self._batches, self._transformer = port.chunk, batches, transformer
        self._version, self._counters = version, counters
        self._marks = marks_key(port.task.uid, port.node_number, port.chunk.gen)
        self._field = at_field(port.chunk.seq)
        self._databases = Databases(batches.link, batches.home)
        self._databases.prove({batches.db})
        self._window = self._new()
        self._sent = deque[Window](maxlen=FLYING + 1)  # those that may not have been answered
        self.keys = 0

    def _new(self) -> Window:
        return Window(first=self._batches.db, selected=self._batches.db)

    def run(self) -> Iterator[None]:
        """Send what is left of the chunk; yields behind each key. Raises what file, target and script say."""
        said = self._batches.link.ask(b"HGET", self._marks, self._field)
        position, done, self.keys = map(int, said.split(b":")) if said else (0, 0, 0)
        try:
            for record in records(Path(self._chunk.path), position):
                self._record(position, record, done)
                position, done = record.end, 0
                yield
            self._send(position, 0)
            self._batches.finish()
        except KeyferryError as error:
            self._explain(error)
            raise

    def _explain(self, error: KeyferryError) -> None:
        """Raise TransformError if the target has refused what the script returned."""
        refused = self._batches.refused
        if refused is None or error.retry is not Retry.FATAL:
            return
        # It may have been executed but for that, and says that it is done: once more, when the script is corrected.
        self._batches.link.ask(b"HDEL", self._marks, self._field)
        found = (w.origin(run.command) for w in self._sent for run in w.runs if w.sent(run.command)[0] == refused)
        what = f"the target refuses {named(refused)}: {error.message}"
        raise TransformError(what, 0, next(filter(None, found), refused)) from error

    def _record(self, start: int, record: Record, done: int) -> None:
        """One entry, which begins at `start`; its first `done` commands are on the target."""
        commands = made_of(record, self._version, self._counters)
        for number, argv in enumerate(islice(commands, done, None), done + 1):
            self._transformer.entry(self._chunk.db, [argv], TYPES.get(record.kind, ""), 0, self._window)
            if self._window.size > LONG_BYTES:
                self._send(start, number)
        self.keys += 1
        most_keys, most_bytes = self._batches.pace.most(BATCH_KEYS, BATCH_BYTES)
        if self._window.commands >= most_keys or self._window.size >= most_bytes:
            self._send(record.end, 0)

    def _send(self, position: int, done: int) -> None:
        """A batch, behind which so many commands of the record at `position` are on the target."""
        window, self._window = self._window, self._new()
        if not window.commands:
            return
        if self._databases.unproven(window):
            self._batches.finish()
            self._databases.prove(window.databases)
        self._sent.append(window)
        body, commands = bytes(window.body), window.commands
        if window.selected != self._batches.db:
            body, commands = body + encode([b"SELECT", self._batches.db]), commands + 1
        mark = encode([b"HSET", self._marks, self._field, b"%d:%d:%d" % (position, done, self.keys)])
        self._batches.send(body, commands, mark)
