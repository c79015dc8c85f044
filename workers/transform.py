"""What becomes of commands that a script of the user's sees first (docs/transforms.md).

The filter comes first. What the script leaves as it is goes the way of any command of the source; what it returns names
databases of the target, and no filter or mapping is applied to it. In both cases times are held, and what the target
does not know is rewritten, as ever. It all lies in the window of the command that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sync_tasks.errors import TransformError, named
from sync_tasks.transform.script import Command, Script
from workers.codec.filter_cy import Filter
from workers.codec.resp_cy import KEYED
from workers.compose import emit, select
from workers.entries import TYPES, commands_of_dump
from workers.rewrite import MOVING, TABLE, Rewriter
from workers.scope import Scope
from workers.single import SINGLE
from workers.target.windows import Window
from workers.wanted import Wanted

EVERY = Filter([], [])
"""Takes all keys: with it, each command of a stream is told one by one."""


class Transformer(Rewriter):
    """A Rewriter whose commands pass a script. Arguments: the script, then those of `Rewriter`.

    Methods also raise TransformError.
    """

    sees_all = True

    def __init__(self, script: Script, scope: Scope, *args: Any, **options: Any) -> None:
        super().__init__(scope, *args, **options)
        self._script_of_user = script
        # Databases of the target, each to its own number.
        self._results = Rewriter(Scope(None), *args, **options)
        self._results.floats = self.floats = False  # the source is asked by names that the target does not have

    # --- the stream

    def write(self, kind: str, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        """As `Rewriter.write`; of every command but those of the stream itself."""
        parts = None if kind in ("server-wide", "script", "trim") else self._parts(kind, argv, db)
        if parts is None:
            super().write(kind, argv, db, before, after, window)
            return
        window.changes += 1
        for part in parts:
            self._pass(part, db, before, after, window)

    def _parts(self, kind: str, argv: list[bytes], db: int) -> list[list[bytes]] | None:
        """What is left of a command by the filter; None: that is for the Rewriter alone, and no command is sent."""
        name = argv[0].upper()
        if name in MOVING:
            return self._moved(name, argv, db)
        if kind == "whole":
            return [argv]
        if self.scope.target(db) is None:
            return []
        if not self.scope.filtered:
            return [argv]
        if kind in ("timed", "older"):
            return None if self._divides(argv, db) else [argv] if self._takes(argv, db) else []
        if name in SINGLE:
            return [argv] if self.scope.takes(db, argv[1]) else []
        return self._divide(argv, db)

    def _moved(self, name: bytes, argv: list[bytes], db: int) -> list[list[bytes]] | None:
        other, at = self._other(argv, db)
        to = argv[1] if name == b"MOVE" else argv[2]
        if not self.scope.takes(db, argv[1]):
            return None  # nothing, or what comes in is copied anew
        if not self.scope.takes(other, to):
            return [] if name == b"COPY" else [[b"DEL", argv[1]]]
        merged = at > 0 and to == argv[1] and self.scope.target(other) == self.scope.target(db)
        return [] if merged else [argv]

    def _pass(self, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        given = self._script_of_user.run(db, argv)
        if given is not None:
            self._put(given, argv, db, before, after, window)
            return
        self._as_it_is(argv, db, before, after, window)

    def _as_it_is(self, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        kind = self._kind(argv[0].upper())
        target = self.scope.target(db)
        if kind is not None:
            window.changes -= 1  # it is counted once
            super().write(kind, argv, db, before, after, window)
        elif target is not None:
            select(window, target, before)
            emit(window, argv, before)

    def _kind(self, name: bytes) -> str | None:
        kind = self.older.kinds.get(name) or TABLE.get(name)
        return None if kind == KEYED else kind

    def _put(
        self, given: Iterable[Command], argv: list[bytes], db: int, before: int, after: int, window: Window
    ) -> None:
        """What the script has returned for a command: all of it, or nothing if it is no good."""
        usual = self.scope.target(db)
        origin = (argv, db if usual is None else usual)
        first, size, commands = len(window.runs), len(window.body), window.commands
        selected, changes = window.selected, window.changes
        try:
            for to, result in given:
                self._one(result, argv, origin[1] if to is None else to, before, after, window)
        except TransformError:
            del window.runs[first:], window.body[size:]
            window.commands, window.selected = commands, selected
            raise
        window.changes = changes
        for run in window.runs[first:]:
            run.origin = origin
        window.beside += sum(map(len, argv))

    def _one(self, result: list[bytes], argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        """One of them, for a database of the target."""
        kind = self._kind(result[0].upper())
        if kind == "unknown" and result[0].upper() != argv[0].upper():
            raise TransformError(f"the target does not know {named(result)}", 0, argv)
        if kind is None or (len(result) == 3 and result[0].upper() == b"SET"):
            select(window, db, before)
            emit(window, result, before)
            return
        try:
            self._results.write(kind, result, db, before, after, window)
        except (ValueError, IndexError, StopIteration) as error:
            what = f"transform returned {named(result)} with arguments that make no sense"
            raise TransformError(what, 0, argv) from error

    # --- values

    def put(self, db: int, key: bytes, payload: bytes, when: int, exact: bool, at: int, window: Window) -> None:
        """As `Rewriter.put`, by commands that pass the script."""
        commands = commands_of_dump(key, payload, when, self.reads.counters)
        self.entry(db, commands, TYPES.get(payload[0], ""), at, window)

    def remove(self, db: int, key: bytes, at: int, window: Window) -> None:
        """As `Rewriter.remove`."""
        self.entry(db, [[b"DEL", key]], "", at, window)

    def entry(self, db: int, commands: Iterable[list[bytes]], type: str, at: int, window: Window) -> None:
        """Commands that make a key of the source, all of them in scope.

        Args:
            type: of the key, as TYPE says; "": not known.
            at: the stream's offset.
        """
        for argv in commands:
            given = self._script_of_user.run(db, argv, type=type, snapshot=True)
            self._put([(None, argv)] if given is None else given, argv, db, at, at, window)

    # --- scripts of an old source

    def cannot_run(self, argv: list[bytes]) -> bool:
        """As `Rewriter.cannot_run`: what scripts of a source write, no transform sees."""
        return argv[0].upper() in (b"EVAL", b"EVALSHA") and int(argv[2]) > 0

    def _script(self, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        if int(argv[2]) == 0 and self.scope.target(db) is not None:
            raise Wanted("a script that names no keys may write what the transform has to see")
        super()._script(argv, db, before, after, window)
