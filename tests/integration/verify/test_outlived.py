"""What is over on the source and lives on the target for the extension: no difference, and nothing beside it hides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.verify.copies import compare, endpoints, found
from tests.servers import Server, StartServer
from workers.verify import server as verify_server
from workers.verify import verify
from workers.verify.compare import Comparer
from workers.verify.findings import Kind, Pair
from workers.verify.flux import Patience
from workers.verify.outlived import Outlived
from workers.verify.shift import Shift
from workers.verify.sides import Sides

LATE_MS = 600_000
MEMBERS = 20_000  # of large hashes
FIELD_KINDS = ["valkey-9.1", "redis-8.2"]


def now_ms(server: Server) -> int:
    seconds, micros = server.client().time()
    return int(seconds) * 1000 + int(micros) // 1000


def expire_fields(server: Server, key: str, moment: int, *fields: str) -> None:
    server.client().execute_command("HPEXPIREAT", key, moment, "FIELDS", len(fields), *fields)


def pair(server: StartServer, kind: str) -> tuple[Server, Server]:
    """Servers of a kind; the source removes what has expired only when it is asked for it."""
    source, target = server(kind), server(kind)
    source.client().execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    return source, target


def impatient(source: Server, target: Server) -> dict[str, Any]:
    """The report of a verification that may not wait for anything."""

    def sleep(seconds: float) -> None:
        raise AssertionError("equal data sets are equal at once")

    return verify(*endpoints(source, target), patience=Patience(sleep=sleep)).as_dict()


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-7.0", "valkey-9.1"])
def test_keys_that_expired_on_the_source_are_no_difference_and_cost_no_time(server: StartServer, kind: str) -> None:
    source, target = pair(server, kind)
    source.client().set("soon", 1, px=60)
    moment = now_ms(source)
    for name, left in (("soon", LATE_MS), ("long over", LATE_MS // 2), ("nearly over here too", 5_000)):
        target.client().set(name, 1)
        target.client().pexpireat(name, moment + left)
    for one in (source, target):
        one.client().set("stays", 1)
    time.sleep(0.1)

    report = impatient(source, target)

    assert (report["keys"], report["compared"], report["expired"]) == ([], 1, 3)


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-7.0", "valkey-9.1"])
def test_what_no_expiry_explains_is_extra(server: StartServer, kind: str) -> None:
    source, target = pair(server, kind)
    client, moment = target.client(), now_ms(source)
    client.set("without", 1)
    client.set("too late", 1, px=LATE_MS + 30_000)
    client.set("held", 1)
    client.pexpireat("held", moment + 2**60)
    client.set("explained", 1, px=LATE_MS)

    report = compare(source, target)

    assert found(report) == [(key, "extra", None) for key in ("held", "too late", "without")]
    assert report["expired"] == 1
    none = compare(source, target, extend_expiry_s=0)
    assert len(none["keys"]) == 4, "without an extension nothing outlives"


def fields(server: Server, key: str, count: int) -> None:
    pipe = server.client().pipeline(transaction=False)
    for start in range(0, count, 1000):
        pipe.hset(key, mapping={f"f{i}": f"value {i}" for i in range(start, min(start + 1000, count))})
    pipe.execute()


@pytest.mark.parametrize("removed", [False, True], ids=["hidden", "removed"])
@pytest.mark.parametrize("count", [5, MEMBERS], ids=["small", "large"])
@pytest.mark.parametrize("kind", FIELD_KINDS)
def test_fields_that_expired_on_the_source_are_no_difference(
    server: StartServer, kind: str, count: int, removed: bool
) -> None:
    source, target = pair(server, kind)
    for one in (source, target):
        fields(one, "h", count)
    moment = now_ms(source) + 200
    for one, late in ((source, 0), (target, LATE_MS)):
        expire_fields(one, "h", moment + late, "f1", "f2")
    time.sleep(0.3)
    if removed:
        source.client().hdel("h", "f1", "f2")
        source.client().execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
        time.sleep(0.3)
    assert source.client().hget("h", "f1") is None
    assert target.client().hget("h", "f1") == b"value 1"

    report = impatient(source, target)

    assert (report["keys"], report["expired"]) == ([], 1)


@pytest.mark.parametrize("count", [5, MEMBERS], ids=["small", "large"])
@pytest.mark.parametrize("kind", FIELD_KINDS)
def test_other_fields_of_the_same_hash_are_still_compared(server: StartServer, kind: str, count: int) -> None:
    source, target = pair(server, kind)
    keys = ("no time", "too late", "changed", "gone", "as many")
    for key in keys:
        for one in (source, target):
            fields(one, key, count)
    moment = now_ms(source) + 200
    for key in keys:
        for one, late in ((source, 0), (target, LATE_MS)):
            expire_fields(one, key, moment + late, "f1")
    time.sleep(0.3)
    client = target.client()
    client.hset("no time", "more", 1)
    client.hset("too late", "more", 1)
    expire_fields(target, "too late", moment + LATE_MS + 30_000, "more")
    client.hset("changed", "f3", "x")
    client.hdel("gone", "f2")
    client.hdel("as many", "f1")  # the source still counts it
    client.hset("as many", "more", 1)

    assert found(compare(source, target)) == [
        ("as many", "value", "more"),
        ("changed", "value", "f3"),
        ("gone", "value", "f2"),
        ("no time", "value", "more"),
        ("too late", "value", "more"),
    ]


@pytest.mark.parametrize("count", [3, MEMBERS], ids=["small", "large"])
@pytest.mark.parametrize("kind", FIELD_KINDS)
def test_a_hash_whose_last_field_expired_is_no_difference(server: StartServer, kind: str, count: int) -> None:
    """Some servers show an empty hash until they remove it, then none; the target's key has no expiry of its own."""
    source, target = pair(server, kind)
    names = [f"f{i}" for i in range(count)]
    fields(source, "hidden", count)
    for key in ("hidden", "removed", "one stays", "one stays longer"):
        fields(target, key, count)
    moment = now_ms(source) + 500
    expire_fields(source, "hidden", moment, *names)
    for key in ("hidden", "removed", "one stays", "one stays longer"):
        expire_fields(target, key, moment + LATE_MS, *names)
    target.client().hset("one stays", "more", 1)
    target.client().hset("one stays longer", "more", 1)
    expire_fields(target, "one stays longer", moment + LATE_MS + 30_000, "more")
    time.sleep(0.6)
    assert source.client().exists("hidden") == 1
    assert source.client().hkeys("hidden") == []

    report = compare(source, target)

    assert found(report) == [("one stays", "extra", None), ("one stays longer", "extra", None)]
    assert report["expired"] in (2, 3), "some servers remove a hash when its pages are read: it is seen twice"


