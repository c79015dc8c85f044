"""Which keys a command of a stream may bring into being, where it is not its first argument."""

from __future__ import annotations

import re

from workers.rewrite import IGNORED, SERVER_WIDE
from workers.trimmed import TRIM

SECOND = b"RENAME RENAMENX LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH SMOVE BITOP XGROUP".split()
"""The key is the second argument: that to which something goes."""
STORING = b"SORT GEORADIUS GEORADIUSBYMEMBER".split()
"""It follows the word STORE, or STOREDIST."""
COUNTED = b"EVAL EVALSHA FCALL".split()
"""The second argument says how many follow it."""
NONE = [*IGNORED, *SERVER_WIDE, TRIM, b"FLUSHALL", b"FLUSHDB", b"DEL", b"UNLINK"]
LIBRARY = re.compile(rb"#!\S+[ \t][^\n]*?\bname=([\w.-]+)")
"""The first line of a function library's code."""

TABLE: dict[bytes, str] = {
    **dict.fromkeys(NONE, "none"),
    b"FUNCTION": "function",
    **dict.fromkeys(SECOND, "second"),
    **dict.fromkeys(STORING, "storing"),
    **dict.fromkeys(COUNTED, "counted"),
    **dict.fromkeys([b"MSET", b"MSETNX"], "pairs"),
    **dict.fromkeys([b"JSON.MSET", b"TS.MADD"], "triples"),
    b"MSETEX": "counted pairs",
    b"MOVE": "move",
    b"COPY": "copy",
    b"SELECT": "select",
    b"SWAPDB": "swap",
}
"""Command to its kind; of those that are not here it is the first argument, if they have any."""


def library(code: bytes) -> str | None:
    """Name of a function library, by its code."""
    found = LIBRARY.match(code)
    return found[1].decode() if found else None


def named(kind: str, argv: list[bytes], db: int) -> list[tuple[int, bytes]]:
    """Database and key of each.

    Args:
        kind: as TABLE says.
        db: the database that the command acts on.
    Raises ValueError, IndexError for arguments that make no sense.
    """
    if kind == "second":
        return [(db, argv[2])]
    if kind == "pairs":
        return [(db, key) for key in argv[1::2]]
    if kind == "triples":
        return [(db, key) for key in argv[1::3]]
    if kind == "counted":
        return [(db, key) for key in argv[3 : 3 + int(argv[2])]]
    if kind == "counted pairs":
        return [(db, key) for key in argv[2 : 2 + 2 * int(argv[1]) : 2]]
    if kind == "storing":
        return [(db, argv[i + 1]) for i, arg in enumerate(argv[:-1]) if arg.upper() in (b"STORE", b"STOREDIST")]
    if kind == "move":
        return [(int(argv[2]), argv[1])]
    if kind == "copy":
        at = next((i + 1 for i, arg in enumerate(argv) if i > 2 and arg.upper() == b"DB"), -1)
        return [(int(argv[at]) if at > 0 else db, argv[2])]
    return []
