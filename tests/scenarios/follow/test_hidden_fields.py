"""A field that has expired on the source, which has not got round to removing it, is not copied there."""

from __future__ import annotations

import time

import pytest

from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer

MANY = 5000
"""Fields: read in several parts."""


def expire(source: Server, keys: list[str], milliseconds: int, *, fields: int = 1) -> None:
    """Hashes with a field that stays and some that have expired, and are not removed."""
    with source.client() as client:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        for key in keys:
            client.hset(key, "stays", 1)
            pairs = [word for number in range(fields) for word in (f"expires {number}", number)]
            client.execute_command("HSETEX", key, "PX", milliseconds, "FIELDS", fields, *pairs)
        time.sleep(milliseconds / 1000 + 0.3)


def copy(source: Server, *pairs: tuple[str, str]) -> None:
    with source.client() as client:
        for key, goal in pairs:
            client.copy(key, goal)
            assert client.hlen(goal) == 1


@pytest.mark.parametrize("fields", [1, MANY])
def test_a_copy_has_no_expired_field(server: StartServer, ferry: StartFerry, fields: int) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    run = ferry(source, target)
    run.wait_in_sync()
    expire(source, ["h"], 200, fields=fields)
    copy(source, ("h", "copied"), ("copied", "again"))
    with source.client() as client:
        client.rename("again", "renamed")
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    run.settle(source)
    with target.client() as client:
        for key in ("h", "copied", "renamed"):
            assert client.hkeys(key) == [b"stays"]
    equal(source, target)


def test_nor_has_one_that_is_carried_when_nobody_knows_when_it_was_made(server: StartServer, ferry: StartFerry) -> None:
    """Fields are held on the target while we are behind: a copy of one must not be held for ever."""
    source, target = server("valkey-9.1"), server("valkey-9.1")
    run = ferry(source, target)
    run.wait_in_sync()
    run.kill_tree()
    expire(source, ["h"], 200)
    copy(source, ("h", "copied"))
    with source.client() as client:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    run = ferry(source, target)
    run.settle(source)
    equal(source, target)
