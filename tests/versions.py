"""docs/versions.md: what is carried to a target of which version, and in what form; found by asking the code."""

from __future__ import annotations

from collections.abc import Iterator

from sync_tasks.errors import UnsupportedType
from tests.unit.codec.newer import NEWER
from tests.unit.codec.samples import VALUES
from workers.codec.convert_cy import convert
from workers.codec.reads import Reads
from workers.older import Older
from workers.target.knows import ASKED, Knows

TARGETS = {
    "Redis 6.2": Knows(Reads(9), frozenset()),
    "Redis 7.0": Knows(Reads(10), frozenset((b"FUNCTION",))),
    "Redis 7.2, Valkey 7.2 to 8.1": Knows(Reads(11), frozenset((b"FUNCTION",))),
    "Redis 7.4": Knows(Reads(12), frozenset((b"FUNCTION", b"HPEXPIREAT"))),
    "Redis 8.0 to 8.4": Knows(Reads(12), frozenset(ASKED)),
    "Redis 8.8": Knows(Reads(14), frozenset(ASKED)),
    "Valkey 9": Knows(Reads(80), frozenset(ASKED)),
}
TYPES = {
    (0, 11): "string",
    (1, 11): "list, as strings",
    (2, 11): "set, as strings",
    (3, 11): "sorted set, scores as text",
    (4, 11): "hash, as strings",
    (5, 11): "sorted set, as strings",
    (7, 11): "value of a module",
    (9, 11): "hash, zipmap",
    (10, 11): "list, ziplist",
    (11, 11): "set, intset",
    (12, 11): "sorted set, ziplist",
    (13, 11): "hash, ziplist",
    (14, 11): "list, quicklist",
    (15, 11): "stream",
    (16, 11): "hash, listpack",
    (17, 11): "sorted set, listpack",
    (18, 11): "list, quicklist of listpacks",
    (19, 11): "stream with counters",
    (20, 11): "set, listpack",
    (21, 11): "stream, consumers with their activity",
    (22, 80): "hash whose fields expire, of Valkey",
    (24, 12): "hash whose fields expire, of Redis",
    (25, 12): "the same, listpack",
    (26, 14): "stream with idempotent producers",
    (27, 14): "stream with pending entries of nobody",
    (28, 14): "array",
}
"""RDB type and the version of a source that may write it."""
COMMANDS = (
    "XSETID s 9-1 ENTRIESADDED 7 MAXDELETEDID 5-0",
    "XGROUP CREATE s g 1-0 ENTRIESREAD 4",
    "FUNCTION LOAD code",
    "HPEXPIREAT h 1795946808634 FIELDS 1 f",
    "HPERSIST h FIELDS 1 f",
    "HSETEX h PXAT 1795946808634 FIELDS 1 f v",
    "HSETEX h KEEPTTL FIELDS 1 f v",
    "HGETDEL h FIELDS 1 f",
)
HEAD = """# Versions

Made from the code by `python -m tests.pages`. Sources: Redis 2.8 and later, Valkey 7.2 and later; targets from Redis
6.2 and Valkey 7.2 on, of either line. What a target has no place for is left out, and said by an event (`left-out`)
with how much and of which key; that it will be, the precheck says (item `value-types`).

## Types of values

*As it stands*: RESTORE with the source's payload. A number: RESTORE in the form of that RDB type, which the target
packs anew by its own thresholds. Values of over 1 MB of payload (streams that travel as they stand 4 MB, strings 8 MB)
are rebuilt by commands in pieces, or poured as one SET, but for what only RESTORE gives: modules, arrays, and streams
of Redis 8.6 and later for a target that reads them. *Refused*: the task stops with an error that names key and type.
"""
MIDDLE = """
## Commands of the stream

What every version knows travels as it is (times absolute, see [architecture.md](architecture.md)). Of what some do not:
"""
TAIL = """
A source that sends scripts instead of what they did (before 5.0, or with `lua-replicate-commands no`) has them run
again on the target, whole, though only their digest came. Times that a script gives to keys it names are then asked of
the source. A script that reads times or sets absolute ones, or whose text nobody has any more, is not run: the keys
that it names are copied anew. Keys that a script does not name are as the script leaves them on the target, their
times not those of the source; a full sync in place does not know of them.

Any other command that the target does not know (XDELEX, XACKDEL, ...), or not in this form (BITOP DIFF, XADD with
KEEPREF), is not guessed at: whatever keys it may name are copied anew from the source, in the place of its effect.
That goes on in rounds beside the rest of the stream, on the same connection: at 20 such commands a second a run stays
in sync, at 1000 a second it follows with a delay of a tenth of a second, and is said to be in sync, or cut over, when
they pause.
HINCRBYFLOAT of Redis 8 comes as HSETEX with KEEPTTL: to Redis 7.4, which does not know that, take Redis 8 instead.
"""


def page() -> str:
    """The page."""
    names = " | ".join(TARGETS)
    lines = [HEAD, f"| type | | {names} |", "|---" * (len(TARGETS) + 2) + "|"]
    for (kind, source), what in TYPES.items():
        cells = (_value(kind, source, target.reads) for target in TARGETS.values())
        lines.append(f"| {kind} | {what} | {' | '.join(cells)} |")
    lines += [MIDDLE, f"| command | {names} |", "|---" * (len(TARGETS) + 1) + "|"]
    for text in COMMANDS:
        lines.append(f"| `{text}` | {' | '.join(_commands(text))} |")
    return "\n".join([*lines, TAIL])


def _value(kind: int, source: int, reads: Reads) -> str:
    if reads.takes(kind, source):
        return "as it stands"
    try:
        form, _, lost = convert(kind, (VALUES if source == 80 else VALUES | NEWER)[kind], source, reads.timed,
                                reads.stream, 0)  # fmt: skip
    except UnsupportedType:
        return "refused"
    return f"{form}, something left out" if lost else str(form)


def _commands(text: str) -> Iterator[str]:
    for target in TARGETS.values():
        done = Older(target, lambda *_: None).rewrite(text.encode().split())
        if done is None:
            yield "key copied anew"
        elif done == [text.encode().split()]:
            yield "as it is"
        else:
            yield "; ".join(f"`{b' '.join(argv).decode()}`" for argv in done) or "left out"
