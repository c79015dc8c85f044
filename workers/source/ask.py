"""Ordinary questions to the source, on a connection of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side


@dataclass(frozen=True, slots=True)
class Times:
    """Expiries in ms since the epoch; -1 none, -2 no such key. Each was read at an offset from `low` to `high`."""

    low: int
    high: int
    times: list[int]


class Source:
    """Asks one source node. Connects when first asked, and again after a failure.

    Every method raises ConnectionLost, CredentialsRefused or SourceError.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._client: redis.Redis | None = None
        self._dbs: dict[int, redis.Redis] = {}

    def _connect(self, db: int = 0) -> redis.Redis:
        client = self._dbs.get(db)
        if client is None:
            client = self._dbs[db] = self._endpoint.connect(db=db, single_connection_client=True)
        return client

    def close(self) -> None:
        for client in self._dbs.values():
            client.close()
        self._dbs.clear()

    def _info(self, section: str) -> dict[str, Any]:
        try:
            info: dict[str, Any] = self._connect().info(section)
            return info
        except (redis.RedisError, OSError) as e:
            self.close()
            raise classify(e, Side.SOURCE) from e

    def offset(self) -> int:
        """The source's replication offset now."""
        return int(self._info("replication")["master_repl_offset"])

    def keys(self) -> int | None:
        """Keys in all databases, roughly."""
        spaces = self._info("keyspace")
        return sum(int(space["keys"]) for space in spaces.values() if isinstance(space, dict))

    def times(self, db: int, keys: list[bytes]) -> Times:
        """Exact expiries on a source that has no PEXPIRETIME (before 7.0).

        PTTL counts from the server's clock; two TIMEs around the PTTLs that show one millisecond prove which.
        """
        while True:
            pipe = self._connect(db).pipeline(transaction=True)
            pipe.time()
            for key in keys:
                pipe.pttl(key)
            pipe.time()
            pipe.info("replication")
            try:
                before, *ttls, after, info = pipe.execute()
            except (redis.RedisError, OSError) as e:
                self.close()
                raise classify(e, Side.SOURCE) from e
            now = before[0] * 1000 + before[1] // 1000
            if now == after[0] * 1000 + after[1] // 1000:
                times = [ttl if ttl < 0 else now + ttl for ttl in ttls]
                offset = int(info["master_repl_offset"])
                return Times(offset, offset, times)
            if len(keys) > 64:
                middle = len(keys) // 2
                first, second = self.times(db, keys[:middle]), self.times(db, keys[middle:])
                return Times(first.low, second.high, first.times + second.times)

    def touch(self, db: int, keys: list[bytes]) -> None:
        """Let a master notice that keys have expired, so that it sends their DEL."""
        pipe = self._connect(db).pipeline(transaction=False)
        for key in keys:
            pipe.exists(key)
        try:
            pipe.execute()
        except (redis.RedisError, OSError) as e:
            self.close()
            raise classify(e, Side.SOURCE) from e
