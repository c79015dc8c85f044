"""Values that are the same in another form, another order, or by another version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import start
from workers.alike import alike
from workers.aside import Kept

EXTENDED_MS = 600_000
CHANGES: list[list[object]] = [
    ["APPEND", "text", "y"], ["INCR", "number"], ["SREM", "set:large", "m7"], ["SADD", "set:small", "x"],
    ["SADD", "ints:small", 5000], ["SREM", "ints:large", 7], ["HSET", "hash:large", "f7", "other"],
    ["HDEL", "hash:small", "f7"], ["ZINCRBY", "zset:large", "0.001", "m7"], ["ZREM", "zset:small", "m7"],
    ["LSET", "list:large", 7, "x"], ["RPUSH", "list:small", "x"],
]  # fmt: skip
"""One of each key."""


def commands(order: int) -> list[list[object]]:
    """Of each type a small and a large value, made in one order or the other."""
    numbers = list(range(2000))[::order]
    few = numbers[:20] if order > 0 else numbers[-20:]
    made: list[list[object]] = [["SET", "text", "x" * 5000], ["SET", "number", 17]]
    for size, some in (("small", few), ("large", numbers)):
        made += [
            ["SADD", f"set:{size}", *(f"m{n}" for n in some)],
            ["SADD", f"ints:{size}", *some],
            ["HSET", f"hash:{size}", *(part for n in some for part in (f"f{n}", f"v{n}"))],
            ["ZADD", f"zset:{size}", *(part for n in some for part in (n / 7, f"m{n}"))],
            ["RPUSH", f"list:{size}", *sorted(some)],
        ]
    return made


@pytest.mark.parametrize("kinds", [("redis-7.0", "redis-7.0"), ("valkey-9.1", "redis-6.2")])
def test_order_and_form_make_no_difference(kinds: tuple[str, str], tmp_path: Path) -> None:
    with start(kinds[0]) as first, start(kinds[1]) as second, first.client() as one, second.client() as other:
        for client, order in ((one, 1), (other, -1)):
            for command in commands(order):
                client.execute_command(*command)
        keys = sorted(one.keys())
        assert sorted(other.keys()) == keys
        payloads = [(one.dump(key), other.dump(key)) for key in keys]
        assert any(a[:-10] != b[:-10] for a, b in payloads), "there is something to see"
        for key, (a, b) in zip(keys, payloads, strict=True):
            assert alike(a, b), key
            assert alike(kept(tmp_path, a), kept(tmp_path, b)), key
            assert not alike(a, None)
        for command in CHANGES:
            other.execute_command(*command)
        for key, (a, _) in zip(keys, payloads, strict=True):
            assert not alike(a, other.dump(key)), key
            assert not alike(kept(tmp_path, a), kept(tmp_path, other.dump(key))), key


def test_expiries_of_fields_may_be_later_by_what_is_said() -> None:
    with start("valkey-9.1") as server, server.client() as client:
        for name, more in (("one", 0), ("extended", EXTENDED_MS), ("other", 1)):
            client.hset(name, mapping={"f": 1, "g": 2})
            client.execute_command("HPEXPIREAT", name, 9_000_000_000_000 + more, "FIELDS", 1, "f")
        one, extended, other = (client.dump(name) for name in ("one", "extended", "other"))
        client.execute_command("HPERSIST", "other", "FIELDS", 1, "f")
        assert alike(one, one)
        assert alike(one, extended, (0, EXTENDED_MS))
        assert not alike(one, extended)
        assert not alike(one, other, (0, EXTENDED_MS))
        assert not alike(one, client.dump("other"), (0, EXTENDED_MS))


def kept(directory: Path, payload: bytes) -> Kept:
    made = Kept(directory, len(payload))
    made.append(payload)
    return made
