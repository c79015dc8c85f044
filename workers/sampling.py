"""Which keys the stream has written: a bounded sample of them, taken of windows that the target has answered.

It costs the applier a comparison of two numbers for each answer that it reads, and some 30 microseconds for each key
that is taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from random import Random

from sync_tasks.errors import Malformed
from sync_tasks.names import KEY_PREFIX
from workers.codec.resp_cy import arguments, replies
from workers.named import TABLE, named
from workers.single import DELETING, SINGLE
from workers.target.window import Window

MOST = 10_000
"""Keys that wait to be compared; what comes while so many do is passed over."""
MOST_BYTES = 4 << 20
"""Of their names."""
LARGE_BYTES = 1 << 20
"""Of a larger window the first commands of runs alone are looked at."""
BURST_S = 0.5
"""Of a rate: who has written nothing for a while is sampled the closer then."""

Key = tuple[int, bytes]
"""The target's number of a database, and a key in it."""


class Sample:
    """Taken by the applier's thread, or those of several lanes, and read by another.

    Args:
        rate: keys a second that are taken at most.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic, rng: Random | None = None) -> None:
        self._rate, self._clock = rate, clock
        self._rng = rng or Random()  # noqa: S311 - a choice, no secret
        self._lock = threading.Lock()
        self._kept: dict[Key, float] = {}  # when each was written last that was sampled
        self._bytes = 0
        self._from = clock()  # what may be taken has accrued since
        self._due = self._from + 1 / rate
        self.some = threading.Event()
        """Whether any wait."""

    def take(self, done: Sequence[Window], now: float) -> None:
        """Some of what these windows, which are on the target, have written."""
        if now < self._due:
            return
        with self._lock:
            self._from = max(self._from, now - max(BURST_S, 1 / self._rate))
            most = int((now - self._from) * self._rate)
            commands = [window.commands for window in done]
            total = sum(commands)
            many = min(most, total)
            for number in self._rng.sample(range(total), many):
                index = 0
                while number >= commands[index]:
                    number -= commands[index]
                    index += 1
                self._keep(done[index], number, now)
            self._from += many / self._rate
            self._due = self._from + 1 / self._rate

    def again(self, keys: Sequence[Key]) -> None:
        """These are to be compared once more."""
        with self._lock:
            now = self._clock()
            for key in keys:
                self._put(key, now)

    def ripe(self, since_s: float, most: int) -> list[Key]:
        """Keys that were written so many seconds ago or earlier, at most so many of them; they wait no longer."""
        with self._lock:
            latest = self._clock() - since_s
            found = [key for key, when in self._kept.items() if when <= latest][:most]
            for key in found:
                del self._kept[key]
                self._bytes -= len(key[1])
            if not self._kept:
                self.some.clear()
            return found

    def _keep(self, window: Window, index: int, now: float) -> None:
        try:
            keys = written(window, index)
        except (Malformed, ValueError, IndexError):
            return  # whoever applies it will say so
        if keys and not (key := self._rng.choice(keys))[1].startswith(KEY_PREFIX):
            self._put(key, now)

    def _put(self, key: Key, now: float) -> None:
        if key in self._kept:
            del self._kept[key]  # behind the others again
        elif len(self._kept) >= MOST or self._bytes + len(key[1]) > MOST_BYTES:
            return
        else:
            self._bytes += len(key[1])
        self._kept[key] = now
        self.some.set()


def written(window: Window, index: int) -> list[Key]:
    """Keys that a command of a window's body may have brought into being, changed or deleted.

    Raises Malformed, ValueError, IndexError if that is no command.
    """
    run = window.run_of(index)
    db, argv = run.db, run.instead or run.long
    if argv is None and len(window.body) > LARGE_BYTES:
        argv = _head(window.body, run.position)
    elif argv is None:
        body = bytes(window.body)
        position, _ = replies(body, run.position, index - run.command)
        argv = arguments(body, position)
    name = argv[0].upper()
    if db is None or name == b"SELECT":
        return []
    if name in DELETING:
        return [(db, key) for key in argv[1:]]
    kind = TABLE.get(name)
    # To which other database they go is said by the source's number where another command stands for them.
    return [(db, argv[1])] if kind in (None, "move", "copy") else named(kind, argv, db)


def _head(body: bytearray, position: int) -> list[bytes]:
    """The name of the command at a position of what is not to be copied whole, and its first argument."""
    position = body.index(b"\n", position) + 1
    found = []
    for _ in range(2):
        stop = body.index(b"\n", position)
        begin, size = stop + 1, int(body[position + 1 : stop - 1])
        found.append(bytes(body[begin : begin + size]))
        position = begin + size + 2
    if found[0].upper() not in SINGLE:
        raise ValueError("it may name more keys")
    return found
