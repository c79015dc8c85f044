"""A full sync copies all that is there: each kind of source to each target of its line, or a later one."""

from __future__ import annotations

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import StartServer

PAIRS = [
    ("redis-6.2", "redis-6.2"),
    ("redis-6.2", "redis-7.0"),
    ("redis-7.0", "redis-7.0"),
    ("redis-7.0", "valkey-8.1"),
    ("redis-7.0", "valkey-9.1"),
    ("valkey-8.1", "valkey-8.1"),
    ("valkey-8.1", "valkey-9.1"),
    ("valkey-9.1", "valkey-9.1"),
]


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_everything_arrives(
    source_kind: str, target_kind: str, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server(source_kind), server(target_kind)
    keys = fill(source.client(), 3000)

    run = ferry(source, target, until="full")
    assert run.wait() == 0

    equal(source, target)
    assert (run.last["phase"], run.last["error"]) == ("suspended", None)
    assert run.last["keys_done"] >= keys - 200  # near expiries end meanwhile


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_snapshot_comes_with_an_end_mark_or_a_size(
    diskless: str, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server("redis-7.0", config={"repl-diskless-sync": diskless}), server("redis-7.0")
    fill(source.client(), 500)
    assert ferry(source, target, until="full").wait() == 0
    equal(source, target)


def test_an_empty_source_is_soon_in_sync(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    assert ferry(source, target, until="in-sync").wait() == 0
    equal(source, target)


def test_in_sync_means_all_that_was_written_before(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    fill(source.client(), 500)
    run = ferry(source, target, until="in-sync")
    source.client().set("written:after:start", 1)
    assert run.wait() == 0
    equal(source, target)
