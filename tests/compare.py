"""An independent judge: two servers, key by key, type, value and expiry, both ways.

Plain and slow on purpose, and written without a look at `workers.verify`, which it is there to check. Values
are read with the commands a user would use, never as DUMP payloads.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

OURS = b"keyferry:"
BATCH = 200  # keys read in one go from each side
Range = tuple[int, int]  # a moment in ms since 1970, known to lie between the two
NEVER: Range = (-1, -1)


@dataclass(frozen=True)
class Difference:
    """One key that differs. `kind` is missing, extra, type, value, expiry, field-expiry or functions."""

    db: int
    key: bytes
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"db {self.db} {self.key[:60]!r}: {self.kind}, {self.detail[:300]}"


@dataclass(frozen=True)
class Slack:
    """How the target's expiries relate to the source's, in ms: later by `shift_ms`, give or take."""

    shift_ms: int
    tolerance_ms: int


@dataclass(frozen=True)
class State:
    """What one server says of one key."""

    type: bytes
    value: Any
    expiry: Range
    fields: dict[bytes, Range]  # hash field expiries


class Side:
    """One server with a client for each database."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.clients: dict[int, redis.Redis] = {}
        info = self.db(0).info()
        self.valkey = "valkey_version" in info
        said = str(info["valkey_version"] if self.valkey else info["redis_version"])
        self.version = tuple(int(part) for part in said.split(".")[:2])
        self.dbs = {int(name[2:]) for name in info if name.startswith("db") and name[2:].isdigit()}
        self.counters = self.version >= (7, 0)  # stream counters: unknown to a server before 7.0
        self.has_field_expiry = self.version >= (9, 0) if self.valkey else self.version >= (7, 4)

    def db(self, number: int) -> redis.Redis:
        if number not in self.clients:
            self.clients[number] = redis.Redis.from_url(
                f"{self.url}/{number}", protocol=2, socket_timeout=120, retry=Retry(NoBackoff(), 0)
            )
        return self.clients[number]

    def now_ms(self) -> int:
        seconds, micros = self.db(0).time()
        return int(seconds) * 1000 + int(micros) // 1000

    def keys(self, db: int) -> set[bytes]:
        found = self.db(db).scan_iter(count=1000)
        return {key for key in found if not key.startswith(OURS)}

    def functions(self) -> list[tuple[Any, ...]]:
        """Every function library: name, engine, code."""
        if self.version < (7, 0):
            return []
        libraries = self.db(0).execute_command("FUNCTION", "LIST", "WITHCODE")
        maps = [dict(zip(item[::2], item[1::2], strict=True)) for item in libraries]
        return sorted((item[b"library_name"], item[b"engine"], item[b"library_code"]) for item in maps)

    def states(self, db: int, keys: Sequence[bytes]) -> dict[bytes, State]:
        """The present state of those of `keys` that exist."""
        client = self.db(db)
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.execute_command("TYPE", key)
        types = dict(zip(keys, pipe.execute(), strict=True))
        there = [key for key in keys if types[key] != b"none"]
        expiries = self._expiries(client, there)
        for key in there:
            _ask(pipe, types[key], key)
        answers = pipe.execute(raise_on_error=False)
        out = {}
        for key, answer in zip(there, answers, strict=True):
            if isinstance(answer, redis.ResponseError):  # gone or changed its type since: read again later
                continue
            fields = self._field_expiries(client, key, _flat(answer)) if types[key] == b"hash" else {}
            value = _canonical(types[key], answer, self.counters)
            out[key] = State(types[key], value, expiries[key], fields)
        return out

    def _expiries(self, client: redis.Redis, keys: Sequence[bytes]) -> dict[bytes, Range]:
        if not keys:
            return {}
        if self.version >= (7, 0):
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.execute_command("PEXPIRETIME", key)
            return {key: (at, at) if at >= 0 else NEVER for key, at in zip(keys, pipe.execute(), strict=True)}
        return self._expiries_by_ttl(client, keys)

    def _expiries_by_ttl(self, client: redis.Redis, keys: Sequence[bytes]) -> dict[bytes, Range]:
        """Before 7.0 only the time left can be asked: the moment lies between two readings of the clock."""
        pipe = client.pipeline(transaction=True)
        for key in keys:
            pipe.execute_command("TIME")
            pipe.execute_command("PTTL", key)
        pipe.execute_command("TIME")
        answers = pipe.execute()
        clock = [int(at[0]) * 1000 + int(at[1]) // 1000 for at in answers[::2]]
        left = answers[1::2]
        return {
            key: (clock[i] + left[i], clock[i + 1] + left[i]) if left[i] >= 0 else NEVER
            for i, key in enumerate(keys)
        }

    def _field_expiries(self, client: redis.Redis, key: bytes, flat: Sequence[bytes]) -> dict[bytes, Range]:
        if not self.has_field_expiry or not flat:
            return {}
        names = list(flat[::2])
        times: list[int] = []
        for at in range(0, len(names), 1000):
            part = names[at : at + 1000]
            times += client.execute_command("HPEXPIRETIME", key, "FIELDS", len(part), *part)
        return {name: (at, at) for name, at in zip(names, times, strict=True) if at >= 0}


def _ask(pipe: Any, type: bytes, key: bytes) -> None:
    match type:
        case b"string":
            pipe.execute_command("GET", key)
        case b"list":
            pipe.execute_command("LRANGE", key, 0, -1)
        case b"set":
            pipe.execute_command("SMEMBERS", key)
        case b"zset":
            pipe.execute_command("ZRANGE", key, 0, -1, "WITHSCORES")
        case b"hash":
            pipe.execute_command("HGETALL", key)
        case b"stream":
            pipe.execute_command("XINFO", "STREAM", key, "FULL", "COUNT", 0)
        case _:
            raise AssertionError(f"a type this comparison does not know: {type!r}")


def _flat(answer: Any) -> list[Any]:
    """redis-py turns some answers into dicts, sets or pairs even in a raw command: make them flat again."""
    if isinstance(answer, dict):
        return [part for pair in answer.items() for part in pair]
    if isinstance(answer, set):
        return list(answer)
    return list(answer)


def _score(score: Any) -> bytes:
    """A score by its bits, whatever way the server writes it."""
    return struct.pack(">d", float(score))


def _canonical(type: bytes, answer: Any, counters: bool) -> Any:
    match type:
        case b"string":
            return answer
        case b"list":
            return list(answer)
        case b"set":
            return frozenset(answer)
        case b"zset":
            paired = bool(answer) and isinstance(answer[0], tuple)
            pairs = answer if paired else zip(answer[::2], answer[1::2], strict=True)
            return [(member, _score(score)) for member, score in pairs]
        case b"hash":
            flat = _flat(answer)
            return dict(zip(flat[::2], flat[1::2], strict=True))
    return _stream(answer, counters)


def _named(answer: Any) -> dict[str, Any]:
    flat = _flat(answer)
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in flat[::2]]
    return dict(zip(names, flat[1::2], strict=True))


