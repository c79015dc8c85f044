"""What is asked of a source that is read by SCAN, besides its keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sync_tasks.endpoints import Endpoint
from workers.codec.resp_cy import ReplyError
from workers.source.ask import KEYS, Command, Source, Values, _fields

UPSETTING = frozenset(("cmdstat_flushall", "cmdstat_flushdb", "cmdstat_swapdb", "cmdstat_config|set"))
"""Commands behind which many keys may be others; the last one, counted from 7.0 on, may have ended the notifications
for a moment."""
CALLS = re.compile(r"calls=(\d+)")
LOADED = ("rdb_last_load_keys_loaded", "rdb_last_load_keys_expired")
"""From 7.0 on; a replica loads its master's data by an RDB, too."""
BACKLOG = ("repl_backlog_first_byte_offset", "repl_backlog_histlen", "repl_backlog_size")
SECTIONS = (b"replication", b"commandstats", b"persistence")
LEAST_PAYLOAD = 11  # bytes: a type, version and checksum


class Survey(Source):
    """Asks one source node; errors as of `Source`."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._backlog: int | None = None  # where a replica's began when last looked at
        self._copies = 0  # of all its master's data that it has taken meanwhile

    def spaces(self) -> tuple[str, dict[int, int]]:
        """The id of its process, and how many keys each database holds."""
        server, spaces = (self._sound(0, (b"INFO", section)) for section in (b"server", b"keyspace"))
        found = {name: KEYS.match(value) for name, value in _fields(spaces).items() if name.startswith("db")}
        return _fields(server).get("run_id", ""), {int(db[2:]): int(keys[1]) for db, keys in found.items() if keys}

    def is_clustered(self) -> bool:
        """Whether it is a node of a cluster: from Redis 7.2 and Valkey 8.0 on its cursors count slots as well."""
        return _fields(self._sound(0, (b"INFO", b"cluster"))).get("cluster_enabled") == "1"

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
        """What changes when many keys may have, without a notification of each: a database was emptied or swapped,
        the settings were changed, or the server has taken over another one's data."""
        return self._upset(*(_fields(self._sound(0, (b"INFO", section))) for section in SECTIONS))

    def places(self) -> list[Endpoint]:
        """The servers whose notifications tell of its keys."""
        return [self._endpoint]

    def strangers(self) -> bool:
        """Whether some keys are elsewhere by now."""
        return False

    def _upset(
        self, replication: dict[str, str], calls: dict[str, str], loads: dict[str, str]
    ) -> tuple[object, ...]:
        found = [(name, CALLS.match(value)) for name, value in sorted(calls.items()) if name in UPSETTING]
        named = [replication.get(name) for name in ("master_replid", "role", "master_host", "master_port")]
        loaded = [loads.get(name) for name in LOADED]
        return (*named, *loaded, self._copied(replication), *((name, int(one[1])) for name, one in found if one))

    def _copied(self, replication: dict[str, str]) -> int:
        """How often a replica has been seen to take its master's whole data. Its backlog begins anew then; else one
        that is not full begins where it began."""
        if replication.get("role") != "slave":
            return self._copies
        began, held, size = (int(replication.get(name) or 0) for name in BACKLOG)
        anew = self._backlog is not None and began != self._backlog and held < size
        self._copies += anew or replication.get("master_sync_in_progress") == "1"
        self._backlog = began
        return self._copies

    def _sound(self, db: int, command: Command) -> Any:
        (answer,) = self._ask(db, [command])
        if isinstance(answer, ReplyError):
            raise self._refused(answer)
        return answer
