"""Copies that the servers make themselves are equal, whatever encoding each version chose."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.integration.verify.copies import (
    caught_up,
    compare,
    delay_expiries,
    follow,
    forget_what_expires_soon,
)
from tests.servers import StartServer

LATE_S = 600
PAIRS = [
    ("redis-6.2", "redis-6.2"),
    ("redis-6.2", "redis-7.0"),
    ("redis-7.0", "redis-7.0"),
    ("redis-7.0", "valkey-8.1"),
    ("valkey-8.1", "valkey-9.1"),
    ("valkey-9.1", "valkey-9.1"),
    ("redis-6.2", "valkey-9.1"),
]


@pytest.mark.parametrize("kinds", PAIRS, ids="-to-".join)
def test_a_replica_is_equal(server: StartServer, kinds: tuple[str, str]) -> None:
    source, target = server(kinds[0]), server(kinds[1])
    fill(source.client(), 3000)
    follow(source, target)

    report = compare(source, target, extend_expiry_s=0)

    held = sum(part["keys"] for part in source.client().info("keyspace").values())
    assert report["keys"] == []
    assert held - 8 <= report["compared"] <= held + 60, "some keys expire meanwhile; SCAN may show a key twice"
    assert report["compared"] > 3000


@pytest.mark.parametrize("kinds", [pair for pair in PAIRS if pair[1] != "redis-6.2"], ids="-to-".join)
def test_a_copy_with_later_expiries_is_equal_only_to_what_was_asked(
    server: StartServer, kinds: tuple[str, str]
) -> None:
    source, target = server(kinds[0]), server(kinds[1])
    fill(source.client(), 1000, dbs=(0, 5))
    forget_what_expires_soon(source)
    follow(source, target)
    delay_expiries(target, LATE_S * 1000)

    assert compare(source, target, extend_expiry_s=LATE_S)["keys"] == []
    off_by_a_second = compare(source, target, extend_expiry_s=LATE_S + 1)
    volatile = sum(part["expires"] for part in source.client().info("keyspace").values())
    # h:fields:small and h:fields:large expire by field alone, in each of the two databases.
    by_field = 4 if min(source.version, target.version) >= (9, 0) else 0
    assert len(off_by_a_second["keys"]) == off_by_a_second["expiry"] == volatile + by_field


def test_small_hashes_with_different_encodings_are_equal(server: StartServer) -> None:
    config = {"hash-max-listpack-entries": "1", "set-max-intset-entries": "1", "list-max-listpack-size": "2"}
    source, target = server("redis-7.0"), server("redis-7.0", config={**config, "rdbcompression": "no"})
    fill(source.client(), 1000, dbs=(0,))
    follow(source, target)

    assert compare(source, target, extend_expiry_s=0)["keys"] == []


@pytest.mark.parametrize("kinds", [("redis-6.2", "redis-7.0"), ("redis-7.0", "redis-7.0")], ids="-to-".join)
def test_speed(server: StartServer, kinds: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """200 000 small keys; the floor is far below what an idle machine does, so that a busy one passes."""
    source, target = server(kinds[0]), server(kinds[1])
    source.client().execute_command("DEBUG", "POPULATE", 200_000, "key", 100)
    follow(source, target)
    caught_up(source, target)

    began = time.perf_counter()
    report = compare(source, target, extend_expiry_s=0)
    seconds = time.perf_counter() - began

    assert report["keys"] == []
    with capsys.disabled():
        print(f"\nverify {kinds[0]} {kinds[1]}: {report['compared'] / seconds:,.0f} keys/s")
    assert report["compared"] / seconds > 5_000
