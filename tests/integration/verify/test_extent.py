"""How much is compared: depth, sample, limits."""

from __future__ import annotations

import time

import pytest

from sync_tasks.verify_spec import VerifyLimits, VerifySpec
from tests.integration.verify.copies import compare, found
from tests.servers import Server, StartServer

LATE_MS = 600_000


@pytest.fixture
def sides(server: StartServer) -> tuple[Server, Server]:
    """Two servers with a list, a large list, a module-less string and a hash each."""
    pair = server("redis-7.0"), server("redis-7.0")
    for one in pair:
        client = one.client()
        client.rpush("list", *range(10))
        client.rpush("large", *(f"item {i}" for i in range(50_000)))
        client.set("text", "abc")
        client.hset("hash", mapping={"a": 1, "b": 2})
    return pair


def change(target: Server) -> None:
    """Values alone, without their lengths, of a small and a large one; and a length."""
    client = target.client()
    client.lset("list", 3, "other")
    client.lset("large", 31_000, "other")
    client.append("text", "d")


def names(pair: tuple[Server, Server], spec: VerifySpec) -> set[str]:
    return {key for key, _, _ in found(compare(*pair, spec=spec))}


def test_depth(sides: tuple[Server, Server]) -> None:
    change(sides[1])
    assert names(sides, VerifySpec()) == {"list", "large", "text"}
    assert names(sides, VerifySpec(depth="length")) == {"text"}
    assert names(sides, VerifySpec(depth="key")) == set()
    assert names(sides, VerifySpec(depth="length", depth_above_bytes=1 << 20)) == {"list", "large", "text"}
    assert names(sides, VerifySpec(depth="key", depth_above_bytes=10_000)) == {"list", "text"}


def test_keys_types_and_expiries_are_compared_at_any_depth(sides: tuple[Server, Server]) -> None:
    client = sides[1].client()
    client.delete("list", "hash")
    client.set("hash", "a")
    client.set("extra", 1)
    client.pexpire("text", 10_000_000)
    report = compare(*sides, spec=VerifySpec(depth="key"))
    assert [item[:2] for item in found(report)] == [
        ("extra", "extra"), ("hash", "type"), ("list", "missing"), ("text", "expiry"),
    ]  # fmt: skip


def test_a_length_is_not_another_while_fields_are_over_at_the_source_alone(server: StartServer) -> None:
    """The source hides a field whose time is over; the target holds it for the extension."""
    pair = server("valkey-9.1"), server("valkey-9.1")
    now = int(time.time() * 1000)
    for one, late in zip(pair, (0, LATE_MS), strict=True):
        client = one.client()
        client.hset("hash", mapping={"stays": 1, "over": 2})
        client.execute_command("HPEXPIREAT", "hash", now + 300 + late, "FIELDS", 1, "over")
    while pair[0].client().hget("hash", "over") is not None:
        time.sleep(0.02)
    assert found(compare(*pair, spec=VerifySpec(depth="length"))) == []


def test_a_sample_is_the_same_in_each_run(server: StartServer) -> None:
    pair = server("redis-7.0"), server("redis-7.0")
    for one in pair:
        one.client().mset({f"key:{i}": i for i in range(3000)})
    pair[1].client().mset({f"key:{i}": "other" for i in range(1500)})
    pair[1].client().mset({f"extra:{i}": "other" for i in range(1500)})
    some = names(pair, VerifySpec(sample=10))
    assert some == names(pair, VerifySpec(sample=10))
    assert some < names(pair, VerifySpec(sample=40))
    assert 200 < len(some) < 400
    assert {key.partition(":")[0] for key in some} == {"key", "extra"}
    assert 200 < compare(*pair, spec=VerifySpec(sample=10))["compared"] < 400


@pytest.mark.parametrize("limits", [VerifyLimits(rps=4000), VerifyLimits(mb_per_s=0.5)])
def test_limits_hold_for_each_side(limits: VerifyLimits, server: StartServer) -> None:
    pair = server("redis-7.0"), server("redis-7.0")
    for one in pair:
        one.client().mset({f"key:{i}": b"%200d" % i for i in range(2000)})
    before = [one.client().info("stats") for one in pair]
    began = time.monotonic()
    compare(*pair, spec=VerifySpec(limits=limits))
    took = time.monotonic() - began
    for one, then in zip(pair, before, strict=True):
        now = one.client().info("stats")
        asked = now["total_commands_processed"] - then["total_commands_processed"]
        answered = now["total_net_output_bytes"] - then["total_net_output_bytes"]
        if limits.rps > 0:
            assert asked / took < 1.2 * limits.rps
        else:
            assert answered / took < 1.2 * limits.mb_per_s * 1e6
