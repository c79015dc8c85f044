"""Each kind of difference, on each type, small and large, is found, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.integration.verify.copies import compare, found
from tests.integration.verify.planted import LARGE, SMALL, Command, Planted
from tests.servers import Server, start

KINDS = [("redis-6.2", "redis-6.2"), ("redis-7.0", "valkey-8.1"), ("valkey-9.1", "valkey-9.1")]
LATE_MS = 600_000
AT = {"PXAT", "PEXPIREAT", "HPEXPIREAT"}


@pytest.fixture(scope="module", params=KINDS, ids="-to-".join)
def sides(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """Two servers for all tests of the module; each test empties them."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(start(kind)) for kind in request.param)  # type: ignore[misc]


def late(command: Command) -> Command:
    """The command with its moment as the target should have it."""
    at = next((i for i, word in enumerate(command) if word in AT), None)
    if at is None:
        return command
    at += 1 if command[at] == "PXAT" else 2
    return (*command[:at], command[at] + LATE_MS, *command[at + 1 :])


def send(server: Server, commands: list[Command]) -> None:
    pipe = server.client().pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    pipe.execute()


def check(sides: tuple[Server, Server], case: Planted) -> None:
    source, target = sides
    if min(source.version, target.version) < case.since:
        pytest.skip(f"needs {case.since} on both sides")
    for server in sides:
        server.client().flushall()
    send(source, case.both)
    send(target, [late(command) for command in case.both])
    before = compare(source, target)
    assert found(before) == [], "equal before anything is planted"
    assert before["compared"] == len(source.client().keys()) - case.both.count(("SET", "keyferry:a", 1))

    send(target, [late(command) for command in case.target])
    report = compare(source, target)

    expected = sorted(case.found, key=lambda item: item[:2])
    assert [item[:2] for item in found(report)] == [item[:2] for item in expected]
    for (_, _, field), (_, _, wanted) in zip(found(report), expected, strict=True):
        assert wanted is ... or field == wanted
    mended = compare(source, target, repair=True)
    assert all(item["repaired"] for item in mended["keys"])
    assert mended["repaired"] == len(mended["keys"]) == len(case.found)
    assert found(compare(source, target)) == [], "nothing else has been touched"
    for kind in ("missing", "extra", "type", "value", "expiry"):
        assert report[kind] == sum(item[1] == kind for item in case.found)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_small_values(sides: tuple[Server, Server], case: Planted) -> None:
    check(sides, case)


@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def test_large_values(sides: tuple[Server, Server], case: Planted) -> None:
    check(sides, case)


def test_an_item_of_a_large_list(sides: tuple[Server, Server]) -> None:
    """Lists are cut in blocks, whose borders depend on the size; the block named holds the item."""
    source, target = sides
    for server in sides:
        server.client().flushall()
        server.client().rpush("l", *(f"item {i}" for i in range(50_000)))
    target.client().lset("l", 31_000, "other")

    item = compare(source, target)["keys"][0]

    first, last = map(int, item["field"].removeprefix("index ").split(".."))
    assert first <= 31_000 <= last
    assert last - first < 10_000
