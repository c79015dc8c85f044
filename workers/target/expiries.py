"""Reading expiries on the target, to the millisecond, on a connection of its own; and the target's clock with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.lanes import tags
from workers.codec.resp_cy import ReplyError, encode, parse
from workers.moment import now_ms
from workers.target.databases import holding
from workers.target.link import TargetLink

if TYPE_CHECKING:
    from workers.scope import Scope

PAGES = 1024
"""Fields of hashes that HSCAN is asked for at once, all together; it may give some more."""
GLANCE_S = 1.0

Observe = Callable[[int, int, int], None]
"""Told a moment of ours, what the target's clock said then, and a moment of ours after that; ms."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """A key's time in ms, -1 none, -2 no such key; and whether it is a hash whose fields may have times."""

    key: bytes
    when: int
    hashed: bool = False


class Expiries:
    """Reads times of keys and of hash fields.

    Args:
        endpoint: the target.
        home: a database that exists.
        fields: whether hash fields may carry times.
        observe: told what the target's clock says whenever it is read.
        stats: told about once a second what INFO says of this name.
    Every method raises ConnectionLost, CredentialsRefused, TargetError.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        home: int,
        fields: bool,
        observe: Observe = lambda *_: None,
        stats: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._endpoint, self._home, self._fields, self._observe = endpoint, home, fields, observe
        self._stats = stats
        self._link: TargetLink | None = None
        self._db = home
        self._modern: bool | None = None
        self._glanced_at = 0.0
        self._glance_ms: int | None = None  # when the question whose answer is still to come was sent
        self._heard = b""

    def _connected(self, db: int) -> TargetLink:
        if self._link is None:
            self._link = TargetLink(self._endpoint, "keyferry-expiries", self._home)
            self._db = self._home
            slot = self._endpoint.slot
            nothing = b"keyferry:{%s}:none" % tags()[slot].encode() if slot is not None else b"keyferry:none"
            answer = self._link.try_all([[b"PEXPIRETIME", nothing]])[0]
            self._modern = not isinstance(answer, ReplyError)
        while self._glance_ms is not None:
            self._hear(self._link)
        if self._db != db:
            self._link.ask(b"SELECT", db)
            self._db = db
        return self._link

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link, self._glance_ms, self._heard = None, None, b""

    # --- the clock

    def glance(self) -> None:
        """Look at the target's clock and counts about once a second, without waiting for what it says."""
        if self._glance_ms is not None:
            assert self._link is not None
            if self._link.ready(0)[0]:
                self._hear(self._link)
        elif (now := time.monotonic()) - self._glanced_at >= GLANCE_S:
            self._glanced_at = now
            link = self._connected(self._db)
            self._glance_ms = now_ms()
            link.send(encode([b"TIME"]) + encode([b"INFO", b"stats"]))

    def _hear(self, link: TargetLink) -> None:
        assert self._glance_ms is not None
        self._heard += link.receive()
        now, end = parse(self._heard, 0)
        stats, end = (None, end) if end < 0 else parse(self._heard, end)
        if end < 0:
            return
        before, self._glance_ms, self._heard = self._glance_ms, None, b""
        for value in (now, stats):
            if isinstance(value, ReplyError):
                raise classify(value.line, Side.TARGET)
        self._observe(before, _ms(now), now_ms())
        self._stats(stats)

    # --- keys

    def databases(self, scope: Scope) -> list[int]:
        """Target databases in scope that hold keys."""
        return holding(self._connected(self._home), scope)

    def scan(self, db: int, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """One step of SCAN."""
        after, keys = self._connected(db).ask(b"SCAN", cursor, b"COUNT", count)
        return int(after), keys

    def read(self, db: int, keys: Sequence[bytes], hashes: bool = True) -> list[Expiry]:
        """The times of keys; without `hashes`, nothing is said of which are hashes."""
        if not keys:
            return []
        link = self._connected(db)
        times = self._modern_times(link, keys) if self._modern else self._old_times(link, keys)
        hashed = self._hashed(link, keys) if self._fields and hashes else set()
        return [Expiry(key, when, key in hashed) for key, when in zip(keys, times, strict=True)]

    def _modern_times(self, link: TargetLink, keys: Sequence[bytes]) -> list[int]:
        before = now_ms()
        commands: list[list[bytes | int]] = [[b"PEXPIRETIME", k] for k in keys]
        *times, now = link.ask_all([*commands, [b"TIME"]])
        self._observe(before, _ms(now), now_ms())
        return [int(when) for when in times]

    def _old_times(self, link: TargetLink, keys: Sequence[bytes]) -> list[int]:
        """Before 7.0: PTTL between two TIMEs of one millisecond."""
        out: list[int] = []
        start, size = 0, 64
        while start < len(keys):
            batch = keys[start : start + size]
            commands: list[list[bytes | int]] = [[b"TIME"]]
            commands += [[b"PTTL", k] for k in batch]
            commands.append([b"TIME"])
            sent = now_ms()
            if link.scripted:  # keys of several slots are in no transaction; what else comes in between takes its time
                before, *ttls, after = link.ask_all(commands)
            else:
                before, *ttls, after = link.ask_all([[b"MULTI"], *commands, [b"EXEC"]])[-1]
            now = _ms(before)
            self._observe(sent, now, now_ms())
            if now == _ms(after):
                out += [ttl if ttl < 0 else now + ttl for ttl in ttls]
                start += len(batch)
                size = min(512, size * 2)
            else:
                size = max(1, size // 2)
        return out

    # --- fields of hashes

    @staticmethod
    def _hashed(link: TargetLink, keys: Sequence[bytes]) -> set[bytes]:
        """Those that are hashes in an encoding which can hold field times; a listpack cannot."""
        types = link.ask_all([[b"TYPE", k] for k in keys])
        hashes = [k for k, type_ in zip(keys, types, strict=True) if type_ == b"hash"]
        kinds = link.ask_all([[b"OBJECT", b"ENCODING", k] for k in hashes])
        return {k for k, kind in zip(hashes, kinds, strict=True) if kind in (b"hashtable", b"listpackex")}

    def pages(self, db: int, places: Sequence[tuple[bytes, int]]) -> list[tuple[int, dict[bytes, int]]]:
        """Of each hash, a part behind a cursor of HSCAN: the cursor behind that, and the times of fields that have one.

        A key that is no hash any more has none.
        """
        link = self._connected(db)
        count = PAGES // len(places)
        answers = link.try_all([[b"HSCAN", key, at, b"COUNT", count, b"NOVALUES"] for key, at in places])
        scans = _known(answers, [b"0", []])
        asked = [(key, names) for (key, _), (_, names) in zip(places, scans, strict=True) if names]
        found = {key: dict(zip(n, t, strict=True)) for (key, n), t in zip(asked, self.times(db, asked), strict=True)}
        return [
            (int(cursor), {name: when for name, when in found.get(key, {}).items() if when >= 0})
            for (key, _), (cursor, _) in zip(places, scans, strict=True)
        ]

    def times(self, db: int, hashes: Sequence[tuple[bytes, list[bytes]]]) -> list[list[int]]:
        """Times of fields, ms; -1 none, -2 no such field."""
        link = self._connected(db)
        answers = link.try_all([[b"HPEXPIRETIME", key, b"FIELDS", len(names), *names] for key, names in hashes])
        known = _known(answers, None)
        return [[-2] * len(n) if t is None else t for (_, n), t in zip(hashes, known, strict=True)]


def _known(answers: list[Any], instead: Any) -> list[Any]:
    """Answers; `instead` of those about a key that is no hash. Raises the typed error of any other refusal."""
    for answer in answers:
        if isinstance(answer, ReplyError) and not answer.line.startswith(b"WRONGTYPE"):
            raise classify(answer.line, Side.TARGET)
    return [instead if isinstance(answer, ReplyError) else answer for answer in answers]


def _ms(time_reply: list[bytes]) -> int:
    """TIME's answer in ms."""
    return int(time_reply[0]) * 1000 + int(time_reply[1]) // 1000
