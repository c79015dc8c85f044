"""The replication link to a source node: the replica's side of PSYNC, blocking, without threads.

Protocol: https://redis.io/docs/latest/operate/oss_and_stack/management/replication/ and the servers' replication.c.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue, ConnectionLost, KeyferryError, Side, SourceError
from workers.codec.resp_cy import encode

RECV_BYTES = 256 << 10
HANDSHAKE_S = 15.0
SILENCE_S = 60.0
"""A source pings its replicas every 10 s (repl-ping-replica-period); this much silence is a lost link."""

DECLARED_VERSION = b"9.1.0"
"""Without a declared version Valkey 9 refuses a snapshot that holds field expiry; it is what our reader knows."""

FULLRESYNC = re.compile(rb"\+FULLRESYNC ([0-9A-Za-z]{40}) ([0-9]{1,18})")
CONTINUE = re.compile(rb"\+CONTINUE(?: ([0-9A-Za-z]{40}))?")
SIZE = re.compile(rb"\$([0-9]{1,18})")
MARK = re.compile(rb"\$EOF:(.{40})", re.DOTALL)
"""What a server sends before a snapshot and instead of one; the id becomes part of the names of files."""


@dataclass(frozen=True, slots=True)
class Full:
    """FULLRESYNC: a snapshot follows, true for `offset`."""

    replid: str
    offset: int


@dataclass(frozen=True, slots=True)
class Continued:
    """CONTINUE: the stream goes on, perhaps under a new id."""

    replid: str | None


class ReplicaLink:
    """One connection that looks like a replica to the source.

    Args:
        endpoint: the source node.
    Raises ConnectionLost, CredentialsRefused, SourceError.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._buffer = bytearray()
        try:
            self._socket: socket.socket = endpoint.open_socket(HANDSHAKE_S)
            self._socket.settimeout(HANDSHAKE_S)
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        except OSError as e:
            raise classify(e, Side.SOURCE) from e
        try:
            for command in endpoint.auth_commands():
                self._ask(*command)
            self._ask(b"PING")
            self._ask(b"REPLCONF", b"listening-port", b"0", optional=True)
            self._ask(b"REPLCONF", b"capa", b"eof", b"capa", b"psync2", optional=True)
            self._ask(b"REPLCONF", b"version", DECLARED_VERSION, optional=True)
        except BaseException:
            self.close()
            raise

    def _send(self, *argv: bytes) -> None:
        try:
            self._socket.sendall(encode(list(argv)))
        except OSError as e:
            raise classify(e, Side.SOURCE) from e

    def receive(self, size: int = RECV_BYTES) -> bytes:
        """Whatever has arrived, at least a byte. Raises ConnectionLost; TimeoutError when the timeout passed."""
        if self._buffer:
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            return data
        try:
            data = self._socket.recv(size)
        except TimeoutError:
            raise
        except OSError as e:
            raise classify(e, Side.SOURCE) from e
        if not data:
            raise ConnectionLost(
                "the source closed the replication link", side=Side.SOURCE, hint="Keyferry connects again by itself"
            )
        return data

    def unread(self, data: bytes) -> None:
        """Put back bytes that belong to what follows."""
        self._buffer[:0] = data

    def settimeout(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def _line(self) -> bytes:
        while (stop := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > 64 << 10:
                raise SourceError("the source does not speak Redis", hint="check host and port of the source")
            try:
                more = self._socket.recv(4096)
            except TimeoutError as e:
                raise ConnectionLost(
                    f"the source has been silent for {HANDSHAKE_S:.0f} s in the handshake",
                    side=Side.SOURCE,
                    hint="is it a Redis or Valkey server, and not stopped?",
                ) from e
            except OSError as e:
                raise classify(e, Side.SOURCE) from e
            if not more:
                raise ConnectionLost(
                    "the source closed the connection in the handshake",
                    side=Side.SOURCE,
                    hint="Keyferry connects again by itself",
                )
            self._buffer += more
        line = bytes(self._buffer[:stop]).rstrip(b"\r")
        del self._buffer[: stop + 1]
        return line

    def _ask(self, *argv: bytes, optional: bool = False) -> bytes:
        self._send(*argv)
        line = self._line()
        if line.startswith(b"-") and not optional:
            raise classify(line, Side.SOURCE)
        if line[:1] not in (b"+", b"-"):
            raise SourceError(
                "the source does not answer like a Redis server",
                code="not-redis",
                hint="check scheme, host and port of the source",
            )
        return line

    def psync(self, replid: str | None, offset: int) -> Full | Continued:
        """Ask for the stream from byte `offset` + 1 of `replid`, or for a snapshot when `replid` is None."""
        ask = (b"?", b"-1") if replid is None else (replid.encode(), b"%d" % (offset + 1))
        self._send(b"PSYNC", *ask)
        line = self._line()
        while not line:  # newlines keep the link alive while the source prepares its answer
            line = self._line()
        if full := FULLRESYNC.fullmatch(line):
            return Full(full[1].decode(), int(full[2]))
        if continued := CONTINUE.fullmatch(line):
            return Continued(continued[1].decode() if continued[1] else None)
        if line.startswith((b"+FULLRESYNC", b"+CONTINUE")):
            raise _unreadable(line)
        if line.startswith(b"-NOMASTERLINK") or b"not connected with my master" in line:  # the latter before 4.0
            raise SourceError(
                "the source is a replica without a link to its master",
                code="no-master-link",
                retry=classify(b"-LOADING", Side.SOURCE).retry,
                hint="repair its replication, or name the master as source",
            )
        if line.startswith(b"-"):
            raise _refused(line)
        raise SourceError("the source does not know PSYNC", hint="name a Redis 2.8 or later, or a Valkey server")

    def ask_for_all(self) -> None:
        """Ask for a snapshot, and wait for nothing: a server begins its backlog before it answers."""
        self._send(b"PSYNC", b"?", b"-1")

    def refused(self) -> None:
        """Raise what stands against that, once it has been said. TimeoutError: nothing has been said so far."""
        if (data := self.receive()).lstrip(b"\n").startswith(b"-"):
            raise classify(data.lstrip(b"\n").split(b"\r\n")[0], Side.SOURCE)

    def snapshot(self) -> Iterator[bytes | int | None]:
        """The snapshot's bytes as they arrive. First comes its size in bytes, None when unknown (diskless).

        The iterator ends behind the last byte of a sized snapshot; of a diskless one it goes on with whatever
        follows: the caller finds the RDB's end and calls `end_mark`.
        """
        line = self._line()
        while not line:  # newlines while the source forks and saves
            line = self._line()
        if not line.startswith(b"$"):
            raise _refused(line)
        if mark := MARK.fullmatch(line):
            self._mark = mark[1]
            yield None
            while True:
                yield self.receive()
        sized = SIZE.fullmatch(line)
        if sized is None:
            raise _unreadable(line)
        size = int(sized[1])
        self._mark = b""
        yield size
        while size > 0:
            data = self.receive(min(size, RECV_BYTES))
            size -= len(data)
            yield data

    def end_mark(self, rest: bytes) -> None:
        """Check the mark behind a diskless snapshot; `rest` is what was read behind the RDB."""
        if not self._mark:
            if rest:
                raise SourceError("the snapshot is longer than its RDB", code="malformed")
            return
        while len(rest) < len(self._mark):
            rest += self.receive()
        if not rest.startswith(self._mark):
            raise SourceError("the snapshot does not end with its mark", code="malformed")
        self.unread(rest[len(self._mark) :])

    def ack(self, offset: int) -> None:
        """Tell the source what is committed on the target."""
        self._send(b"REPLCONF", b"ACK", b"%d" % max(0, offset))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def _unreadable(line: bytes) -> SourceError:
    said = line[:60].decode(errors="backslashreplace")
    return SourceError(
        f"the source's answer to PSYNC cannot be read: {said!r}",
        code="malformed",
        hint="is the source a Redis or Valkey server, with nothing in between that changes what it says?",
    )


def _refused(line: bytes) -> KeyferryError:
    if b"unknown command" in line.lower() or b"'sync'" in line.lower():
        return CannotContinue(
            "the source does not allow PSYNC",
            side=Side.SOURCE,
            hint="allow PSYNC and REPLCONF to the user of the source URL",
        )
    return classify(line, Side.SOURCE)
