"""What a server says of itself, asked once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side, SourceError, TargetError
from sync_tasks.precheck.probe import diagnose, not_redis

if TYPE_CHECKING:
    from redis import Redis

ASKED = (
    "client-output-buffer-limit", "repl-backlog-size", "repl-timeout", "proto-max-bulk-len", "lua-replicate-commands",
    "appendonly", "notify-keyspace-events",
)  # fmt: skip
IS_SENTINEL = "write redis+sentinel://host:port,host:port/NAME with a name that SENTINEL MASTERS shows there"
TIMEOUT_S = 6.0  # for one answer; a precheck asks some ten questions of a healthy server in milliseconds


@dataclass(frozen=True, slots=True)
class Facts:
    """INFO of one server, in the words of the checks."""

    endpoint: Endpoint
    product: str  # "Redis" or "Valkey"
    version: tuple[int, int]
    run_id: str
    role: str  # "master" or "slave"
    link_up: bool  # of a replica: to its master
    master: str  # of a replica: host:port of its master
    replid: str
    cluster: bool
    keys: dict[int, int]  # database to keys, those that have any
    field_times: int | None = None  # hashes with fields that expire; None: it does not say
    libraries: int | None = None  # of functions
    used_memory: int = 0  # bytes
    maxmemory: int = 0  # bytes; 0: no limit
    policy: str = ""  # what it evicts
    modules: frozenset[str] = frozenset()  # their names
    ahead_ms: float = 0.0  # its clock, of ours
    memory: int = 0  # bytes that its machine has; 0: it does not say
    resident: int = 0  # bytes that it takes of them
    copied: int = 0  # bytes that its last snapshot made it copy
    saved: bool = True  # its last snapshot to disk succeeded
    written_per_s: float = 0.0  # bytes that it receives in a second, a moment ago
    keeps_backlog: bool = False  # of its stream
    persistent: bool = False  # its data are in persistent memory
    settings: Mapping[str, str] = field(default_factory=dict)  # CONFIG GET of ASKED, as far as it lets the user

    @property
    def name(self) -> str:
        """Product and version."""
        return f"{self.product} {self.version[0]}.{self.version[1]}"


def opened(endpoint: Endpoint) -> Redis:
    """A client of the server that is meant. Raises KeyferryError, with an address in it: none was found."""
    try:
        return endpoint.connect(db=0, socket_timeout=TIMEOUT_S)
    except KeyferryError as error:
        raise located(diagnose(error, endpoint), endpoint) from error


def gather(client: Redis, endpoint: Endpoint) -> Facts:
    """Ask INFO. Raises KeyferryError for everything that can be wrong with an address and its credentials."""
    try:
        given: dict[str, Any] = client.info()
        ahead_ms = _ahead_ms(client)
        settings = _settings(client)
    except Exception as error:
        raise located(diagnose(classify(error, endpoint.side), endpoint), endpoint) from error
    valkey = given.get("server_name") == "valkey" or "valkey_version" in given
    stated = str(given.get("valkey_version" if valkey else "redis_version", ""))
    if not stated:
        raise not_redis(endpoint)
    if given.get("redis_mode") == "sentinel":
        raise refusal(endpoint.side, f"{endpoint.address()} is a Sentinel", IS_SENTINEL, "sentinel")
    return Facts(
        endpoint=endpoint,
        product="Valkey" if valkey else "Redis",
        version=_version(stated),
        run_id=str(given.get("run_id", "")),
        role=str(given.get("role", "master")),
        link_up=given.get("master_link_status", "up") == "up",
        master=f"{given.get('master_host', '')}:{given.get('master_port', '')}",
        replid=str(given.get("master_replid") or given.get("run_id", "")),
        cluster=int(given.get("cluster_enabled", 0)) == 1,
        keys={int(name[2:]): _keys(value) for name, value in given.items() if name[:2] == "db" and name[2:].isdigit()},
        field_times=_field_times(given),
        libraries=int(given["number_of_libraries"]) if "number_of_libraries" in given else None,
        used_memory=int(given.get("used_memory", 0)),
        maxmemory=int(given.get("maxmemory", 0)),
        policy=str(given.get("maxmemory_policy", "")),
        modules=frozenset(str(module.get("name", "")) for module in given.get("modules", [])),
        ahead_ms=ahead_ms,
        memory=int(given.get("total_system_memory", 0)),
        resident=int(given.get("used_memory_rss", 0)),
        copied=int(given.get("rdb_last_cow_size", 0)),
        saved=given.get("rdb_last_bgsave_status", "ok") == "ok",
        written_per_s=float(given.get("instantaneous_input_kbps", 0)) * 1024,
        keeps_backlog=int(given.get("repl_backlog_active", 0)) == 1,
        persistent=any("pmem" in name.lower() for name in given),
        settings=settings,
    )


def together(masters: Sequence[Facts]) -> Facts:
    """A cluster as one server: what its masters have together, the oldest version, the least of what they let us do."""
    oldest = min(masters, key=lambda facts: facts.version)
    keys: dict[int, int] = {}
    for facts in masters:
        for db, count in facts.keys.items():
            keys[db] = keys.get(db, 0) + count
    times = [facts.field_times for facts in masters]
    return replace(
        oldest,
        keys=keys,
        field_times=None if None in times else sum(time for time in times if time is not None),
        libraries=max((facts.libraries or 0 for facts in masters), default=None),
        used_memory=sum(facts.used_memory for facts in masters),
        maxmemory=sum(facts.maxmemory for facts in masters) if all(facts.maxmemory for facts in masters) else 0,
        modules=frozenset().union(*(facts.modules for facts in masters)),
        written_per_s=sum(facts.written_per_s for facts in masters),
    )


def _settings(client: Redis) -> dict[str, str]:
    """Empty where the user may not ask, or a provider has taken CONFIG away."""
    from redis import RedisError

    found: dict[str, str] = {}
    ask: Any = client.execute_command
    for name in ASKED:  # one by one: before 7.0 it takes one name
        try:
            answer: Any = ask("CONFIG GET", name)
        except RedisError:
            return found
        words = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=False)
        found |= {_text(key): _text(value) for key, value in words}
    return found


def _text(given: Any) -> str:
    return given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)


def _ahead_ms(client: Redis) -> float:
    """0 of a server that does not say."""
    from redis import ResponseError

    before = time.time()
    try:
        seconds, micros = client.time()
    except ResponseError:
        return 0.0
    return (int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2) * 1000


def located(error: KeyferryError, endpoint: Endpoint) -> KeyferryError:
    """The same error with the address in front: two servers are in play."""
    place = endpoint.address()
    if place in error.message:
        return error
    return KeyferryError(
        f"{place}: {error.message}", hint=error.hint, code=error.code, side=error.side, retry=error.retry
    )


def refusal(side: Side, message: str, hint: str, code: str) -> KeyferryError:
    """A server that answers, but cannot be used as asked."""
    kind = SourceError if side is Side.SOURCE else TargetError
    return kind(message, hint=hint, code=code)


def _version(text: str) -> tuple[int, int]:
    numbers = [int(part) if part.isdigit() else 0 for part in text.split(".")]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def _field_times(given: dict[str, Any]) -> int | None:
    """Redis says it since 7.4, Valkey since 9.0, in words of their own; neither of an empty database."""
    said = [value for name, value in given.items() if name[:2] == "db" and isinstance(value, dict)]
    counts: list[int | None] = [db.get("subexpiry", db.get("keys_with_volatile_items")) for db in said]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _keys(value: Any) -> int:
    return int(value["keys"]) if isinstance(value, dict) else 0
