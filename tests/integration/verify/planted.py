"""Differences to plant: what both sides hold, what is then done to the target, what must be found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Command = tuple[Any, ...]

T = 4_000_000_000_000  # a moment in ms since 1970, far away
CLAIM = 1_700_000_000_000  # the same for deliveries, which no server takes from the future
MEMBERS = 20_000  # of large collections: well over what is read at once


@dataclass(frozen=True)
class Planted:
    """One difference, or none.

    Args:
        both: commands run on both sides.
        target: commands then run on the target.
        found: (key, kind, field) that a report must hold, and nothing else.
        since: the version both sides need; Valkey's own from 9 on.
    """

    name: str
    both: list[Command]
    target: list[Command]
    found: list[tuple[str, str, str | None]] = field(default_factory=list)
    since: tuple[int, int] = (6, 2)


def value(key: str, part: str | None) -> list[tuple[str, str, str | None]]:
    return [(key, "value", part)]


def expiry(key: str, part: str | None = None) -> list[tuple[str, str, str | None]]:
    return [(key, "expiry", part)]


GROUP = [
    ("XADD", "x", "1-1", "a", "b"),
    ("XADD", "x", "2-1", "a", "b"),
    ("XADD", "x", "3-1", "a", "b"),
    ("XGROUP", "CREATE", "x", "g", "2-1"),
    ("XCLAIM", "x", "g", "c", 0, "1-1", "2-1", "TIME", CLAIM, "RETRYCOUNT", 3, "FORCE"),
]
"""A small stream with a group, a consumer and two pending entries."""

PAIRS = [part for i in range(MEMBERS) for part in (f"f{i}", f"value {i}")]
MANY = [f"member {i}" for i in range(MEMBERS)]
SCORES = [part for i in range(MEMBERS) for part in (i / 7, f"m{i}")]
ENTRIES = [("XADD", "x", f"{i}-1", "field", "x" * 100) for i in range(1, 6001)]
CLAIMED = [
    *ENTRIES,
    ("XGROUP", "CREATE", "x", "g", "6000-1"),
    *(
        ("XCLAIM", "x", "g", f"c{first % 3}", 0, *ids, "TIME", CLAIM, "RETRYCOUNT", 2, "FORCE")
        for first in range(1, 3000, 500)
        for ids in [[f"{i}-1" for i in range(first, first + 500)]]
    ),
]

SMALL = [
    Planted("nothing", [("SET", "a", 1), ("HSET", "h", "f", 1)], []),
    Planted("missing", [("SET", "a", 1), ("SET", "b", 1)], [("DEL", "a")], [("a", "missing", None)]),
    Planted("extra", [("SET", "a", 1)], [("SET", "b", 1)], [("b", "extra", None)]),
    Planted("type", [("SET", "a", 1)], [("DEL", "a"), ("RPUSH", "a", 1)], [("a", "type", None)]),
    Planted("ours", [("SET", "keyferry:a", 1)], [("DEL", "keyferry:a"), ("SET", "keyferry:b", 1)]),
    Planted("string", [("SET", "a", "xyz")], [("SETRANGE", "a", 2, "Z")], value("a", "byte 2")),
    Planted("string of numbers", [("SET", "a", 12)], [("INCR", "a")], value("a", "byte 1")),
    Planted("longer", [("SET", "a", "xyz")], [("APPEND", "a", "1")], value("a", "byte 3")),
    Planted("emptied", [("SET", "a", "")], [("APPEND", "a", "1")], value("a", "byte 0")),
    Planted("item twice", [("RPUSH", "l", "a", "b")], [("RPUSH", "l", "b")], value("l", "index 2")),
    Planted(
        "order",
        [("RPUSH", "l", "a", "b", "c")],
        [("DEL", "l"), ("RPUSH", "l", "a", "c", "b")],
        value("l", "index 1"),
    ),
    Planted("member", [("SADD", "s", "a", "b")], [("SADD", "s", "c")], value("s", "c")),
    Planted("other member", [("SADD", "s", 1, 2)], [("SREM", "s", 2), ("SADD", "s", 3)], value("s", "2")),
    Planted("score", [("ZADD", "z", 0.1, "a")], [("ZADD", "z", "0.10000000000000002", "a")], value("z", "a")),
    Planted("zset member", [("ZADD", "z", 1, "a", 1, "b")], [("ZREM", "z", "b")], value("z", "b")),
    Planted("field", [("HSET", "h", "a", 1, "b", 2)], [("HSET", "h", "b", 3)], value("h", "b")),
    Planted("field gone", [("HSET", "h", "a", 1, "b", 2)], [("HDEL", "h", "b")], value("h", "b")),
    Planted(
        "binary",
        [("HSET", b"\xff\x00", b"\xfe", 1)],
        [("HSET", b"\xff\x00", b"\xfe", 2)],
        value("hex:ff00", "hex:fe"),
    ),
    Planted("key like hex", [("SET", "hex:61", 1)], [("DEL", "hex:61")], [("hex:6865783a3631", "missing", None)]),
    Planted("1 ms later", [("SET", "a", 1, "PXAT", T)], [("PEXPIREAT", "a", T + 1)], expiry("a")),
    Planted("1 ms earlier", [("SET", "a", 1, "PXAT", T)], [("PEXPIREAT", "a", T - 1)], expiry("a")),
    Planted("no expiry", [("SET", "a", 1, "PXAT", T)], [("PERSIST", "a")], expiry("a")),
    Planted("an expiry", [("RPUSH", "a", 1)], [("PEXPIREAT", "a", T)], expiry("a")),
    Planted(
        "expiry and value",
        [("SET", "a", 1, "PXAT", T)],
        [("SET", "a", 2)],
        [("a", "expiry", None), ("a", "value", "byte 0")],
    ),
    Planted("entry", [("XADD", "x", "1-1", "a", "b")], [("XADD", "x", "2-1", "a", "b")], value("x", "entry 2-1")),
    Planted("last id", [("XADD", "x", "1-1", "a", "b")], [("XSETID", "x", "9-9")], value("x", "last-generated-id")),
    Planted(
        "entries added",
        [("XADD", "x", "1-1", "a", "b")],
        [("XSETID", "x", "1-1", "ENTRIESADDED", 9, "MAXDELETEDID", "0-0")],
        value("x", "entries-added"),
        (7, 0),
    ),
    Planted(
        "max deleted",
        [("XADD", "x", "5-1", "a", "b")],
        [("XSETID", "x", "5-1", "ENTRIESADDED", 1, "MAXDELETEDID", "2-0")],
        value("x", "max-deleted-entry-id"),
        (7, 0),
    ),
    Planted("group", GROUP, [("XGROUP", "CREATE", "x", "h", "0")], value("x", "group h")),
    Planted("delivered", GROUP, [("XGROUP", "SETID", "x", "g", "1-1")], value("x", "group g last-delivered-id")),
    Planted(
        "entries read",
        [*GROUP, ("XGROUP", "SETID", "x", "g", "2-1", "ENTRIESREAD", 2)],
        [("XGROUP", "SETID", "x", "g", "2-1", "ENTRIESREAD", 1)],
        value("x", "group g entries-read"),
        (9, 0),
    ),
    Planted("acknowledged", GROUP, [("XACK", "x", "g", "1-1")], value("x", "group g pending 1-1")),
    Planted(
        "claimed 1 ms later",
        GROUP,
        [("XCLAIM", "x", "g", "c", 0, "2-1", "TIME", CLAIM + 1, "RETRYCOUNT", 3)],
        value("x", "group g pending 2-1"),
    ),
    Planted(
        "delivered once more",
        GROUP,
        [("XCLAIM", "x", "g", "c", 0, "2-1", "TIME", CLAIM, "RETRYCOUNT", 4)],
        value("x", "group g pending 2-1"),
    ),
    Planted("consumer", GROUP, [("XGROUP", "CREATECONSUMER", "x", "g", "d")], value("x", "group g consumer d")),
    Planted(
        "field 1 ms later",
        [("HSET", "h", "a", 1, "b", 2), ("HPEXPIREAT", "h", T, "FIELDS", 1, "b")],
        [("HPEXPIREAT", "h", T + 1, "FIELDS", 1, "b")],
        expiry("h", "b"),
        (9, 0),
    ),
    Planted(
        "field without expiry",
        [("HSET", "h", "a", 1, "b", 2), ("HPEXPIREAT", "h", T, "FIELDS", 1, "b")],
        [("HPERSIST", "h", "FIELDS", 1, "b")],
        expiry("h", "b"),
        (9, 0),
    ),
    Planted(
        "field expires",
        [("HSET", "h", "a", 1)],
        [("HPEXPIREAT", "h", T, "FIELDS", 1, "a")],
        expiry("h", "a"),
        (9, 0),
    ),
]

LARGE = [
    Planted(
        "nothing",
        [
            ("SETRANGE", "a", 3_000_000, "end"),
            ("RPUSH", "l", *MANY),
            ("SADD", "s", *MANY),
            ("ZADD", "z", *SCORES),
            ("HSET", "h", *PAIRS),
            *CLAIMED,
        ],
        [],
    ),
    Planted(
        "byte",
        [("SETRANGE", "a", 3_000_000, "x")],
        [("SETBIT", "a", 8 * 700_000, 1)],
        value("a", "bytes 655360..720895"),
    ),
    Planted(
        "longer",
        [("SETRANGE", "a", 3_000_000, "x")],
        [("APPEND", "a", "y")],
        value("a", "bytes 2949120..3014655"),
    ),
    Planted(
        "shorter",
        [("SETRANGE", "a", 2_999_999, "x")],
        [("SET", "a", "\0" * 1_000_000)],
        value("a", "bytes 983040..1048575"),
    ),
    Planted("member", [("SADD", "s", *MANY)], [("SADD", "s", "one more")], value("s", "one more")),
    Planted("member gone", [("SADD", "s", *MANY)], [("SREM", "s", "member 7")], value("s", "member 7")),
    Planted(
        "small on the target",
        [("SADD", "s", *MANY)],
        [("DEL", "s"), ("SADD", "s", "x")],
        [("s", "value", ...)],
    ),
    Planted("small on the source", [("SADD", "s", "member 1")], [("SADD", "s", *MANY)], [("s", "value", ...)]),
    Planted("gone", [("SADD", "s", *MANY)], [("DEL", "s")], [("s", "missing", None)]),
    Planted("extra", [], [("SADD", "s", *MANY)], [("s", "extra", None)]),
    Planted("type", [("SADD", "s", *MANY)], [("DEL", "s"), ("RPUSH", "s", *MANY)], [("s", "type", None)]),
    Planted(
        "score",
        [("ZADD", "z", *SCORES)],
        [("ZADD", "z", 2858, "m20000"), ("ZREM", "z", "m0")],
        value("z", "m0"),
    ),
    Planted(
        "score -0",
        [("ZADD", "z", *SCORES)],
        [("ZREM", "z", "m0"), ("ZADD", "z", "-0.0", "m0")],
        value("z", "m0"),
    ),
    Planted(
        "score by a bit",
        [("ZADD", "z", *SCORES)],
        [("ZADD", "z", repr(701 / 7 + 1e-13), "m701")],
        value("z", "m701"),
    ),
    Planted("field", [("HSET", "h", *PAIRS)], [("HSET", "h", "f19999", "value")], value("h", "f19999")),
    Planted("other field", [("HSET", "h", *PAIRS)], [("HDEL", "h", "f3"), ("HSET", "h", "g", 1)], value("h", "f3")),
    Planted("extra field", [("HSET", "h", *PAIRS)], [("HSET", "h", "g", 1)], value("h", "g")),
    Planted("expiry", [("HSET", "h", *PAIRS)], [("PEXPIREAT", "h", T)], expiry("h")),
    Planted("entry gone", CLAIMED, [("XDEL", "x", "4000-1")], value("x", "entry 4000-1")),
    Planted(
        "entry more",
        [*ENTRIES, ("XADD", "x", "9000-1", "a", "b"), ("XDEL", "x", "9000-1")],
        [("XSETID", "x", "9000-2")],
        value("x", "last-generated-id"),
    ),
    Planted("delivered", CLAIMED, [("XGROUP", "SETID", "x", "g", "17-1")], value("x", "group g last-delivered-id")),
    Planted(
        "consumer",
        CLAIMED,
        [("XGROUP", "CREATECONSUMER", "x", "g", "idle")],
        value("x", "group g consumer idle"),
    ),
    Planted("group", CLAIMED, [("XGROUP", "CREATE", "x", "h", "0")], [("x", "value", ...)]),
    Planted("acknowledged", CLAIMED, [("XACK", "x", "g", "2500-1")], value("x", "group g pending 2500-1")),
    Planted(
        "claimed 1 ms later",
        CLAIMED,
        [("XCLAIM", "x", "g", "c1", 0, "2300-1", "TIME", CLAIM + 1, "RETRYCOUNT", 2)],
        value("x", "group g pending 2300-1"),
    ),
    Planted(
        "field 1 ms later",
        [
            ("HSET", "h", *PAIRS),
            *(("HPEXPIREAT", "h", T + i, "FIELDS", 1, f"f{i}") for i in range(0, 900, 3)),
        ],
        [("HPEXPIREAT", "h", T + 4, "FIELDS", 1, "f3")],
        expiry("h", "f3"),
        (9, 0),
    ),
    Planted(
        "field and its expiry",
        [("HSET", "h", *PAIRS), ("HPEXPIREAT", "h", T, "FIELDS", 1, "f5")],
        [("HPEXPIREAT", "h", T + 4, "FIELDS", 1, "f5"), ("HSET", "h", "f6", "")],
        [*expiry("h", "f5"), *value("h", "f6")],
        (9, 0),
    ),
]
"""Values over what is read at once; `...` as a field: any of those that differ."""