def test_the_last_look_at_a_key_follows_the_same_rule(server: StartServer) -> None:
    """What expires between two looks of a re-check; which is rare, so that the last look is made by hand."""
    source, target = server("redis-7.0"), server("redis-7.0")
    target.client().set("over", 1, px=LATE_MS)
    target.client().set("extra", 1)
    ours, theirs = map(verify_server.Server, endpoints(source, target))
    sides = Sides(ours, theirs, Shift(LATE_MS), Patience())

    found = Comparer(sides, Outlived(ours, theirs, sides.shift)).compare(Pair(0, 0), [b"over", b"extra", b"none"])

    assert [(finding.key, finding.kind) for finding in found] == [(b"extra", Kind.EXTRA)]


def test_an_expiry_that_the_source_cannot_have_set_explains_nothing(server: StartServer) -> None:
    source, target = server("valkey-8.1"), server("valkey-9.1")
    for one in (source, target):
        one.client().hset("h", "stays", 1)
    target.client().hset("h", "more", 1)
    expire_fields(target, "h", now_ms(source) + LATE_MS, "more")

    assert found(compare(source, target)) == [("h", "value", "more")]


@contextmanager
def counting(source: Server, target: Server) -> Iterator[None]:
    """Increments one field without a pause, on the target a moment later."""
    ended = threading.Event()
    ours, theirs = source.client(), target.client()

    def write() -> None:
        while not ended.is_set():
            ours.hincrby("h", "count", 1)
            time.sleep(0.002)
            theirs.hincrby("h", "count", 1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_hash_that_never_rests_may_hold_such_fields(server: StartServer) -> None:
    source, target = pair(server, "valkey-9.1")
    moment = now_ms(source) + 100
    for one, late in ((source, 0), (target, LATE_MS)):
        one.client().hset("h", mapping={"count": 1, "over": 1})
        expire_fields(one, "h", moment + late, "over")
    time.sleep(0.2)

    for _ in range(3):
        with counting(source, target):
            patience = Patience(pauses=(0.01, 0.02, 0.05))
            report = verify(*endpoints(source, target), patience=patience).as_dict()
        assert report["keys"] == []
