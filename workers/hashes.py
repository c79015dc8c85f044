"""Hashes whose fields' times are being settled, a part of each at a time: a hash may have any number of fields."""

from __future__ import annotations

from dataclasses import dataclass

from workers.clock import Clock
from workers.compose import emit, select
from workers.expiry import FIELD_HOLD, held_field, hold_field
from workers.pending import Key
from workers.source.ask import GONE, NO_HASH
from workers.target.expiries import Expiries
from workers.target.windows import Window

AT_ONCE = 16
"""Hashes of which a part is looked at in one window."""
LONG_OVER = 1
"""The time of a field that the source hides: it was over before the source was asked."""

Fields = list[tuple[bytes, list[bytes]]]
"""Hashes, and some fields of each."""


@dataclass(slots=True)
class Part:
    """How far one hash is."""

    at: Key
    offset: int  # as `Pending` has it
    ask: bool  # the source is asked about times that are not held
    done: bool  # nothing of it has to wait so far
    cursor: int = 0  # of HSCAN
    after: int = 0  # cursor behind the part that was read last


class Hashes:
    """Some hashes of one database.

    Args:
        clock: decides what becomes of times.
        expiries: of the target.
    """

    def __init__(self, clock: Clock, expiries: Expiries) -> None:
        self._clock, self._expiries = clock, expiries
        self.parts: list[Part] = []
        self.least = 1 << 62  # no write before this offset is among them

    def add(self, part: Part) -> None:
        self.parts.append(part)
        self.least = min(self.least, part.offset)

    def clear(self) -> None:
        self.parts, self.least = [], 1 << 62

    def read(self, window: Window) -> Fields:
        """Settle what is held in the next part of some; the fields about which the source must be asked."""
        some, unasked = self.parts[:AT_ONCE], []
        pages = self._expiries.pages(some[0].at[0], [(part.at[1], part.cursor) for part in some])
        for part, (after, times) in zip(some, pages, strict=True):
            part.after = after
            writes = Writes(window, part.at)
            for name, when in times.items():
                if held_field(when):
                    part.done &= self._put(writes, name, when, when - FIELD_HOLD)
                elif part.ask:
                    unasked.append((part.at[1], name))
            writes.end()
        return _grouped(unasked)

    def put(self, window: Window, db: int, fields: Fields, source_ms: list[int]) -> None:
        """Settle fields by what the source says of them at this very place of the stream."""
        parts = {part.at[1]: part for part in self.parts}
        said = iter(source_ms)
        for (key, names), there in zip(fields, self._expiries.times(db, fields), strict=True):
            part, writes = parts[key], Writes(window, (db, key))
            for name, when in zip(names, there, strict=True):
                time_ms = next(said)
                if when == -1 or when == -2:
                    continue
                if time_ms == -1:
                    writes.add(name, None)
                elif time_ms == NO_HASH:
                    part.done &= not held_field(when)  # the source's DEL follows; if it is not held, it is no copy
                elif time_ms == GONE:
                    part.done &= self._put(writes, name, when, LONG_OVER)
                else:
                    part.done &= self._put(writes, name, when, time_ms)
            writes.end()

    def _put(self, writes: Writes, name: bytes, there: int, time_ms: int) -> bool:
        """Settle one field; False when its time has come at the source, whose HDEL must do the rest."""
        plain = self._clock.field(time_ms)
        done = self._clock.ahead(plain)
        wanted = plain if done else hold_field(time_ms)
        if wanted != there:
            writes.add(name, wanted)
        return done

    def turn(self) -> list[Part]:
        """What `read` has read is done with; the hashes that are."""
        some, others = self.parts[:AT_ONCE], self.parts[AT_ONCE:]
        for part in some:
            part.cursor = part.after
        self.parts = [part for part in some if part.after] + others
        if not self.parts:
            self.clear()
        return [part for part in some if not part.after]

    def last(self, window: Window, at: Key) -> None:
        """Put every held field of a hash as it is at the source, though its time may be over."""
        cursor = -1
        while cursor != 0:
            ((cursor, times),) = self._expiries.pages(at[0], [(at[1], max(cursor, 0))])
            writes = Writes(window, at)
            for name, when in times.items():
                if held_field(when):
                    writes.add(name, self._clock.field(when - FIELD_HOLD))
            writes.end()


class Writes:
    """New times of some fields of one hash: fields with the same one share a command."""

    def __init__(self, window: Window, at: Key) -> None:
        self._window, self._at = window, at
        self._names: dict[int | None, list[bytes]] = {}

    def add(self, name: bytes, time_ms: int | None) -> None:
        """None: no time any more."""
        self._names.setdefault(time_ms, []).append(name)

    def end(self) -> None:
        """Put them into the window."""
        db, key = self._at
        for time_ms, names in self._names.items():
            head = [b"HPERSIST", key] if time_ms is None else [b"HPEXPIREAT", key, b"%d" % time_ms]
            select(self._window, db, self._window.end)
            emit(self._window, [*head, b"FIELDS", b"%d" % len(names), *names], self._window.end)
            self._window.held |= time_ms is not None and held_field(time_ms)


def _grouped(fields: list[tuple[bytes, bytes]]) -> Fields:
    out: dict[bytes, list[bytes]] = {}
    for key, name in fields:
        out.setdefault(key, []).append(name)
    return list(out.items())
