"""What a server says of itself, asked once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side, SourceError, TargetError
from sync_tasks.precheck.probe import diagnose, not_redis

if TYPE_CHECKING:
    from redis import Redis

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
    used_memory: int = 0  # bytes
    maxmemory: int = 0  # bytes; 0: no limit
    policy: str = ""  # what it evicts
    modules: frozenset[str] = frozenset()  # their names
    ahead_ms: float = 0.0  # its clock, of ours

    @property
    def name(self) -> str:
        """Product and version."""
        return f"{self.product} {self.version[0]}.{self.version[1]}"


def gather(client: Redis, endpoint: Endpoint) -> Facts:
    """Ask INFO. Raises KeyferryError for everything that can be wrong with an address and its credentials."""
    try:
        given: dict[str, Any] = client.info()
        ahead_ms = _ahead_ms(client)
    except Exception as error:
        raise located(diagnose(classify(error, endpoint.side), endpoint), endpoint) from error
    valkey = given.get("server_name") == "valkey" or "valkey_version" in given
    stated = str(given.get("valkey_version" if valkey else "redis_version", ""))
    if not stated:
        raise not_redis(endpoint)
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
        used_memory=int(given.get("used_memory", 0)),
        maxmemory=int(given.get("maxmemory", 0)),
        policy=str(given.get("maxmemory_policy", "")),
        modules=frozenset(str(module.get("name", "")) for module in given.get("modules", [])),
        ahead_ms=ahead_ms,
    )


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


def _keys(value: Any) -> int:
    return int(value["keys"]) if isinstance(value, dict) else 0
