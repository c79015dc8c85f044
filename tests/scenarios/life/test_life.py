"""The whole life of a task on real servers: start, rest, change, begin anew, cut over, release."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks import Client
from sync_tasks.errors import KeyferryError
from sync_tasks.names import is_gate
from tests import compare
from tests.dataset import fill
from tests.run_up import Up
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

LATER_MS = 4_000_000_000_000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state", "--stream", "2") as made:
        made.wait_ready()
        yield made


def checkpoint(target: Server) -> dict[bytes, bytes]:
    """All of the checkpoint on the target, which every write of ours changes."""
    client = target.client()
    (name,) = client.scan_iter(match="keyferry:*:ck", count=10_000)
    return dict(client.hgetall(name))


def test_from_create_to_release(service: Up, server: StartServer) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    fill(source.client(), 1000)
    with Client(service.state) as client:
        wrong = client.create("redis://127.0.0.1:1", target.url(), name="wrong")
        with pytest.raises(KeyferryError) as refused:
            client.start(wrong)
        assert refused.value.side.value == "source"
        assert client.release(wrong).state == "released"

        task = client.create(source.url(), target.url(), name="orders-move")
        with Traffic(source, clients=2, rate=500):
            client.start(task)
            until(lambda: client.progress(task).in_sync, "in sync")
            assert client.suspend(task).state == "suspended"
            at_rest = checkpoint(target)
            source.client().set("written", "meanwhile")
            time.sleep(1)
            assert checkpoint(target) == at_rest
            assert target.client().get("written") is None
            client.resume(task)
            until(lambda: target.client().get("written"), "what was written meanwhile")
            client.modify(task, extend_expiry_s=60)
            until(lambda: client.get(task).state == "synchronizing" and client.progress(task).in_sync, "modified")
            source.client().set("timed", 1, pxat=LATER_MS)
            until(lambda: target.client().pexpiretime("timed") == LATER_MS + 60_000, "it lives so much longer")

            with pytest.raises(KeyferryError, match="keys"):
                client.restart(task)  # the target is not empty
            assert client.get(task).state == "precheck-failed"
            target.client().flushall()
            client.start(task)
            until(lambda: client.progress(task).in_sync, "in sync again")

        before = client.get(task)
        assert client.finish(task, wait_s=60).state == "finished"
        compare.same(source.url(), target.url(), shift_ms=0, tolerance_ms=0)
        source.client().set("after", "the cut-over")
        with pytest.raises(KeyferryError):
            client.resume(task)
        assert client.release(task).state == "released"
        assert target.client().get("after") is None
        left = list(target.client().scan_iter("keyferry:*"))
        assert all(is_gate(key) and 0 < target.client().ttl(key) <= 86400 for key in left), left
        assert not (service.state / "spool" / before.uid).exists()
    assert service.stop() == 130
