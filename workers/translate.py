"""From the source's stream to windows: what travels as it is, what is rewritten, what is left out.

Plain commands are cut into runs by the compiled scanner and copied. The table here names the others.
"""

from __future__ import annotations

from collections.abc import Callable

from sync_tasks.errors import CannotContinue, Malformed, Side
from workers.codec.resp_cy import LIMIT, MORE, Scanner, encode
from workers.spool.log import Block
from workers.target.windows import Run, Window
from workers.times import TIMED, Clock, retime

WINDOW_COMMANDS = 300
WINDOW_BYTES = 128 << 10
LARGEST_TRANSACTION = 256 << 20
"""Bytes of a source transaction; the target queues it whole (client-query-buffer-limit, 1 GB by default)."""

IGNORED = {b"PING", b"REPLCONF", b"PUBLISH", b"SPUBLISH", b"CLUSTER"}
STREAM = {b"SELECT", b"MULTI", b"EXEC"}
MOVING = {b"RENAME", b"RENAMENX", b"COPY", b"MOVE"}
"""They give a key the expiry of another one, which may be held."""
WHOLE = {b"FLUSHALL", b"FLUSHDB", b"SWAPDB"}
SERVER_WIDE = {b"FUNCTION", b"SCRIPT"}
"""They belong to no database."""

TABLE: dict[bytes, str] = {
    **dict.fromkeys(IGNORED, "ignored"),
    **{name: name.decode().lower() for name in STREAM},
    **dict.fromkeys(TIMED, "timed"),
    **dict.fromkeys(MOVING, "moving"),
    **dict.fromkeys(WHOLE, "whole"),
    **dict.fromkeys(SERVER_WIDE, "server-wide"),
}


class Scope:
    """Which source databases travel, and to which target database.

    Args:
        databases: source to target number; None means all, each to its own.
    """

    def __init__(self, databases: dict[int, int] | None) -> None:
        self.databases = databases

    def target(self, db: int) -> int | None:
        return db if self.databases is None else self.databases.get(db)


