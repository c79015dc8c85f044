"""A RESTORE of the stream that is too long to be held: its payload stays in the log until it is sent.

What commands can rebuild is built piece by piece under a name of its own, by windows that leave the stream where it is,
ahead of the window that renames it into place; a string goes in one, poured (`workers.target.pours`). So no command of
ours keeps the target busy for long, an older one gets it as well, and nobody sees half a value. Whoever goes on after a
death begins it anew, under the same name. What no command rebuilds (values of modules, arrays) goes from the log to the
target as the one RESTORE it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

from sync_tasks.errors import CannotContinue, Side
from sync_tasks.names import built_key
from workers import outlying
from workers.aside import Kept
from workers.codec import crc64
from workers.codec.programs import TIMED_HASHES
from workers.codec.reads import Reads
from workers.compose import emit, select
from workers.huge import Built, can_build, grouped, unbuilt
from workers.outlying import Read
from workers.pace import Pace
from workers.rewrite import LEFT_OUT, Rewriter
from workers.spool.long import Long
from workers.target.link import TargetLink
from workers.target.windows import Chain, Run, Window
from workers.text import STRING, Text
from workers.times import when_of

PAYLOAD = 3
"""Which argument of RESTORE it is."""
FOOTER_BYTES = 10
"""Behind the value: the RDB version of whoever wrote it, two bytes, and a checksum."""
MOST = 64
"""Values that are built ahead of one window."""


class Payload:
    """What DUMP gave, in the log or another file.

    Args:
        offset: of the byte before it there.
        size: its bytes.
        read: so many bytes there behind an offset.
    """

    def __init__(self, offset: int, size: int, read: Read) -> None:
        self._offset, self.size, self._log = offset, size, read
        self.kind = b"".join(read(offset, 1))[0]
        footer = b"".join(read(offset + size - FOOTER_BYTES, 2))
        self.version = int.from_bytes(footer, "little")
        self.rewind()

    def rewind(self) -> None:
        """The value is read from its beginning."""
        self._blocks = self._log(self._offset + 1, self.size - 1 - FOOTER_BYTES)
        self._block = memoryview(b"")

    def read(self, size: int) -> bytes:
        """1 to `size` bytes of the value, b"" at its end. Raises as `workers.spool.long.stretch`."""
        if not self._block:
            self._block = memoryview(next(self._blocks, b""))
        part, self._block = self._block[:size], self._block[size:]
        return bytes(part)

    def stating(self, version: int) -> Iterator[bytes]:
        """All of it, with another version."""
        crc = 0
        for block in self._log(self._offset, self.size - FOOTER_BYTES):
            crc = crc64(block, crc)
            yield block
        footer = version.to_bytes(2, "little")
        yield footer + crc64(footer, crc).to_bytes(8, "little")


def restore(window: Window, long: Long, db: int, end: int, read: Read, rewriter: Rewriter, pace: Pace) -> None:
    """Put what becomes of such a RESTORE into a window.

    Args:
        db: the source's database, which is in scope.
        end: stream offset behind it.
        read: the log.
        pace: says how much may be written at once.

    Raises:
        UnsupportedType: the target reads no such value, and no commands build it.
        ValueError: its arguments make no sense.
    """
    if list(long.long) != [PAYLOAD] or long.long[PAYLOAD][1] <= FOOTER_BYTES:
        raise ValueError("a RESTORE whose payload is not what is long")
    payload, argv = Payload(*long.long[PAYLOAD], read), long.argv
    when, exact = when_of(argv, rewriter.clock)
    _check(payload, argv[1], rewriter.reads)
    window.changes += 1
    if can_build(payload.kind, payload.version, rewriter.reads):
        _build(window, payload, argv, when, exact, db, long.offset, end, rewriter, pace)
    else:
        _pour(window, payload, argv, rewriter, lambda argv: rewriter.write("timed", argv, db, long.offset, end, window))
        window.changes -= 1


def put(
    window: Window, db: int, key: bytes, value: Kept, when: int, exact: bool, at: int, rewriter: Rewriter, pace: Pace
) -> None:
    """As `Rewriter.put`, a value that is in a file. Raises UnsupportedType."""
    payload, argv = Payload(0, value.size, value.read), [b"RESTORE", key, b"0", b""]
    _check(payload, key, rewriter.reads)
    target = rewriter.scope.target(db)
    assert target is not None
    select(window, target, at)
    if can_build(payload.kind, payload.version, rewriter.reads) and len(window.ahead) < MOST:
        _build(window, payload, argv, when, exact, db, at, at, rewriter, pace)
    else:
        _pour(window, payload, argv, rewriter, lambda argv: rewriter.put(db, key, argv[3], when, exact, at, window))


def _check(payload: Payload, key: bytes, reads: Reads) -> None:
    if not can_build(payload.kind, payload.version, reads) and not reads.takes(payload.kind, payload.version):
        raise unbuilt(key, payload.kind)


def _build(
    window: Window, payload: Payload, argv: list[bytes], when: int, exact: bool, db: int, before: int, end: int,
    rewriter: Rewriter, pace: Pace,
) -> None:  # fmt: skip
    if len(window.ahead) == MOST:
        raise CannotContinue(
            f"a transaction of the source, at offset {before}, has over {MOST} RESTORE of large values",
            side=Side.SOURCE,
            hint="write it in smaller transactions, then start over with an empty target",
        )
    target, key = rewriter.scope.target(db), argv[1]
    assert target is not None
    temporary = rewriter.temporary(len(window.ahead), key)
    first = len(window.runs)
    rewriter.renamed(db, key, temporary, when, exact, payload.kind in TIMED_HASHES, before, end, window)
    for run in window.runs[first:]:
        run.long = argv
    window.ahead.append((target, _Value(payload, temporary, key, end, pace, rewriter)))


class _Value:
    """One value that is built ahead of a window (`workers.target.windows.Parts`).

    Args:
        end: stream offset behind what brought it.
    """

    def __init__(
        self, payload: Payload, temporary: bytes, key: bytes, end: int, pace: Pace, rewriter: Rewriter
    ) -> None:
        self._payload, self._temporary, self._key, self._end = payload, temporary, key, end
        self._pace, self._rewriter = pace, rewriter
        self._parts: Iterator[tuple[bytes, int]] | None = None  # None: not begun

    def put(self, own: Window, link: TargetLink) -> bool:
        """The next part of it. Raises Malformed."""
        if self._parts is None:
            if self._payload.kind == STRING and self._poured(own, link):
                self._parts = iter(())
                return True
            self._payload.rewind()
            self._parts = self._pieces()
        body, commands = next(self._parts, (b"", 0))
        own.runs.append(Run(own.commands, len(own.body), own.start, False, db=own.selected))
        own.body += body
        own.commands += commands
        return bool(commands)

    def _poured(self, own: Window, link: TargetLink) -> bool:
        """Put it in as one SET, if that may be: who writes at a limited pace does it in pieces."""
        text, pours = Text(self._payload.read, self._payload.rewind), self._rewriter.pours
        if self._pace.limits.bytes_per_s or not pours.may_beside(link, text.size, (self._end, self._key)):
            return False
        emit(own, [b"UNLINK", self._temporary], own.start)
        instead = {2: outlying.Stand(secrets.token_bytes(16), text.size, text.blocks)}
        outlying.rewrite(own, [b"SET", self._temporary, b""], instead, lambda argv: emit(own, argv, own.start))
        return True

    def _pieces(self) -> Iterator[tuple[bytes, int]]:
        payload, rewriter = self._payload, self._rewriter
        built = Built(payload.read, payload.rewind, payload.kind, payload.version, rewriter.reads)
        yield from grouped(built, self._temporary, self._pace)
        if built.lost:
            rewriter.left_out(built.lost, LEFT_OUT, self._key)


def part(window: Window, chain: Chain) -> Window | None:
    """The next part of what is built ahead of a window, as one of our own; None: all is there."""
    while window.ahead:
        db, parts = window.ahead[0]
        own = chain.own_window()
        select(own, db, own.start)
        if parts.put(own, chain.link):
            return own
        window.ahead.pop(0)
    return None


def _pour(
    window: Window, payload: Payload, argv: list[bytes], rewriter: Rewriter, write: Callable[[list[bytes]], None]
) -> None:
    """As one RESTORE that states a version which the target takes, put into the window by `write`."""
    version = rewriter.reads.footer(payload.version)
    # What stands for it looks like such a payload.
    token = bytes([payload.kind]) + secrets.token_bytes(16) + version.to_bytes(2, "little") + bytes(8)
    instead = {PAYLOAD: outlying.Stand(token, payload.size, lambda: payload.stating(version))}
    outlying.rewrite(window, argv, instead, write)


def built_keys(uid: str, node: int) -> list[bytes]:
    """All names under which values of a stream are built."""
    return [built_key(uid, node, number) for number in range(MOST)]
