"""Loading one chunk: records become commands, pipelined in fenced batches.

    WATCH closed tok   PEXPIREAT closed <far>   HSETNX tok <attempt>:<n-1> 0
    MULTI  <batch>  HSET tok <attempt>:<n> 1  HDEL tok <attempt>:<n-1>  EXEC

PEXPIREAT changes `closed` only if it exists, and so spoils the batch; unlike SET XX it is not refused for memory.
HSETNX changes `tok` if it was taken over by another attempt at the same chunk, or was lost: the target was emptied,
perhaps for another run, or fell back to an earlier state. So a loader that was asleep writes nothing into what has
begun since.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue, Fenced, KeyferryError, Malformed, Side, TargetError, named
from sync_tasks.lanes import Lane
from sync_tasks.names import begun, closed_key, load_key, marks_key
from workers.beat import Beat
from workers.codec import RestoreEncoder, Transcriber
from workers.codec.flat_cy import Flat
from workers.codec.resp_cy import ABORTED, NIL, WHOLE, arguments, encode, transaction
from workers.expiry import FIELD_HOLD, HOLD
from workers.huge import load_huge, load_large
from workers.pace import Pace
from workers.ports import ChunkPort
from workers.spool.chunks import contents, count_keys, whole
from workers.spool.damage import damaged
from workers.spool.sealing import is_sealed, size_of
from workers.spool.sums import verify
from workers.spool.tables import read_tables
from workers.target.evictions import evicts
from workers.target.knows import reads_of
from workers.target.link import TargetLink, lost
from workers.target.scripted import ended, raise_away, script_head, scripted

BATCH_KEYS = 200
BATCH_BYTES = 128 << 10
LARGEST = 1 << 20
"""Bytes of a value, as the source packs it, that is converted in memory, and sent as one RESTORE, which takes a target
up to 50 ms; it may unpack to many times as much. Strings take less."""
LEFT_OUT = "expiries of hash fields and the like, which the target's version does not have, were left out"
FLYING, FAR = 4, 1 << 53
GATE_COMMANDS = 3  # WATCH, PEXPIREAT, HSETNX
TAIL_BYTES = 512  # a disk that lost the end of a file often shows zeros there
TOKEN_S = 86_400  # that of a loader which died and has no successor goes by itself

MULTI = encode([b"MULTI"])
EXEC = encode([b"EXEC"])


class FencedBatches:
    """Batches in flight on one connection, each spoiled unless the one before it was executed and the load is open.

    Args:
        link: in the database of Keyferry's keys.
        uid, node, gen, what: whose load, and which part of it; an earlier attempt at that part is over from now on.
        home: database of Keyferry's keys.
        db: database of the data.
        rightful: asks the control plane, before and once the token is there: what ends our right later ends the token,
            too. Raises Fenced.
        check: called now and then; what it raises ends the sending.
        pace: how fast it may go.
    """

    def __init__(
        self,
        link: TargetLink,
        uid: str,
        node: int,
        gen: int,
        what: str,
        home: int,
        db: int,
        rightful: Callable[[], object] = lambda: None,
        check: Callable[[], None] = lambda: None,
        pace: Pace | None = None,
    ) -> None:
        self.link, self.home, self.db, self._check = link, home, db, check
        self.pace = pace or Pace()
        self._closed, self._tok = closed_key(uid, node, gen), load_key(uid, node, gen, what)
        self._marks = marks_key(uid, node, gen)
        self._attempt, self._number = secrets.token_hex(4).encode(), 0
        self._watch = encode([b"WATCH", self._closed, self._tok]) + encode([b"PEXPIREAT", self._closed, FAR])
        self._rightful = rightful
        rightful()  # who has lost its right must not take the token from its successor
        *_, done = link.ask_all([
            [b"MULTI"],
            [b"DEL", self._tok],
            [b"HSET", self._tok, self._step(0), b"1"],
            [b"EXPIRE", self._tok, TOKEN_S],
            [b"DUMP", self._tok],
            [b"HSETNX", self._marks, begun(what), b"1"],
            [b"EXEC"],
        ])  # fmt: skip
        self.reads = reads_of(done[3])
        rightful()
        self._select = encode([b"SELECT", db]) if db != home else b""
        self._back = encode([b"SELECT", home]) if db != home else b""
        self._flying: deque[tuple[bytes, int, int]] = deque()  # body, commands in it, and behind it
        self._in = b""
        self.refused: list[bytes] | None = None  # the command for which the last error was raised

    def send(self, body: bytes, commands: int, own: bytes = b"") -> None:
        """One batch of `commands` commands on the data's database; waits while too many are in flight.

        Args:
            own: one more command, on the database of Keyferry's own keys.
        """
        self._push(self._select + body + self._back + own, commands + (2 if self._select else 0) + bool(own))

    def end(self, body: bytes = b"", commands: int = 0) -> None:
        """The last batch, on the database of Keyferry's own keys, once all others are known to be executed."""
        self.finish()
        self._push(body, commands, encode([b"DEL", self._tok]))
        self.finish()

    def _push(self, body: bytes, commands: int, last: bytes = b"") -> None:
        self._check()
        self.pace.wait(self._check)
        self.pace.took(commands, len(body))
        while len(self._flying) >= FLYING:
            self._read()
        gate, tail = self._next()
        whole = scripted(body) if self.link.scripted else body
        self.link.send(gate + whole + (last or tail) + EXEC)
        self._flying.append((body, commands, 1 if last else 2))

    def _step(self, number: int) -> bytes:
        return b"%b:%d" % (self._attempt, number)

    def _next(self) -> tuple[bytes, bytes]:
        """Gate and tail of the next batch."""
        before, self._number = self._step(self._number), self._number + 1
        gate = self._watch + encode([b"HSETNX", self._tok, before, b"0"]) + MULTI
        now = encode([b"HSET", self._tok, self._step(self._number), b"1"])
        return gate, now + encode([b"HDEL", self._tok, before])

    def send_long(self, head: bytes, blocks: Iterator[bytes], tail: bytes, sketch: bytes, commands: int = 1) -> None:
        """A batch with a command too long for memory: head, blocks, tail. `sketch`: its commands, that one abridged."""
        self.finish()
        gate, step = self._next()
        if self.link.scripted:
            flat = Flat()
            head = flat.feed(head)
            head = script_head(flat.count) + head
        self.link.send(gate + self._select + head)
        for block in blocks:
            self._check()
            self.pace.wait(self._check)
            self.pace.took(0, len(block))
            self.link.send(block)
        self.link.send(tail + self._back + step + EXEC)
        self._flying.append((self._select + sketch + self._back, commands + (2 if self._select else 0), 2))

    def finish(self) -> None:
        """Wait for every answer."""
        while self._flying:
            self._read()

    def _read(self) -> None:
        body, inside, more = self._flying[0]
        commands, script = inside + more, inside * self.link.scripted
        end, outcome, gate, refused, failed = transaction(self._in, 0, GATE_COMMANDS, commands, script)
        if end < 0:
            self._in += self.link.receive()
            return
        self._in = self._in[end:]
        self._flying.popleft()
        if outcome == NIL:
            raise self._spoiled()
        if outcome == ABORTED and not gate and (index := next(iter(refused), commands)) < commands - 2:
            self.refused = _command(body, index)
        if outcome == ABORTED or gate:
            raise classify(next(iter([*gate.values(), *refused.values()])), Side.TARGET)
        if (whole := failed.pop(WHOLE, None)) is not None:
            raise ended(whole)
        for index, line in failed.items():
            raise_away(line, self.link.scripted)
            argv = self.refused = _command(body, index)
            raise TargetError(
                f"the target refused {named(argv)} of the snapshot: {line.decode(errors='replace').lstrip('-')}",
                code="refused-value",
                hint="is the target's version older than the source's, or does it lack a module?",
            )

    def _spoiled(self) -> KeyferryError:
        """Why a batch was not executed; those behind it were not, either."""
        while self._flying:
            _, inside, more = self._flying[0]
            end = transaction(self._in, 0, GATE_COMMANDS, inside + more, inside if self.link.scripted else 0)[0]
            if end < 0:
                self._in += self.link.receive()
                continue
            self._in = self._in[end:]
            self._flying.popleft()
        closed, steps = self.link.ask_all([[b"EXISTS", self._closed], [b"HKEYS", self._tok]])
        if any(not step.startswith(self._attempt) for step in steps):
            self._rightful()
            return lost("a worker that had lost its right woke up and took the token of this one")
        self.link.ask(b"DEL", self._tok)  # what is there the gates have made
        if closed:
            return Fenced("the load of this snapshot is closed: this worker was too late")
        # In both other cases the marks, which were made with the token, are gone as well.
        if evicts(self.link) and self.link.ask(b"EXISTS", self._marks):
            return CannotContinue(
                "the target has evicted what fences the load, and would evict it again",
                side=Side.TARGET,
                hint="set maxmemory-policy noeviction there, give it memory; restart the task with an empty target",
            )
        return lost("the target was emptied, or fell back to an earlier state, during the load")


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
    loader, pace = Loader(port), Pace()
    loader.check()

    def renew(keys: int) -> None:
        port.renew(keys)
        pace.limits = port.limits

    with Beat(lambda: renew(loader.keys), patient=True) as beat:
        loader.verify(beat.check)
        link = TargetLink(endpoint, f"keyferry-{port.task.uid}-load", home)
        try:
            prove(link, target_db, home)
            uid, number, gen, seq = port.task.uid, port.node_number, port.chunk.gen, port.chunk.seq
            head = link, uid, number, gen, str(seq), home, target_db
            batches = FencedBatches(*head, lambda: renew(0), beat.check, pace)
            loader.load(batches)
            batches.end(encode([b"HSET", marks_key(uid, number, gen), seq, port.chunk.keys]), 1)
        finally:
            link.close()
    port.done(port.chunk.keys, loader.left_out)


