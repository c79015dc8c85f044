"""Copies made by the servers themselves, and verifications of them."""

from __future__ import annotations

import time
from typing import Any

import redis

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from tests.dataset import sibling
from tests.servers import Server
from workers.verify import verify
from workers.verify.flux import Patience

QUICK = (0.01, 0.02)  # seconds between re-checks where nobody writes


def follow(source: Server, target: Server) -> None:
    """Make `target` a native replica and wait until it has everything."""
    target.client().execute_command("REPLICAOF", "127.0.0.1", source.port)
    wait_until(lambda: target.client().info("replication").get("master_link_status") == "up")
    caught_up(source, target)


def caught_up(source: Server, target: Server) -> None:
    """Return once the replica has all that the source had written when asked."""
    offset = source.client().info("replication")["master_repl_offset"]
    wait_until(lambda: target.client().info("replication")["slave_repl_offset"] >= offset)


def wait_until(condition: Any, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.02)


def forget_what_expires_soon(source: Server) -> None:
    """Delete the keys of `tests.dataset` that would expire during a test: a copy does not hear of it."""
    for db in (int(name[2:]) for name in source.client().info("keyspace")):
        here = sibling(source.client(), db)
        here.delete(b"h:fields:near", *here.keys(b"v:near:*"))


def delay_expiries(target: Server, ms: int) -> None:
    """Make a copy (7.0 or later) a master, and add `ms` to every expiry in it, as a settled task would."""
    client = target.client()
    client.execute_command("REPLICAOF", "NO", "ONE")
    fields = target.version >= (9, 0)
    for db in (int(name[2:]) for name in client.info("keyspace")):
        here = sibling(client, db)
        for key in here.scan_iter(count=1000):
            moment = here.execute_command("PEXPIRETIME", key)
            if moment > 0:
                here.execute_command("PEXPIREAT", key, moment + ms)
            if fields and here.type(key) == b"hash":
                delay_fields(here, key, ms)


def delay_fields(client: redis.Redis, key: bytes, ms: int) -> None:
    """The same for the fields of a hash."""
    names = client.hkeys(key)
    moments = client.execute_command("HPEXPIRETIME", key, "FIELDS", len(names), *names)
    for name, moment in zip(names, moments, strict=True):
        if moment > 0:
            client.execute_command("HPEXPIREAT", key, moment + ms, "FIELDS", 1, name)


def endpoints(source: Server, target: Server) -> tuple[Endpoint, Endpoint]:
    return Endpoint.parse(source.url(), Side.SOURCE), Endpoint.parse(target.url(), Side.TARGET)


def compare(source: Server, target: Server, **kw: Any) -> dict[str, Any]:
    """The report of a verification that does not wait long for differences to pass."""
    kw.setdefault("patience", Patience(pauses=QUICK, sample_s=0.2))
    return verify(*endpoints(source, target), **kw).as_dict()


def found(report: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """(key, kind, field) of all differences, sorted."""
    return sorted((item["key"], item["kind"], item["field"]) for item in report["keys"])
