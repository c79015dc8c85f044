"""The commands of a part of the log, one by one: for rare questions, the way of the stream is `workers.translate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sync_tasks.errors import Malformed
from workers.codec.resp_cy import parse
from workers.spool.log import Cursor, Log
from workers.spool.long import HELD_BYTES, Long, begin


def commands(log: Log, start: int, stop: int, db: int, wait: Callable[[], None]) -> Iterator[tuple[int, list[bytes]]]:
    """Each command with the source's database it acts on; SELECT and what has no effect on keys are among them. Of a
    long one the first arguments, b"" for those that are long: they name all its keys. The rest as of `placed`."""
    return ((at, argv) for _, at, argv in placed(log, start, stop, db, wait))


def placed(
    log: Log, start: int, stop: int, db: int, wait: Callable[[], None]
) -> Iterator[tuple[int, int, list[bytes]]]:
    """The same, each with the stream offset behind it.

    Args:
        log: covers `start`.
        start, stop: stream offsets, both between two commands.
        db: of the stream at `start`.
        wait: called while the log does not reach far enough; may raise.
    Raises Malformed, ControlError (a damaged block), and what `wait` raises.
    """
    cursor = Cursor(log, start)
    data, pos = b"", 0
    try:
        while start < stop:
            if data[pos : pos + 1] == b"\n":  # a replica keeps its link alive by these
                start, pos = start + 1, pos + 1
                continue
            argv, end = parse(data, pos)
            if end < 0:
                data, pos = data[pos:], 0
                long = begin(data, start) if len(data) >= HELD_BYTES else None
                if long is None:
                    data = _more(cursor, data, wait)
                    continue
                data = _behind(cursor, long, wait)
                argv, start = long.argv, start + long.size
            else:
                start, pos = start + end - pos, end
            if not isinstance(argv, list) or not argv:
                raise Malformed("replication stream: what is no command", start)
            if argv[0].upper() == b"SELECT":
                db = int(argv[1])
            yield start, db, argv
    finally:
        cursor.close()


def _more(cursor: Cursor, data: bytes, wait: Callable[[], None]) -> bytes:
    """The data with as much again behind them, or less at the end of the log: what is long is not often looked at."""
    parts, size = [data], 0
    while size <= len(data):
        block = cursor.read()
        if block is not None:
            parts.append(block.data)
            size += len(block.data)
        elif size:
            break
        else:
            wait()
    return b"".join(parts)


def _behind(cursor: Cursor, long: Long, wait: Callable[[], None]) -> bytes:
    """The data behind a long command."""
    while True:
        block = cursor.read()
        if block is None:
            wait()
        elif (rest := long.feed(block.data)) is not None:
            return rest