def _stream(answer: Any, counters: bool) -> dict[str, Any]:
    """Entries, counters, groups, pending entries. Left out: when a consumer was last seen, which no server
    replicates, and the shape of the tree."""
    info = _named(answer)
    kept = ("length", "last-generated-id", "entries")
    kept += ("max-deleted-entry-id", "entries-added") if counters else ()
    out = {name: _plain(info[name]) for name in kept if name in info}
    out["groups"] = [_group(_named(group), counters) for group in info["groups"]]
    return out


def _group(group: dict[str, Any], counters: bool) -> dict[str, Any]:
    kept = ("name", "last-delivered-id", "pel-count", "pel", "pending")
    kept += ("entries-read",) if counters else ()
    out = {name: _plain(group[name]) for name in kept if name in group}
    consumers = [_named(consumer) for consumer in group["consumers"]]
    out["consumers"] = sorted((c["name"], _plain(c["pending"])) for c in consumers)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return [(_plain(name), _plain(item)) for name, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _alive(state: State | None, now_ms: int, shift_ms: int) -> State | None:
    """The state as it should read at `now_ms` of the source's clock: what has expired is gone, though the
    server may not have removed it yet. `shift_ms` is what this side's expiries lie behind the source's."""
    if state is None or (state.expiry != NEVER and state.expiry[1] - shift_ms <= now_ms):
        return None
    gone = {name for name, at in state.fields.items() if at[1] - shift_ms <= now_ms}
    if not gone:
        return state
    value = {name: item for name, item in state.value.items() if name not in gone}
    fields = {name: at for name, at in state.fields.items() if name not in gone}
    return State(state.type, value, state.expiry, fields) if value else None


def _same_time(source: Range, target: Range, slack: Slack) -> bool:
    if NEVER in (source, target):
        return source == target
    earliest = source[0] + slack.shift_ms - slack.tolerance_ms
    latest = source[1] + slack.shift_ms + slack.tolerance_ms
    return earliest <= target[1] and target[0] <= latest


def _first_difference(a: Any, b: Any) -> str:
    if type(a) is type(b) and isinstance(a, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            if a.get(name) != b.get(name):
                return f"{name!r}: {_first_difference(a.get(name), b.get(name))}"
    if type(a) is type(b) and isinstance(a, list):
        for i, (left, right) in enumerate(zip(a, b, strict=False)):
            if left != right:
                return f"at {i} of {len(a)}/{len(b)}: {_first_difference(left, right)}"
        return f"{len(a)} items here, {len(b)} there; then {(a[len(b) :] or b[len(a) :])[:3]!r}"
    if type(a) is type(b) and isinstance(a, frozenset):
        return f"only source {sorted(a - b)[:3]!r}, only target {sorted(b - a)[:3]!r}"
    return f"{a!r:.100} | {b!r:.100}"


def _judge(db: int, key: bytes, a: State | None, b: State | None, slack: Slack) -> Difference | None:
    if a is None and b is None:
        return None
    if b is None:
        return Difference(db, key, "missing", "on the target")
    if a is None:
        return Difference(db, key, "extra", f"{b.type.decode()} {b.value!r:.100}, expiry {b.expiry}")
    if a.type != b.type:
        return Difference(db, key, "type", f"{a.type.decode()} | {b.type.decode()}")
    if a.value != b.value:
        return Difference(db, key, "value", _first_difference(a.value, b.value))
    if not _same_time(a.expiry, b.expiry, slack):
        return Difference(db, key, "expiry", f"{a.expiry} | {b.expiry}, {b.expiry[0] - a.expiry[0]} ms apart")
    for name in {*a.fields, *b.fields}:
        mine, theirs = a.fields.get(name, NEVER), b.fields.get(name, NEVER)
        if not _same_time(mine, theirs, slack):
            return Difference(db, key, "field-expiry", f"{name!r}: {mine} | {theirs}")
    return None


def _pass(a: Side, b: Side, keys: Iterable[tuple[int, int, bytes]], slack: Slack) -> list[Difference]:
    by_db: dict[tuple[int, int], list[bytes]] = {}
    for source_db, target_db, key in keys:
        by_db.setdefault((source_db, target_db), []).append(key)
    found = []
    for (source_db, target_db), names in by_db.items():
        for at in range(0, len(names), BATCH):
            part = names[at : at + BATCH]
            mine, theirs = a.states(source_db, part), b.states(target_db, part)
            now_ms = a.now_ms()
            for key in part:
                here = _alive(mine.get(key), now_ms, 0)
                there = _alive(theirs.get(key), now_ms, slack.shift_ms)
                if difference := _judge(source_db, key, here, there, slack):
                    found.append(difference)
    return found


def compare(
    source: str,
    target: str,
    *,
    shift_ms: int = 0,
    tolerance_ms: int = 0,
    dbs: dict[int, int] | None = None,
    tries: int = 3,
    pause: float = 0.3,
) -> list[Difference]:
    """All keys of two servers that differ; empty when they are equal.

    Args:
        source: URL without a database number.
        target: the same.
        shift_ms: how far expiries of the target must lie behind the source's.
        tolerance_ms: how far they may be off: a source before 7.0 sends relative times.
        dbs: source to target numbers; all, each to its own, when left out.
        tries: readings, `pause` seconds apart, of a key that differs (a write on its way) until it counts.
    """
    a, b = Side(source), Side(target)
    a.counters = b.counters = min(a.version, b.version) >= (7, 0)
    pairs = dbs if dbs is not None else {db: db for db in a.dbs | b.dbs}
    keys = [(s, t, key) for s, t in sorted(pairs.items()) for key in sorted(a.keys(s) | b.keys(t))]
    slack = Slack(shift_ms, tolerance_ms)
    found = _pass(a, b, keys, slack)
    for _again in range(tries - 1):
        if not found:
            break
        time.sleep(pause)
        found = _pass(a, b, [(d.db, pairs[d.db], d.key) for d in found], slack)
    if min(a.version, b.version) >= (7, 0) and (here := a.functions()) != (there := b.functions()):
        names = {item[0] for item in set(here) ^ set(there)}
        found.append(Difference(-1, b"", "functions", f"libraries {sorted(names)!r} differ"))
    return found


def same(source: str, target: str, **kw: Any) -> None:
    """Assert that `compare` finds nothing, and show the first differences when it does."""
    found = compare(source, target, **kw)
    kinds = {kind: sum(1 for d in found if d.kind == kind) for kind in {d.kind for d in found}}
    assert not found, f"{len(found)} keys differ {kinds}:\n" + "\n".join(str(d) for d in found[:15])
