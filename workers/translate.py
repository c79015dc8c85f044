"""From the source's stream to windows, whole commands and whole transactions at a time.

Plain commands are cut into runs by the compiled scanner and copied; the others are for `workers.rewrite`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sync_tasks.errors import CannotContinue, Malformed, Side
from workers import building, outlying
from workers.codec.mset_cy import packed
from workers.codec.resp_cy import IGNORED, LIMIT, MORE, SKIP, Scanner, arguments
from workers.compose import select
from workers.outlying import Read
from workers.pace import Pace
from workers.rewrite import SCRIPTS, TABLE, Rewriter
from workers.single import DELETING, SINGLE
from workers.spool.log import Block, Log
from workers.spool.long import HELD_BYTES, KEYS_BEGIN, MOST_ARGUMENTS, Long, begin, stretch
from workers.target.windows import Run, Window
from workers.times import RESTORING
from workers.transform import EVERY, Transformer

WINDOW_COMMANDS = 300
WINDOW_BYTES = 128 << 10
LARGEST_TRANSACTION = 256 << 20
"""Bytes of a source transaction; the target queues it whole (client-query-buffer-limit, 1 GB by default)."""
RUN_BYTES = 200
"""Memory of a run of commands, beside the commands: each rewritten command is one."""
LEAST_SETS = 8
"""So many SETs that follow one another go as one MSET."""


def placed(error: Malformed, offset: int) -> Malformed:
    """It, saying where in the stream."""
    return type(error)(f"{error.message} (stream offset {offset})", hint=error.hint)


class Translator:
    """Turns blocks of the log into windows, in order.

    Args:
        offset, db: where the stream goes on, as the checkpoint says.
        rewriter: of the commands that are not copied; has the scope, the clock, and the checkpoint's database, in
            which each window begins.
        log: has what is too long to be held, until it is sent. None: all is held.
    """

    def __init__(
        self,
        offset: int,
        db: int,
        rewriter: Rewriter,
        log: Log | None = None,
    ) -> None:
        self._table = TABLE | rewriter.older.kinds | dict.fromkeys(rewriter.scope.blocked, "ignored")
        self._read: Read | None = None if log is None else partial(stretch, log)
        self.rewriter = rewriter
        self._every = EVERY if isinstance(rewriter, Transformer) else None
        singles = frozenset() if self._every else self._singles()
        firsts = () if self._every else DELETING
        self._scanner = Scanner(self._table, rewriter.floats, singles, firsts, whole=True)
        self._scope, self._clock, self._home = rewriter.scope, rewriter.clock, rewriter.home
        self._data = b""
        self._long: Long | None = None  # what the buffered data begin with, then there are none
        self._need = 0
        self._pace = Pace()
        self._fork, self._before, self._replid = 0, "", ""
        self._parts: list[bytes] = []
        self.offset = offset  # of the stream byte before the buffered data
        self._select(db)
        self.most = (WINDOW_COMMANDS, WINDOW_BYTES)  # of a window, unless one command or transaction is more
        # Else the target does not know it, or does not take keys of different slots.
        self._may_pack = self._packs = b"MSET" not in self._table and not rewriter.scope.one_slot
        self.window = self._window(offset, db, "")
        self._transaction: Window | None = None
        self.full: list[Window] = []

    def _window(self, offset: int, db: int, replid: str) -> Window:
        return Window(
            start=offset, end=offset, db=db, replid=replid, first=self._home, selected=self._home,
            fresh_ms=self._clock.stamp,
        )  # fmt: skip

    def _singles(self) -> frozenset[bytes]:
        """Commands whose first argument is their only key: those that we know, and others, as the target says."""
        return SINGLE | {name for name, place in self.rewriter.older.places.items() if place[:2] == (1, 1)} - DELETING

    def _select(self, db: int) -> None:
        """The stream acts on this database from here on."""
        self.db = db
        taken = self._scope.target(db) is not None
        self._scanner.filter((self._every or self._scope.filter(db)) if taken else None)

    def keep_to(self, pace: Pace) -> None:
        """Make windows no larger than may be written at once; each command counts where they are counted."""
        self._packs = self._may_pack and pace.limits.rps is None
        self._pace, self.most = pace, pace.most(WINDOW_COMMANDS, WINDOW_BYTES)

    def feed(self, block: Block) -> None:
        """Take the next block; full windows go to `full`. Raises Malformed, CannotContinue."""
        if block.replid != self._replid:
            self._fork, self._before, self._replid = block.offset, self._replid, block.replid
        self._clock.at(block.received_ms, block.flags)
        data = block.data if self._long is None else self._on(self._long, block.data)
        if not data:
            return
        self._parts.append(data)
        self._need -= len(data)
        if self._need <= 0:
            self._join()

    @property
    def passed(self) -> int | None:
        """Offset up to which all that concerns the target was taken; None: something waits."""
        open_ = self.window
        return None if self.full or open_.commands or open_.plain or open_.ahead else open_.end

    @property
    def inside(self) -> bool:
        """Whether what was fed ends with a whole command of a transaction that is open still."""
        return self._transaction is not None and not self._data and not self._parts and self._long is None

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
            raise placed(e, self.offset + max(0, e.offset)) from e
        self._data = data[pos:]
        self.offset += pos
        if len(self._data) >= HELD_BYTES and self._read is not None:
            self._long = begin(self._data, self.offset, self._is_held)
            self._data = self._data if self._long is None else b""
        # A long command is not scanned again until there is much more of it.
        self._need = len(self._data) if len(self._data) > 1 << 20 else 0

    # --- commands that stay in the log

    def _is_held(self, name: bytes, count: int) -> bool:
        if self._every or (self._scope.filtered and name not in SINGLE):
            return True
        kind = self._table.get(name)
        if kind is None or kind == IGNORED or name in SCRIPTS:
            return False
        return kind != "timed" or count > MOST_ARGUMENTS

    def _on(self, long: Long, data: bytes) -> bytes:
        """On with what stays in the log; the data behind it."""
        try:
            rest = long.feed(data)
            if rest is None:
                return b""
            self._close_long(long)
        except Malformed as e:
            raise placed(e, long.offset) from e
        except (ValueError, IndexError, StopIteration) as e:
            raise placed(Malformed("a long command with arguments that make no sense"), long.offset) from e
        return rest

    def _close_long(self, long: Long) -> None:
        """It is all there: into a window of its own, or the source's transaction."""
        assert self._read is not None
        self._long, end = None, long.offset + long.size
        if self._transaction is None and self.window.commands:
            self._close()
        self._put(long, end, self._read)
        self.offset = end
        if self._transaction is None:
            self.window.end, self.window.db = end, self.db
            self._close_if_full()

    def _put(self, long: Long, end: int, read: Read) -> None:
        target, window = self._scope.target(self.db), self._transaction or self.window
        name = long.argv[0].upper()
        kind = self._table.get(name)
        if target is None or kind == IGNORED or not self._takes(long):
            return
        select(window, target, long.offset)
        write = partial(self.rewriter.write, kind or "", db=self.db, before=long.offset, after=end, window=window)
        if kind is None or (name == b"SET" and len(long.argv) == 3):
            outlying.copy(window, long, read)
            window.changes += 1
        elif name in RESTORING:
            building.restore(window, long, self.db, end, read, self.rewriter, self._pace)
        elif name in SCRIPTS and long.count > KEYS_BEGIN + int(long.argv[2]):
            outlying.rewrite_head(window, long, KEYS_BEGIN + int(long.argv[2]), read, write)
        elif name == b"MSETEX" and any(at % 2 == 0 for at in long.long):
            write(arguments(b"".join(read(long.offset, long.size)), 0))  # a key is long
        else:
            outlying.rewrite(window, long.argv, outlying.stands(long, read), write)
        self._check_size(long.offset)
        self._mark(window)

    def _takes(self, long: Long) -> bool:
        return not self._scope.filtered or self._scope.takes(self.db, long.argv[1])

    def _scan(self, data: bytes) -> int:
        pos = 0
        while True:
            open_, (commands, size) = self._transaction or self.window, self.most
            end, count, why, argv, after, kind = self._scanner.scan(data, pos, max(1, commands - open_.commands), size)
            if count:
                self._copy(data, pos, end, count)
            elif end > pos:
                self._pass(end)
            if why == LIMIT:
                self._close_if_full()
                pos = end
                continue
            if why == MORE:
                return int(end)
            if why == SKIP:
                self._pass(after)
                pos = after
                continue
            try:
                self._special(kind, argv, self.offset + end, self.offset + after)
            except (ValueError, IndexError, StopIteration) as e:
                raise Malformed(f"replication stream: {argv[0][:20]!r} with arguments that make no sense", end) from e
            pos = after

    def _pass(self, after: int) -> None:
        """Commands of keys that are not in scope end there, in the data."""
        if self._transaction is None:
            self.window.end = self.offset + after

    def _copy(self, data: bytes, pos: int, end: int, count: int) -> None:
        target = self._scope.target(self.db)
        window = self._transaction or self.window
        if target is not None:
            select(window, target, self.offset)
            parts = self._scanner.parts
            if self._packs and self._scanner.streak >= LEAST_SETS:
                for start, stop, _ in parts or [(pos, end, count)]:
                    for part in packed(data, start, stop, LEAST_SETS):
                        self._append(window, target, data, *part)
            elif parts:
                window.runs.append(Run(window.commands, len(window.body), self.offset, True, db=target, parts=parts))
                window.body += b"".join([data[start:stop] for start, stop, _ in parts])
                window.commands += count
            else:
                self._append(window, target, data, pos, end, count)
        self._check_size(self.offset + pos)
        window.changes += count
        if self._transaction is None:
            window.end = self.offset + end
        self._mark(window)

    def _append(
        self, window: Window, target: int, data: bytes, pos: int, end: int, count: int, instead: bytes | None = None
    ) -> None:
        """Commands of the stream as they are, or one that stands for them."""
        verbatim = instead is None
        window.runs.append(Run(window.commands, len(window.body), self.offset + pos, verbatim, db=target))
        window.body += memoryview(data)[pos:end] if instead is None else instead
        window.commands += count if verbatim else 1

    def _check_size(self, offset: int) -> None:
        tx = self._transaction
        if tx is not None and tx.size + RUN_BYTES * len(tx.runs) > LARGEST_TRANSACTION:
            raise CannotContinue(
                f"a transaction of the source, at offset {offset}, is over {LARGEST_TRANSACTION >> 20} MB",
                side=Side.SOURCE,
                hint="write it in smaller transactions, then start over with an empty target",
            )

    def _mark(self, window: Window) -> None:
        if not window.received_ms:
            window.received_ms = self._clock.received_ms

    def _special(self, kind: str | None, argv: list[bytes], before: int, after: int) -> None:
        if kind == "select":
            self._select(int(argv[1]))
        elif kind == "multi":
            self._transaction = Window()
        elif kind == "exec":
            self._commit()
        elif kind is not None and kind != "ignored":
            self.rewriter.write(kind, argv, self.db, before, after, self._transaction or self.window)
            self._check_size(before)
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
        commands, size = self.most
        full = window.commands + tx.commands > commands or window.size + tx.size > size
        if window.commands and (full or tx.ahead):
            self._close()
            window = self.window
        if tx.first is not None:
            select(window, tx.first, self.offset)
        commands, position = window.commands, len(window.body)
        window.runs += [replace(r, command=r.command + commands, position=r.position + position) for r in tx.runs]
        window.elsewhere += [replace(e, position=e.position + position) for e in tx.elsewhere]
        window.body += tx.body
        window.commands += tx.commands
        window.changes += tx.changes
        window.held |= tx.held
        window.beside += tx.beside
        window.ahead += tx.ahead
        window.wipes |= tx.wipes
        window.serves = window.serves or tx.serves
        window.plain += tx.plain
        window.databases |= tx.databases
        window.received_ms = window.received_ms or tx.received_ms
        if tx.selected is not None:
            window.selected = tx.selected

    def _close_if_full(self) -> None:
        (commands, size), window = self.most, self.window
        if self._transaction is None and (window.commands >= commands or window.size >= size or window.ahead):
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
