"""Huge values: built in pieces under a key of their own, then put in place in one transaction; strings are poured.

Memory is bounded by a piece, and for a stream by what is pending in it. Types that cannot be rebuilt by commands travel
as one RESTORE, streamed from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sync_tasks.errors import TargetError, UnsupportedType
from sync_tasks.lanes import tag_of
from sync_tasks.names import tmp_key
from workers.codec import STREAM_TYPES, can_piece, crc64, pieces, stream_pieces
from workers.codec.convert_cy import ACTIVE as LAST_SHARED
from workers.codec.convert_cy import LATEST, REDIS_TIMED
from workers.codec.resp_cy import encode
from workers.expiry import FIELD_HOLD, hold
from workers.ports import ChunkPort
from workers.spool.chunks import RECORD, TO_THE_END
from workers.spool.damage import damaged
from workers.spool.sealing import opened, size_of
from workers.target.pours import Pours
from workers.text import STRING, Text

if TYPE_CHECKING:
    from sync_tasks.views import ChunkView
    from workers.codec.reads import Reads
    from workers.full import FencedBatches
    from workers.pace import Pace
    from workers.scope import Scope
    from workers.target.link import TargetLink

LARGEST_BULK = 512 << 20
"""Redis's default proto-max-bulk-len: one argument may not be longer."""
BLOCK = 1 << 20
LARGE_STREAM = 4 << 20
"""Bytes of a stream that a RESTORE may have: 10 ms a MB by measure, others take up to 50."""
NAMES = 1000
"""So many keys are removed by one command."""
BATCH_BYTES, BATCH_COMMANDS = 256 << 10, 200
"""Of small pieces so many go at once."""


def load_huge(port: ChunkPort, batches: FencedBatches, version: int) -> tuple[int, bytes]:
    """Load the one value of a huge chunk, whose file is as long as recorded.

    Returns how many expiries of fields the target has no place for, and its key. Raises as load_chunk.
    """
    path = Path(port.chunk.path)
    with opened(path) as file:
        expire_ms, key_size, value_size = RECORD.unpack(file.read(RECORD.size))
        if value_size != TO_THE_END:
            raise damaged(path, "does not begin as a long value does")
        key = file.read(key_size)
        size = size_of(path) - RECORD.size - key_size - 1
        return _load(port, batches, file, key, file.read(1)[0], size, version, expire_ms), key


def load_large(port: ChunkPort, batches: FencedBatches, record: memoryview, version: int) -> tuple[int, bytes]:
    """As `load_huge`, the value of a whole record: what one RESTORE of it would cost the target is too much at once."""
    expire_ms, key_size, size = RECORD.unpack_from(record)
    value = RECORD.size + key_size
    key, kind, file = bytes(record[RECORD.size : value]), record[value], BytesIO(record[value + 1 :])
    if kind in STREAM_TYPES and size <= LARGE_STREAM and batches.reads.takes(kind, version):
        footer, written = batches.reads.footer(version), hold(expire_ms) if expire_ms >= 0 else 0
        _whole(batches, file, key, kind, size - 1, footer, written)
        return 0, key
    return _load(port, batches, file, key, kind, size - 1, version, expire_ms), key


def _load(
    port: ChunkPort, batches: FencedBatches, file: BinaryIO, key: bytes, kind: int, size: int, version: int,
    expire_ms: int,
) -> int:  # fmt: skip
    written = hold(expire_ms) if expire_ms >= 0 else 0
    if can_build(kind, version, batches.reads):
        return build(port, batches, file, key, kind, version, written)
    if not batches.reads.takes(kind, version):
        raise unbuilt(key, kind)
    _whole(batches, file, key, kind, size, batches.reads.footer(version), written)
    return 0


def can_build(kind: int, version: int, reads: Reads) -> bool:
    """Whether commands can rebuild a value of this type, written by RDB version `version`, on a target.

    What Redis alone has in its streams they cannot give: to one that reads it, such a stream goes whole.
    """
    return can_piece(kind) or (kind in STREAM_TYPES and (kind <= LAST_SHARED or not reads.takes(kind, version)))


def unbuilt(key: bytes, kind: int) -> UnsupportedType:
    """A value that this target cannot have."""
    what = f"key {key[:64]!r} is of type {kind}, which the source's line of servers alone has"
    return UnsupportedType(what, hint="name a target of the source's line and version, or delete it on the source")


def build(
    port: ChunkPort, batches: FencedBatches, file: BinaryIO, key: bytes, kind: int, version: int, written: int
) -> int:
    """Rebuild the value that `file` goes on with, to its end, by commands. `can_build` is true.

    A string is poured, if that may be, under its own name. Two attempts never share a temporary name, and nobody sees
    half a key.

    Args:
        version: RDB version of the source.
        written: the key's expiry with its hold, 0: none.

    Returns how many expiries of fields the target has no place for.
    """
    tag = tag_of(key) if batches.link.scripted else ""
    start, temporary = file.tell(), tmp_key(port.task.uid, port.chunk.id, port.chunk.epoch, tag)
    end = encode([b"PEXPIREAT", key, b"%d" % written]) if written else b""
    if kind == STRING:
        text = Text(file.read, lambda: file.seek(start))
        batches.finish()
        if Pours(port.chunk.epoch - 1).may(batches.link, text.size):
            _pour(batches, text, key, end)
            return 0
        file.seek(start)
    built = Built(file.read, lambda: file.seek(start), kind, version, batches.reads)
    for body, commands in grouped(built, temporary, batches.pace):
        batches.send(body, commands)
    batches.finish()
    # RENAME alone would free an old value at once.
    batches.send(encode([b"UNLINK", key]) + encode([b"RENAME", temporary, key]) + end, 3 if end else 2)
    return built.lost


