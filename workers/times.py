"""Rewriting the commands that carry expiries: relative becomes absolute, and a hold or the extension is put on.

Conditions (NX, XX, GT, LT, FNX, FXX, IFEQ) are dropped where a master propagates only what took effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sync_tasks.errors import Malformed
from workers.clock import Clock
from workers.codec import convert, crc64
from workers.codec.programs import TIMED_HASHES
from workers.codec.reads import Reads
from workers.expiry import FIELD_HOLD, held, held_field, hold

NUMBER = re.compile(rb"-?\d+(\.\d+)?")
UNITS = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}


@dataclass(frozen=True, slots=True)
class Retimed:
    """What becomes of one command; `keys` are those whose expiry is held."""

    commands: list[list[bytes]]
    keys: list[bytes]
    lost: int = 0  # what the target has no place for, as `workers.codec.convert_cy.convert` counts


def retime(argv: list[bytes], clock: Clock, reads: Reads, redis: bool = False) -> Retimed | None:
    """One command that may carry a time, rewritten for the target; None: it has no equal there.

    Args:
        redis: that is the source's line: of a command with conditions it names those fields alone that it changed.
    Raises ValueError, Malformed.
    """
    name = argv[0].upper()
    if name in RESTORING:
        return _restore(argv, clock, reads)
    if name in FIELD_EXPIRIES:
        return _hexpire(name, argv, clock, reads, redis)
    return _HOW[name](name, argv, clock)


def _key(key: bytes, command: list[bytes], at: int, clock: Clock, time_ms: int, exact: bool) -> Retimed:
    written = clock.write(time_ms, exact)
    command[at] = b"%d" % written
    return Retimed([command], [key] if held(written) else [])


def _expire(name: bytes, argv: list[bytes], clock: Clock) -> Retimed:
    unit = 1 if name.startswith(b"P") else 1000
    relative = not name.endswith(b"AT")
    when = clock.absolute(argv[2], unit, relative)
    return _key(argv[1], [b"PEXPIREAT", argv[1], b""], 2, clock, when, not relative)


def _setex(name: bytes, argv: list[bytes], clock: Clock) -> Retimed:
    when = clock.absolute(argv[2], 1 if name == b"PSETEX" else 1000, True)
    return _key(argv[1], [b"SET", argv[1], argv[3], b"PXAT", b""], 4, clock, when, False)


def _set(_: bytes, argv: list[bytes], clock: Clock) -> Retimed:
    command = argv[:3]
    option = 3
    while option < len(argv):
        word = argv[option].upper()
        if word in UNITS:
            unit, relative = UNITS[word]
            when = clock.absolute(argv[option + 1], unit, relative)
            return _key(argv[1], [*command, b"PXAT", b""], 4, clock, when, not relative)
        if word == b"KEEPTTL":
            return Retimed([[*command, word]], [])
        option += 2 if word in (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE") else 1
    return Retimed([command], [])


def unknown_time(argv: list[bytes]) -> Retimed | None:
    """A SET of a number that may be an INCRBYFLOAT, after which the key has the time it had, or none: held until the
    source is asked. None: it is another command."""
    if argv[0].upper() != b"SET" or len(argv) != 3 or not NUMBER.fullmatch(argv[2]):
        return None
    return Retimed([[*argv, b"PXAT", b"%d" % hold(1, exact=False)]], [argv[1]])


def _getex(_: bytes, argv: list[bytes], clock: Clock) -> Retimed:
    word = argv[2].upper() if len(argv) > 2 else b""
    if word == b"PERSIST":
        return Retimed([[b"PERSIST", argv[1]]], [])
    if word not in UNITS:
        return Retimed([], [])
    unit, relative = UNITS[word]
    when = clock.absolute(argv[3], unit, relative)
    return _key(argv[1], [b"PEXPIREAT", argv[1], b""], 2, clock, when, not relative)


def _restore(argv: list[bytes], clock: Clock, reads: Reads) -> Retimed:
    when, exact = when_of(argv, clock)
    replace = b"REPLACE" in (a.upper() for a in argv[4:])
    return restore(argv[1], argv[3], when, exact, clock, reads, replace=replace)


def when_of(argv: list[bytes], clock: Clock) -> tuple[int, bool]:
    """The expiry that a RESTORE gives, in ms since the epoch, -1: none; and whether that is to the millisecond."""
    relative = b"ABSTTL" not in (a.upper() for a in argv[4:])
    return (-1 if int(argv[2]) == 0 else clock.absolute(argv[2], 1, relative)), not relative


def renamed(key: bytes, temporary: bytes, when: int, exact: bool, fields: bool, clock: Clock) -> Retimed:
    """As `restore`, of a value that has been built under another name.

    Args:
        temporary: that name.
        fields: whether it is a hash whose fields expire; they are held.
    """
    keys = [key] if fields else []
    commands = [[b"UNLINK", key], [b"RENAME", temporary, key]]  # RENAME alone would free the old value at once
    if when < 0:
        return Retimed(commands, keys)
    done = _key(key, [b"PEXPIREAT", key, b""], 2, clock, when, exact)
    return Retimed([*commands, *done.commands], done.keys or keys)


def restore(
    key: bytes, payload: bytes, when: int, exact: bool, clock: Clock, reads: Reads, *, replace: bool = True
) -> Retimed:
    """A RESTORE of what DUMP gave.

    Args:
        when: its expiry in ms since the epoch; -1: none.
        exact: whether that is to the millisecond.
        clock: decides what is written.
        reads: which forms of values the target takes.
        replace: whether over what is there.
    """
    try:
        payload, lost = fitting(payload, reads)
    except Malformed as e:
        raise type(e)(f"{e.message}, of key {key[:64]!r}", hint=e.hint) from e
    # Fields are always held, also when caught up: settling gives each its extension.
    keys = [key] if payload[0] in TIMED_HASHES else []
    command = [b"RESTORE", key, b"0", payload, *([b"REPLACE"] if replace else [])]
    if when < 0:
        return Retimed([command], keys, lost)
    done = _key(key, [*command, b"ABSTTL"], 2, clock, when, exact)
    return Retimed(done.commands, done.keys or keys, lost)


def fitting(payload: bytes, reads: Reads, later_ms: int = FIELD_HOLD) -> tuple[bytes, int]:
    """What DUMP gave in a form that the target reads, and how much that has left out.

    Args:
        later_ms: added to the expiries of a hash's fields, by default the hold.
    """
    kind, value, source = payload[0], payload[1:-10], int.from_bytes(payload[-10:-8], "little")
    footer, lost = reads.footer(source), 0
    if kind in TIMED_HASHES or not reads.takes(kind, source):
        kind, value, lost = convert(kind, value, source, reads.timed, reads.stream, later_ms)
    elif footer == source:
        return payload, 0
    body = bytes([kind]) + value + footer.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little"), lost


def _fields(argv: list[bytes]) -> int:
    return next(i for i, a in enumerate(argv) if i > 1 and a.upper() == b"FIELDS")


def _hash(command: list[bytes], at: int, clock: Clock, time_ms: int) -> Retimed:
    written = clock.write_field(time_ms)
    command[at] = b"%d" % written
    return Retimed([command], [command[1]] if held_field(written) else [])


def _hexpire(name: bytes, argv: list[bytes], clock: Clock, reads: Reads, redis: bool) -> Retimed | None:
    unit = 1 if name.startswith(b"HP") else 1000
    when = clock.absolute(argv[2], unit, not name.endswith(b"AT"))
    fields = _fields(argv)
    conditions = [a.upper() for a in argv[3:fields]]
    if redis or int(argv[fields + 1]) == 1:
        conditions = []  # it took effect, or it would not have come
    compares = any(c in (b"GT", b"LT") for c in conditions)
    if compares and reads.timed and (clock.holding or clock.unsettled()):
        return None  # a field on the target may have the hold, another not
    return _hash([b"HPEXPIREAT", argv[1], b"", *conditions, *argv[fields:]], 2, clock, when)


def _hsetex(_: bytes, argv: list[bytes], clock: Clock) -> Retimed:
    fields = _fields(argv)
    option = 2
    while option < fields:
        word = argv[option].upper()
        if word in UNITS:
            unit, relative = UNITS[word]
            when = clock.absolute(argv[option + 1], unit, relative)
            return _hash([b"HSETEX", argv[1], b"PXAT", b"", *argv[fields:]], 3, clock, when)
        if word == b"KEEPTTL":
            return Retimed([[b"HSETEX", argv[1], word, *argv[fields:]]], [])
        option += 1
    return Retimed([[b"HSETEX", argv[1], *argv[fields:]]], [])


def _hgetex(_: bytes, argv: list[bytes], clock: Clock) -> Retimed:
    fields = _fields(argv)
    word = argv[2].upper()
    if word == b"PERSIST":
        return Retimed([[b"HPERSIST", argv[1], *argv[fields:]]], [])
    if word not in UNITS:
        return Retimed([], [])
    unit, relative = UNITS[word]
    when = clock.absolute(argv[3], unit, relative)
    return _hash([b"HPEXPIREAT", argv[1], b"", *argv[fields:]], 2, clock, when)


def _msetex(_: bytes, argv: list[bytes], clock: Clock) -> Retimed:
    """MSETEX numkeys key value ... [condition] [time]: one SET for each, in the same transaction."""
    count = int(argv[1])
    pairs = [(argv[2 + 2 * i], argv[3 + 2 * i]) for i in range(count)]
    options = argv[2 + 2 * count :]
    done = [_set(b"SET", [b"SET", key, value, *options], clock) for key, value in pairs]
    keys = [k for d in done for k in d.keys]
    return Retimed([c for d in done for c in d.commands], keys)


_HOW: dict[bytes, Callable[[bytes, list[bytes], Clock], Retimed]] = {
    b"SET": _set,
    b"SETEX": _setex,
    b"PSETEX": _setex,
    b"GETEX": _getex,
    b"EXPIRE": _expire,
    b"PEXPIRE": _expire,
    b"EXPIREAT": _expire,
    b"PEXPIREAT": _expire,
    b"HSETEX": _hsetex,
    b"HGETEX": _hgetex,
    b"MSETEX": _msetex,
}
RESTORING = (b"RESTORE", b"RESTORE-ASKING")
FIELD_EXPIRIES = (b"HEXPIRE", b"HPEXPIRE", b"HEXPIREAT", b"HPEXPIREAT")
TIMED = (*_HOW, *RESTORING, *FIELD_EXPIRIES)
