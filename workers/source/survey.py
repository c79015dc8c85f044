"""What is asked of a source that is read by SCAN, besides its keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from workers.codec.resp_cy import ReplyError
from workers.source.ask import KEYS, Command, Source, Values, _fields

WIPING = frozenset(("cmdstat_flushall", "cmdstat_flushdb", "cmdstat_swapdb"))
CALLS = re.compile(r"calls=(\d+)")
LEAST_PAYLOAD = 11  # bytes: a type, version and checksum


class Survey(Source):
    """Asks one source node; errors as of `Source`."""

    def spaces(self) -> tuple[str, dict[int, int]]:
        """The id of its process, and how many keys each database holds."""
        server, spaces = (self._sound(0, (b"INFO", section)) for section in (b"server", b"keyspace"))
        found = {name: KEYS.match(value) for name, value in _fields(spaces).items() if name.startswith("db")}
        return _fields(server).get("run_id", ""), {int(db[2:]): int(keys[1]) for db, keys in found.items() if keys}

    def version(self, db: int) -> int | None:
        """The version of RDB in which it writes values; None: the database has none by now."""
        for _ in range(10):
            key = self._sound(db, (b"RANDOMKEY",))
            payload = None if key is None else self._sound(db, (b"DUMP", key))
            if payload is not None and len(payload) >= LEAST_PAYLOAD:
                return int.from_bytes(payload[-10:-8], "little")
        return None

    def codes(self) -> list[bytes]:
        """The code of its function libraries; a server before 7.0 has none, nor has who may not ask."""
        (answer,) = self._ask(0, [(b"FUNCTION", b"LIST", b"WITHCODE")])
        if isinstance(answer, ReplyError):
            return []
        return [dict(zip(one[::2], one[1::2], strict=True))[b"library_code"] for one in answer]

    def exact(self, keys: Sequence[tuple[int, bytes]], said: Values) -> list[int]:
        """Times to the millisecond of keys whose values were read, where the source tells them as so much from now."""
        found = list(said.times)
        left = [] if said.exact else [at for at, when in enumerate(found) if when >= 0]
        while left:
            db = keys[left[0]][0]
            some = [at for at in left if keys[at][0] == db]
            times = self.times(db, [keys[at][1] for at in some]).times
            for at, when in zip(some, times, strict=False):  # it may have told those of the first ones alone
                found[at] = when
            told = set(some[: len(times)])
            left = [at for at in left if at not in told]
        return found

    def upset(self) -> tuple[object, ...]:
        """What changes when many keys may have, without a notification of each: a database was emptied or swapped, or
        the server has taken over another one's data."""
        sections = (b"replication", b"commandstats")
        replication, calls = (_fields(self._sound(0, (b"INFO", section))) for section in sections)
        found = [CALLS.match(value) for name, value in sorted(calls.items()) if name in WIPING]
        named = [replication.get(name) for name in ("master_replid", "role", "master_host", "master_port")]
        return (*named, *(int(one[1]) for one in found if one))

    def _sound(self, db: int, command: Command) -> Any:
        (answer,) = self._ask(db, [command])
        if isinstance(answer, ReplyError):
            raise self._refused(answer)
        return answer
