"""What a source's notifications have told: keys that were touched there, and are to be read again.

A notification says that a key has changed, not how. Whoever reads the key after it was told has that change, or a
later one, which is told as well. So a key that is told many times while it waits is read once, and what was read last
is right in the end.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from sync_tasks.errors import Retry, SourceError
from workers.moment import now_ms
from workers.source.ask import Position
from workers.spool.log import Log

Key = tuple[int, bytes]
"""The source's number of a database, and a key in it."""

MOST_KEYS = 200_000
MOST_BYTES = 32 << 20
"""More than so many keys, or bytes of their names, are not remembered: then everything is compared."""
SLICE_S = 0.02
LATELY_MS = 1000


class Told:
    """Keys in the order in which they were first told. Usable by several threads.

    Args:
        clock: ms since the epoch.

    log: where what is read becomes a stream; set by whoever writes it, once it is there. inside: where a command begins
        that is being written in several blocks.
    whole: nothing was lost that a pass over all keys has not made good; `lose` and `mend` change it.
    heard: waits, so many seconds at most, until all is told that the source had to tell when asked; whether it is.
    """

    def __init__(self, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._news = threading.Condition()
        self._keys: OrderedDict[Key, int] = OrderedDict()  # with the moment, ms
        self._bytes = 0
        self._told = self._done = 0  # so many were told, and are read again and in the log
        self._hand: list[Key] = []  # being read
        self._since: int | None = None  # the moment of the oldest of these
        self._waited = 0, 0  # when some were last read, and how long the first of them had waited, ms
        self._lost = False
        self._losses = 0
        self._looks = self._looked = 0  # asked for, and done
        self.log: Log | None = None
        self.inside: Position | None = None
        self.whole = False
        self.heard: Callable[[float], bool] = lambda _: False

    def __len__(self) -> int:
        return len(self._keys)

    def touch(self, at: Key) -> None:
        """It has changed, or may have."""
        with self._news:
            if at in self._keys:
                return
            self._keys[at] = self._clock()
            self._bytes += len(at[1])
            self._told += 1
            if len(self._keys) > MOST_KEYS or self._bytes > MOST_BYTES:
                self._lost = True
                self._lose()
                self._clear()
            if len(self._keys) == 1:
                self._news.notify_all()

    def forget(self) -> None:
        """All of them: everything is about to be read."""
        with self._news:
            self._lost = False
            self._clear()

    def _clear(self) -> None:
        self._done += len(self._keys)
        self._keys.clear()
        self._bytes = 0

    def overflowed(self) -> bool:
        """Whether some were forgotten since this was last asked."""
        with self._news:
            lost, self._lost = self._lost, False
            return lost

    # --- whether anything was lost

    def lose(self) -> None:
        """Something was not told."""
        with self._news:
            self._lose()

    def _lose(self) -> None:
        self.whole = False
        self._losses += 1

    def mend(self) -> None:
        """All keys were read, or compared, unless some were forgotten meanwhile."""
        with self._news:
            self.whole = not self._lost

    def look(self) -> int:
        """The number of the look that somebody waits for: it is about to begin."""
        with self._news:
            return self._looks

    def looked(self, number: int) -> None:
        """It is over, and what it has found was said by `lose`."""
        with self._news:
            self._looked = number
            self._news.notify_all()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a look at what no notification tells of."""
        return self._looked < self._looks

    def take(self, most: int) -> list[Key]:
        """Those told first, to be read now; `done` or `back` follows."""
        with self._news:
            self._hand = []
            self._since = next(iter(self._keys.values()), None)
            while self._keys and len(self._hand) < most:
                at, _ = self._keys.popitem(last=False)
                self._bytes -= len(at[1])
                self._hand.append(at)
            return self._hand

    def done(self) -> None:
        """Those taken are in the log as they are now."""
        with self._news:
            self._done += len(self._hand)
            now = self._clock()
            self._waited = now, 0 if self._since is None else now - self._since
            self._hand, self._since = [], None
            self._news.notify_all()

    def back(self) -> None:
        """Those taken were not read: they are the first again."""
        with self._news:
            since, hand = self._clock() if self._since is None else self._since, self._hand
            for at in reversed(hand):
                if at in self._keys:
                    self._done += 1
                else:
                    self._bytes += len(at[1])
                self._keys[at] = since
                self._keys.move_to_end(at, last=False)
            self._hand, self._since = [], None

    def wait(self, seconds: float) -> None:
        """Until there is one, or the time is over."""
        with self._news:
            self._news.wait_for(lambda: bool(self._keys) or self.awaited, seconds)

    # --- how far it is

    def position(self) -> Position:
        """The end of what is in the log, behind a whole command."""
        assert self.log is not None
        return self.inside or Position(self.log.replid or "", self.log.end or 0)

    def offset(self, patience_s: float) -> int:
        """The end of the log, once all is in it that the source had changed when this was called. Raises SourceError
        while it is not.

        That nothing was lost is what a look must say that has begun since: settings may have been changed, a database
        been emptied, and the connection answers all the same.
        """
        by = time.monotonic() + patience_s
        with self._news:
            losses, whole = self._losses, self.whole
            self._looks += whole
            look = self._looks
            self._news.notify_all()
        if whole and self.heard(patience_s):
            with self._news:
                goal = self._told
                while (self._done < goal or self._looked < look) and (left := by - time.monotonic()) > 0:
                    self._news.wait(min(left, SLICE_S))
                # Of what was lost since, and found again by a pass, not all need be in the log.
                if self._done >= goal and self._looked >= look and self.whole and self._losses == losses:
                    return self.position().offset
        raise SourceError("not all that the source has told is in the log", retry=Retry.OTHER, code="behind")

    def age_ms(self) -> float:
        """How long the first of them waits, or those that were read a moment ago had waited."""
        with self._news:
            since = self._since if self._since is not None else next(iter(self._keys.values()), None)
            now, (at, waited) = self._clock(), self._waited
        lately = waited if now - at < LATELY_MS else 0
        return float(max(0, lately, 0 if since is None else now - since))


def taken(keys: Sequence[Key], together: Callable[[int, bytes], list[Key]]) -> list[Key]:
    """Keys, and all that are the same one on the target, where databases are merged there."""
    return sorted({place for at in keys for place in together(*at)})
