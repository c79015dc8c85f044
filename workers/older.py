"""Commands that the target does not know, being older than the source or of the other line: what becomes of them.

Some have an equal, or lose what the target has no place for. Any other becomes a command that the target is sure to
refuse when it executes it: that is read, or counted, like the refusal of any command, and whatever keys it may name are
copied anew from the source (`workers.repair`). So nobody has to know what such a command does.

Which they are, the target tells: an unknown command spoils its window before anything of it is executed, is learned,
and the window is sent again.
"""

from __future__ import annotations

from collections.abc import Callable

from sync_tasks.errors import UnknownCommand
from sync_tasks.names import KEY_PREFIX
from workers.codec import crc64
from workers.codec.convert_cy import LATEST, REDIS_TIMED
from workers.codec.resp_cy import encode
from workers.target.knows import Knows
from workers.target.windows import Run, Window

REFUSED = [b"INCRBY", KEY_PREFIX + b"none", b"-"]
"""Not an integer: it fails wherever it is executed, and leaves nothing behind."""

LONGEST = 32
"""Bytes: the scanner looks for no longer names."""
FIELD_TIMES = frozenset((b"HPEXPIREAT", b"HPERSIST"))

LATEST_AT = {b"HPEXPIREAT": 2, b"HSETEX": 3}
"""Where each has a time, if any."""

OLD = frozenset(
    b"APPEND BITFIELD BITOP BLMOVE BLPOP BRPOP BRPOPLPUSH BZPOPMAX BZPOPMIN COPY DECR DECRBY DEL EVAL EVALSHA EXPIRE"
    b" EXPIREAT FLUSHALL FLUSHDB GEOADD GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE GETDEL GETEX GETSET HDEL HINCRBY"
    b" HINCRBYFLOAT HMSET HSET HSETNX INCR INCRBY INCRBYFLOAT LINSERT LMOVE LPOP LPUSH LPUSHX LREM LSET LTRIM MOVE MSET"
    b" MSETNX PERSIST PEXPIRE PEXPIREAT PFADD PFMERGE PSETEX RENAME RENAMENX RESTORE RPOP RPOPLPUSH RPUSH RPUSHX SADD"
    b" SCRIPT SDIFFSTORE SELECT SET SETBIT SETEX SETNX SETRANGE SINTERSTORE SMOVE SORT SPOP SREM SUNIONSTORE SWAPDB"
    b" UNLINK XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP XSETID XTRIM ZADD ZDIFFSTORE ZINCRBY ZINTERSTORE ZPOPMAX ZPOPMIN"
    b" ZRANGESTORE ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE".split()
)
"""Writing commands of Redis 6.2, the oldest target (its COMMAND). One that lacks such a command has been forbidden it:
an operator is to hear of that."""


class Learned:
    """Names of commands that the target has refused as unknown: they are not sent again.

    Args:
        event: records an event: kind and text.
    """

    def __init__(self, event: Callable[[str, str], None]) -> None:
        self._event = event
        self.names: frozenset[bytes] = frozenset()

    def learn(self, error: UnknownCommand) -> bool:
        """Whether the command is one that the target may rightly not know, and was not learned before."""
        name = error.argv[0].upper()
        if name in OLD or name in self.names or not 0 < len(name) < LONGEST:
            return False
        self.names |= {name}
        text = f"{error.message}; whatever keys {name.decode(errors='replace')} may name are copied anew each time"
        self._event("unknown-command", text)
        return True


