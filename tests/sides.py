"""What `tests.compare` asks one server: which keys it has, their types, expiries and values."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.raw import Refused, Wire, arg, command, for_each, lines, replies

OURS = b"keyferry:"
BATCH = 500  # keys that are read together, about
FIELDS = 1000  # of a hash whose expiries are asked for by one command
Range = tuple[int, int]  # a moment in ms since 1970, known to lie between the two
NEVER: Range = (-1, -1)
GONE = b"none"

READS: dict[bytes, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {
    b"string": ((b"GET",), ()),
    b"list": ((b"LRANGE",), (b"0", b"-1")),
    b"set": ((b"SMEMBERS",), ()),
    b"zset": ((b"ZRANGE",), (b"0", b"-1", b"WITHSCORES")),
    b"hash": ((b"HGETALL",), ()),
    b"stream": ((b"XINFO", b"STREAM"), (b"FULL", b"COUNT", b"0")),
}
"""The words before and after the key that read a value of each type."""


@dataclass
class Heads:
    """What one server says of a batch of keys before their values are read; a list has an item for each key."""

    types: list[bytes]
    expiries: list[Range]
    sizes: list[int]  # bytes of memory, about


class Side:
    """One server with a connection to each database."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.wires: dict[int, Wire] = {}
        self.client = redis.Redis.from_url(self.url, protocol=2, socket_timeout=120, retry=Retry(NoBackoff(), 0))
        info = self.client.info()
        self.valkey = "valkey_version" in info
        said = str(info["valkey_version"] if self.valkey else info["redis_version"])
        self.version = tuple(int(part) for part in said.split(".")[:2])
        self.dbs = {int(name[2:]) for name in info if name.startswith("db") and name[2:].isdigit()}
        self.full = self.version >= (6, 0)  # shows all of a stream at once
        self.counters = self.version >= (7, 0)  # stream counters: unknown to a server before 7.0
        self.has_field_expiry = self.version >= (9, 0) if self.valkey else self.version >= (7, 4)

    def wire(self, db: int) -> Wire:
        if db not in self.wires:
            self.wires[db] = Wire(f"{self.url}/{db}")
        return self.wires[db]

    def close(self) -> None:
        self.client.close()
        for wire in self.wires.values():
            wire.close()

    def now_ms(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def batches(self, db: int) -> Iterator[list[bytes]]:
        """All keys of a database; some may be in two batches."""
        cursor = b"0"
        while True:
            (answer,) = self.wire(db).ask(command(b"SCAN", cursor, b"COUNT", b"%d" % BATCH))
            ((cursor, found),) = replies(answer)
            if keys := [key for key in dict.fromkeys(found) if not key.startswith(OURS)]:
                yield keys
            if cursor == b"0":
                return

    def lacks(self, db: int, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` that are not there."""
        wire = self.wire(db)
        (count,) = wire.ask(command(b"EXISTS", *keys))
        if count == b":%d\r\n" % len(keys):
            return []
        (each,) = wire.ask(for_each([arg(key) for key in keys], b"EXISTS"))
        return [key for key, there in zip(keys, lines(each), strict=True) if there != b":1"]

    def functions(self) -> list[tuple[Any, ...]]:
        """Every function library: name, engine, code."""
        if self.version < (7, 0):
            return []
        libraries = self.client.execute_command("FUNCTION", "LIST", "WITHCODE")
        maps = [dict(zip(item[::2], item[1::2], strict=True)) for item in libraries]
        return sorted((item[b"library_name"], item[b"engine"], item[b"library_code"]) for item in maps)

    def ask_heads(self, db: int, args: Sequence[bytes]) -> None:
        """Ask for what `heads` reads, of keys as packed arguments."""
        expiries = for_each(args, b"PEXPIRETIME" if self.version >= (7, 0) else b"PTTL")
        words = (b"MEMORY", b"USAGE") if self.version >= (4, 0) else (b"DEBUG", b"OBJECT")
        self.wire(db).send(for_each(args, b"TYPE"), expiries, for_each(args, *words))

    def heads(self, db: int, args: Sequence[bytes]) -> Heads:
        types, expiries, sizes = map(lines, self.wire(db).receive())
        if self.version < (4, 0):
            sizes = [_serialized(line) for line in sizes]
        refused = [line for line in (*types, *expiries, *sizes) if line.startswith(b"-")]
        assert not refused, refused[0]
        moments = [NEVER if line.startswith(b":-") else (int(line[1:]), int(line[1:])) for line in expiries]
        if self.version < (7, 0):
            volatile = [i for i, moment in enumerate(moments) if moment is not NEVER]
            for i, moment in zip(volatile, self._moments(db, [args[i] for i in volatile]), strict=True):
                moments[i] = moment
        return Heads([line[1:] for line in types], moments, [max(0, int(line[1:])) for line in sizes])

    def _moments(self, db: int, args: Sequence[bytes]) -> list[Range]:
        """Before 7.0 only the time left can be asked: the moment lies between two readings of the clock."""
        if not args:
            return []
        clock = command(b"TIME")
        (answer,) = self.wire(db).ask(clock + for_each(args, b"PTTL", after=clock))
        answers = replies(answer)
        times = [int(at[0]) * 1000 + int(at[1]) // 1000 for at in answers[::2]]
        left = answers[1::2]
        return [(times[i] + ms, times[i + 1] + ms) if ms >= 0 else NEVER for i, ms in enumerate(left)]


def _serialized(line: bytes) -> bytes:
    """The size in what DEBUG OBJECT says, as MEMORY USAGE would say it."""
    if line == b"-ERR no such key":
        return b":-1"
    found = re.search(rb"serializedlength:(\d+)", line)
    return b":" + found[1] if found else line


class Unread:
    """What stands for a value that could not be read, since the key has changed its type or is gone; equals nothing."""

    def __init__(self, why: bytes) -> None:
        self.why = why

    def __repr__(self) -> str:
        return f"unread: {self.why!r}"


def reading(type: bytes, args: Sequence[bytes], full: bool = True) -> bytes:
    """The commands that read values of a type; not `full`: of a stream its entries alone, before 6.0."""
    assert type in READS, f"a type this comparison does not know: {type!r}"
    words, end = READS[type] if full or type != b"stream" else ((b"XRANGE",), (b"-", b"+"))
    return for_each(args, *words, end=end)


def fields_in_parts(value: dict[bytes, bytes]) -> list[list[bytes]]:
    """Fields of a hash, as many at once as one command may ask for."""
    names = list(value)
    return [names[at : at + FIELDS] for at in range(0, len(names), FIELDS)]


def asking_times(key: bytes, parts: Sequence[Sequence[bytes]]) -> bytes:
    """The commands that ask for expiries of fields of a hash, whose key is a packed argument; one for each part."""
    return b"".join(
        command(b"HPEXPIRETIME", more=3 + len(names))
        + b"".join((key, arg(b"FIELDS"), arg(b"%d" % len(names)), *map(arg, names)))
        for names in parts
    )


def canonical(type: bytes, answer: Any, counters: bool) -> Any:
    """What of the answer to a reading command must be the same on both sides."""
    if isinstance(answer, Refused):
        return Unread(answer)
    match type:
        case b"string" | b"list":
            return answer
        case b"set":
            return frozenset(answer)
        case b"zset":
            return [(member, _score(score)) for member, score in zip(answer[::2], answer[1::2], strict=True)]
        case b"hash":
            return dict(zip(answer[::2], answer[1::2], strict=True))
    return _stream(answer, counters)


def _score(score: bytes) -> bytes:
    """A score by its bits, whatever way the server writes it."""
    return struct.pack(">d", float(score))


def _named(flat: Sequence[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _stream(answer: Any, counters: bool) -> Any:
    """Entries, counters, groups, pending entries. Left out: when a consumer was last seen, which no server
    replicates, and the shape of the tree."""
    if not answer or isinstance(answer[0], list):
        return answer  # of XRANGE
    info = _named(answer)
    kept = ["length", "last-generated-id", "entries"]
    kept += ["max-deleted-entry-id", "entries-added"] if counters else []
    out = {name: info[name] for name in kept if name in info}
    out["groups"] = [_group(_named(group), counters) for group in info["groups"]]
    return out


def _group(group: dict[str, Any], counters: bool) -> dict[str, Any]:
    kept = ["name", "last-delivered-id", "pel-count", "pel", "pending"]
    kept += ["entries-read"] if counters else []
    out = {name: group[name] for name in kept if name in group}
    consumers = [_named(consumer) for consumer in group["consumers"]]
    out["consumers"] = sorted((c["name"], c["pending"]) for c in consumers)
    return out
