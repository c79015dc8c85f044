"""Commands of a stream that are longer than we hold in memory: they stay in the log, and are sent from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sync_tasks.errors import Malformed
from workers.codec.resp_cy import MAX_ARGS, MAX_BULK, skim
from workers.mentions import FIELD_TIMES
from workers.single import SINGLE
from workers.spool.log import Cursor, Log

HELD_BYTES = 8 << 20
"""Of a command that is not all there yet; with more it may stay in the log."""
ARGUMENT_BYTES = 64 << 10
MOST_ARGUMENTS = 64
HEADER_BYTES = 16
FIRST = SINGLE - FIELD_TIMES
"""Their first arguments say what they do to which key."""
SCRIPTS = frozenset((b"EVAL", b"EVALSHA"))
KEYS_BEGIN = 3
"""Behind name, script and number of keys: the keys that a script is given."""


class Long:
    """One such command, taken in piece by piece.

    Args:
        offset: of the stream byte before it.

    argv: its first arguments, b"" for those that are long. starts: the stream offset before each of them.
    count: how many it has. size: bytes of the whole, once `feed` has seen its end.
    long: number of a long argument to the stream offset before it, and its size.
    """

    def __init__(self, offset: int) -> None:
        self.offset, self.size, self.count = offset, 0, 0
        self.argv: list[bytes] = []
        self.starts: list[int] = []
        self.long: dict[int, tuple[int, int]] = {}
        self._data = b""  # a part of a header, or of a short argument
        self._left = -1  # arguments that have not begun; -1: not known
        self._rest = 0  # bytes of the present one that are to come

    def feed(self, data: bytes) -> bytes | None:
        """Take more of it; what lies behind its end, None while that has not come. Raises Malformed."""
        data, pos = self._data + data, 0
        if self._left < 0:
            self._left, pos = header(data, 0, b"*", MAX_ARGS)
            self.count = self._left
        while self._left or self._rest:
            if self._rest or len(self.argv) == MOST_ARGUMENTS:
                others = self._left if len(self.argv) == MOST_ARGUMENTS else 0
                pos, left, self._rest = skim(data, pos, others, self._rest)
                self._left += left - others
                if self._rest or others:
                    break
                continue
            size, start = header(data, pos, b"$", MAX_BULK)
            if size < 0 or (size <= ARGUMENT_BYTES and start + size + 2 > len(data)):
                break
            self._left -= 1
            self.starts.append(self.offset + self.size + pos)
            if size <= ARGUMENT_BYTES:
                self.argv.append(data[start : start + size])
                pos = start + size + 2
            else:
                self.long[len(self.argv)] = (self.offset + self.size + start, size)
                self.argv.append(b"")
                pos, self._rest = start, size + 2
        self.size += pos
        self._data = data[pos:]
        if self._left or self._rest:
            return None
        rest, self._data = self._data, b""
        return rest


def header(data: bytes, pos: int, mark: bytes, most: int) -> tuple[int, int]:
    """The number in a header such as `$5`, and where what follows begins; (-1, pos): it is not all there."""
    stop = data.find(b"\r\n", pos, pos + HEADER_BYTES)
    if stop < 0 and len(data) - pos < HEADER_BYTES:
        return -1, pos
    number = data[pos + 1 : max(pos, stop)]
    if data[pos : pos + 1] != mark or not number.isdigit() or int(number) > most:
        raise Malformed("replication stream: a command that makes no sense", pos)
    return int(number), stop + 2


def begin(data: bytes, offset: int, whole: Callable[[bytes, int], bool] = lambda *_: False) -> Long | None:
    """The command that `data` begins with, as one that stays in the log; None: it must be held in memory.

    Args:
        data: HELD_BYTES of it at least.
        offset: of the stream byte before it.
        whole: whether a command must be held: called with its name in upper case, and the number of its arguments.
    """
    count, pos = header(data, 0, b"*", MAX_ARGS)
    size, start = header(data, pos, b"$", MAX_BULK)
    name = data[start : start + min(size, HEADER_BYTES)].upper()
    if size > HEADER_BYTES or whole(name, count):
        return None
    if name in SCRIPTS:
        if not _are_short(data, start + size + 2, count):
            return None
    elif count > MOST_ARGUMENTS and name not in FIRST:
        return None
    if count > 1 and header(data, start + size + 2, b"$", MAX_BULK)[0] > ARGUMENT_BYTES:
        return None  # its key
    found = Long(offset)
    found.feed(data)
    return found


def _are_short(data: bytes, pos: int, count: int) -> bool:
    """Whether a script, whose arguments but its name `data` has from there on, and all keys it is given are short."""
    argv, most = [b""], KEYS_BEGIN
    while len(argv) < min(most, count):
        size, start = header(data, pos, b"$", MAX_BULK)
        if size > ARGUMENT_BYTES or start + size + 2 > len(data):
            return False
        argv.append(data[start : start + size])
        pos = start + size + 2
        if len(argv) == KEYS_BEGIN:
            most += int(argv[2]) if argv[2].isdigit() else MAX_ARGS
            if most > MOST_ARGUMENTS:
                return False
    return len(argv) == most


def stretch(log: Log, offset: int, size: int) -> Iterator[bytes]:
    """So many bytes of the log behind an offset. Raises Malformed when the log has been begun anew, ControlError."""
    cursor = Cursor(log, offset)
    try:
        while size > 0:
            block = cursor.read()
            if block is None or block.offset != offset:
                raise Malformed("the log was begun anew while it was read", offset)
            yield block.data[:size]
            offset, size = block.end, size - len(block.data)
    finally:
        cursor.close()
