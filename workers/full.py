"""Loading one chunk: records become commands, pipelined in fenced batches (DESIGN 4).

    WATCH closed   PEXPIREAT closed <far>   MULTI <batch> EXEC

PEXPIREAT changes `closed` only if it exists, and so spoils the batch; unlike SET XX it is not refused for memory.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Fenced, KeyferryError, Malformed, Side, TargetError
from sync_tasks.names import closed_key, marks_key
from workers.beat import Beat
from workers.codec import RestoreEncoder
from workers.codec.resp_cy import ABORTED, NIL, arguments, encode, transaction
from workers.expiry import FIELD_HOLD, HOLD
from workers.huge import load_huge
from workers.ports import ChunkPort
from workers.spool.chunks import count_keys
from workers.spool.damage import damaged
from workers.spool.tables import read_tables
from workers.target.link import TargetLink
from workers.target.windows import named

BATCH_KEYS = 200
BATCH_BYTES = 128 << 10
FLYING = 4
FAR = 1 << 53

MULTI = encode([b"MULTI"])
EXEC = encode([b"EXEC"])


class FencedBatches:
    """Batches in flight on one connection, each spoiled once the load is closed.

    Args:
        link: in the chunk's target database.
        uid, node, gen: whose load.
        home: database of Keyferry's keys.
        db: database of the data.
        check: called now and then; what it raises ends the sending.
    """

    def __init__(
        self,
        link: TargetLink,
        uid: str,
        node: int,
        gen: int,
        home: int,
        db: int,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.link, self.home, self.db, self._check = link, home, db, check
        closed = closed_key(uid, node, gen)
        self._gate = encode([b"WATCH", closed]) + encode([b"PEXPIREAT", closed, FAR]) + MULTI
        self._select = encode([b"SELECT", db]) if db != home else b""
        self._back = encode([b"SELECT", home]) if db != home else b""
        self._flying: deque[tuple[bytes, int]] = deque()
        self._in = b""

    def send(self, body: bytes, commands: int) -> None:
        """One batch of `commands` commands on the data's database; waits while too many are in flight."""
        self._push(self._select + body + self._back, commands + (2 if self._select else 0))

    def send_home(self, body: bytes, commands: int) -> None:
        """One batch on the database of Keyferry's own keys."""
        self._push(body, commands)

    def _push(self, body: bytes, commands: int) -> None:
        self._check()
        while len(self._flying) >= FLYING:
            self._read()
        self.link.send(self._gate + body + EXEC)
        self._flying.append((body, commands))

    def send_long(self, head: bytes, blocks: Iterator[bytes], tail: bytes) -> None:
        """A batch of one command too long for memory: its bytes are head, blocks, tail."""
        self.finish()
        self.link.send(self._gate + self._select + head)
        for block in blocks:
            self._check()
            self.link.send(block)
        self.link.send(tail + self._back + EXEC)
        name = encode([b"RESTORE"])
        self._flying.append((self._select + name + self._back, 1 + (2 if self._select else 0)))

    def finish(self) -> None:
        """Wait for every answer."""
        while self._flying:
            self._read()

    def _read(self) -> None:
        body, commands = self._flying[0]
        end, outcome, gate, refused, failed = transaction(self._in, 0, 2, commands)
        if end < 0:
            self._in += self.link.receive()
            return
        self._in = self._in[end:]
        self._flying.popleft()
        if outcome == NIL:
            raise Fenced("the load of this snapshot is closed: this worker was too late")
        if outcome == ABORTED or gate:
            raise classify(next(iter([*gate.values(), *refused.values()])), Side.TARGET)
        for index, line in failed.items():
            argv = _command(body, index)
            raise TargetError(
                f"the target refused {named(argv)} of the snapshot: {line.decode(errors='replace').lstrip('-')}",
                code="refused-value",
                hint="is the target's version older than the source's, or does it lack a module?",
            )


def _command(body: bytes, index: int) -> list[bytes]:
    position = 0
    for _ in range(index):
        position += len(encode(arguments(body, position)))
    return arguments(body, position)


def load_chunk(port: ChunkPort, endpoint: Endpoint, home: int, target_db: int) -> None:
    """Load one claimed chunk. Safe to do twice, and by two at once.

    Args:
        port: the claimed chunk.
        endpoint: the target.
        home: database of Keyferry's keys there.
        target_db: where the chunk's keys go.
    Raises ConnectionLost, TargetBusy, TargetError, Malformed, Fenced.
    """
    loader = _Loader(port)
    with Beat(lambda: port.renew(loader.keys)) as beat:
        link = TargetLink(endpoint, f"keyferry-{port.task.uid}-load", home)
        try:
            _prove(link, target_db, home)
            uid, number, gen = port.task.uid, port.node_number, port.chunk.gen
            batches = FencedBatches(link, uid, number, gen, home, target_db, beat.check)
            loader.load(batches)
            batches.finish()
            batches.send_home(encode([b"HSET", marks_key(uid, number, gen), port.chunk.seq, port.chunk.keys]), 1)
            batches.finish()
        finally:
            link.close()
    port.done(port.chunk.keys)


def _prove(link: TargetLink, db: int, home: int) -> None:
    try:
        link.ask_all([[b"SELECT", db], [b"SELECT", home]])
    except KeyferryError as e:
        if "out of range" not in e.message:
            raise
        raise TargetError(
            f"the target has no database {db}",
            hint="raise `databases` in the target's configuration, or leave that database out of the task",
        ) from e


class _Loader:
    """Reads one chunk file into batches. What it finds must be what was recorded: a torn file loses keys silently."""

    def __init__(self, port: ChunkPort) -> None:
        self._port, self._chunk = port, port.chunk
        self._path = Path(port.chunk.path)
        self.keys = 0  # so far

    def load(self, batches: FencedBatches) -> None:
        """Send everything. Raises ControlError, the snapshot marked, if the file is not what was recorded."""
        version, _, _ = read_tables(self._path.parent)
        try:
            size = self._path.stat().st_size
        except FileNotFoundError as e:
            raise damaged(self._path, "is missing") from e
        if size != self._chunk.bytes:
            raise damaged(self._path, f"has {size} bytes, not {self._chunk.bytes}")
        if self._chunk.huge:
            load_huge(self._port, batches, version)
            return
        try:
            self._send(batches, RestoreEncoder(version, HOLD, FIELD_HOLD))
        except Malformed as e:
            self.keys = count_keys(self._path)  # the source's fault, unless the records are other ones
            self._compare(e)
            raise
        self._compare()

    def _send(self, batches: FencedBatches, encoder: RestoreEncoder) -> None:
        with (
            self._path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
            memoryview(pages) as data,
        ):
            position, keys = 0, 1
            while keys and position < len(data):
                body, keys, position = encoder.encode(data, position, BATCH_KEYS, BATCH_BYTES)
                if keys:
                    batches.send(body, keys)
                self.keys += keys
            if position < len(data):
                raise damaged(self._path, f"ends in the middle of a key, behind byte {position}")

    def _compare(self, cause: Exception | None = None) -> None:
        if self.keys != self._chunk.keys:
            raise damaged(self._path, f"holds {self.keys} keys, not {self._chunk.keys}") from cause
