"""The independent judge, `tests.compare`: as exact as what it judges, quick enough for millions, small in memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests import compare as judge
from tests.compare import compare
from tests.dataset import LIBRARY, fill, sibling
from tests.integration.verify.copies import delay_expiries, follow, forget_what_expires_soon
from tests.integration.verify.planted import LARGE, SMALL, Planted
from tests.integration.verify.test_planted import late, send
from tests.servers import Server, StartServer, start

KINDS = [("redis-6.2", "redis-6.2"), ("redis-7.0", "valkey-8.1"), ("valkey-9.1", "valkey-9.1")]
LATE_MS = 600_000
MEMORY_LIMIT_MB = 90
KEYS = 400_000  # their names alone would take more than that

MEASURE = """
import re, sys
from pathlib import Path
from tests.compare import compare
assert compare(sys.argv[1], sys.argv[2]) == []
# Not ru_maxrss: that begins with what the forking test process had.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.fixture(scope="module", params=KINDS, ids="-to-".join)
def sides(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """Two servers for all tests of the module; each test empties them."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(start(kind)) for kind in request.param)  # type: ignore[misc]


def kinds_of(case: Planted) -> dict[str, str]:
    """Key and kind as the judge names them: one of each key, the value's before the expiry's."""
    out: dict[str, str] = {}
    for key, kind, field in sorted(case.found, key=lambda item: item[1] != "expiry"):
        out[key] = "field-expiry" if kind == "expiry" and field else kind
    return out


def shown(key: bytes) -> str:
    """As `planted` has it."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return "hex:" + key.hex()
    return text if not text.startswith("hex:") else "hex:" + key.hex()


@pytest.mark.parametrize("case", [*SMALL, *LARGE], ids=lambda case: f"{case.name} of {len(case.both)}")
def test_each_planted_difference_is_found(sides: tuple[Server, Server], case: Planted) -> None:
    source, target = sides
    if min(source.version, target.version) < case.since:
        pytest.skip(f"needs {case.since} on both sides")
    if "ms" in case.name and source.version < (7, 0):
        pytest.skip("before 7.0 a moment is known to some milliseconds only")
    for server in sides:
        server.client().flushall()
    send(source, case.both)
    send(target, [late(command) for command in case.both])
    assert compare(source.url(), target.url(), shift_ms=LATE_MS) == [], "equal before anything is planted"

    send(target, [late(command) for command in case.target])
    found = compare(source.url(), target.url(), shift_ms=LATE_MS, pause=0.01)

    assert {shown(difference.key): difference.kind for difference in found} == kinds_of(case)
    assert len(found) == len(kinds_of(case))


@pytest.mark.parametrize(
    "kinds", [("redis-6.2", "redis-7.0"), ("redis-7.0", "valkey-8.1"), ("valkey-9.1", "valkey-9.1")], ids="-to-".join
)
def test_copies_of_all_types_are_equal_and_told_from_later_ones(server: StartServer, kinds: tuple[str, str]) -> None:
    source, target = server(kinds[0]), server(kinds[1])
    fill(source.client(), 1000, dbs=(0, 5))
    forget_what_expires_soon(source)
    follow(source, target)
    tolerance = 100 if source.version < (7, 0) else 0
    assert compare(source.url(), target.url(), tolerance_ms=tolerance) == []

    delay_expiries(target, LATE_MS)

    assert compare(source.url(), target.url(), shift_ms=LATE_MS, tolerance_ms=tolerance) == []
    off = compare(source.url(), target.url(), shift_ms=LATE_MS + 1000, tolerance_ms=tolerance, pause=0.01)
    volatile = sum(part["expires"] for part in source.client().info("keyspace").values())
    assert [difference.kind for difference in off].count("expiry") == volatile
    by_field = 4 if min(source.version, target.version) >= (9, 0) else 0
    assert [difference.kind for difference in off].count("field-expiry") == by_field


def test_databases_and_libraries(server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    sibling(source.client(), 1).set("a", 1)
    sibling(source.client(), 2).set("not in scope", 1)
    sibling(target.client(), 5).set("a", 1)
    assert compare(source.url(), target.url(), dbs={1: 5}) == []
    sibling(target.client(), 5).set("b", 1)
    target.client().execute_command("FUNCTION", "LOAD", LIBRARY.format(name="foreign"))

    found = compare(source.url(), target.url(), dbs={1: 5}, pause=0.01)

    assert [(difference.db, difference.key, difference.kind) for difference in found] == [
        (1, b"b", "extra"),
        (-1, b"", "functions"),
    ]


def test_what_has_expired_on_the_source_may_live_on_for_the_extension(server: StartServer) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    source.client().execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    moment = time.time_ns() // 1_000_000 + 200
    for one, late_ms in ((source, 0), (target, LATE_MS)):
        one.client().set("key", 1, pxat=moment + late_ms)
        for name in ("some", "all"):
            one.client().hset(name, mapping={"f": 1, "g": 2} if name == "some" else {"f": 1})
            one.client().execute_command("HPEXPIREAT", name, moment + late_ms, "FIELDS", 1, "f")
    target.client().hset("removed", "f", 1)
    target.client().execute_command("HPEXPIREAT", "removed", moment + LATE_MS, "FIELDS", 1, "f")
    time.sleep(0.3)
    assert source.client().exists("all") == 1, "shown as an empty hash until it is removed"
    assert compare(source.url(), target.url(), shift_ms=LATE_MS, pause=0.01) == []

    target.client().set("without", 1)
    target.client().set("too late", 1, px=LATE_MS + 30_000)
    target.client().hset("some", "more", 3)

    found = compare(source.url(), target.url(), shift_ms=LATE_MS, pause=0.01)
    assert [(difference.key, difference.kind) for difference in found] == [
        (b"some", "value"),
        (b"too late", "extra"),
        (b"without", "extra"),
    ]


def test_a_write_on_its_way_does_not_count(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().mset({"a": 1, "b": 1})
    target.client().set("b", 2)
    monkeypatch.setattr(judge.time, "sleep", lambda _seconds: target.client().set("a", 1))

    found = compare(source.url(), target.url())

    assert [(difference.key, difference.kind) for difference in found] == [(b"b", "value")]


def test_values_too_large_to_be_held_together(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "BATCH_BYTES", 1000)
    source, target = server("redis-7.0"), server("redis-7.0")
    for one in (source, target):
        one.client().mset({f"k{i}": bytes(i) for i in range(600)})
    assert compare(source.url(), target.url()) == []
    target.client().mset({"k7": b"x", "k599": b"x"})

    assert [difference.key for difference in compare(source.url(), target.url(), pause=0.01)] == [b"k599", b"k7"]


def test_very_many_differences_are_read_again_by_and_by(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "SUSPECTS", 100)
    monkeypatch.setattr(judge, "MOST", 350)
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().mset({f"k{i}": i for i in range(300)})
    assert len(compare(source.url(), target.url(), pause=0)) == 300
    source.client().mset({f"k{i}": i for i in range(5000)})
    assert 350 <= len(compare(source.url(), target.url(), pause=0)) < 600, "enough is enough"


def test_memory_does_not_depend_on_the_number_of_keys(server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().execute_command("DEBUG", "POPULATE", KEYS, "key", 50)
    follow(source, target)

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, source.url(), target.url()], capture_output=True, text=True, timeout=200
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MEMORY_LIMIT_MB
