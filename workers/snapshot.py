"""Receiving a snapshot: frames it as it arrives, and hands over each chunk that is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from sync_tasks.errors import Malformed
from sync_tasks.lanes import Lane, table
from workers.codec import Framer
from workers.codec.filter_cy import Filter
from workers.scope import Scope
from workers.spool.chunks import ChunkWriter, Closed
from workers.spool.room import when_there_is_room
from workers.spool.sorted import keep
from workers.spool.tables import write_tables

SHARDS = 8
HUGE_BYTES = 8 << 20
NONE = Filter([], [b""])
"""Takes no key: all begin with nothing."""
SMALL_BYTES = 256 << 10
"""A database with no more than this is one chunk: each costs some ten transactions and messages, however small."""


class Ended(Protocol):
    """What a snapshot comes by."""

    def end_mark(self, rest: bytes) -> None:
        """`rest` was read behind the RDB. Raises SourceError if it should not be there."""


class SnapshotReader:
    """One snapshot from the link to chunk files.

    Args:
        directory: where its chunk files go.
        closed: called with each complete chunk.
        progress: called with the bytes received so far, now and then.
        stopping: asked between buffers; true ends the reading by `Stopped`.
        waiting: called with the error while there is no room on the disk.
        scope: its filter of keys is obeyed.
        lanes: of a target that is a cluster: what goes to different ones is in different chunks.
        sorts: whether it is known what goes to which: a transform tells it of what it returns alone.
        past: keys whose time is before that, in ms since the epoch, are left out: of what is no stream nobody will say
            that they are gone. None: a stream follows, which does.
    """

    def __init__(
        self,
        directory: Path,
        *,
        closed: Callable[[Closed], None],
        progress: Callable[[int], None],
        stopping: Callable[[], bool],
        waiting: Callable[[Exception], float],
        scope: Scope | None = None,
        lanes: Sequence[Lane] = (),
        sorts: bool = True,
        past: int | None = None,
    ) -> None:
        self._scope = scope or Scope(None)
        self.chunks = ChunkWriter(directory, closed)
        self._lanes = lanes
        self._sorts = bool(lanes) and sorts
        self._shards = max(one.number + 1 for one in lanes) if self._sorts else SHARDS
        self.framer = Framer(self._shards, HUGE_BYTES)
        if self._sorts:
            self.framer.sort_by(table(lanes))
        self._past = past
        if past is not None:
            self.framer.leave_out(past)
        self.functions: list[bytes] = []
        self.scripts: list[bytes] = []
        self.stream_db = 0
        self.received = 0
        self.version = 0
        self._progress = progress
        self._stopping = stopping
        self._waiting = waiting
        self._select(0)
        self._huge_shard = 0
        self._passing = False  # the huge value that comes is of a key that is not in scope

    def read(self, link: Ended, parts: Iterator[bytes | int | None]) -> None:
        """Read to the end of the snapshot; what follows stays with the link.

        Raises ConnectionLost, Malformed, UnsupportedType, Stopped, Fenced.
        """
        try:
            for data in parts:
                if not isinstance(data, bytes):
                    continue
                self.received += len(data)
                self.framer.feed(data)
                if self._frame():
                    link.end_mark(self.framer.rest())
                    break
                self._progress(self.received)
                if self._stopping():
                    raise Stopped
            else:
                raise Malformed("the snapshot ends before its RDB does", self.received)
        except BaseException:
            self.chunks.abandon()
            raise

    def _frame(self) -> bool:
        """Take what the framer has found; whether the snapshot has ended."""
        framer = self.framer
        while (event := framer.next()) is not None:
            kind = event[0]
            if kind == "full":
                self._drain_large()
            elif kind == "db":
                self._end_database()
                self._select(event[1])
            elif kind == "huge":
                _, key, expire_ms, value_type, self._huge_shard = event
                over = self._past is not None and expire_ms != -1 and expire_ms < self._past
                self._passing = over or not self._scope.takes(self._db, key)
                self._huge(partial(self.chunks.begin_huge, key, expire_ms, value_type))
            elif kind == "part":
                self._huge(partial(self.chunks.part, event[1]))
            elif kind == "huge_end":
                if not self._passing:
                    self.chunks.end_huge(self._db, self._huge_shard)
            elif kind == "version":
                self.version = event[2]
                self._save_tables()  # loaders need the version from the first chunk on
            elif kind == "function":
                self.functions.append(event[1])
            elif kind == "aux":
                self._aux(event[1], event[2])
            elif kind == "end":
                self._save_tables()
                self._end_database()
                return True
        return False

    def _select(self, db: int) -> None:
        """What follows belongs to this database; of one that does not travel nothing is kept."""
        self._db = db
        self.framer.filter(self._scope.filter(db) if self._scope.target(db) is not None else NONE)

    def _huge(self, write: Callable[[], None]) -> None:
        """Write what belongs to a huge value, unless its key is not in scope."""
        if not self._passing:
            self._room(write)

    def _aux(self, name: bytes, value: bytes) -> None:
        if name == b"repl-stream-db":
            self.stream_db = int(value)
        elif name == b"lua":
            self.scripts.append(value)

    def _save_tables(self) -> None:
        self._room(lambda: write_tables(self.chunks.directory, self.version, self.functions, self.scripts))
        self._room(lambda: keep(self.chunks.directory, self._lanes))

    def _drain_large(self) -> None:
        for shard in range(self._shards):
            if self.framer.pending(shard) > 64 << 10:
                self._drain(shard, shard)

    def _end_database(self) -> None:
        """What is left of a database; of a small one all."""
        left = [shard for shard in range(self._shards) if self.framer.pending(shard)]
        small = not self._sorts and not self.chunks.writing and sum(map(self.framer.pending, left)) <= SMALL_BYTES
        for shard in left:
            self._drain(shard, left[0] if small else shard)
        self.chunks.close_all(self._db)

    def _drain(self, shard: int, into: int) -> None:
        data, keys = self.framer.drain(shard)
        self._room(partial(self.chunks.add, self._db, into, data, keys))

    def _room(self, write: Callable[[], None]) -> None:
        when_there_is_room(write, self._waiting, self._stopping)


class Stopped(Exception):
    """The job was asked to stop; not an error."""
