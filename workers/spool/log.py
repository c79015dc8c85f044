"""The log: a replication stream as received, in segment files of checked blocks.

A segment is named `<first offset>-<replication id>-<owner>.seg`. A block is a header (magic, length, offset, moment of
receipt, flags, CRC-32 of all that and the bytes), then the bytes. Offsets count stream bytes as the source does: a
block at offset O holds the bytes O+1 .. O+length.

Nothing waits for the disk: what a power cut takes away is fetched again. A torn tail is cut off when the log is opened;
a reader that misses what it needs, or finds it damaged, says so by `want`, and the log begins anew there.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from zlib_ng.zlib_ng import crc32

from sync_tasks.errors import ControlError, Retry
from workers.spool.files import disk_error, write_all
from workers.spool.sealing import OVERHEAD, reading, writing

HEADER = Struct("<4sIqqII")
CRC = Struct("<I")
MAGIC = b"KFB2"
FORMER = b"KFB1"
"""Of an older version, whose checksum is of the bytes alone."""
SEALED = b"KFE2"
"""As MAGIC, but the bytes are sealed (`workers.spool.sealing`), and so longer by some than the length says."""
MAGICS = (MAGIC, SEALED, FORMER)
SEGMENT_BYTES = 64 << 20
MAX_BLOCK = 16 << 20

BACKLOG = 1
"""Flag of a block that came out of the source's backlog: its moment of receipt says nothing of when it was written."""

_NAME = re.compile(r"^(\d{20})-([0-9a-f]{40})(?:-(\d+))?\.seg$")


@dataclass(slots=True)
class Segment:
    """One file; `end` is the offset of its last byte."""

    path: Path
    replid: str
    start: int
    end: int
    size: int  # file bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes of the stream received together."""

    offset: int  # of the byte before the first one
    received_ms: int
    flags: int
    replid: str
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


def _sum(head: bytes, data: bytes | memoryview) -> int:
    """Of a header and the bytes behind it."""
    return int(crc32(data) if head.startswith(FORMER) else crc32(data, crc32(head[: -CRC.size])))


def _is_intact(head: bytes, data: bytes) -> bool:
    (crc,) = CRC.unpack_from(head, HEADER.size - CRC.size)
    return bool(crc == _sum(head, data))


def _more(magic: bytes) -> int:
    """Bytes that a block of that kind takes besides its header and what it holds."""
    return OVERHEAD if magic == SEALED else 0


def _blocks(path: Path, start: int) -> Iterator[tuple[int, int]]:
    """File position and stream offset behind each whole, correct block of a file from its beginning."""
    position, offset = 0, start
    with path.open("rb") as file:
        while len(head := file.read(HEADER.size)) == HEADER.size:
            magic, length, at, *_ = HEADER.unpack(head)
            if magic not in MAGICS or at != offset or length > MAX_BLOCK:
                return
            data = file.read(length + _more(magic))
            if len(data) != length + _more(magic) or not _is_intact(head, data):
                return
            position += HEADER.size + len(data)
            offset += length
            yield position, offset