def prove(link: TargetLink, db: int, home: int) -> None:
    """See that the target has a database. Raises TargetError."""
    try:
        link.ask_all([[b"SELECT", db], [b"SELECT", home]])
    except KeyferryError as e:
        if "out of range" not in e.message:
            raise
        raise TargetError(
            f"the target has no database {db}",
            hint="raise `databases` in the target's configuration, or leave that database out of the task",
        ) from e


class Loader:
    """Reads one chunk file into batches. What it finds must be what was recorded: a torn file loses keys silently."""

    def __init__(self, port: ChunkPort) -> None:
        self._port, self._chunk = port, port.chunk
        self._path = Path(port.chunk.path)
        self.keys = 0  # so far
        self._lost, self._first = 0, b""

    def check(self) -> None:
        """Raise ControlError, the snapshot marked, if the file is not what was recorded, as far as can be told at once:
        nothing of it is on the target then."""
        try:
            size = size_of(self._path)
        except FileNotFoundError as e:
            raise damaged(self._path, "is missing") from e
        if size != self._chunk.bytes:
            raise damaged(self._path, f"has {size} bytes, not {self._chunk.bytes}")
        if is_sealed(self._path):
            return  # its end is not read before its checksum
        with self._path.open("rb") as file:
            file.seek(max(0, size - TAIL_BYTES))
            if not any(file.read()) and not self._chunk.huge:
                self.keys = count_keys(self._path)
                self._compare()
                self.keys = 0

    def verify(self, check: Callable[[], None]) -> None:
        """The same by its checksum, for which all of it is read. `check` is called now and then."""
        if self._chunk.bytes:
            verify(self._path, check)

    def load(self, batches: FencedBatches, lane: Lane | None = None) -> None:
        """Send everything; `lane`: under a transform to a cluster, what is that part's. Raises ControlError,
        the snapshot marked, if the file is not what was recorded."""
        if not self._chunk.bytes:
            return  # a range of a source in which there was nothing
        version, _, _ = read_tables(self._path.parent)
        if self._port.task.spec.transform.active:
            self._transform(batches, version, lane)
            return
        if self._chunk.huge:
            self._lose(*load_huge(self._port, batches, version))
            return
        try:
            if batches.reads.takes_all(version):
                self._send(batches, version)
            else:
                self._convert(batches, version)
        except Malformed as e:
            self.keys = count_keys(self._path)  # the source's fault, unless the records are other ones
            self._compare(e)
            raise
        self._compare()

    def _send(self, batches: FencedBatches, version: int) -> None:
        encoder = RestoreEncoder(batches.reads.footer(version), HOLD, FIELD_HOLD, LARGEST)
        with contents(self._path) as data:
            position, keys = 0, 1
            while keys and position < len(data):
                body, keys, position = encoder.encode(data, position, *batches.pace.most(BATCH_KEYS, BATCH_BYTES))
                if keys:
                    batches.send(body, keys)
                elif size := whole(data, position):
                    self._lose(*load_large(self._port, batches, data[position : position + size], version))
                    keys, position = 1, position + size
                self.keys += keys
            self._at_end(data, position)

    def _at_end(self, data: memoryview, position: int) -> None:
        if position < len(data):
            raise damaged(self._path, f"ends in the middle of a key, behind byte {position}")

    def _convert(self, batches: FencedBatches, version: int) -> None:
        """Send everything in forms that the target reads."""
        reads = batches.reads
        encoder = RestoreEncoder(reads.footer(version), HOLD)
        transcriber = Transcriber(reads.table(version), version, reads.timed, reads.stream, FIELD_HOLD)
        with contents(self._path) as data:
            position, keys = 0, 1
            while keys and position < len(data):
                records, keys, position = transcriber.take(data, position, BATCH_KEYS, BATCH_BYTES, LARGEST)
                sent = 0
                while sent < len(records):
                    body, some, sent = encoder.encode(records, sent, *batches.pace.most(BATCH_KEYS, BATCH_BYTES))
                    batches.send(body, some)
                if not keys and (size := whole(data, position)):
                    self._lose(*load_large(self._port, batches, data[position : position + size], version))
                    keys, position = 1, position + size
                self.keys += keys
            self._at_end(data, position)
        self._lose(transcriber.lost, transcriber.first)

    def _transform(self, batches: FencedBatches, version: int, lane: Lane | None) -> None:
        """Send everything through the task's transform."""
        from workers.load_transformed import Loading, transformer_for

        marks = marks_key(self._port.task.uid, self._port.node_number, self._chunk.gen)
        made, counters = transformer_for(
            self._port, batches.link, marks, batches.home, lane, lambda count, _, key: self._lose(count, key)
        )
        loading = Loading(self._port, batches, made, version, counters)
        for _ in loading.run():
            self.keys = loading.keys
        self.keys = loading.keys
        self._compare()

    def _lose(self, lost: int, key: bytes) -> None:
        self._lost += lost
        self._first = self._first or (key if lost else b"")

    @property
    def left_out(self) -> str:
        """What the target has no place for, for people; empty: nothing."""
        first = self._first[:64].decode(errors="backslashreplace")
        return f"{self._lost} {LEFT_OUT}, first those of key {first}" if self._lost else ""

    def _compare(self, cause: Exception | None = None) -> None:
        if self.keys != self._chunk.keys:
            raise damaged(self._path, f"holds {self.keys} keys, not {self._chunk.keys}") from cause