class Translator:
    """Turns blocks of the log into windows, in order.

    Args:
        offset, db: where the stream goes on, as the checkpoint says.
        scope: databases that travel.
        clock: decides what becomes of times.
        home: the checkpoint's database; each window begins there.
        own: commands that put our own keys in order after one that empties or swaps databases:
            called with the target databases concerned.
        touched: told of each key whose expiry is held, or may be: (target db, key, stream offset, whether it is).
        disturbed: told when held keys may have moved anywhere (SWAPDB).
    """

    def __init__(
        self,
        offset: int,
        db: int,
        scope: Scope,
        clock: Clock,
        home: int,
        own: Callable[[list[int]], list[list[bytes]]],
        touched: Callable[[int, bytes, int, bool], None],
        disturbed: Callable[[int], None],
    ) -> None:
        self._scanner = Scanner(TABLE)
        self._scope, self._clock, self._home, self._own = scope, clock, home, own
        self._touched, self._disturbed = touched, disturbed
        self._data = b""
        self._need = 0
        self._fork, self._before, self._replid = 0, "", ""
        self._parts: list[bytes] = []
        self.offset = offset  # of the stream byte before the buffered data
        self.db = db
        self.window = self._window(offset, db, "")
        self._transaction: Window | None = None
        self.full: list[Window] = []

    def _window(self, offset: int, db: int, replid: str) -> Window:
        return Window(start=offset, end=offset, db=db, replid=replid, first=self._home, selected=self._home)

    def feed(self, block: Block) -> None:
        """Take the next block; full windows go to `full`. Raises Malformed, CannotContinue."""
        if block.replid != self._replid:
            self._fork, self._before, self._replid = block.offset, self._replid, block.replid
        self._clock.at(block.received_ms, block.flags)
        self._parts.append(block.data)
        self._need -= len(block.data)
        if self._need <= 0:
            self._join()

    def flush(self) -> bool:
        """At the end of the log: a long command may be complete before as much came as was waited for."""
        if not self._parts:
            return False
        self._join()
        return True

    def _join(self) -> None:
        data = self._data + b"".join(self._parts)
        self._parts = []
        pos = 0
        try:
            pos = self._scan(data)
        except Malformed as e:
            raise Malformed(f"{e.message} (stream offset {self.offset + max(0, e.offset)})") from e
        self._data = data[pos:]
        self.offset += pos
        # A long command is not scanned again until there is much more of it.
        self._need = len(self._data) if len(self._data) > 1 << 20 else 0

    def _scan(self, data: bytes) -> int:
        pos = 0
        while True:
            open_ = self._transaction or self.window
            end, count, why, argv, after, kind = self._scanner.scan(
                data, pos, max(1, WINDOW_COMMANDS - open_.commands), WINDOW_BYTES
            )
            if count:
                self._copy(data, pos, end, count)
            if why == LIMIT:
                self._close_if_full()
                pos = end
                continue
            if why == MORE:
                return int(end)
            try:
                self._special(kind, argv, self.offset + end, self.offset + after)
            except (ValueError, IndexError, StopIteration) as e:
                raise Malformed(f"replication stream: {argv[0][:20]!r} with arguments that make no sense", end) from e
            pos = after

    def _copy(self, data: bytes, pos: int, end: int, count: int) -> None:
        target = self._scope.target(self.db)
        window = self._transaction or self.window
        if target is not None:
            self._select(target, window)
            window.runs.append(Run(window.commands, len(window.body), self.offset + pos, True))
            window.body += memoryview(data)[pos:end]
            window.commands += count
        if len(window.body) > LARGEST_TRANSACTION and self._transaction is not None:
            raise CannotContinue(
                f"a transaction of the source, at offset {self.offset + pos}, is over {LARGEST_TRANSACTION >> 20} MB",
                side=Side.SOURCE,
                hint="write it in smaller transactions, then start over with an empty target",
            )
        window.changes += count
        if self._transaction is None:
            window.end = self.offset + end
        self._mark(window)

    def _mark(self, window: Window) -> None:
        if not window.received_ms:
            window.received_ms = self._clock.received_ms

    def _select(self, target: int, window: Window) -> None:
        if window.selected is None:
            window.first = target
        elif window.selected != target:
            self._emit([b"SELECT", b"%d" % target], self.offset, window)
        window.selected = target
        window.databases.add(target)

    def _emit(self, argv: list[bytes], offset: int, window: Window) -> None:
        window.runs.append(Run(window.commands, len(window.body), offset, False))
        window.body += encode(argv)
        window.commands += 1

    def _special(self, kind: str | None, argv: list[bytes], before: int, after: int) -> None:
        if kind == "select":
            self.db = int(argv[1])
        elif kind == "multi":
            self._transaction = Window()
        elif kind == "exec":
            self._commit()
        elif kind is not None and kind != "ignored":
            self._rewrite(kind, argv, before, after)
        window = self._transaction or self.window
        if self._transaction is None:
            window.end = after
            window.db = self.db
        if window.commands:
            self._mark(window)
        self._close_if_full()

    def _commit(self) -> None:
        """The source's EXEC: its transaction joins the open window whole, or gets one of its own."""
        tx, self._transaction = self._transaction, None
        if tx is None:
            return
        window = self.window
        if window.commands and (
            window.commands + tx.commands > WINDOW_COMMANDS or len(window.body) + len(tx.body) > WINDOW_BYTES
        ):
            self._close()
            window = self.window
        if tx.first is not None:
            self._select(tx.first, window)
        commands, position = window.commands, len(window.body)
        window.runs += [Run(r.command + commands, r.position + position, r.offset, r.verbatim) for r in tx.runs]
        window.body += tx.body
        window.commands += tx.commands
        window.changes += tx.changes
        window.held |= tx.held
        window.databases |= tx.databases
        window.received_ms = window.received_ms or tx.received_ms
        if tx.selected is not None:
            window.selected = tx.selected

    def _rewrite(self, kind: str, argv: list[bytes], before: int, after: int) -> None:
        window = self._transaction or self.window
        window.changes += 1
        target = self._scope.target(self.db)
        if kind == "whole":
            self._whole(argv, target, before, window)
        elif kind == "server-wide":
            self._emit(argv, before, window)
        elif kind == "timed" and target is not None:
            done = retime(argv, self._clock)
            window.held |= bool(done.keys)
            for key in done.keys:
                self._touched(target, key, after, True)
            self._select(target, window)
            for command in done.commands:
                self._emit(command, before, window)
        elif kind == "moving":
            self._moving(argv, target, before, after, window)

    def _moving(self, argv: list[bytes], target: int | None, before: int, after: int, window: Window) -> None:
        """RENAME, COPY, MOVE: the other key, and perhaps another database."""
        name = argv[0].upper()
        other, at = self.db, -1
        if name == b"MOVE":
            at = 2
        elif name == b"COPY":
            at = next((i + 1 for i, a in enumerate(argv) if i > 2 and a.upper() == b"DB"), -1)
        if at > 0:
            other = int(argv[at])
        goal = self._scope.target(other)
        if target is None and goal is None:
            return
        if target is None:
            raise CannotContinue(
                f"{name.decode()} brings a key from database {self.db}, which is not synchronized, into {other}",
                side=Side.SOURCE,
                hint="include both databases in the task",
            )
        if goal is None:
            if name == b"MOVE":
                self._select(target, window)
                self._emit([b"DEL", argv[1]], before, window)
            return
        window.databases.add(goal)
        if at > 0:
            argv = [*argv[:at], b"%d" % goal, *argv[at + 1 :]]
        self._touched(goal, argv[1] if name == b"MOVE" else argv[2], after, False)
        self._select(target, window)
        self._emit(argv, before, window)

    def _whole(self, argv: list[bytes], target: int | None, before: int, window: Window) -> None:
        """FLUSHALL, FLUSHDB, SWAPDB: on databases in scope alone; our own keys are put back at once."""
        name = argv[0].upper()
        concerned: list[int] = []
        if name == b"SWAPDB":
            one, two = self._scope.target(int(argv[1])), self._scope.target(int(argv[2]))
            if one is None and two is None:
                return
            if one is None or two is None:
                raise CannotContinue(
                    f"SWAPDB {int(argv[1])} {int(argv[2])} swaps a database that is not synchronized into one that is",
                    side=Side.SOURCE,
                    hint="include both databases in the task",
                )
            self._disturbed(before)
            concerned = [one, two]
            window.databases |= {one, two}
            self._emit([b"SWAPDB", b"%d" % one, b"%d" % two], before, window)
        elif name == b"FLUSHALL" and self._scope.databases is None:
            concerned = [self._home]
            self._emit(argv, before, window)
        else:
            every = sorted((self._scope.databases or {}).values()) if name == b"FLUSHALL" else [target]
            for db in every:
                if db is not None:
                    concerned.append(db)
                    self._select(db, window)
                    self._emit([b"FLUSHDB", *argv[1:]], before, window)
        for command in self._own(concerned):
            if command[0] == b"SELECT":
                window.selected = int(command[1])
            self._emit(command, before, window)

    def _close_if_full(self) -> None:
        if self._transaction is None and (
            self.window.commands >= WINDOW_COMMANDS or len(self.window.body) >= WINDOW_BYTES
        ):
            self._close()

    def _close(self) -> None:
        done = self.window
        done.replid = self._before if self._before and done.end < self._fork else self._replid
        self.full.append(done)
        self.window = self._window(done.end, done.db, done.replid)

    def take(self) -> Window | None:
        """The open window as it is, if the stream has moved since the last one; a transaction waits for its EXEC."""
        if self.window.end == self.window.start:
            return None
        self._close()
        return self.full.pop()
