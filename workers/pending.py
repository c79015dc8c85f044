"""Keys whose expiries are to be looked at: by whom they were named, and since when."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from itertools import islice

Key = tuple[int, bytes]
"""Target database and key."""


class Pending:
    """Each key with the stream offset from which on the target has what made it one of these.

    All but `again` and `drop` costs the same however many there are.
    """

    def __init__(self) -> None:
        self._touched: OrderedDict[Key, int] = OrderedDict()  # by the stream, in its order
        self._found: OrderedDict[Key, int] = OrderedDict()  # by a search, or after waiting
        self._former: deque[tuple[int, int]] = deque()
        """(later touch, offset before it) of keys touched again; both rise: a window that slides, its lowest first."""
        self.waiting: dict[Key, int] = {}  # their time has come: the source's DEL must do the rest
        self._least_found = self._least_waiting = 1 << 62  # lowest offsets, perhaps of keys that are gone by now

    def __len__(self) -> int:
        return len(self._touched) + len(self._found) + len(self.waiting)

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]

    def drop(self, databases: Collection[int]) -> None:
        """Those of these are looked for anew."""
        for names in (self._touched, self._found, self.waiting):
            for at in [at for at in names if at[0] in databases]:
                del names[at]
        self._none_left()

    def touch(self, at: Key, offset: int) -> None:
        """The stream, at `offset`, has written it, or may have moved another there."""
        if at in self._touched or at in self._found or at in self.waiting:
            # Until that write is on the target, what was there before still is.
            before = self.pop(at)
            while self._former and self._former[-1][1] >= before:
                self._former.pop()
            self._former.append((offset, before))
        self._touched[at] = offset

    def find(self, at: Key, offset: int) -> None:
        """It was found on the target; whatever made it one of these comes behind `offset`."""
        if at not in self._touched and at not in self._found:
            self.waiting.pop(at, None)
            self._found[at] = offset
            self._least_found = min(self._least_found, offset)

    def wait(self, at: Key, offset: int) -> None:
        """It cannot be settled yet; the stream has not touched it since `offset`."""
        if at not in self._touched:
            self.waiting[at] = offset
            self._least_waiting = min(self._least_waiting, offset)

    def again(self) -> None:
        """Those that wait are to be looked at again."""
        waiting, self.waiting, self._least_waiting = self.waiting, {}, 1 << 62
        for at, offset in waiting.items():
            self.find(at, offset)

    def pop(self, at: Key) -> int:
        """It is no more of these; its offset, if it was."""
        offsets = [names.pop(at) for names in (self._touched, self._found, self.waiting) if at in names]
        self._none_left()
        return min(offsets, default=0)

    def _none_left(self) -> None:
        if not self._found:
            self._least_found = 1 << 62
        if not self.waiting:
            self._least_waiting = 1 << 62

    def eligible(self, tip: int, most: int) -> list[Key]:
        """Some of one database whose write is on the target, which has the stream up to `tip`."""
        if self._found:
            keys = list(islice(self._found, most))
        else:
            keys = [at for at, offset in islice(self._touched.items(), most) if offset <= tip]
        return [at for at in keys if at[0] == keys[0][0]]

    def due(self, tip: int) -> bool:
        """Whether there is an eligible one."""
        return bool(self._found) or (bool(self._touched) and next(iter(self._touched.values())) <= tip)

    def all(self) -> list[Key]:
        """All of them: also those whose last write is not on the target yet, and those that wait."""
        return [*self._touched, *self._found, *self.waiting]

    def is_touched(self, at: Key) -> bool:
        """Whether the stream has written it since it was looked at."""
        return at in self._touched

    def least(self, committed: int) -> int:
        """No write before this offset is among them; the target has the stream up to `committed`."""
        while self._former and self._former[0][0] <= committed:
            self._former.popleft()
        former = self._former[0][1] if self._former else 1 << 62
        touched = next(iter(self._touched.values())) if self._touched else 1 << 62
        return min(former, touched, self._least_found, self._least_waiting)
