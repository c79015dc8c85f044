"""A model source: a data set that is written, the stream of its writes, and PSYNC."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.simulation.server import Server
from workers.codec import crc64
from workers.codec.resp_cy import encode, parse
from workers.source.ask import Kind, Position, Values

KEEP = 1 << 20


class Source:
    """Args:
    random: decides what is written.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.server = Server()
        self._client = self.server.connect()
        self.replid, self._ids = "a" * 40, 0
        self.stream = bytearray()  # from offset 0 on
        self._db: int | None = None
        self._count = 0
        self.snapshots = 0
        self._oldest = 0  # number of the id that its stream began with
        self.kept = 0  # offset from which on it has the stream still

    @property
    def end(self) -> int:
        return len(self.stream)

    def data(self) -> list[dict[bytes, object]]:
        return self.server.data.contents()

    # --- what is written

    def write(self, whole: bool = False) -> None:
        """One write, or a transaction of some; with `whole`, perhaps of a whole database."""
        random = self._random
        self._select(random.choice((0, 0, 0, 1)))
        if random.random() < 0.15:
            commands = [self._command() for _ in range(random.randint(2, 4))]
            if whole and random.random() < 0.1:
                commands.insert(random.randrange(len(commands)), self._whole())
            self._do([[b"MULTI"], *commands, [b"EXEC"]])
        elif whole and random.random() < 0.06:
            self._do([self._whole()])
        elif random.random() < 0.05:
            self.ping()
        else:
            self._do([self._command()])

    def ping(self) -> None:
        self.stream += encode([b"PING"])

    def _do(self, commands: list[list[bytes]]) -> None:
        for command in commands:
            self._client.execute(command)
            self.stream += encode(command)

    def _select(self, db: int) -> None:
        if db != self._db:
            self._db = db
            self._do([[b"SELECT", b"%d" % db]])

    def _command(self) -> list[bytes]:
        """It tells when it is left out, and when it is done twice."""
        self._count += 1
        this, random = b"%d" % self._count, self._random
        key = random.choice((b"x", b"y", b"z"))
        return random.choice(
            (
                [b"RPUSH", b"list-" + key, this],
                [b"RPUSH", b"list-" + key, this],
                [b"INCR", b"n-" + key],
                [b"APPEND", b"text-" + key, this + b","],
                [b"HINCRBY", b"hash-" + key, random.choice((b"f", b"g")), b"1"],
                [b"SET", b"value-" + key, this],
                [b"DEL", b"value-" + key],
                [b"LPOP", b"list-" + key],
            )
        )

    def _whole(self) -> list[bytes]:
        return self._random.choice(([b"FLUSHDB"], [b"FLUSHALL"], [b"SWAPDB", b"0", b"1"]))

    def promote(self) -> None:
        """It goes on under another id, as behind a failover that has lost nothing."""
        self._ids += 1
        self.replid = f"{self._ids:040x}"

    def restart(self) -> None:
        """With its data, and without a memory of its stream: offsets begin anew."""
        self._ids += 1
        self.replid, self._oldest = f"{self._ids:040x}", self._ids
        self.stream.clear()
        self.kept, self._db = 0, None

    def forget(self) -> None:
        """The backlog is gone, and with it that some keys were removed."""
        for db, keys in enumerate(self.data()):
            for key in self._random.sample(sorted(keys), self._random.randint(0, min(2, len(keys)))):
                self._select(db)
                self._do([[b"DEL", key]])
        self.kept = self.end

    # --- replication

    def connect(self) -> Session:
        return Session(self)

    def snapshot(self) -> bytes:
        self.snapshots += 1
        out = bytearray(b"REDIS0009")
        for db, keys in enumerate(self.data()):
            if keys:
                out += b"\xfe" + bytes([db])
                for key, value in keys.items():
                    out += _entry(key, value)
        out += b"\xff"
        # Behind a snapshot a master says again which database it is in.
        return bytes(out) + crc64(bytes(out)).to_bytes(8, "little")

    def select_again(self) -> None:
        self._db = None


def _string(value: bytes) -> bytes:
    size = len(value)
    return (bytes([size]) if size < 64 else bytes([0x40 | size >> 8, size & 255])) + value


def _entry(key: bytes, value: object) -> bytes:
    """A key in a snapshot."""
    payload = _value(value)
    return payload[:1] + _string(key) + payload[1:]


def _value(value: object) -> bytes:
    """Its type and its value."""
    if isinstance(value, bytes):
        return b"\x00" + _string(value)
    if isinstance(value, list):
        return b"\x01" + bytes([len(value)]) + b"".join(map(_string, value))
    assert isinstance(value, dict)
    pairs = b"".join(_string(part) for pair in value.items() for part in pair)
    return b"\x04" + bytes([len(value)]) + pairs


class Session:
    """A replica's connection, which is what Keyferry looks like."""

    def __init__(self, source: Source) -> None:
        self._source, self._in = source, b""
        self.snapshots = 0
        self.at: int | None = None  # offset up to which the stream was sent

    def feed(self, data: bytes) -> bytes:
        self._in += data
        out = b""
        while self._in:
            argv, end = parse(self._in, 0)
            if end < 0:
                break
            self._in = self._in[end:]
            if argv[0] == b"PSYNC":
                out += self._psync(argv[1].decode(), int(argv[2]))
            elif argv[:2] != [b"REPLCONF", b"ACK"]:
                out += b"+OK\r\n"
        return out

    def _psync(self, replid: str, wanted: int) -> bytes:
        source = self._source
        known = replid == source.replid or (
            replid != "?" and source._oldest <= (0 if replid == "a" * 40 else int(replid, 16)) <= source._ids
        )
        if known and source.kept < wanted <= source.end + 1:
            self.at = wanted - 1
            return b"+CONTINUE %b\r\n" % source.replid.encode()
        source.select_again()
        self.snapshots += 1
        self.at = source.end
        data = source.snapshot()
        return b"+FULLRESYNC %b %d\r\n$%d\r\n%b" % (source.replid.encode(), self.at, len(data), data)

    def more(self, size: int) -> bytes:
        """Bytes of the stream that are sent now."""
        assert self.at is not None
        data = bytes(self._source.stream[self.at : self.at + size])
        self.at += len(data)
        return data

    @property
    def behind(self) -> int:
        return 0 if self.at is None else self._source.end - self.at

    def close(self) -> None:
        self.at = None


class Questions:
    """Ordinary questions to the source, in place of `workers.source.ask.Source`."""

    still = compares = False

    def __init__(self, source: Source) -> None:
        self._source = source

    def offset(self) -> int:
        return self._source.end

    def kind_if_there(self) -> Kind:
        return Kind(redis=True, major=7)

    def position(self) -> Position:
        return Position(self._source.replid, self._source.end)

    def keys(self, _: object = None) -> int:
        return sum(map(len, self._source.data()))

    def sizes(self, keys: Sequence[tuple[int, bytes]]) -> list[int]:
        return [1] * len(keys)

    def values(self, keys: Sequence[tuple[int, bytes]]) -> Values:
        """As DUMP gives them, whose footer nobody reads here."""
        found = [self._source.data()[db].get(key) for db, key in keys]
        payloads = [None if value is None else _value(value) + bytes(10) for value in found]
        return Values(self.position(), payloads, [-1] * len(keys), True, False)

    def named(self, commands: list[list[bytes]]) -> list[list[bytes] | None]:
        return [None] * len(commands)

    def touch(self, db: int, keys: list[bytes]) -> None: ...

    def close(self) -> None: ...
