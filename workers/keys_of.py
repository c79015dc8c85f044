"""Which keys commands name: the target itself is asked, it knows its commands best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from sync_tasks.answers import classify
from sync_tasks.errors import Side
from workers.codec.resp_cy import ReplyError
from workers.rewrite import IGNORED, STREAM, WHOLE
from workers.single import DELETING, SINGLE
from workers.target.link import TargetLink
from workers.trimmed import TRIM

BATCH = 1000
BATCH_BYTES = 4 << 20
Key = tuple[int, bytes]
"""The source's number of a database, and a key in it."""
Command = tuple[int, list[bytes]]
"""The source's database that a command acts on, and its arguments."""
KEYLESS = b"no key arguments"
UNCLEAR = (b"Invalid arguments", b"Invalid command", b"Invalid number of arguments", b"wrong number of arguments")
"""Answers of a server that does not say: each argument may be a key then."""
Asking = Callable[[list[list[bytes]]], Sequence[list[bytes] | None]]
"""Asks another server which keys commands name; None: it does not say, either."""


def keys_of(
    link: TargetLink, commands: Iterable[Command], ask: Asking | None = None
) -> Iterator[tuple[Command, set[Key]]]:
    """Each command, and the keys that it names, in every database it concerns. Nothing may be in flight on the link.

    Args:
        ask: the source, which knows also those of its commands that the target does not.
    Raises what the target answers, unless it says that there is no key.
    """
    batch: list[Command] = []
    size = 0
    for command in commands:
        batch.append(command)
        size += sum(map(len, command[1]))
        if len(batch) >= BATCH or size > BATCH_BYTES:
            yield from _ask(link, batch, ask)
            batch, size = [], 0
    yield from _ask(link, batch, ask)


def reads_more(argv: list[bytes]) -> bool:
    """Whether a command that writes may read keys which it does not name."""
    name = argv[0].upper()
    if name == b"SORT":
        words = {arg.upper() for arg in argv[2:]}
        return b"STORE" in words and not words.isdisjoint({b"BY", b"GET"})
    return name in (b"EVAL", b"EVALSHA")


def _ask(
    link: TargetLink, batch: Sequence[Command], ask: Asking | None
) -> Iterator[tuple[Command, set[Key]]]:
    asked = [argv for _, argv in batch if _is_asked(argv)]
    said = link.try_all([[b"COMMAND", b"GETKEYS", *argv] for argv in asked]) if asked else []
    unclear = [i for i, answer in enumerate(said) if _is_unclear(answer)]
    if ask is not None and unclear:
        for i, keys in zip(unclear, ask([asked[i] for i in unclear]), strict=True):
            said[i] = said[i] if keys is None else keys
    answers = iter(said)
    for db, argv in batch:
        yield (db, argv), _places(db, argv, _named(argv, next(answers)) if _is_asked(argv) else [])


def _is_unclear(said: list[bytes] | ReplyError) -> bool:
    return isinstance(said, ReplyError) and KEYLESS not in said.line and any(words in said.line for words in UNCLEAR)


def _is_asked(argv: list[bytes]) -> bool:
    name = argv[0].upper()
    return not any(name in some for some in (SINGLE, DELETING, IGNORED, STREAM, WHOLE, (TRIM,)))


def _named(argv: list[bytes], said: list[bytes] | ReplyError) -> list[bytes]:
    if not isinstance(said, ReplyError):
        return said
    if KEYLESS in said.line:
        return []
    if _is_unclear(said):
        return argv[1:]
    raise classify(said.line, Side.TARGET)


def _places(db: int, argv: list[bytes], keys: list[bytes]) -> set[Key]:
    """MOVE and COPY may name another database."""
    name = argv[0].upper()
    if name in SINGLE:
        return {(db, argv[1])}
    if name in DELETING:
        return {(db, key) for key in argv[1:]}
    if name == b"MOVE":
        return {(db, argv[1]), (int(argv[2]), argv[1])}
    if name == b"COPY":
        at = next((i + 1 for i, a in enumerate(argv) if i > 2 and a.upper() == b"DB"), -1)
        return {(db, argv[1]), (int(argv[at]) if at > 0 else db, argv[2])}
    return {(db, key) for key in keys}
