"""A model of a server: connections with WATCH, MULTI and EXEC on one data set, and switches for what it refuses."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.commands import COMMANDS, OK, Argv, Refused
from tests.simulation.data import Data
from workers.codec.resp_cy import parse

ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
QUEUED = b"+QUEUED\r\n"
OOM = b"OOM command not allowed when used memory > 'maxmemory'."
NO_REPLICAS = b"NOREPLICAS Not enough good replicas to write."
CONTROL = frozenset({b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"UNWATCH"})


class Server:
    """One server.

    Args:
        now_ms: its clock.
        seen: told of each transaction before it is executed: the connection and its commands.
    """

    def __init__(
        self,
        now_ms: Callable[[], int] = lambda: 0,
        seen: Callable[[Connection, list[Argv]], None] = lambda *_: None,
    ) -> None:
        self.data = Data()
        self.now_ms, self.seen = now_ms, seen
        self.no_memory = self.no_replicas = False
        self.holes = 0  # transactions that were executed though their gate was refused

    def connect(self) -> Connection:
        return Connection(self)

    def refuses(self, name: bytes, queue: list[Argv]) -> bytes | None:
        """Why it takes no such command now, if it does not."""
        names = [name, *(argv[0].upper() for argv in queue)] if name == b"EXEC" else [name]
        known = [COMMANDS[n] for n in names if n in COMMANDS]
        if self.no_memory and any(c.grows for c in known):
            return OOM
        if self.no_replicas and any(c.writes for c in known):
            return NO_REPLICAS
        return None


class Connection:
    """One client's; bytes go in, bytes come out.

    `dirty`: a key that it watches was written. `broken`: a command was refused since MULTI. `open`: a gate was refused
    before it.
    """

    def __init__(self, server: Server) -> None:
        self.server, self.data = server, server.data
        self.db = 0
        self.dirty = self.broken = self.open = False
        self._queue: list[Argv] | None = None
        self._watched: list[tuple[int, bytes]] = []
        self._in = b""

    def feed(self, data: bytes) -> bytes:
        """Execute every command that is complete; the replies."""
        self._in += data
        out: list[bytes] = []
        pos = 0
        while pos < len(self._in):
            argv, end = parse(self._in, pos)
            if end < 0:
                break
            pos = end
            out.append(self.execute(argv))
        self._in = self._in[pos:]
        return b"".join(out)

    def execute(self, argv: Argv) -> bytes:
        """One command; its reply."""
        name = argv[0].upper()
        error = self._refusal(name, argv)
        if error is not None:
            return self._refused(name, error)
        if name in CONTROL:
            return self._control(name, argv)
        if self._queue is not None:
            return self._enqueue(argv)
        reply = self._run(argv)
        self.data.commit()
        return reply

    def _refusal(self, name: bytes, argv: Argv) -> bytes | None:
        """What is wrong with it before it is looked at."""
        if name in (b"WATCH", b"MULTI") and self._queue is not None:
            return b"ERR Command '%b' not allowed inside a transaction" % name.lower()
        if name in CONTROL:
            if name == b"WATCH" and len(argv) < 2:
                return b"ERR wrong number of arguments for 'watch' command"
            return self.server.refuses(name, self._queue or []) if name == b"EXEC" else None
        found = COMMANDS.get(name)
        if found is None:
            rest = b"".join(b"'%b' " % a for a in argv[1:])
            return b"ERR unknown command '%b', with args beginning with: %b" % (argv[0], rest)
        if len(argv) != found.arity if found.arity > 0 else len(argv) < -found.arity:
            return b"ERR wrong number of arguments for '%b' command" % name.lower()
        return self.server.refuses(name, [])

    def _refused(self, name: bytes, error: bytes) -> bytes:
        if name == b"EXEC" and self._queue is not None:
            self._end()
            return b"-EXECABORT Transaction discarded because of: %b\r\n" % error
        if self._queue is None:
            self.open |= name == b"HSETNX"
        else:
            self.broken = True
            self._queue.clear()
        return b"-%b\r\n" % error

    def _run(self, argv: Argv) -> bytes:
        try:
            return COMMANDS[argv[0].upper()].run(self, argv)
        except Refused as error:
            return b"-%b\r\n" % error.line

    # --- transactions

    def _control(self, name: bytes, argv: Argv) -> bytes:
        if name == b"WATCH":
            return self._watch(argv)
        if name == b"UNWATCH":
            return self._unwatch() if self._queue is None else self._enqueue(argv)
        if name == b"MULTI":
            self._queue, self.broken = [], False
            return OK
        if self._queue is None:
            return b"-ERR %b without MULTI\r\n" % name
        if name == b"DISCARD":
            self._end()
            return OK
        return self._exec(self._queue)

    def _enqueue(self, argv: Argv) -> bytes:
        assert self._queue is not None
        if not (self.dirty or self.broken):  # else it is of no use
            self._queue.append(argv)
        return QUEUED

    def _exec(self, queue: list[Argv]) -> bytes:
        dirty, broken, opened = self.dirty, self.broken, self.open
        self._end()
        if broken:
            return ABORTED
        if dirty:
            return b"*-1\r\n"
        self.server.holes += opened
        self.server.seen(self, queue)
        out = [b"*%d\r\n" % len(queue)]
        out += [self._unwatch() if argv[0].upper() == b"UNWATCH" else self._run(argv) for argv in queue]
        self.data.commit()
        return b"".join(out)

    def _end(self) -> None:
        self._queue, self.broken, self.open = None, False, False
        self._unwatch()

    def _watch(self, argv: Argv) -> bytes:
        if self.dirty:
            return OK  # it will fail anyway
        for key in argv[1:]:
            at = (self.db, key)
            if at not in self._watched:
                self._watched.append(at)
                self.data.watched.setdefault(at, []).append(self)
        return OK

    def _unwatch(self) -> bytes:
        for at in self._watched:
            others = self.data.watched[at]
            others.remove(self)
            if not others:
                del self.data.watched[at]
        self._watched.clear()
        self.dirty = False
        return OK

    def close(self) -> None:
        self._unwatch()
        self._queue = None
