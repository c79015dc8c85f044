"""Commands of several keys where a filter takes some of them and not others: what is left of them for the target.

Split where the result is the same. Else they are not sent, and those of their keys that are in scope are copied anew
from the source (`workers.older.refuse`, `workers.repair`).
"""

from __future__ import annotations

from collections.abc import Callable

Takes = Callable[[bytes], bool]
"""Whether a key of the command's database is in scope."""
Commands = list[list[bytes]] | None
"""What the target gets instead; None: the keys are copied anew."""

SPLIT = frozenset(b"DEL UNLINK TOUCH".split())
"""All arguments are keys, each for itself."""
PAIRS = frozenset(b"MSET MSETNX".split())
MOVES = frozenset(b"RPOPLPUSH BRPOPLPUSH LMOVE BLMOVE SMOVE".split())
"""An element goes from the first key to the second."""
STORES = {
    **dict.fromkeys(b"SINTERSTORE SUNIONSTORE SDIFFSTORE PFMERGE".split(), 1),
    b"BITOP": 2,
}
"""Where the key stands that is written; those behind it are read."""
COUNTED = frozenset(b"ZUNIONSTORE ZINTERSTORE ZDIFFSTORE".split())
"""The key that is written, and how many follow that are read."""
FROM_ONE = frozenset(b"ZRANGESTORE GEOSEARCHSTORE".split())
"""The key that is written, and the one that is read."""
STORING = frozenset(b"SORT GEORADIUS GEORADIUSBYMEMBER".split())
"""The key that is read; the one that is written follows STORE or STOREDIST."""
SECOND = frozenset((b"XGROUP",))
"""The second argument is the key."""


def divide(argv: list[bytes], takes: Takes) -> Commands:
    """What becomes of a command that names several keys, or that is not known.

    Raises IndexError, ValueError for arguments that make no sense.
    """
    name = argv[0].upper()
    if name in SPLIT:
        kept = [key for key in argv[1:] if takes(key)]
        return [[argv[0], *kept]] if kept else []
    if name in PAIRS:
        pairs = [word for i in range(1, len(argv) - 1, 2) if takes(argv[i]) for word in argv[i : i + 2]]
        # It has set them all, or it would not have come.
        return [argv if len(pairs) == len(argv) - 1 else [b"MSET", *pairs]] if pairs else []
    if name in MOVES:
        return _moved(name, argv, takes(argv[1]), takes(argv[2]))
    if name in SECOND:
        return [argv] if takes(argv[2]) else []
    found = stored(name, argv)
    if found is None:
        return None
    written, read = found
    if written is None or not takes(written):
        return []
    return [argv] if all(map(takes, read)) and not _reads_more(name, argv) else None


def stored(name: bytes, argv: list[bytes]) -> tuple[bytes | None, list[bytes]] | None:
    """Which key a command writes, if any, and which it reads; None: it is not one of these."""
    if (at := STORES.get(name)) is not None:
        return argv[at], argv[at + 1 :]
    if name in COUNTED:
        return argv[1], argv[3 : 3 + int(argv[2])]
    if name in FROM_ONE:
        return argv[1], [argv[2]]
    if name in STORING:
        at = next((i + 1 for i, word in enumerate(argv[:-1]) if word.upper() in (b"STORE", b"STOREDIST")), 0)
        return (argv[at] if at else None), [argv[1]]
    return None


def _reads_more(name: bytes, argv: list[bytes]) -> bool:
    """SORT may read keys that it names by a pattern."""
    return name == b"SORT" and not {word.upper() for word in argv[2:]}.isdisjoint((b"BY", b"GET"))


def _moved(name: bytes, argv: list[bytes], source: bool, goal: bool) -> Commands:
    if source and goal:
        return [argv]
    if not source and not goal:
        return []
    if name == b"SMOVE":
        return [[b"SREM", argv[1], argv[3]] if source else [b"SADD", argv[2], argv[3]]]
    if goal:
        return None
    left = name in (b"LMOVE", b"BLMOVE") and argv[3].upper() == b"LEFT"
    return [[b"LPOP" if left else b"RPOP", argv[1]]]
