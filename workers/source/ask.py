"""Ordinary questions to the source, on a connection of their own."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import SOCKET_TIMEOUT_S, Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SourceError
from workers.aside import Aside
from workers.codec.programs import is_nothing
from workers.codec.resp_cy import ReplyError
from workers.link import Link
from workers.source.elsewhere import Place, counting, is_elsewhere, place
from workers.source.routes import moving
from workers.source.said import GONE as GONE
from workers.source.said import NO_HASH as NO_HASH
from workers.source.said import Kind as Kind
from workers.source.said import Position as Position
from workers.source.said import Times as Times
from workers.source.said import Values as Values
from workers.source.together import KEYLESS, together

Hashes = Sequence[tuple[bytes, list[bytes]]]
"""Hashes, and some fields of each."""
Command = tuple[bytes | int, ...]
POSITION: Command = (b"INFO", b"replication")
OLD_POSITION: Command = (b"INFO",)
"""Before 4.0 the stream has the run id for its replication id, and that stands in another section."""
KEYS = re.compile(r"keys=(\d+)")
SERIALIZED = re.compile(rb"serializedlength:(\d+)")

LEAST = 16
"""So few keys are read within one millisecond sooner or later."""


class Source:
    """Asks one source node. Connects when first asked, and again after a failure.

    Every method raises ConnectionLost, CredentialsRefused or SourceError.
    """

    still = False
    """Whether nothing follows what was copied: no DEL tells that a key has expired."""
    compares = False
    """Whether all keys are compared where the log lacks what is before the target's checkpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._links: dict[int, Link] = {}  # by database
        self._unknown: set[bytes | int] = set()  # commands that the server does not have
        self._where = POSITION
        self._moved = threading.Event()  # the links lead to a former master
        self.spool: Path | None = None  # a directory for long values; None: all are held in memory

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._unknown.clear()

    def moved(self, address: str) -> None:
        """The server is at this address now: links that lead elsewhere are made anew. From any thread."""
        if any(link.at != address for link in list(self._links.values())):
            self._moved.set()

    def beyond(self, commands: int) -> int:
        """How many more commands than these it has been sent since this was last asked, where it takes another
        number of them to ask."""
        return 0

    def _ask(self, db: int, commands: list[Command], aside: Aside | None = None) -> list[Any]:
        """Answers; errors among them as `ReplyError`s."""
        if self._moved.is_set():
            self._moved.clear()
            self.close()
        try:
            link = self._links.get(db)
            if link is None:
                link = self._links[db] = Link(self._endpoint, "keyferry-ask", db, SOCKET_TIMEOUT_S)
                self._where = POSITION if b"master_replid:" in link.ask(*POSITION) else OLD_POSITION
            return link.try_all([list(self._here(command)) for command in commands], aside)
        except KeyferryError:
            self.close()
            raise

    def _here(self, command: Command) -> Command:
        return self._where if command == POSITION else command

    def _refused(self, answer: ReplyError) -> KeyferryError:
        self.close()
        if self._endpoint.shard and is_elsewhere(answer):
            return moving()
        return classify(answer.line, Side.SOURCE)

    def _info(self, section: bytes) -> dict[str, str]:
        (answer,) = self._ask(0, [(b"INFO", section)])
        if isinstance(answer, ReplyError):
            raise self._refused(answer)
        return _fields(answer)

    def offset(self) -> int:
        """The source's replication offset now."""
        return self.position().offset

    def position(self) -> Position:
        """Up to where the source has written now."""
        return _position(self._info(b"replication"))

    def later(self, delay_ms: float | None) -> float | None:
        """The delay of a target, ms, given that of what has come from the source; None: not known."""
        return delay_ms

    def cluster(self) -> str:
        """CLUSTER NODES: who serves which slots, as this node of a cluster sees it."""
        (answer,) = self._ask(0, [(b"CLUSTER", b"NODES")])
        if isinstance(answer, ReplyError):
            raise self._refused(answer)
        return str(answer.decode(errors="replace"))

    def is_replica(self) -> bool:
        """Whether it hides keys whose time has passed for as long as its master has not deleted them."""
        return self._info(b"replication").get("role") == "slave"

    def kind(self) -> Kind:
        """What it is."""
        info = self._info(b"server")
        return Kind("valkey_version" not in info, int(info.get("redis_version", "0").partition(".")[0]))

    def kind_if_there(self) -> Kind:
        """The same; of one that does not answer now nothing is known."""
        try:
            return self.kind()
        except KeyferryError:
            return Kind()

    def named(self, commands: list[list[bytes]]) -> list[list[bytes] | None]:
        """The keys that each command names; None: it does not say."""
        answers = self._ask(0, [(b"COMMAND", b"GETKEYS", *argv) for argv in commands])
        return [None if isinstance(answer, ReplyError) else answer for answer in answers]

    def keys(self, databases: Collection[int] | None = None) -> int | None:
        """Keys in some databases, or in all, roughly."""
        mine = None if databases is None else {f"db{db}" for db in databases}
        spaces = [value for name, value in self._info(b"keyspace").items() if mine is None or name in mine]
        return sum(int(space[1]) for space in map(KEYS.match, spaces) if space)

    def full(self) -> tuple[Position, list[int]]:
        """Databases that hold keys, and a place of the stream that whoever says so has passed."""
        answers = self._ask(0, [POSITION, (b"INFO", b"keyspace")])
        for answer in answers:
            if isinstance(answer, ReplyError):
                raise self._refused(answer)
        info, spaces = map(_fields, answers)
        return _position(info), [int(name[2:]) for name in spaces if name.startswith("db")]

    def databases(self) -> list[int]:
        """Databases that hold keys."""
        return [int(name[2:]) for name in self._info(b"keyspace") if name.startswith("db")]

    def scan(self, db: int, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """One step of SCAN. A cursor is of one connection's life: after an error, begin again."""
        (answer,) = self._ask(db, [(b"SCAN", cursor, b"COUNT", count)])
        if isinstance(answer, ReplyError):
            raise self._refused(answer)
        return int(answer[0]), answer[1]

    def walk(self, db: int, cursor: int, count: int) -> tuple[str, Position, int, list[bytes]]:
        """One step of SCAN, with the id of the process that answers and a place of the stream that it has passed."""
        ask: list[Command] = [(b"INFO", b"server"), POSITION, (b"SCAN", cursor, b"COUNT", count)]
        answers = self._ask(db, ask)
        for answer in answers:
            if isinstance(answer, ReplyError):
                raise self._refused(answer)
        server, info, (after, keys) = answers
        return _fields(server).get("run_id", ""), _position(_fields(info)), int(after), keys

    def there(self, db: int, keys: Sequence[bytes]) -> list[bool]:
        """Which of the keys a database has."""
        return self.there_at(db, keys)[1]

    def there_at(self, db: int, keys: Sequence[bytes]) -> tuple[Position, list[bool]]:
        """The same, with a place of the stream that whoever says so has passed."""
        answers = self._ask(db, [POSITION, *((b"EXISTS", key) for key in keys)])
        for answer in answers:
            if isinstance(answer, ReplyError):
                raise self._refused(answer)
        return _position(_fields(answers[0])), [bool(answer) for answer in answers[1:]]

    def libraries(self) -> list[str]:
        """Names of the function libraries; a server before 7.0 has none."""
        answers = self._at_once(0, [(b"FUNCTION", b"LIST"), POSITION])
        found = [dict(zip(library[::2], library[1::2], strict=True)) for library in answers[0]] if answers else []
        return [library[b"library_name"].decode() for library in found]

    def times(self, db: int, keys: Sequence[bytes]) -> Times:
        """Exact expiries of keys: of the first ones alone, if not all can be read at once."""
        answers = self._at_once(db, [*((b"PEXPIRETIME", key) for key in keys), POSITION])
        if answers is None:
            return self._old_times(db, keys)
        *times, info = answers
        return _times(info, times)

    def field_times(self, databases: Sequence[int], hashes: Hashes) -> Times:
        """Expiries of fields, hash by hash. A server whose fields have none is said to have no such hash.

        A hash with a field that is gone may only hide it: it sends its HDEL later, unlike the DEL of a key.

        Args:
            databases: of each hash.
        """
        commands: list[Command] = []
        for db, (key, names) in zip(databases, hashes, strict=True):
            commands += [
                (b"SELECT", db), (b"HPEXPIRETIME", key, b"FIELDS", len(names), *names), (b"EXISTS", key),
            ]  # fmt: skip
        said_all = self._at_once(0, [*commands, (b"SELECT", 0), POSITION], b"HPEXPIRETIME")
        if said_all is None:
            return Times(self.position(), [NO_HASH for _, names in hashes for _ in names])
        *answers, _, info = said_all
        times: list[int] = []
        for (_, names), said, there in zip(hashes, answers[1::3], answers[2::3], strict=True):
            known = there and not isinstance(said, ReplyError)
            times += said if known else [NO_HASH] * len(names)
        return _times(info, times)

    def values(self, keys: Sequence[tuple[int, bytes]]) -> Values:
        """Keys (database, name), all at one place of the stream. It blocks the source for as long as it reads them.

        Of a slot that is another node's by now there is none, if that is so at this very place.
        """
        try:
            return self._said(keys, set())
        except ConnectionLost as error:
            if error.code != moving().code:
                raise
            places = sorted({place(key) for key in keys})
            counts = self._at_once(0, [*counting(places), (b"SELECT", 0)], b"CLUSTER") or []
            if not (empty := {at for at, count in zip(places, counts[1::2], strict=False) if not count}):
                raise
        return self._said(keys, empty)

    def _said(self, keys: Sequence[tuple[int, bytes]], empty: set[Place]) -> Values:
        found = self._values(keys, empty, b"PEXPIRETIME") or self._values(keys, empty, b"PTTL")
        assert found is not None
        return found

    def _values(self, keys: Sequence[tuple[int, bytes]], empty: set[Place], when: bytes) -> Values | None:
        commands: list[Command] = [(b"TIME",), *counting(empty)]
        asked = [key for key in keys if not empty or place(key) not in empty]
        for number, (db, key) in enumerate(asked):
            if number == 0 or db != asked[number - 1][0]:
                commands.append((b"SELECT", db))
            commands += [(b"DUMP", key), (when, key)]
        commands += [(b"SELECT", 0), (b"TIME",), POSITION]
        aside = None if self.spool is None else Aside(self.spool)
        answers = self._at_once(0, commands, when, aside)
        if answers is None:
            return None
        if any(answers[2 : 2 * len(empty) + 1 : 2]):
            raise moving()  # it has just come back
        said = [answer for answer, command in zip(answers, commands, strict=True) if command[0] in (b"DUMP", when)]
        before, after, info = _ms(answers[0]), _ms(answers[-2]), _fields(answers[-1])
        times = [int(time) for time in said[1::2]]
        exact = when == b"PEXPIRETIME"
        if not exact:
            exact = before == after
            times = [time if time < 0 else before + time for time in times]
        kept = {} if aside is None else aside.values
        values = [None if value and is_nothing(value) else kept.get(value, value) for value in said[0::2]]
        if empty:
            there = dict(zip(asked, zip(values, times, strict=True), strict=True))
            values, times = map(list, zip(*(there.get(key, (None, GONE)) for key in keys), strict=True))
        return Values(_position(info), values, times, exact, info.get("role") == "slave")

    def sizes(self, keys: Sequence[tuple[int, bytes]]) -> list[int]:
        """Bytes of memory that keys (database, name) take, roughly."""
        sizes: list[int] = []
        for db, group in groupby(keys, lambda at: at[0]):
            names = [key for _, key in group]
            answers = self._ask(db, [(b"MEMORY", b"USAGE", key) for key in names])
            if isinstance(answers[0], ReplyError) and _is_unknown(answers[0]):  # before 4.0
                sizes += map(_serialized, self._ask(db, [(b"DEBUG", b"OBJECT", key) for key in names]))
                continue
            for answer in answers:
                gone = isinstance(answer, ReplyError) and self._endpoint.shard and is_elsewhere(answer)
                if isinstance(answer, ReplyError) and not gone:
                    raise self._refused(answer)
                sizes.append(0 if gone else int(answer or 0))
        return sizes

    def _old_times(self, db: int, keys: Sequence[bytes]) -> Times:
        """Before 7.0 there is no PEXPIRETIME.

        PTTL counts from the server's clock; two TIMEs around the PTTLs that show one millisecond prove which.
        """
        while True:
            ask: list[Command] = [(b"PTTL", key) for key in keys]
            answers = self._at_once(db, [(b"TIME",), *ask, (b"TIME",), POSITION])
            assert answers is not None
            before, *ttls, after, info = answers
            now = _ms(before)
            if now == _ms(after):
                return _times(info, [ttl if ttl < 0 else now + ttl for ttl in ttls])
            keys = keys[: max(LEAST, len(keys) // 2)]

    def _at_once(
        self, db: int, commands: list[Command], newest: bytes | None = None, aside: Aside | None = None
    ) -> list[Any] | None:
        """A transaction's answers; None: the server does not have the command `newest`, by default the first one.

        A key that is no hash answers with an error, which is returned.
        """
        name = newest or commands[0][0]
        if name in self._unknown:
            return None
        if self._endpoint.shard and commands[0][0] not in KEYLESS:
            (answers,) = self._ask(db, [together(map(self._here, commands))], aside)
            queued: list[Any] = []
        else:
            *queued, answers = self._ask(db, [(b"MULTI",), *commands, (b"EXEC",)], aside)
        said = [*queued, *(answers if isinstance(answers, list) else [answers])]
        refused = next((a for a in said if isinstance(a, ReplyError) and b"WRONGTYPE" not in a.line), None)
        if refused is None:
            return list(answers)
        error = self._refused(refused)
        if not _is_unknown(refused):
            raise error
        self._unknown.add(name)
        return None

    def touch(self, db: int, keys: list[bytes]) -> None:
        """Let a master notice that keys have expired, so that it sends their DEL."""
        for answer in self._ask(db, [(b"EXISTS", key) for key in keys]):
            if isinstance(answer, ReplyError):
                raise self._refused(answer)


def _is_unknown(answer: ReplyError) -> bool:
    line = answer.line.lower()
    return b"unknown command" in line or b"unknown redis command" in line  # from a script


def _serialized(answer: bytes | ReplyError) -> int:
    """Bytes that a value takes in a snapshot, by DEBUG OBJECT; 0: no such key, or not to be had."""
    found = None if isinstance(answer, ReplyError) else SERIALIZED.search(answer)
    return int(found[1]) if found else 0


def _ms(time: list[bytes]) -> int:
    """TIME's answer, in ms since the epoch."""
    seconds, micros = map(int, time)
    return seconds * 1000 + micros // 1000


def _fields(info: bytes) -> dict[str, str]:
    """INFO's text as a table."""
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _times(info: bytes, times: list[int]) -> Times:
    fields = _fields(info)
    return Times(_position(fields), times, fields.get("role") == "slave")


def _position(info: dict[str, str]) -> Position:
    try:
        return Position(info.get("master_replid") or info["run_id"], int(info["master_repl_offset"]))
    except (KeyError, ValueError) as e:
        raise SourceError("the source does not say where its stream stands", hint="allow INFO to its user") from e
