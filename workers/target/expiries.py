"""Reading expiries on the target, to the millisecond, on a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_tasks.endpoints import Endpoint
from workers.codec.resp_cy import ReplyError
from workers.target.link import TargetLink

if TYPE_CHECKING:
    from workers.translate import Scope

FIELDS_AT_ONCE = 1000


class Expiries:
    """Reads times of keys and of hash fields.

    Args:
        endpoint: the target.
        home: a database that exists.
        fields: whether hash fields may carry times.
    Every method raises ConnectionLost, CredentialsRefused, TargetError.
    """

    def __init__(self, endpoint: Endpoint, home: int, fields: bool) -> None:
        self._endpoint, self._home, self._fields = endpoint, home, fields
        self._link: TargetLink | None = None
        self._db = home
        self._modern: bool | None = None

    def _connected(self, db: int) -> TargetLink:
        if self._link is None:
            self._link = TargetLink(self._endpoint, "keyferry-expiries", self._home)
            self._db = self._home
            answer = self._link.try_all([[b"PEXPIRETIME", b"keyferry:none"]])[0]
            self._modern = not isinstance(answer, ReplyError)
        if self._db != db:
            self._link.ask(b"SELECT", db)
            self._db = db
        return self._link

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def databases(self, scope: Scope) -> list[int]:
        """Target databases in scope that hold keys."""
        text: bytes = self._connected(self._home).ask(b"INFO", b"keyspace")
        full = [int(line[2 : line.index(b":")]) for line in text.splitlines() if line.startswith(b"db")]
        if scope.databases is None:
            return full
        return [db for db in full if db in scope.databases.values()]

    def scan(self, db: int, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """One step of SCAN."""
        after, keys = self._connected(db).ask(b"SCAN", cursor, b"COUNT", count)
        return int(after), keys

    def read(self, db: int, keys: list[bytes]) -> list[tuple[bytes, int, dict[bytes, int]]]:
        """(key, time in ms or -1 none or -2 no such key, times of its fields that have one) of each key."""
        if not keys:
            return []
        link = self._connected(db)
        times = link.ask_all([[b"PEXPIRETIME", k] for k in keys]) if self._modern else self._old(link, keys)
        fields: dict[bytes, dict[bytes, int]] = {}
        if self._fields:
            kinds = link.ask_all([[b"OBJECT", b"ENCODING", k] for k in keys])
            types = link.ask_all([[b"TYPE", k] for k in keys])
            for key, kind, type_ in zip(keys, kinds, types, strict=True):
                if type_ == b"hash" and kind in (b"hashtable", b"listpackex"):  # a listpack holds no field times
                    fields[key] = self._of_hash(link, key)
        return [(key, int(when), fields.get(key, {})) for key, when in zip(keys, times, strict=True)]

    @staticmethod
    def _old(link: TargetLink, keys: list[bytes]) -> list[int]:
        """Before 7.0: PTTL between two TIMEs of one millisecond."""
        out: list[int] = []
        start, size = 0, 64
        while start < len(keys):
            batch = keys[start : start + size]
            commands: list[list[bytes | int]] = [[b"MULTI"], [b"TIME"]]
            commands += [[b"PTTL", k] for k in batch]
            before, *ttls, after = link.ask_all([*commands, [b"TIME"], [b"EXEC"]])[-1]
            now = int(before[0]) * 1000 + int(before[1]) // 1000
            if now == int(after[0]) * 1000 + int(after[1]) // 1000:
                out += [ttl if ttl < 0 else now + ttl for ttl in ttls]
                start += len(batch)
                size = min(512, size * 2)
            else:
                size = max(1, size // 2)
        return out

    @staticmethod
    def _of_hash(link: TargetLink, key: bytes) -> dict[bytes, int]:
        out: dict[bytes, int] = {}
        cursor = b"0"
        while True:
            cursor, flat = link.ask(b"HSCAN", key, cursor, b"COUNT", FIELDS_AT_ONCE)
            names = flat[::2]
            if names:
                times = link.ask(b"HPEXPIRETIME", key, b"FIELDS", len(names), *names)
                out |= {name: t for name, t in zip(names, times, strict=True) if t > 0}
            if cursor == b"0":
                return out
