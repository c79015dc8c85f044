"""What commands of the stream say of keys that the target may have expired by itself (`workers.suspects`)."""

from __future__ import annotations

from enum import IntEnum

from workers.keys_of import reads_more
from workers.single import DELETING, SINGLE


class Kind(IntEnum):
    """What a command does with the keys it names, the more doubtful the higher.

    MAKES: they are the same behind it whatever was there.
    CHANGES: it changes one that lives on until its time; nothing else depends on whether it was there.
    RENEWS: it gives it another time to live, or none: only now the target may have expired it too early.
    JOINS: one key's value goes into another one's, or the command is not known.
    READS: what it reads it need not name.
    """

    MAKES = 0
    CHANGES = 1
    RENEWS = 2
    JOINS = 3
    READS = 4


FIELD_TIMES: frozenset[bytes] = frozenset(
    (b"HEXPIRE", b"HPEXPIRE", b"HEXPIREAT", b"HPEXPIREAT", b"HPERSIST", b"HGETEX")
)
COUNTING = frozenset((b"HINCRBY", b"HINCRBYFLOAT"))
RENEWING = FIELD_TIMES | {b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT", b"PERSIST", b"GETEX"}
MAKING = DELETING | {b"SET", b"SETEX", b"PSETEX", b"GETSET", b"GETDEL", b"RESTORE", b"MSET"}


def kind_of(argv: list[bytes]) -> Kind:
    """Of a command that names keys."""
    name = argv[0].upper()
    if name in MAKING:
        return Kind.CHANGES if name == b"SET" and any(arg.upper() == b"KEEPTTL" for arg in argv[3:]) else Kind.MAKES
    if name in RENEWING:
        return Kind.RENEWS
    if name in SINGLE:
        return Kind.CHANGES
    return Kind.READS if reads_more(argv) else Kind.JOINS


def fields_of(argv: list[bytes]) -> list[bytes]:
    """Fields of its hash on whose times it depends."""
    name = argv[0].upper()
    if name in COUNTING:
        return [argv[2]]
    if name not in FIELD_TIMES:
        return []
    at = next((i for i, arg in enumerate(argv) if i > 1 and arg.upper() == b"FIELDS"), len(argv))
    return argv[at + 2 :]
