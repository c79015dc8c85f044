"""What a script is told of a command: where its keys stand, which slot they have, of which family it is."""

from __future__ import annotations

from collections.abc import Sequence

GROUPS: dict[bytes, tuple[str, str]] = {
    **dict.fromkeys(
        b"SET SETEX PSETEX GETEX GETDEL GETSET SETNX INCR INCRBY DECR DECRBY INCRBYFLOAT APPEND SETRANGE MSET MSETNX"
        b" MSETEX".split(),
        ("string", "string"),
    ),
    **dict.fromkeys(b"SETBIT BITFIELD BITOP".split(), ("bitmap", "string")),
    **dict.fromkeys(b"PFADD PFMERGE".split(), ("hyperloglog", "string")),
    **dict.fromkeys(
        b"LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LSET LREM LTRIM LINSERT LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH".split(),
        ("list", "list"),
    ),
    **dict.fromkeys(b"SADD SREM SPOP SMOVE SINTERSTORE SUNIONSTORE SDIFFSTORE".split(), ("set", "set")),
    **dict.fromkeys(
        b"HSET HMSET HSETNX HDEL HINCRBY HINCRBYFLOAT HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST HSETEX HGETEX"
        b" HGETDEL".split(),
        ("hash", "hash"),
    ),
    **dict.fromkeys(
        b"ZADD ZREM ZINCRBY ZPOPMIN ZPOPMAX ZREMRANGEBYSCORE ZREMRANGEBYRANK ZREMRANGEBYLEX ZUNIONSTORE ZINTERSTORE"
        b" ZDIFFSTORE ZRANGESTORE".split(),
        ("sorted-set", "zset"),
    ),
    **dict.fromkeys(b"GEOADD GEOSEARCHSTORE GEORADIUS GEORADIUSBYMEMBER".split(), ("geo", "zset")),
    **dict.fromkeys(
        b"XADD XDEL XTRIM XACK XCLAIM XAUTOCLAIM XSETID XACKDEL XDELEX XGROUP".split(), ("stream", "stream")
    ),
    **dict.fromkeys(
        b"DEL UNLINK TOUCH EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST RENAME RENAMENX COPY MOVE RESTORE SORT".split(),
        ("generic", ""),
    ),
    **dict.fromkeys(b"FLUSHALL FLUSHDB SWAPDB".split(), ("server", "")),
}
"""Command to its family, as COMMAND DOCS names it, and to the type of its key, as TYPE does; "": any."""

_NONE = frozenset(b"FLUSHALL FLUSHDB SWAPDB PUBLISH SPUBLISH".split())
_SPANS: dict[bytes, tuple[int, int, int]] = {
    **dict.fromkeys(b"DEL UNLINK TOUCH SINTERSTORE SUNIONSTORE SDIFFSTORE PFMERGE".split(), (1, -1, 1)),
    **dict.fromkeys(
        b"RENAME RENAMENX COPY LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH SMOVE ZRANGESTORE GEOSEARCHSTORE".split(), (1, 2, 1)
    ),
    **dict.fromkeys(b"MSET MSETNX".split(), (1, -1, 2)),
    **dict.fromkeys((b"JSON.MSET", b"TS.MADD"), (1, -1, 3)),
    b"BITOP": (2, -1, 1),
    b"XGROUP": (2, 2, 1),
}
"""First, last (-1: the end) and step."""
_STORING = frozenset(b"SORT GEORADIUS GEORADIUSBYMEMBER".split())
_COUNTED = frozenset(b"ZUNIONSTORE ZINTERSTORE ZDIFFSTORE".split())


def places(argv: Sequence[bytes]) -> list[int]:
    """Where the keys of a writing command stand among its arguments, of which the first is its name.

    Of a command that is not known it is the argument behind the name. Raises ValueError, IndexError for arguments that
    make no sense.
    """
    name, count = argv[0].upper(), len(argv)
    if count < 2 or name in _NONE:
        return []
    if (span := _SPANS.get(name)) is not None:
        first, last, step = span
        return list(range(first, min(count, count if last < 0 else last + 1), step))
    if name in _COUNTED:
        return [1, *range(3, min(count, 3 + int(argv[2])))]
    if name == b"MSETEX":
        return list(range(2, min(count, 2 + 2 * int(argv[1])), 2))
    if name in _STORING:
        return [1, *(i + 1 for i in range(2, count - 1) if argv[i].upper() in (b"STORE", b"STOREDIST"))]
    return [1]
