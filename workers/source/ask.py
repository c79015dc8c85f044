"""Ordinary questions to the source, on a connection of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side, SourceError

Hashes = Sequence[tuple[bytes, list[bytes]]]
"""Hashes, and some fields of each."""
Command = tuple[bytes | str | int, ...]

GONE = -2
NO_HASH = -3
LEAST = 16
"""So few keys are read within one millisecond sooner or later."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the source's stream."""

    replid: str
    offset: int


@dataclass(frozen=True, slots=True)
class Times:
    """Expiries in ms since the epoch; all true at one place of the stream.

    -1: none; -2 (GONE): no such key or field; -3 (NO_HASH): no such hash.
    """

    at: Position
    times: list[int]


@dataclass(frozen=True, slots=True)
class Values:
    """Keys as they are at one place of the stream.

    values: payloads as DUMP gives them; None: no such key, or one that a replica hides.
    times: expiries in ms since the epoch, -1: none. exact: whether they are, else they may be some ms off.
    """

    at: Position
    values: list[bytes | None]
    times: list[int]
    exact: bool
    replica: bool


class Source:
    """Asks one source node. Connects when first asked, and again after a failure.

    Every method raises ConnectionLost, CredentialsRefused or SourceError.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._dbs: dict[int, redis.Redis] = {}
        self._unknown: set[bytes | str | int] = set()  # commands that the server does not have

    def _connect(self, db: int = 0) -> redis.Redis:
        client = self._dbs.get(db)
        if client is None:
            client = self._dbs[db] = self._endpoint.connect(db=db, single_connection_client=True)
        return client

    def close(self) -> None:
        for client in self._dbs.values():
            client.close()
        self._dbs.clear()
        self._unknown.clear()

    def _lost(self, error: Exception) -> Exception:
        self.close()
        return classify(error, Side.SOURCE)

    def _info(self, section: str) -> dict[str, Any]:
        try:
            info: dict[str, Any] = self._connect().info(section)
            return info
        except (redis.RedisError, OSError) as e:
            raise self._lost(e) from e

    def offset(self) -> int:
        """The source's replication offset now."""
        return self.position().offset

    def position(self) -> Position:
        """Up to where the source has written now."""
        return _position(self._info("replication"))

    def keys(self) -> int | None:
        """Keys in all databases, roughly."""
        spaces = self._info("keyspace")
        return sum(int(space["keys"]) for space in spaces.values() if isinstance(space, dict))

    def times(self, db: int, keys: Sequence[bytes]) -> Times:
        """Exact expiries of keys: of the first ones alone, if not all can be read at once."""
        answers = self._at_once(db, [*(("PEXPIRETIME", key) for key in keys), ("INFO", "replication")])
        if answers is None:
            return self._old_times(db, keys)
        *times, info = answers
        return Times(_position(info), times)

    def field_times(self, db: int, hashes: Hashes) -> Times:
        """Expiries of fields, hash by hash. A server whose fields have none is said to have no such hash.

        A hash with a field that is gone may only hide it: it sends its HDEL later, unlike the DEL of a key.
        """
        commands: list[Command] = [("HPEXPIRETIME", key, "FIELDS", len(names), *names) for key, names in hashes]
        commands += [("EXISTS", key) for key, _ in hashes]
        said_all = self._at_once(db, [*commands, ("INFO", "replication")])
        if said_all is None:
            return Times(self.position(), [NO_HASH for _, names in hashes for _ in names])
        *answers, info = said_all
        times: list[int] = []
        for (_, names), said, there in zip(hashes, answers[: len(hashes)], answers[len(hashes) :], strict=True):
            known = there and not isinstance(said, redis.ResponseError)
            times += said if known else [NO_HASH] * len(names)
        return Times(_position(info), times)

    def values(self, keys: Sequence[tuple[int, bytes]]) -> Values:
        """Keys (database, name), all at one place of the stream. It blocks the source for as long as it reads them."""
        found = self._values(keys, "PEXPIRETIME") or self._values(keys, "PTTL")
        assert found is not None
        return found

    def _values(self, keys: Sequence[tuple[int, bytes]], when: str) -> Values | None:
        commands: list[Command] = [("TIME",)]
        for number, (db, key) in enumerate(keys):
            if number == 0 or db != keys[number - 1][0]:
                commands.append(("SELECT", db))
            commands += [("DUMP", key), (when, key)]
        commands += [("SELECT", 0), ("TIME",), ("INFO", "replication")]
        answers = self._at_once(0, commands, when)
        if answers is None:
            return None
        said = [answer for answer, command in zip(answers, commands, strict=True) if command[0] in ("DUMP", when)]
        before, after = (_ms(answers[0]), _ms(answers[-2]))
        times = [int(time) for time in said[1::2]]
        exact = when == "PEXPIRETIME"
        if not exact:
            exact = before == after
            times = [time if time < 0 else before + time for time in times]
        info = answers[-1]
        return Values(_position(info), said[0::2], times, exact, info.get("role") == "slave")

    def sizes(self, keys: Sequence[tuple[int, bytes]]) -> list[int]:
        """Bytes of memory that keys (database, name) take, roughly."""
        sizes: list[int] = []
        try:
            for start in range(0, len(keys), 1000):
                pipe = self._connect().pipeline(transaction=False)
                batch = keys[start : start + 1000]
                for db, key in batch:
                    pipe.execute_command("SELECT", db)  # type: ignore[no-untyped-call]
                    pipe.execute_command("MEMORY USAGE", key)  # type: ignore[no-untyped-call]
                pipe.execute_command("SELECT", 0)  # type: ignore[no-untyped-call]
                sizes += [int(size or 0) for size in pipe.execute()[1:-1:2]]
        except (redis.RedisError, OSError) as e:
            raise self._lost(e) from e
        return sizes

    def _old_times(self, db: int, keys: Sequence[bytes]) -> Times:
        """Before 7.0 there is no PEXPIRETIME.

        PTTL counts from the server's clock; two TIMEs around the PTTLs that show one millisecond prove which.
        """
        while True:
            ask: list[Command] = [("PTTL", key) for key in keys]
            answers = self._at_once(db, [("TIME",), *ask, ("TIME",), ("INFO", "replication")])
            assert answers is not None
            before, *ttls, after, info = answers
            now = _ms(before)
            if now == _ms(after):
                return Times(_position(info), [ttl if ttl < 0 else now + ttl for ttl in ttls])
            keys = keys[: max(LEAST, len(keys) // 2)]

    def _at_once(self, db: int, commands: list[Command], newest: str | None = None) -> list[Any] | None:
        """A transaction's answers; None: the server does not have the command `newest`, by default the first one.

        A key that is no hash answers with an error, which is returned.
        """
        name = newest or commands[0][0]
        if name in self._unknown:
            return None
        try:
            pipe = self._connect(db).pipeline(transaction=True)
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            answers: list[Any] = pipe.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                    raise answer
            return answers
        except (redis.RedisError, OSError) as e:
            error = self._lost(e)
            if "unknown command" not in str(e).lower():
                raise error from e
            self._unknown.add(name)
            return None

    def touch(self, db: int, keys: list[bytes]) -> None:
        """Let a master notice that keys have expired, so that it sends their DEL."""
        try:
            pipe = self._connect(db).pipeline(transaction=False)
            for key in keys:
                pipe.exists(key)
            pipe.execute()
        except (redis.RedisError, OSError) as e:
            raise self._lost(e) from e


def _ms(time: tuple[int, int]) -> int:
    """What TIME answers, in ms since the epoch."""
    return time[0] * 1000 + time[1] // 1000


def _position(info: dict[str, Any]) -> Position:
    try:
        return Position(str(info["master_replid"]), int(info["master_repl_offset"]))
    except (KeyError, TypeError, ValueError) as e:
        raise SourceError("the source does not say where its stream stands", hint="allow INFO to its user") from e
