"""The commands of a part of the log, one by one: for rare questions, the way of the stream is `workers.translate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sync_tasks.errors import Malformed
from workers.codec.resp_cy import parse
from workers.spool.log import Cursor, Log


def commands(log: Log, start: int, stop: int, db: int, wait: Callable[[], None]) -> Iterator[tuple[int, list[bytes]]]:
    """Each command with the source's database it acts on; SELECT and what has no effect on keys are among them.

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
            argv, end = parse(data, pos)
            if end < 0:
                block = cursor.read()
                if block is None:
                    wait()
                    continue
                data, pos = data[pos:] + block.data, 0
                continue
            start, pos = start + end - pos, end
            if not isinstance(argv, list) or not argv:
                raise Malformed("replication stream: what is no command", start)
            if argv[0].upper() == b"SELECT":
                db = int(argv[1])
            yield db, argv
    finally:
        cursor.close()
