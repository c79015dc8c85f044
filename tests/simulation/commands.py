"""The commands of a model server: what they do to its data, and what they answer (RESP2, the words of Valkey 9.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.codec.resp_cy import encode

if TYPE_CHECKING:
    from tests.simulation.server import Connection

OK = b"+OK\r\n"
NIL = b"$-1\r\n"
ZERO, ONE = b":0\r\n", b":1\r\n"
Argv = list[bytes]


class Refused(Exception):
    """An error reply."""

    def __init__(self, line: bytes) -> None:
        super().__init__(line)
        self.line = line


WRONG_TYPE = Refused(b"WRONGTYPE Operation against a key holding the wrong kind of value")
NO_INTEGER = Refused(b"ERR value is not an integer or out of range")
NO_HASH_INTEGER = Refused(b"ERR hash value is not an integer")
NO_KEY = Refused(b"ERR no such key")
SYNTAX = Refused(b"ERR syntax error")
NO_DB = Refused(b"ERR DB index is out of range")


@dataclass(frozen=True, slots=True)
class Command:
    """One command; its number of arguments, negative if there may be more; whether it writes, and needs memory."""

    run: Callable[[Connection, Argv], bytes]
    arity: int
    writes: bool = False
    grows: bool = False


COMMANDS: dict[bytes, Command] = {}


def command(name: str, arity: int, *, writes: bool = False, grows: bool = False) -> Callable[[Any], Any]:
    def put(run: Any) -> Any:
        COMMANDS[name.encode()] = Command(run, arity, writes or grows, grows)
        return run

    return put


def integer(value: bytes, error: Refused = NO_INTEGER) -> int:
    try:
        number = int(value)
    except ValueError:
        raise error from None
    if b"%d" % number != value:
        raise error
    return number


def number(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(value: bytes | None) -> bytes:
    return NIL if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def get(c: Connection, key: bytes, kind: type) -> Any:
    value = c.data.dbs[c.db].get(key)
    if value is not None and type(value) is not kind:
        raise WRONG_TYPE
    return value


def own(c: Connection, key: bytes, kind: type) -> Any:
    """The value, to be written to; made when missing."""
    value = get(c, key, kind)
    c.data.change(c.db, key)
    return c.data.dbs[c.db].setdefault(key, kind()) if value is None else value


# --- strings


@command("SET", -3, grows=True)
def set_(c: Connection, argv: Argv) -> bytes:
    db, key, at = c.data.dbs[c.db], argv[1], 3
    when: int | None = None
    while at < len(argv):
        option = argv[at].upper()
        if option in (b"NX", b"XX"):
            if (key in db) is (option == b"NX"):
                return NIL
        elif option in (b"EX", b"PXAT") and at + 1 < len(argv):
            at += 1
            when = integer(argv[at]) if option == b"PXAT" else c.server.now_ms() + 1000 * integer(argv[at])
        else:
            raise SYNTAX
        at += 1
    c.data.change(c.db, key)
    db[key] = argv[2]
    c.data.times.pop((c.db, key), None)
    if when is not None:
        c.data.times[c.db, key] = when
    return OK


@command("GET", 2)
def get_(c: Connection, argv: Argv) -> bytes:
    return bulk(get(c, argv[1], bytes))


@command("INCR", 2, grows=True)
def incr(c: Connection, argv: Argv) -> bytes:
    value = integer(get(c, argv[1], bytes) or b"0") + 1
    c.data.change(c.db, argv[1])
    c.data.dbs[c.db][argv[1]] = b"%d" % value
    return number(value)


@command("APPEND", 3, grows=True)
def append(c: Connection, argv: Argv) -> bytes:
    value = (get(c, argv[1], bytes) or b"") + argv[2]
    c.data.change(c.db, argv[1])
    c.data.dbs[c.db][argv[1]] = value
    return number(len(value))


# --- lists


@command("RPUSH", -3, grows=True)
def rpush(c: Connection, argv: Argv) -> bytes:
    value = own(c, argv[1], list)
    value += argv[2:]
    return number(len(value))


@command("LPOP", 2, writes=True)
def lpop(c: Connection, argv: Argv) -> bytes:
    value = get(c, argv[1], list)
    if value is None:
        return NIL
    c.data.change(c.db, argv[1])
    first = value.pop(0)
    if not value:
        c.data.remove(c.db, argv[1])
    return bulk(first)


@command("LRANGE", 4)
def lrange(c: Connection, argv: Argv) -> bytes:
    first, last = integer(argv[2]), integer(argv[3])
    value = get(c, argv[1], list) or []
    return encode(value[first:] if last == -1 else value[first : last + 1])


# --- hashes


@command("HSET", -4, grows=True)
def hset(c: Connection, argv: Argv) -> bytes:
    if len(argv) % 2:
        raise Refused(b"ERR wrong number of arguments for 'hset' command")
    value = own(c, argv[1], dict)
    before = len(value)
    value.update(zip(argv[2::2], argv[3::2], strict=True))
    return number(len(value) - before)


@command("HSETNX", 4, grows=True)
def hsetnx(c: Connection, argv: Argv) -> bytes:
    if argv[2] in (get(c, argv[1], dict) or ()):
        return ZERO
    own(c, argv[1], dict)[argv[2]] = argv[3]
    return ONE


@command("HINCRBY", 4, grows=True)
def hincrby(c: Connection, argv: Argv) -> bytes:
    by = integer(argv[3])
    value = integer((get(c, argv[1], dict) or {}).get(argv[2], b"0"), NO_HASH_INTEGER) + by
    own(c, argv[1], dict)[argv[2]] = b"%d" % value
    return number(value)


@command("HDEL", -3, writes=True)
def hdel(c: Connection, argv: Argv) -> bytes:
    value = get(c, argv[1], dict) or {}
    there = {field for field in argv[2:] if field in value}
    if there:
        c.data.change(c.db, argv[1])
        for field in there:
            del value[field]
        if not value:
            c.data.remove(c.db, argv[1])
    return number(len(there))


@command("HGET", 3)
def hget(c: Connection, argv: Argv) -> bytes:
    return bulk((get(c, argv[1], dict) or {}).get(argv[2]))


@command("HMGET", -3)
def hmget(c: Connection, argv: Argv) -> bytes:
    value = get(c, argv[1], dict) or {}
    return b"*%d\r\n" % (len(argv) - 2) + b"".join(bulk(value.get(field)) for field in argv[2:])


@command("HGETALL", 2)
def hgetall(c: Connection, argv: Argv) -> bytes:
    return encode([part for pair in (get(c, argv[1], dict) or {}).items() for part in pair])


@command("HKEYS", 2)
def hkeys(c: Connection, argv: Argv) -> bytes:
    return encode(list(get(c, argv[1], dict) or {}))


@command("HEXISTS", 3)
def hexists(c: Connection, argv: Argv) -> bytes:
    return number(argv[2] in (get(c, argv[1], dict) or {}))


# --- keys


@command("DEL", -2, writes=True)
@command("UNLINK", -2, writes=True)
def del_(c: Connection, argv: Argv) -> bytes:
    return number(sum(c.data.remove(c.db, key) for key in argv[1:]))


@command("EXISTS", -2)
def exists(c: Connection, argv: Argv) -> bytes:
    return number(sum(key in c.data.dbs[c.db] for key in argv[1:]))


@command("RENAME", 3, writes=True)
def rename(c: Connection, argv: Argv) -> bytes:
    db, (_, key, goal) = c.data.dbs[c.db], argv
    if key not in db:
        raise NO_KEY
    if key == goal:
        return OK
    value, when = db[key], c.data.times.get((c.db, key))
    c.data.remove(c.db, key)
    c.data.change(c.db, goal)
    db[goal] = value.copy() if isinstance(value, list | dict) else value
    c.data.times.pop((c.db, goal), None)
    if when is not None:
        c.data.times[c.db, goal] = when
    return OK


@command("PEXPIREAT", 3, writes=True)
def pexpireat(c: Connection, argv: Argv) -> bytes:
    when = integer(argv[2])
    if argv[1] not in c.data.dbs[c.db]:
        return ZERO
    c.data.change(c.db, argv[1])
    c.data.times[c.db, argv[1]] = when
    return ONE


@command("EXPIRE", 3, writes=True)
def expire(c: Connection, argv: Argv) -> bytes:
    return pexpireat(c, [argv[0], argv[1], b"%d" % (c.server.now_ms() + 1000 * integer(argv[2]))])


@command("PEXPIRETIME", 2)
def pexpiretime(c: Connection, argv: Argv) -> bytes:
    return number(c.data.times.get((c.db, argv[1]), -1) if argv[1] in c.data.dbs[c.db] else -2)


@command("SCAN", -2)
def scan(c: Connection, argv: Argv) -> bytes:
    options = dict(zip(argv[2::2], argv[3::2], strict=True))
    prefix = options.get(b"MATCH", b"*").rstrip(b"*")
    return b"*2\r\n$1\r\n0\r\n" + encode([k for k in c.data.dbs[c.db] if k.startswith(prefix)])


# --- databases


@command("SELECT", 2)
def select(c: Connection, argv: Argv) -> bytes:
    db = integer(argv[1], Refused(b"ERR invalid DB index"))
    if not 0 <= db < len(c.data.dbs):
        raise NO_DB
    c.db = db
    return OK


@command("FLUSHDB", -1, writes=True)
def flushdb(c: Connection, argv: Argv) -> bytes:
    for key in list(c.data.dbs[c.db]):
        c.data.remove(c.db, key)
    return OK


@command("FLUSHALL", -1, writes=True)
def flushall(c: Connection, argv: Argv) -> bytes:
    for db, keys in enumerate(c.data.dbs):
        for key in list(keys):
            c.data.remove(db, key)
    return OK


@command("SWAPDB", 3, writes=True)
def swapdb(c: Connection, argv: Argv) -> bytes:
    one, two = integer(argv[1]), integer(argv[2])
    dbs, times = c.data.dbs, c.data.times
    keys = [*dbs[one], *(k for k in dbs[two] if k not in dbs[one])]
    for key in keys:
        for db in (one, two):
            c.data.change(db, key)
    for key in keys:
        first, second = dbs[one].pop(key, None), dbs[two].pop(key, None)
        if second is not None:
            dbs[one][key] = second
        if first is not None:
            dbs[two][key] = first
        first_at, second_at = times.pop((one, key), None), times.pop((two, key), None)
        if second_at is not None:
            times[one, key] = second_at
        if first_at is not None:
            times[two, key] = first_at
    return OK


# --- the server


@command("PING", -1)
def ping(c: Connection, argv: Argv) -> bytes:
    return b"+PONG\r\n"


@command("CLIENT", -2)
def client(c: Connection, argv: Argv) -> bytes:
    return OK  # SETNAME


@command("TIME", 1)
def time(c: Connection, argv: Argv) -> bytes:
    seconds, ms = divmod(c.server.now_ms(), 1000)
    return encode([b"%d" % seconds, b"%d" % (1000 * ms)])


@command("INFO", -1)
def info(c: Connection, argv: Argv) -> bytes:
    # No command of the model's source is refused at run time: no error means that nothing has to be copied anew.
    lines = [b"redis_version:7.0.15", b"run_id:1", b"total_error_replies:0", b"total_commands_processed:0"]
    lines.append(b"master_repl_offset:%d" % len(c.data.units))
    lines += [b"db%d:keys=%d,expires=0" % (db, len(keys)) for db, keys in enumerate(c.data.dbs) if keys]
    return bulk(b"\r\n".join(lines) + b"\r\n")


@command("COMMAND", -2)
def command_info(c: Connection, argv: Argv) -> bytes:
    """COMMAND INFO: how many arguments each takes. The keys that a command names are known to `seams`."""
    if argv[1].upper() != b"INFO":
        raise Refused(b"ERR Unknown subcommand or wrong number of arguments for 'COMMAND'")
    known = [COMMANDS.get(name) for name in argv[2:]]
    told = (b"*1\r\n:%d\r\n" % one.arity if one is not None else b"*-1\r\n" for one in known)
    return b"*%d\r\n" % len(known) + b"".join(told)


# --- payloads


@command("DUMP", 2)
def dump(c: Connection, argv: Argv) -> bytes:
    """Its version is all that is asked for."""
    return bulk(b"\x00\x00" + b"\x0a\x00" + b"checksum" if argv[1] in c.data.dbs[c.db] else None)


@command("RESTORE", -4, grows=True)
def restore(c: Connection, argv: Argv) -> bytes:
    """A payload as the model source writes it: plain strings, lists and hashes."""
    kind, parts = argv[3][0], _parts(argv[3][1:-10], argv[3][0])
    c.data.change(c.db, argv[1])
    value: Any = parts[0] if kind == 0 else parts if kind == 1 else dict(zip(parts[::2], parts[1::2], strict=True))
    c.data.dbs[c.db][argv[1]] = value
    return OK


def _parts(body: bytes, kind: int) -> list[bytes]:
    count, pos = (1, 0) if kind == 0 else (body[0] * (2 if kind == 4 else 1), 1)
    parts = []
    for _ in range(count):
        size, pos = (body[pos], pos + 1) if body[pos] < 64 else ((body[pos] & 63) << 8 | body[pos + 1], pos + 2)
        parts.append(body[pos : pos + size])
        pos += size
    return parts