def _pour(batches: FencedBatches, text: Text, key: bytes, end: bytes) -> None:
    """A string as one SET, in one transaction; `end`: one command behind it, or none."""
    first = encode([b"UNLINK", key])
    head = b"%b*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (first, len(key), key, text.size)
    sketch = first + encode([b"SET", key]) + end
    batches.send_long(head, text.blocks(batches.pace.most(1, BLOCK)[1]), b"\r\n" + end, sketch, 3 if end else 2)


class Built:
    """Commands that rebuild a value on one target, as (name and subcommand, arguments after the key), once.

    Args:
        read, rewind: as for `workers.codec.stream_cy.stream_pieces`.
        kind: `can_build` is true.
        version: RDB version of whoever wrote it.
        reads: which forms of values the target takes.

    lost: how many expiries of fields and the like the target has no place for, once the commands are taken.
    """

    def __init__(
        self, read: Callable[[int], bytes], rewind: Callable[[], object], kind: int, version: int, reads: Reads
    ) -> None:
        self.lost = 0
        self._reads = reads
        if kind in STREAM_TYPES:
            self._found = stream_pieces(read, rewind, kind, reads.counters, self._lose)
        else:
            self._found = pieces(read, kind, BLOCK, 512, FIELD_HOLD, version)

    def _lose(self, count: int) -> None:
        self.lost += count

    def __iter__(self) -> Iterator[tuple[bytes, list[bytes]]]:
        for command, arguments in self._found:
            if command == b"HPEXPIREAT" and not self._reads.timed:
                self.lost += int(arguments[2])
            elif command == b"HPEXPIREAT" and self._reads.timed == REDIS_TIMED:
                yield command, [b"%d" % min(int(arguments[0]), LATEST), *arguments[1:]]
            else:
                yield command, arguments


def grouped(built: Built, temporary: bytes, pace: Pace) -> Iterator[tuple[bytes, int]]:
    """The commands that build a value under a temporary name, as many at once as may go: bytes, and how many."""
    body, commands = bytearray(encode([b"UNLINK", temporary])), 1
    for command, arguments in built:
        body += encode([*command.split(), temporary, *arguments])
        commands += 1
        most_commands, most_bytes = pace.most(BATCH_COMMANDS, BATCH_BYTES)
        if len(body) >= most_bytes or commands >= most_commands:
            yield bytes(body), commands
            body, commands = bytearray(), 0
    if commands:
        yield bytes(body), commands


def remove_pieces(link: TargetLink, uid: str, scope: Scope, chunks: list[ChunkView]) -> int:
    """Remove values that were being built when their loader died; how many. The link's database is another one then."""
    if link.scripted:
        return _remove_scattered(link, uid, chunks)
    names: dict[int, list[bytes]] = {}
    for chunk in chunks:
        db = scope.target(chunk.db)
        if db is not None:
            names.setdefault(db, []).extend(tmp_key(uid, chunk.id, epoch) for epoch in range(1, chunk.epoch + 1))
    removed = 0
    for db, mine in names.items():
        link.ask(b"SELECT", db)
        for start in range(0, len(mine), NAMES):
            removed += int(link.ask(b"UNLINK", *mine[start : start + NAMES]))
    return removed


def _remove_scattered(link: TargetLink, uid: str, chunks: list[ChunkView]) -> int:
    """The same on a node of a cluster, where names tell a slot, and so the key: there is something if a chunk was tried
    more than once."""
    again = [b":%s:%d:" % (uid.encode(), chunk.id) for chunk in chunks if chunk.epoch > 1]
    cursor, removed = b"0", 0
    while again:
        cursor, found = link.ask(b"SCAN", cursor, b"MATCH", b"keyferry:tmp:*", b"COUNT", NAMES)
        for name in found:
            removed += int(link.ask(b"UNLINK", name)) if any(one in name for one in again) else 0
        if cursor == b"0":
            break
    return removed


def _whole(
    batches: FencedBatches, file: BinaryIO, key: bytes, kind: int, size: int, version: int, written: int
) -> None:
    total = 1 + size + 10
    if total > LARGEST_BULK:
        raise TargetError(
            f"{key[:80]!r} is a value of {total >> 20} MB of a type that cannot be sent in pieces yet",
            code="value-too-large",
            hint="delete or split it on the source, then start over",
        )
    start = file.tell()
    footer = version.to_bytes(2, "little")
    crc = crc64(bytes([kind]))
    while block := file.read(BLOCK):
        crc = crc64(block, crc)
    crc = crc64(footer, crc)
    file.seek(start)
    head = b"*6\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in (b"RESTORE", key, b"%d" % written))
    batches.send_long(head + b"$%d\r\n" % total + bytes([kind]), iter(lambda: file.read(BLOCK), b""),
                      footer + crc.to_bytes(8, "little") + b"\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n",
                      encode([b"RESTORE", key]))  # fmt: skip