class Log:
    """Segments of one source node on disk. One thread appends, others read behind it.

    Args:
        directory: where the segments live; made when missing.
        owner: a number higher than any former owner's: the lease's epoch. No owner ever writes into another's file,
            so one that was stopped and wakes up spoils nothing. None: one more than the highest found.
    """

    def __init__(self, directory: Path, owner: int | None = None) -> None:
        self.directory = directory
        self._owner = owner
        directory.mkdir(parents=True, exist_ok=True)
        self.grown = threading.Condition()
        self._woken = 0
        self.segments: list[Segment] = []  # once recovered, replaced whole under the lock of `grown`: others read it
        self.damaged = False  # a block between here and the end cannot be read
        self.wanted: tuple[str, int, int] | None = None  # replication id, offset, and the stream's database there
        self.anew = False  # a reader needs another snapshot: no log goes on from where the target is
        self._fd = -1
        self._recover()

    def _recover(self) -> None:
        """Read the segments there are; keep the newest unbroken run, cut a torn tail."""
        matches = [(m, p) for p in self.directory.iterdir() if (m := _NAME.match(p.name))]
        found = sorted((int(m[3] or 0), int(m[1]), m[2], p) for m, p in matches)
        if self._owner is None:
            self._owner = 1 + max((f[0] for f in found), default=0)
        for owner, start, replid, path in found:
            # What a former owner, stopped and woken, wrote behind the point where this one took over does not count.
            while self.segments and self.segments[-1].start > start:
                self.segments.pop().path.unlink(missing_ok=True)
            if self.segments and self.segments[-1].end > start:
                last_one = self.segments[-1]
                self.segments[-1] = self._measure(last_one.path, last_one.replid, last_one.start, start)
            if self.segments and self.segments[-1].end != start:
                self._discard(self.segments)
                self.segments = []
            last = (owner, start, replid, path) == found[-1]
            self.segments.append(self._check(path, replid, start) if last else self._measure(path, replid, start))

    def _check(self, path: Path, replid: str, start: int) -> Segment:
        size, end = 0, start
        for size, end in _blocks(path, start):  # noqa: B007
            pass
        if path.stat().st_size != size:
            os.truncate(path, size)
        return Segment(path, replid, start, end, size)

    @staticmethod
    def _measure(path: Path, replid: str, start: int, stop: int = 1 << 62, *, within: bool = False) -> Segment:
        """A closed segment: only the headers are read here, the bytes are checked when they are applied.

        Args:
            stop: an offset; the segment ends with the first block that reaches it.
            within: or with the last one that does not pass it.
        """
        position, end, size = 0, start, path.stat().st_size
        with path.open("rb") as file:
            while position < size and end < stop:
                file.seek(position)
                head = file.read(HEADER.size)
                if len(head) < HEADER.size:
                    break
                magic, length, at, *_ = HEADER.unpack(head)
                length_here = HEADER.size + length + _more(magic)
                if magic not in MAGICS or at != end or position + length_here > size:
                    break
                if within and end + length > stop:
                    break
                position += length_here
                end += length
        return Segment(path, replid, start, end, position)

    @staticmethod
    def _discard(segments: list[Segment]) -> None:
        for segment in segments:
            segment.path.unlink(missing_ok=True)

    @property
    def start(self) -> int | None:
        segments = self.segments
        return segments[0].start if segments else None

    @property
    def end(self) -> int | None:
        """Offset of the last byte on disk."""
        segments = self.segments
        return segments[-1].end if segments else None

    @property
    def replid(self) -> str | None:
        segments = self.segments
        return segments[-1].replid if segments else None

    def covers(self, replid: str, offset: int) -> bool:
        """Whether reading can go on behind (replid, offset)."""
        return self.has(replid, offset) or (offset == self.start and not self.damaged)

    def has(self, replid: str, offset: int) -> bool:
        """Whether a place of the stream is in the log, or at one of its ends, under that very id."""
        if self.damaged:
            return False
        return any(s.replid == replid and s.start <= offset <= s.end for s in self.segments)

    def replid_at(self, offset: int) -> str | None:
        """The id under which reading goes on behind `offset`; None: it is not in the log."""
        return next((s.replid for s in reversed(self.segments) if s.start <= offset <= s.end), None)

    def want(self, replid: str, offset: int, db: int) -> None:
        """A reader needs what follows (replid, offset), and waiting will not bring it: who appends begins anew there.

        Nothing happens if it is only the end that is missing still.

        Args:
            db: the stream's database there.
        """
        end = self.end
        if end is not None and end >= offset and not self.covers(replid, offset):
            self.wanted = (replid, offset, db)

    def reset(self, replid: str, offset: int) -> None:
        """Forget everything; the next byte appended is offset + 1."""
        self.close()
        with self.grown:
            old, self.segments = self.segments, []
        self._discard(old)
        self.damaged, self.wanted = False, None
        self._open_segment(replid, offset)

    def cut(self, offset: int) -> None:
        """Drop what is behind an offset within the log: the next byte appended is offset + 1.

        Raises ControlError if the block that reaches over it cannot be read, and SpoolFull.
        """
        kept = [s for s in self.segments if s.start < offset]
        last = kept[-1]
        short = self._measure(last.path, last.replid, last.start, offset, within=True)
        rest = Cursor(self, short.end, ours=False).read() if short.end < offset else None
        self.close()
        with self.grown:
            gone, self.segments = [s for s in self.segments if s not in kept], [*kept[:-1], short]
        self._discard(gone)
        self._open_segment(last.replid, short.end)
        if rest is not None:
            self.append(rest.data[: offset - short.end], rest.received_ms, rest.flags)

    def rename(self, replid: str) -> None:
        """The source goes on under another replication id at the same offset."""
        if self.segments and self.segments[-1].replid != replid:
            self._open_segment(replid, self.segments[-1].end)

    def _open_segment(self, replid: str, offset: int) -> None:
        self.close()
        path = self.directory / f"{offset:020d}-{replid}-{self._owner}.seg"
        # An empty segment under the former id: nothing was received under it. A former owner's file stays: it was empty
        # when we looked, and may have grown since, should we have been asleep.
        empty = [s for s in self.segments[-1:] if s.start == offset]
        self._discard([s for s in empty if s.path.stem.endswith(f"-{self._owner}")])
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        except OSError as e:
            raise disk_error(e) from e
        with self.grown:
            self.segments = [*(s for s in self.segments if s not in empty), Segment(path, replid, offset, offset, 0)]

    def append(self, data: bytes | memoryview, received_ms: int, flags: int = 0) -> None:
        """Write one block (at most MAX_BLOCK bytes). Raises SpoolFull with nothing written."""
        if not self.segments:
            raise ControlError("the log was not begun")
        if self._fd < 0 or self.segments[-1].size >= SEGMENT_BYTES:  # never into a file of a former owner's
            self._open_segment(self.segments[-1].replid, self.segments[-1].end)
        segment = self.segments[-1]
        seal, length = writing(), len(data)
        head = HEADER.pack(MAGIC if seal is None else SEALED, length, segment.end, received_ms, flags, 0)
        if seal is not None:
            data = seal.seal(data, head[: -CRC.size])
        head = head[: -CRC.size] + CRC.pack(_sum(head, data))
        write_all(self._fd, [head, data], segment.size)
        segment.size += HEADER.size + len(data)
        with self.grown:
            segment.end += length
            self.grown.notify_all()

    def wait(self, offset: int, timeout_s: float) -> bool:
        """Sleep until there is a byte behind `offset`, or the time is over."""
        with self.grown:
            begun = self._woken
            self.grown.wait_for(lambda: (self.end or 0) > offset or self._woken != begun, timeout_s)
            return (self.end or 0) > offset

    def wake(self) -> None:
        """Whoever waits is to look around."""
        with self.grown:
            self._woken += 1
            self.grown.notify_all()

    def prune(self, offset: int, keep: int = 2) -> None:
        """Remove segments that end at or before `offset`, but the last `keep` of them."""
        with self.grown:
            old = [s for s in self.segments[:-1] if s.end <= offset]
            gone = old[: max(0, len(old) - keep)]
            self.segments = [s for s in self.segments if s not in gone]
        self._discard(gone)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Cursor:
    """Reads the log from an offset on, behind the one who writes it.

    Args:
        ours: what it finds damaged is needed: the log does not count as covering it any more.
    """

    def __init__(self, log: Log, offset: int, ours: bool = True) -> None:
        self.log = log
        self.offset = offset
        self._ours = ours
        self._segment: Segment | None = None
        self._fd = -1
        self._position = 0

    def _enter(self) -> bool:
        for segment in list(self.log.segments):
            if segment.start <= self.offset < segment.end:
                self.close()
                self._segment, self._position = segment, 0
                try:
                    self._fd = os.open(segment.path, os.O_RDONLY)
                except FileNotFoundError as e:
                    raise self._damaged() from e
                return True
        return False

    def read(self) -> Block | None:
        """The next block, cut to begin behind the present offset; None: nothing there yet."""
        if self._segment is None or self.offset >= self._segment.end:
            if self._segment is not None and self._segment in self.log.segments[-1:]:
                return None
            if self.offset >= (self.log.end or 0) or not self._enter():
                return None
        assert self._segment is not None
        while True:
            head = os.pread(self._fd, HEADER.size, self._position)
            if len(head) < HEADER.size:
                raise self._damaged()
            magic, length, at, moment, flags, _ = HEADER.unpack(head)
            if magic not in MAGICS or length > MAX_BLOCK:
                raise self._damaged()
            if at + length > self.offset:
                break
            self._position += HEADER.size + length + _more(magic)
        data = os.pread(self._fd, length + _more(magic), self._position + HEADER.size)
        if len(data) != length + _more(magic) or not _is_intact(head, data) or at > self.offset:
            raise self._damaged()
        self._position += HEADER.size + len(data)
        if magic == SEALED:
            try:
                data = reading().open(data, head[: -CRC.size])
            except ValueError as e:
                raise self._damaged() from e
        if at < self.offset:
            data = data[self.offset - at :]
            at = self.offset
        self.offset = at + len(data)
        return Block(at, moment, flags, self._segment.replid, data)

    def _damaged(self) -> ControlError:
        self.log.damaged = self.log.damaged or self._ours
        return ControlError(
            f"a block of the log is damaged or missing behind offset {self.offset}",
            code="log-damaged",
            hint="the stream is fetched from the source again; the disk of the state directory may be failing",
            retry=Retry.OTHER,
        )

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._segment = None
