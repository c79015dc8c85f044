"""What of the log goes to the translator: block by block, up to where the target must come to a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sync_tasks.errors import TransformError
from workers.clock import Clock
from workers.leading import leading
from workers.reach import nowhere
from workers.repair import Repair
from workers.settle import Settler
from workers.spool.log import Block, Cursor
from workers.suspects import Suspects
from workers.translate import Translator
from workers.trimmed import Trimmed

EXEC_BYTES = 64
"""SELECT and EXEC take less."""


class Feed:
    """Of one connection's life.

    Args:
        cursor: reads the log.
        translator: takes the blocks.
        settler, suspects, clock: of the same life.
        repair: of doubted keys, for as long as one goes on; else None.
    """

    def __init__(
        self, cursor: Cursor, translator: Translator, settler: Settler, suspects: Suspects, clock: Clock,
        repair: Repair | None,
    ) -> None:  # fmt: skip
        self._cursor, self._translator, self._settler = cursor, translator, settler
        self._suspects, self._clock, self.repair = suspects, clock, repair
        self._block: Block | None = None  # read, but behind where the target must stop
        self.behind = False  # at a block that is to be looked at first
        self.fed = cursor.offset
        self.failed: TransformError | Trimmed | None = None  # what follows cannot be transformed, or has another scope

    def next(self) -> Block | None:
        """The next block of the log; nothing behind the offset at which the target must come to a stop."""
        block, self._block = self._block or self._cursor.read(), None
        stop = self.limit
        if block is not None and stop is not None and block.offset >= stop:
            self._block = block
            return None
        if block is not None and self._is_behind(block):
            self._block, self.behind = block, True
            return None
        if block is not None and stop is not None and block.end > stop:
            size = stop - block.offset
            self._block = replace(block, offset=stop, data=block.data[size:])
            block = replace(block, data=block.data[:size])
        if block is not None:
            self.fed = block.end
        return block

    def _is_behind(self, block: Block) -> bool:
        """Whether the target may have expired too early what the block renews, and nobody has looked."""
        if not self._clock.is_old(block):
            self._suspects.covered = 0  # what is settled from now on may vanish again
            return False
        return block.offset >= self._suspects.covered

    def give(self, block: Block) -> None:
        """One block to the translator; `failed` says if it came to an end in it."""
        self._guarded(partial(self._translator.feed, block))

    def flush(self) -> None:
        """The same of what waits there for more."""
        self._guarded(self._translator.flush)

    def _guarded(self, step: Callable[[], object]) -> None:
        try:
            step()
        except (TransformError, Trimmed) as error:
            self.failed = error

    @property
    def limit(self) -> int | None:
        """The stream offset at which the target must come to a stop, or None."""
        return self._settler.limit if self.repair is None else self.repair.limit

    def at_stop(self) -> bool:
        limit = self.limit
        return limit is not None and self.fed >= limit

    def stop_there(self) -> None:
        """All up to the stop has been read: what is there of a command must be a whole one."""
        self.flush()
        if self.failed is None and self._translator.window.end < self.fed:
            if self._translator.inside and self._ends_next(self.repair or self._settler):
                return
            if self.repair is not None:
                raise nowhere()
            self._settler.give_up()

    def _ends_next(self, asker: Repair | Settler) -> bool:
        """Whether our question itself is the transaction: the stop is then behind its EXEC, once that has come.

        Before 7.0 a master that finds a key's time to be over while it answers says MULTI and DEL right there, and EXEC
        (perhaps with a SELECT before it) behind our INFO; before 6.0 it says MULTI and EXEC of every transaction that
        asks for TIME or INFO. No other transaction can be open then.
        """
        if not asker.asked_a_master:
            return False
        if (block := self._block or self._cursor.read()) is None:
            return True
        self._block = block
        argv, size = leading(block.data)
        if size < 0 and len(block.data) < EXEC_BYTES:
            more = self._cursor.read()
            if more is not None and more.replid == block.replid:
                self._block = replace(block, data=block.data + more.data, flags=block.flags | more.flags)
            return more is None or more.replid == block.replid
        if argv != [b"EXEC"]:
            return False
        self._suspects.move(self.fed, self.fed + size)
        asker.move(self.fed + size)
        return True
