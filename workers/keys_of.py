"""Which keys commands name: the target itself is asked, it knows its commands best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from workers.codec.resp_cy import ReplyError
from workers.rewrite import IGNORED, STREAM, WHOLE
from workers.target.link import TargetLink

BATCH = 1000
BATCH_BYTES = 4 << 20
Key = tuple[int, bytes]
"""The source's number of a database, and a key in it."""
Command = tuple[int, list[bytes]]
"""The source's database that a command acts on, and its arguments."""


def keys_of(link: TargetLink, commands: Iterable[Command]) -> Iterator[tuple[Command, set[Key]]]:
    """Each command, and the keys that it names, in every database it concerns. Nothing may be in flight on the link."""
    batch: list[Command] = []
    size = 0
    for command in commands:
        batch.append(command)
        size += sum(map(len, command[1]))
        if len(batch) >= BATCH or size > BATCH_BYTES:
            yield from _ask(link, batch)
            batch, size = [], 0
    yield from _ask(link, batch)


def _ask(link: TargetLink, batch: Sequence[Command]) -> Iterator[tuple[Command, set[Key]]]:
    asked: list[list[bytes | int]] = [[b"COMMAND", b"GETKEYS", *argv] for _, argv in batch if _names_keys(argv)]
    answers = iter(link.try_all(asked) if asked else ())
    for db, argv in batch:
        said = next(answers) if _names_keys(argv) else []
        # "The command has no key arguments" is an error for the server.
        yield (db, argv), _places(db, argv, [] if isinstance(said, ReplyError) else said)


def _names_keys(argv: list[bytes]) -> bool:
    name = argv[0].upper()
    return name not in IGNORED and name not in STREAM and name not in WHOLE


def _places(db: int, argv: list[bytes], keys: list[bytes]) -> set[Key]:
    """MOVE and COPY may name another database."""
    name = argv[0].upper()
    places = {(db, key) for key in keys}
    if name == b"MOVE":
        places.add((int(argv[2]), argv[1]))
    elif name == b"COPY":
        at = next((i + 1 for i, a in enumerate(argv) if i > 2 and a.upper() == b"DB"), -1)
        if at > 0:
            places = {(db, argv[1]), (int(argv[at]), argv[2])}
    return places
