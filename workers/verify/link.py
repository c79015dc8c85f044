"""One connection that answers pipelines of reading commands, and comes back after a cut."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.error_table import CONNECTIONS
from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SourceError, TargetError
from workers.pace import Pace
from workers.verify.wire import Answers, NotRedis, Refusal, pack

HANDSHAKE_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0  # one batch, on a server that is busy with others
PAUSES_S = (0.2, 1.0, 3.0, 6.0)  # between attempts to connect again
NAME = b"keyferry-verify"

RESTARTED = "restarted"
UNKNOWN = b"ERR unknown command"
ELSEWHERE = (b"MOVED", b"ASK", b"CLUSTERDOWN", b"TRYAGAIN")
"""What a node of a cluster says of a key that it does not have."""
# Not errors of the server, but answers about a key that changed under us.
ABOUT_KEYS = (b"WRONGTYPE", b"ERR no such key", b"NOGROUP")


class Link:
    """Sends only commands that read, so that a pipeline cut off may be sent again.

    Args:
        endpoint: the server; its `db` is not used.
        pace: how many commands and bytes of answers a second it is asked for.

    Raises:
        KeyferryError: as `answers.classify` says, here and in every method.
    """

    def __init__(self, endpoint: Endpoint, pace: Pace | None = None) -> None:
        self.endpoint = endpoint
        self.pace = pace or Pace()
        self._received = 0  # bytes
        self.info: dict[str, str] = {}
        self._db = -1
        self._pending: tuple[int, bytes, int] = (0, b"", 0)
        self._sock: socket.socket | None = None
        self._answers = Answers(self._receive)
        self._broken: Exception | None = None
        try:
            self._open()
        except (OSError, EOFError, NotRedis) as error:
            raise self._typed(error) from error

    def start(self, db: int, request: bytes, count: int) -> None:
        """Send the packed commands of `request`; `finish` then reads their `count` answers."""
        self._pending = (db, request, count)
        self.pace.wait(lambda: None)
        try:
            self._send(db, request)
        except OSError as error:
            self._broken = error

    def finish(self, *, loose: bool = False) -> list[Any]:
        """The answers to what was started.

        Args:
            loose: leave `Refusal`s that say something about a key among them; else they are raised too.
        """
        answers = self.collect()
        for refusal in self.refused:
            if not (loose and about_key(refusal)):
                raise classify(refusal.line, self.endpoint.side)
        return answers

    def ask(self, db: int, request: bytes, count: int, *, loose: bool = False) -> list[Any]:
        """`start` and `finish`."""
        self.start(db, request, count)
        return self.finish(loose=loose)

    def probe(self, db: int, *words: bytes) -> Any:
        """The answer to one command, a `Refusal` too."""
        self.start(db, pack(*words), 1)
        return self.collect()[0]

    def knows(self, *command: bytes) -> bool:
        """Whether the server knows a command."""
        answer = self.probe(0, *command)
        if isinstance(answer, Refusal) and not answer.line.startswith((UNKNOWN, *ELSEWHERE)):
            raise classify(answer.line, self.endpoint.side)
        return not (isinstance(answer, Refusal) and answer.line.startswith(UNKNOWN))

    def everywhere(self, request: bytes) -> list[Any]:
        """What the one server answers to one command: a cluster gives several."""
        return self.ask(0, request, 1)

    def by_node(self, args: Sequence[bytes]) -> list[list[int]]:
        """Keys, by their numbers, that can be asked about in one go: here all."""
        return [list(range(len(args)))]

    def owner(self, key: bytes) -> tuple[str, int] | None:
        """Of a cluster, who has the slot of a key; None: it is one server."""
        return None

    def look_patiently(self) -> None:
        """Of a cluster: ask anew who has which slots."""

    @property
    def masters(self) -> Sequence[tuple[str, int] | None]:
        """Of a cluster, its masters; None: it is one server."""
        return [None]

    def node_of(self, db: int, key: bytes) -> tuple[str, int] | None:
        """Who answers about a key; None: always the same one."""
        return None

    def has(self, db: int) -> bool:
        """Whether the server has a database of that number."""
        answer = self.probe(max(self._db, 0), b"SELECT", b"%d" % db)
        if isinstance(answer, Refusal):
            return False
        self._db = db
        return True

    def close(self) -> None:
        if self._sock:
            with contextlib.suppress(OSError):
                self._sock.close()
            self._sock = None

    @property
    def refused(self) -> list[Refusal]:
        """The errors among the answers read last."""
        return self._answers.refused

    def collect(self) -> list[Any]:
        """The answers to what was started, with all `Refusal`s among them."""
        before = self._received
        try:
            if self._broken:
                raise self._broken
            answers = self._answers.read(self._pending[2])
            self.pace.took(self._pending[2], self._received - before)
            return answers
        except (OSError, EOFError) as error:
            return self._again(error)
        except NotRedis as error:
            raise self._typed(error) from error

    def _receive(self, size: int) -> bytes:
        assert self._sock
        data = self._sock.recv(size)
        self._received += len(data)
        return data

    def _send(self, db: int, request: bytes) -> None:
        assert self._sock
        if db != self._db:
            # One answer more: read first, so that an error of it is not taken for another command's.
            self._sock.sendall(pack(b"SELECT", b"%d" % db))
            try:
                answer = self._answers.read(1)[0]
            except EOFError as error:
                raise ConnectionResetError from error
            if isinstance(answer, Refusal):
                raise classify(answer.line, self.endpoint.side)
            self._db = db
        self._sock.sendall(request)

    def _open(self) -> None:
        self.close()
        self._db = -1
        self._broken = None
        self._sock = self.endpoint.open_socket()
        self._sock.settimeout(HANDSHAKE_TIMEOUT_S)
        self._answers = Answers(self._receive)
        for command in self.endpoint.auth_commands():
            self._sock.sendall(pack(*command))
            self._check(self._answers.read(1)[0])
        # NO-TOUCH (7.2): reading every key must not make every key look recently used. Older ones refuse it.
        self._sock.sendall(
            pack(b"CLIENT", b"SETNAME", NAME) + pack(b"CLIENT", b"NO-TOUCH", b"ON") + pack(b"INFO", b"SERVER")
        )
        info = self._answers.read(3)[2]
        self._check(info)
        self._same_server(_fields(info))
        self._sock.settimeout(READ_TIMEOUT_S)

    def _check(self, answer: Any) -> None:
        if isinstance(answer, Refusal):
            raise classify(answer.line, self.endpoint.side)

    def _same_server(self, info: dict[str, str]) -> None:
        """SCAN's cursors and its promise to show every key hold within one life of a server only."""
        before = self.info.get("run_id")
        self.info = info
        if before is not None and before != info.get("run_id"):
            raise restarted(self.endpoint.side)

    def _again(self, error: Exception) -> list[Any]:
        """Connect anew and send the pending request again; raises the last error when that fails for long."""
        for pause in PAUSES_S:
            time.sleep(pause)
            try:
                self._open()
                db, request, count = self._pending
                self._send(db, request)
                return self._answers.read(count)
            except (OSError, EOFError) as later:
                error = later
            except ConnectionLost as later:
                if later.code == RESTARTED:
                    raise
                error = later
        raise self._typed(error) from error

    def _typed(self, error: Exception) -> KeyferryError:
        if isinstance(error, NotRedis):
            of_side = SourceError if self.endpoint.side is Side.SOURCE else TargetError
            return of_side("it does not speak the Redis protocol", hint=CONNECTIONS["not-redis"].hint, code="not-redis")
        return classify(error, self.endpoint.side)


def restarted(side: Side) -> ConnectionLost:
    """What is walked by cursors is another process now."""
    return ConnectionLost(
        "the server was restarted or replaced while it was being verified",
        hint="run the same command again",
        side=side,
        code=RESTARTED,
    )


def _fields(info: bytes) -> dict[str, str]:
    """INFO's text as a table."""
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def about_key(refusal: Refusal) -> bool:
    """Whether an error says something about a key, not about the server."""
    return refusal.line.startswith(ABOUT_KEYS)
