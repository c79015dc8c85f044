"""Chunk files: bounded pieces of a snapshot, each with keys of one database and one keyspace shard.

A file is a run of records `<qII` (expiry in ms or -1, key length, value length), key, value; see docs/architecture.md.
Its name tells its checksum (`sums`), and whether all of that is sealed (`sealing`).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from zlib_ng.zlib_ng import crc32

from workers.codec import RestoreEncoder
from workers.codec.digest_cy import key_hash, of_part, record_hashes
from workers.codec.volatile_cy import volatile
from workers.spool.files import disk_error, make_durable, write_all
from workers.spool.sealing import MARK, Seal, is_sealed, opened, piece, writing
from workers.spool.sums import sealed

RECORD = Struct("<qII")
TO_THE_END = 0xFFFFFFFF
"""Value length of the one record of a huge chunk: the value reaches to the end of the file."""

FIRST_BYTES = 1 << 20
FULL_BYTES = 16 << 20


@dataclass(slots=True)
class Closed:
    """A complete chunk file."""

    seq: int
    db: int
    shard: int
    huge: bool
    path: str
    keys: int
    size: int


@dataclass(slots=True)
class Written:
    """A chunk file that is written from its beginning."""

    fd: int
    seal: Seal | None
    size: int = 0
    crc: int = 0
    length: int = 0  # of the file: more than `size` if it is sealed
    pieces: int = 0

    def write(self, data: bytes | bytearray) -> None:
        """Append. Raises SpoolFull with nothing added."""
        put = data if self.seal is None else piece(self.seal, self.pieces, data)
        write_all(self.fd, [put], self.length)
        self.size += len(data)
        self.length += len(put)
        self.pieces += 1
        self.crc = crc32(put, self.crc)


@dataclass(slots=True)
class _Open:
    file: Written
    path: str
    seq: int
    limit: int
    keys: int = 0


@contextmanager
def contents(path: Path) -> Iterator[memoryview]:
    """The bytes of a chunk file that is not empty, and has no huge value: mapped, or opened in memory."""
    if is_sealed(path):
        with opened(path) as file, memoryview(file.read()) as data:
            yield data
        return
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
        memoryview(pages) as data,
    ):
        yield data


def volatile_keys(path: Path) -> list[bytes]:
    """Keys of a chunk file that have an expiry, of their own or of their fields. Raises Malformed, ControlError."""
    try:
        with opened(path) as file:
            head = file.read(RECORD.size)
            if len(head) < RECORD.size:
                return []
            _, key_size, value_size = RECORD.unpack(head)
            if value_size == TO_THE_END:
                return [file.read(key_size)]
            return list(volatile(head + file.read()))
    except OSError as e:
        raise disk_error(e) from e


def keys_of(path: Path) -> Iterator[bytes]:
    """Keys of a chunk file, of its whole records alone."""
    with opened(path) as file:
        head = file.read(RECORD.size)
        if len(head) < RECORD.size:
            return
        _, key_size, value_size = RECORD.unpack(head)
        if value_size == TO_THE_END:
            yield file.read(key_size)
            return
        with contents(path) as data:
            yield from (key for key, _ in RestoreEncoder(0).iter_keys(data))


def key_hashes(path: Path, seed: bytes, bits: int = 0, part: int = 0) -> bytes:
    """Hashes of the keys of a chunk file, those of one part (`workers.codec.digest_cy`).

    Raises Malformed, FileNotFoundError.
    """
    with opened(path) as file:
        head = file.read(RECORD.size)
        if len(head) < RECORD.size:
            return b""
        _, key_size, value_size = RECORD.unpack(head)
        if value_size == TO_THE_END:
            return of_part(key_hash(file.read(key_size), seed), bits, part)
        with contents(path) as data:
            return record_hashes(data, seed, bits, part)


def whole(data: memoryview, position: int) -> int:
    """Bytes of the record at `position`; 0: it is not all there, or a huge one."""
    if len(data) - position < RECORD.size:
        return 0
    _, key_size, value_size = RECORD.unpack_from(data, position)
    size = RECORD.size + key_size + value_size
    return 0 if value_size == TO_THE_END or not value_size or size > len(data) - position else int(size)


def count_keys(path: Path) -> int:
    """How many whole records a chunk file holds."""
    return sum(1 for _ in keys_of(path))


class ChunkWriter:
    """Distributes the records of one snapshot over chunk files.

    Args:
        directory: of this snapshot; made when missing, anything in it is removed.
        closed: called with each complete chunk.
    """

    def __init__(self, directory: Path, closed: Callable[[Closed], None]) -> None:
        self.directory = directory
        self._closed = closed
        self._open: dict[int, _Open] = {}
        self._seq = 0
        self._limit = FIRST_BYTES  # grows, so that loading begins early
        self.keys = 0
        self.bytes = 0
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        make_durable(directory)

    @property
    def writing(self) -> bool:
        """Whether a chunk is open."""
        return bool(self._open)

    def _create(self) -> _Open:
        seal = writing()
        path = str(self.directory / f"{self._seq:06d}{'' if seal is None else MARK[:-1]}.chunk")
        try:
            fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        except OSError as e:
            raise disk_error(e) from e
        chunk = _Open(Written(fd, seal), path, self._seq, self._limit)
        self._seq += 1
        self._limit = min(FULL_BYTES, self._limit + self._limit // 4)
        return chunk

    def add(self, db: int, shard: int, data: bytes, keys: int) -> None:
        """Append whole records of one shard. Raises SpoolFull with nothing added."""
        chunk = self._open.get(shard)
        if chunk is None:
            chunk = self._open[shard] = self._create()
        chunk.file.write(data)
        chunk.keys += keys
        if chunk.file.size >= chunk.limit:
            self._close(db, shard)

    def _close(self, db: int, shard: int, huge: bool = False) -> None:
        chunk = self._open.pop(shard)
        os.close(chunk.file.fd)
        path = sealed(chunk.path, chunk.file.crc)
        self.keys += chunk.keys
        self.bytes += chunk.file.size
        self._closed(Closed(chunk.seq, db, shard, huge, path, chunk.keys, chunk.file.size))

    def close_all(self, db: int) -> None:
        """Complete every open chunk; they all belong to `db`."""
        for shard in list(self._open):
            self._close(db, shard)

    def begin_huge(self, key: bytes, expire_ms: int, kind: int) -> None:
        """Open a chunk for one huge value, of which `part`s follow."""
        if -1 not in self._open:  # a former try may have found the disk full
            self._open[-1] = self._create()
        chunk = self._open[-1]
        head = RECORD.pack(expire_ms, len(key), TO_THE_END) + key + bytes([kind])
        chunk.file.write(head)
        chunk.keys = 1

    def part(self, data: bytes) -> None:
        self._open[-1].file.write(data)

    def end_huge(self, db: int, shard: int) -> None:
        self._open[shard], former = self._open.pop(-1), self._open.get(shard)
        self._close(db, shard, huge=True)
        if former is not None:
            self._open[shard] = former

    def abandon(self) -> None:
        """Close files of a snapshot that broke off; its chunks are void."""
        for chunk in self._open.values():
            os.close(chunk.file.fd)
        self._open.clear()