class Older:
    """Rewrites for one target.

    Args:
        knows: what it knows.
        left_out: told of what it has no place for: how much, what, of which key.
    """

    def __init__(self, knows: Knows, left_out: Callable[[int, str, bytes], None]) -> None:
        self._knows, self._left_out = knows, left_out
        self.places = knows.places
        self.kinds: dict[bytes, str] = dict.fromkeys(knows.learned, "unknown")
        if not knows.reads.counters:
            self.kinds |= dict.fromkeys((b"XSETID", b"XGROUP"), "older")
        if b"HGETDEL" not in knows.commands:
            self.kinds[b"HGETDEL"] = "older"
        if not knows.reads.timed:
            self.kinds[b"HPERSIST"] = "older"

    def rewrite(self, argv: list[bytes]) -> list[list[bytes]] | None:
        """What the target gets for a command, whose times are absolute; None: there is no equal."""
        name = argv[0].upper()
        if name in FIELD_TIMES and not self._knows.reads.timed:
            return self._no_times(argv)
        if self._knows.reads.timed == REDIS_TIMED and name in LATEST_AT:
            argv = _not_later(argv, LATEST_AT[name])
        if name == b"HSETEX" and name not in self._knows.commands:
            return self._hsetex(argv)
        if name == b"HGETDEL" and name not in self._knows.commands:
            return [[b"HDEL", argv[1], *argv[4:]]]
        if name == b"FUNCTION" and name not in self._knows.commands:
            self._left_out(1, "FUNCTION commands", argv[1])
            return []
        if name == b"FUNCTION" and argv[1].upper() == b"RESTORE" and len(argv) > 2:
            return [[*argv[:2], self._libraries(argv[2]), *argv[3:]]]
        if name == b"XSETID" and not self._knows.reads.counters:
            return [argv[:3]]
        if name == b"XGROUP" and not self._knows.reads.counters:
            return [_without_count(argv)]
        return [argv]

    def _libraries(self, payload: bytes) -> bytes:
        """What FUNCTION DUMP gave, stating a version that the target takes."""
        body = payload[:-10] + self._knows.reads.footer(int.from_bytes(payload[-10:-8], "little")).to_bytes(2, "little")
        return body + crc64(body).to_bytes(8, "little")

    def _no_times(self, argv: list[bytes]) -> list[list[bytes]]:
        """The field stays until the source's HDEL comes."""
        if argv[0].upper() == b"HPEXPIREAT":
            self._left_out(len(_fields(argv)), "expiries of hash fields", argv[1])
        return []

    def _hsetex(self, argv: list[bytes]) -> list[list[bytes]] | None:
        """HSETEX key [PXAT time | KEEPTTL] FIELDS n field value ...: HSET takes the fields' times away."""
        pairs = _fields(argv)
        word = argv[2].upper()
        if word == b"KEEPTTL" and self._knows.reads.timed:
            return None
        commands = [[b"HSET", argv[1], *pairs]]
        if word == b"PXAT":
            names = pairs[::2]
            expire = [b"HPEXPIREAT", argv[1], argv[3], b"FIELDS", b"%d" % len(names), *names]
            commands += [expire] if self._knows.reads.timed else self._no_times(expire)
        return commands


def _not_later(argv: list[bytes], at: int) -> list[bytes]:
    """With a time that Redis takes: one that never comes stays one."""
    if not argv[at].isdigit() or int(argv[at]) <= LATEST:
        return argv
    return [*argv[:at], b"%d" % LATEST, *argv[at + 1 :]]


def _fields(argv: list[bytes]) -> list[bytes]:
    """What follows FIELDS and its count."""
    return argv[next(i for i, a in enumerate(argv) if i > 1 and a.upper() == b"FIELDS") + 2 :]


def _without_count(argv: list[bytes]) -> list[bytes]:
    """XGROUP CREATE and SETID: without ENTRIESREAD, which follows key, group and id."""
    at = next((i for i, a in enumerate(argv) if i > 4 and a.upper() == b"ENTRIESREAD"), len(argv))
    return argv[:at] + argv[at + 2 :]


def refuse(window: Window, argv: list[bytes], offset: int, *, expected: bool = False) -> None:
    """Put what stands for a command that is not sent into the window, in the database that it acts on.

    Args:
        expected: whether `Rewriter.stands_for` tells so, too.
    """
    window.runs.append(
        Run(window.commands, len(window.body), offset, False, argv, db=window.selected, expected=expected)
    )
    window.beside += sum(map(len, argv))
    window.body += encode(REFUSED)
    window.commands += 1
