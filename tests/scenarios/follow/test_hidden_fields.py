"""A field that has expired on the source, which has not got round to removing it, is not copied there."""

from __future__ import annotations

import time

import pytest

from tests.scenarios.conftest import StartFerry
from tests.servers import StartServer


@pytest.mark.xfail(
    strict=True, reason="known fault: the target's COPY takes the field along; docs/guarantees.md, not guaranteed yet"
)
def test_a_copy_has_no_expired_field(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    with source.client() as client:
        run = ferry(source, target)
        run.wait_in_sync()
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        client.hset("h", "stays", 1)
        client.execute_command("HSETEX", "h", "PX", 200, "FIELDS", 1, "expires", 1)
        time.sleep(0.5)
        client.execute_command("COPY", "h", "copied")
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
        run.settle(source)
        assert client.hkeys("copied") == [b"stays"]
    assert target.client().hkeys("copied") == [b"stays"]
