"""A script of the user's, in its sandbox: one call for each command."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from sync_tasks.errors import TransformError, UsageError, named
from sync_tasks.names import KEY_PREFIX
from sync_tasks.slots import slot
from sync_tasks.transform.lua import HOST, STEPS
from sync_tasks.transform.places import GROUPS, places

MEMORY = 64 << 20
"""Bytes that a script may hold, the commands that it sees included."""
LIMIT_S = 0.05
"""Of the thread's processor time, for one call with up to 1000 arguments; with more in proportion."""
LONGEST = 64 << 10
"""Characters of a script."""
LONG = 1 << 20
"""Bytes; a longer argument stays outside: a short name stands for it, which the script can put anywhere."""
NAME = b"\0keyferry:argument:%d:%d"
"""Its number and length."""
MANY = 100
"""With more arguments a command is handed over as a table."""
WHERE = re.compile(r"transform:(\d+):")
OURS = re.compile(r"^\[string .*?\]:\d+: ")
"""A line of our own Lua before a message."""

Command = tuple[int | None, list[bytes]]
"""The target's database, None: where the source's goes; and the arguments."""


class Script:
    """A compiled script. One thread at a time may use it.

    Args:
        lua: its text, which defines `transform(db, argv)` or `transform(db, argv, about)`.
        anew: all of it is run for each command, so that a call has nothing of those before: several who call it from
            different commands on hear the same of each.

    Raises UsageError: it does not compile, or defines no such function.
    """

    def __init__(self, lua: str, *, anew: bool = False) -> None:
        from lupa import lua54

        self._errors = lua54.LuaError
        runtime = lua54.LuaRuntime(
            encoding=None, register_eval=False, register_builtins=False, attribute_filter=_no_attributes,
            max_memory=MEMORY, unpack_returned_tuples=True,
        )  # fmt: skip
        self._table = runtime.table_from
        made = runtime.execute(HOST, time.thread_time, LIMIT_S, STEPS)
        compile_, self._call, self._call_with_about, self._unhook = made
        try:
            self._function, about = compile_(lua.encode(), anew)
        except self._errors as error:
            self._unhook()
            raise _broken(*self._told(error)) from None
        if not self._function:
            raise _broken(*_told(about.decode(errors="replace")))
        self._wants_about = bool(about)

    def run(self, db: int, argv: list[bytes], *, type: str = "", snapshot: bool = False) -> list[Command] | None:
        """What becomes of a command of the source.

        Args:
            db: the source's database.
            type: of the key, as TYPE names it, where more is known than the command's name tells.
            snapshot: it is part of an entry of a snapshot, or of a key that is copied anew.

        Returns commands in order, none: it is dropped; None: it travels as it is.
        Raises TransformError: with the script's line and the command's key.
        """
        shown, long = argv, None
        if max(map(len, argv)) > LONG:
            shown = [NAME % (i, len(one)) if len(one) > LONG else one for i, one in enumerate(argv)]
            long = dict(zip(shown, argv, strict=True))
        table, words = (self._table(shown), ()) if len(argv) > MANY else (None, shown)
        try:
            if self._wants_about:
                at = _places(shown)
                group, usual = _family(argv[0])
                slots = [slot(shown[i]) for i in at]
                given = self._call_with_about(
                    self._function, db, snapshot, group, type.encode() or usual, len(at), table,
                    *(i + 1 for i in at), *slots, *words,
                )  # fmt: skip
            else:
                given = self._call(self._function, db, table, *words)
        except self._errors as error:
            self._unhook()  # it may stop at each instruction, and has not ended
            line, text = self._told(error)
            raise TransformError(text, line, argv) from None
        if given is None:
            return None
        if given is False:
            return []
        if not isinstance(given, tuple):  # many arguments come as a table; no command as its number alone
            given = [given] if isinstance(given, int) else [*given.values()]
        found = list(_commands(given))
        if long is not None:
            found = [(to, [long.get(one, one) for one in result]) for to, result in found]
        if len(found) == 1 and found[0][0] is None and found[0][1] == argv:
            return None
        for one in found:
            _check(one[1], argv)
        return found

    def _told(self, error: Exception) -> tuple[int, str]:
        text = str(error)
        if "not enough memory" in text or error.__class__.__name__ == "LuaMemoryError":
            found = WHERE.search(text)
            return int(found[1]) if found else 0, f"it takes more than {MEMORY >> 20} MB"
        return _told(text)


def _no_attributes(*_: object) -> object:
    raise AttributeError("not for scripts")


def _told(text: str) -> tuple[int, str]:
    """Line, 0: unknown, and what is wrong, of a message of Lua's."""
    first = OURS.sub("", text.partition("\nstack traceback")[0].strip().partition("\n")[0])
    found = WHERE.match(first)
    what = (first[found.end() :] if found else first.removeprefix("transform: ")).strip()
    found = found or WHERE.search(text)
    return int(found[1]) if found else 0, what or "it raised an error without a text"


def _broken(line: int, text: str) -> UsageError:
    where = f"line {line} of the transform" if line else "the transform"
    return UsageError(
        f"{where}: {text}", code="transform", hint="`keyferry transform check FILE` tells when it is right"
    )


def _commands(given: Sequence[Any]) -> Iterator[Command]:
    at = 1
    for _ in range(given[0]):
        db, count = given[at], given[at + 1]
        yield (None if db < 0 else db), list(given[at + 2 : at + 2 + count])
        at += 2 + count


def _places(argv: list[bytes]) -> list[int]:
    try:
        return places(argv)
    except (ValueError, IndexError):
        return [1] if len(argv) > 1 else []


def _family(name: bytes) -> tuple[bytes, bytes | None]:
    """Its group, and the type of its key if it has one."""
    name = name.upper()
    if (known := GROUPS.get(name)) is None:
        return (b"module" if b"." in name else b"unknown"), None
    return known[0].encode(), known[1].encode() or None


def _check(argv: list[bytes], source: list[bytes]) -> None:
    """Raise TransformError for a command that would not be an ordinary write of a key."""
    name = argv[0].upper()
    known = GROUPS.get(name)
    if (known is None and b"." not in name and name != source[0].upper()) or (known and known[0] == "server"):
        what = name[:40].decode(errors="backslashreplace")
        raise TransformError(f"transform returned {what}, which is not a command that writes a key", 0, source)
    at = _places(argv)
    if not at:
        raise TransformError(f"transform returned {named(argv)} without a key", 0, source)
    if any(argv[i].startswith(KEY_PREFIX) for i in at):
        raise TransformError("transform returned a key that begins with keyferry:, which are Keyferry's own", 0, source)
