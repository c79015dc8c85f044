"""Commands of several keys where a filter takes some of them and not others: what is left of them for the target.

Split where the result is the same. Else they are not sent, and those of their keys that are in scope are copied anew
from the source (`workers.older.refuse`, `workers.repair`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

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
STORING = {b"SORT": 2, b"GEORADIUS": 6, b"GEORADIUSBYMEMBER": 5}
"""The first argument is the key that is read; the one that is written follows STORE or STOREDIST among the options,
which begin there."""
OPERANDS = {b"BY": 1, b"GET": 1, b"LIMIT": 2, b"COUNT": 1, b"STORE": 1, b"STOREDIST": 1}
"""Of an option, the arguments that follow it."""
Places = Mapping[bytes, tuple[int, int, int]]
"""Where the keys of other commands stand, as the target says (COMMAND): first, last, step; 0: it names none."""
SECOND = frozenset((b"XGROUP",))
"""The second argument is the key."""


def divide(
    argv: list[bytes],
    takes: Takes,
    places: Places = MappingProxyType({}),
    near: Callable[[bytes], int] | None = None,
) -> Commands:
    """What becomes of a command that names several keys, or that is not known.

    Args:
        places: of the commands that are not known here.
        near: keys for which it gives the same number may stand in one command; None: all may.

    Raises IndexError, ValueError for arguments that make no sense.
    """
    name = argv[0].upper()
    if name in SPLIT:
        kept = [[key] for key in argv[1:] if takes(key)]
        return [[argv[0], *some] for some in _grouped(kept, near)]
    if name in PAIRS:
        pairs = [argv[i : i + 2] for i in range(1, len(argv) - 1, 2) if takes(argv[i])]
        if near is None and len(pairs) * 2 == len(argv) - 1:
            return [argv]
        # It has set them all, or it would not have come.
        return [[b"MSET", *some] for some in _grouped(pairs, near)]
    if name in MOVES:
        apart = near is not None and near(argv[1]) != near(argv[2])
        return _moved(name, argv, takes(argv[1]), takes(argv[2]), apart)
    if name in SECOND:
        return [argv] if takes(argv[2]) else []
    found = stored(name, argv)
    if found is None:
        return _elsewhere(argv, takes, places.get(name), near)
    goal, read = found
    if goal is None or not takes(goal):
        return []
    if near is not None and any(near(key) != near(goal) for key in read):
        return None
    return [argv] if all(map(takes, read)) and not _reads_more(name, argv) else None


def _grouped(given: list[list[bytes]], near: Callable[[bytes], int] | None) -> list[list[bytes]]:
    """Keys, each with what belongs to it, that may stand in one command, in their order."""
    groups: dict[int, list[bytes]] = {}
    for words in given:
        groups.setdefault(0 if near is None else near(words[0]), []).extend(words)
    return list(groups.values())


def written(name: bytes, argv: list[bytes]) -> bytes | None:
    """The one key that a command changes which is not sent; None: it may be any that it names."""
    if name in MOVES:
        return argv[2]
    found = stored(name, argv)
    return None if found is None else found[0]


def _elsewhere(
    argv: list[bytes], takes: Takes, place: tuple[int, int, int] | None, near: Callable[[bytes], int] | None
) -> Commands:
    if place is None:
        return None
    first, last, step = place
    if first == 0:
        return [argv]  # it names no key
    keys = argv[first : (last if last >= 0 else len(argv) + last) + 1 : step]
    inside = [takes(key) for key in keys]
    if all(inside):
        return [argv] if near is None or len(set(map(near, keys))) < 2 else None
    return None if any(inside) else []


def stored(name: bytes, argv: list[bytes]) -> tuple[bytes | None, list[bytes]] | None:
    """Which key a command writes, if any, and which it reads; None: it is not one of these."""
    if (at := STORES.get(name)) is not None:
        return argv[at], argv[at + 1 :]
    if name in COUNTED:
        return argv[1], argv[3 : 3 + int(argv[2])]
    if name in FROM_ONE:
        return argv[1], [argv[2]]
    if name in STORING:
        goals = [words[0] for option, words in _options(name, argv) if option in (b"STORE", b"STOREDIST")]
        return (goals[-1] if goals else None), [argv[1]]
    return None


def _options(name: bytes, argv: list[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Options and their operands, as a server reads them."""
    at = STORING[name]
    while at < len(argv):
        option = argv[at].upper()
        count = OPERANDS.get(option, 0)
        if at + count >= len(argv):
            raise IndexError("an option without its operand")
        yield option, argv[at + 1 : at + 1 + count]
        at += 1 + count


def _reads_more(name: bytes, argv: list[bytes]) -> bool:
    """SORT may read keys that it names by a pattern."""
    return name == b"SORT" and any(
        option in (b"BY", b"GET") and b"*" in words[0] for option, words in _options(name, argv)
    )


def _moved(name: bytes, argv: list[bytes], source: bool, goal: bool, apart: bool) -> Commands:
    if source and goal and not apart:
        return [argv]
    if not source and not goal:
        return []
    if name == b"SMOVE":
        return [taken_from(argv)] * source + [[b"SADD", argv[2], argv[3]]] * goal
    return None if goal else [taken_from(argv)]


def taken_from(argv: list[bytes]) -> list[bytes]:
    """What one of MOVES does to the key that an element leaves."""
    name = argv[0].upper()
    if name == b"SMOVE":
        return [b"SREM", argv[1], argv[3]]
    left = name in (b"LMOVE", b"BLMOVE") and argv[3].upper() == b"LEFT"
    return [b"LPOP" if left else b"RPOP", argv[1]]


def settable(argv: list[bytes]) -> list[bytes]:
    """Keys of MSETEX."""
    return argv[2 : 2 + 2 * int(argv[1]) : 2]
