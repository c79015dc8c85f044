"""A load worker reads one range of a source's keys into a chunk file, which it then loads as any other.

Nobody else needs what it has read until the row names the file: another attempt begins anew, with a file of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Malformed, Retry, SourceError
from sync_tasks.names import KEY_PREFIX
from workers.aside import Kept
from workers.beat import Beat
from workers.codec import crc64
from workers.pace import Pace
from workers.ports import ChunkPort
from workers.scope import Scope
from workers.snapshot import HUGE_BYTES
from workers.source.ask import GONE, Source
from workers.source.of_cluster import OfCluster
from workers.spool.chunks import RECORD, TO_THE_END, Written
from workers.spool.damage import outdated
from workers.spool.files import disk_error, make_durable
from workers.spool.ranges import SlotRange, parse
from workers.spool.sealing import MARK, writing
from workers.spool.sums import sealed
from workers.spool.tables import read_tables

SCANNED = 1000
BATCH = 100
"""Keys that are read in one transaction of the source."""
BESIDE = 7
"""Commands of such a transaction besides two for each key: MULTI, EXEC, and what tells when and where it was."""
STEP = 3
"""Commands of a step of the walk."""
FOOTER = 10
"""Bytes of a payload behind its value: version, and CRC-64."""


def read_range(port: ChunkPort, source: Endpoint, keep: Callable[[Path], str] = str) -> None:
    """Read what the port's chunk stands for; the chunk is that of the file then.

    Args:
        port: the claimed chunk, whose file is not there yet.
        source: the server.
        keep: brings a file to where it stays; how a row names it then.
    Raises ConnectionLost, SourceError, Malformed, SpoolFull, ControlError, Fenced.
    """
    pace, asked = Pace(), _asking(port.chunk.path, source)
    port.renew(0)
    pace.limits = port.asking

    def renew() -> None:
        port.renew(0)
        pace.limits = port.asking

    try:
        with Beat(renew, patient=True) as beat:
            _Reading(port, asked, pace, beat.check, keep).run()
    finally:
        asked.close()


def _asking(path: str, source: Endpoint) -> Source:
    """A connection to one server; of slots of a cluster, to whichever node has the key that is asked for."""
    one = parse(path)
    return OfCluster(replace(source, slots=((one.first, one.last),))) if isinstance(one, SlotRange) else Source(source)


class _Reading:
    def __init__(
        self, port: ChunkPort, source: Source, pace: Pace, check: Callable[[], None],
        keep: Callable[[Path], str] = str,
    ) -> None:
        self._port, self._source, self._pace, self._check, self._keep_file = port, source, pace, check, keep
        chunk, task = port.chunk, port.task
        self._range, self._db = parse(chunk.path), chunk.db
        lanes = () if task.spec.transform.active else task.lanes
        lane = next((one for one in lanes if one.number == chunk.shard), None)
        self._scope = Scope(task.databases, task.spec.filter, None, lane)
        self._directory = Path(chunk.path).parent
        self._seal = writing()
        self._end = f"{'' if self._seal is None else MARK[:-1]}.chunk"
        self._stem = f"{chunk.seq:06d}.{chunk.epoch}"
        self._version, _, _ = read_tables(self._directory)
        self._keys = self._huge = 0
        source.spool = self._directory

    def run(self) -> None:
        path = self._directory / f"{self._stem}{self._end}"
        file = Written(self._create(path), self._seal)
        try:
            for names in self._walk():
                for some in self._groups(names):
                    self._take(file, some)
        finally:
            os.close(file.fd)
        named = sealed(str(path), file.crc)
        make_durable(Path(named))
        self._port.was_read(self._keep_file(Path(named)), self._keys, file.size)

    def _create(self, path: Path) -> int:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        except OSError as e:
            raise disk_error(e) from e

    def _walk(self) -> Iterator[list[bytes]]:
        """Names of the range, in scope; some may come twice."""
        cursor = self._range.index
        while True:
            self._wait(STEP)
            run, _, cursor, names = self._source.walk(self._db, cursor, SCANNED)
            self._pace.took(self._source.beyond(STEP), 0)
            if run != self._range.run:
                raise self._outdated("the source was restarted")
            yield [
                name for name in dict.fromkeys(names)
                if self._scope.takes(self._db, name) and not name.startswith(KEY_PREFIX)
            ]  # fmt: skip
            if not self._range.follows(cursor):
                return

    def _outdated(self, what: str) -> SourceError:
        outdated(self._directory)
        return SourceError(
            f"{what} while it was read by SCAN", code="source-restarted", hint="it is read anew by itself",
            retry=Retry.OTHER,
        )  # fmt: skip

    def _groups(self, names: list[bytes]) -> Iterator[list[bytes]]:
        while names:
            most, _ = self._pace.most(2 * BATCH + BESIDE, 1)
            count = max(1, (most - BESIDE) // 2)
            yield names[:count]
            names = names[count:]

    def _wait(self, commands: int) -> None:
        self._check()
        self._pace.wait(self._check)
        self._pace.took(commands, 0)

    def _take(self, file: Written, names: Sequence[bytes]) -> None:
        self._wait(2 * len(names) + BESIDE)
        said = self._source.values([(self._db, name) for name in names])
        self._pace.took(self._source.beyond(2 * len(names) + BESIDE), 0)
        times = said.times if said.exact else self._exact(names, said.times)
        data, keys = bytearray(), 0
        for name, value, when in zip(names, said.values, times, strict=True):
            if when == GONE:
                continue
            if isinstance(value, Kept) and value.size > HUGE_BYTES:
                self._keep(name, value, when)
            elif value is not None:
                whole = value.whole() if isinstance(value, Kept) else value
                self._verify(name, crc64(whole[:-8]), whole[-FOOTER:])
                data += RECORD.pack(when, len(name), len(whole) - FOOTER) + name + whole[:-FOOTER]
                keys += 1
        file.write(data)
        self._keys += keys

    def _exact(self, names: Sequence[bytes], roughly: list[int]) -> list[int]:
        """Times to the millisecond, of a source that tells them only as so much from now."""
        found = dict(zip(names, roughly, strict=True))
        left = [name for name, when in found.items() if when >= 0]
        while left:
            self._wait(len(left) + BESIDE)
            times = self._source.times(self._db, left).times
            self._pace.took(self._source.beyond(len(left) + BESIDE), 0)
            found.update(zip(left, times, strict=False))  # it may have told those of the first ones alone
            left = left[len(times) :]
        return [found[name] for name in names]

    def _keep(self, name: bytes, value: Kept, when: int) -> None:
        """A value that is not held in memory: it becomes a chunk of its own."""
        self._huge += 1
        path = self._directory / f"{self._stem}-{self._huge}{self._end}"
        file, crc = Written(self._create(path), self._seal), 0
        try:
            file.write(RECORD.pack(when, len(name), TO_THE_END) + name)
            for block in value.read(0, value.size - FOOTER):
                crc = crc64(block, crc)
                file.write(block)
        finally:
            os.close(file.fd)
        footer = b"".join(value.read(value.size - FOOTER, FOOTER))
        self._verify(name, crc64(footer[:2], crc), footer)
        named = sealed(str(path), file.crc)
        make_durable(Path(named))
        self._port.add_huge(self._huge, self._keep_file(Path(named)), file.size)

    def _verify(self, name: bytes, crc: int, footer: bytes) -> None:
        """What ends a payload: its version, and its checksum."""
        if int.from_bytes(footer[2:], "little") not in (crc, 0):
            key = name[:64].decode(errors="backslashreplace")
            raise Malformed(f"the checksum of what DUMP gave of {key} is wrong")
        if int.from_bytes(footer[:2], "little") != self._version:
            raise self._outdated("the source writes values in another version than before")
