"""A task is compared by a worker while clients write: by itself, when asked, and when that worker dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks import Client
from sync_tasks.states import OpKind, OpState
from tests.dataset import fill
from tests.run_up import Up
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state") as made:
        made.wait_ready()
        yield made


def test_by_itself_when_asked_and_after_a_death(service: Up, server: StartServer) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    fill(source.client(), 2000)
    for number in range(3000):
        source.client().set(f"still:{number}", number)
    with Client(service.state) as client, Traffic(source, clients=2, rate=300):
        task = client.create(source.url(), target.url(), name="a", verify={"mode": "full"})
        client.start(task)
        until(lambda: (found := client.verification(task)) and found.state == "done", "compared by itself", timeout=90)
        found = client.verification(task)
        assert found is not None
        assert (found.by_itself, found.differences) == (True, 0), found
        assert (found.compared or 0) > 3000
        assert [event.kind for event in client.events(task)].count("verified") == 1

        target.client().set("still:5", "other")
        target.client().delete("still:6")
        target.client().set("more", 1)
        named = client.verify(task, 90)
        wanted = [("more", "extra"), ("still:5", "value"), ("still:6", "missing")]
        assert sorted((key.key, key.kind) for key in named.keys) == wanted
        assert named.equal is False
        assert target.client().get("still:5") == b"other", "it only looks"
        mended = client.verify(task, 90, repair=True)
        assert (mended.equal, mended.repaired) == (True, 3)
        assert (target.client().get("still:5"), target.client().exists("more")) == (b"5", 0)

        client.modify(task, verify={"limits": {"rps": 3000}})  # some seconds
        client.verify(task, 0)
        op = next(op for op in client._store.ops(task.id) if op.kind is OpKind.VERIFY and op.state is not OpState.DONE)
        until(lambda: client._store.op(op.id).options["progress"], "a worker that compares", timeout=30)
        owner = _of(client, op.id)
        assert owner is not None
        os.kill(int(owner.split(":")[2]), signal.SIGKILL)
        until(lambda: client._store.op(op.id).epoch > 1 or None, "another that begins anew", timeout=30)
        client.modify(task, verify={"limits": {"rps": -1}})
        until(lambda: client._store.op(op.id).state is OpState.DONE, "its end", timeout=90)
        last = client.verification(task)
        assert last is not None
        assert last.equal, last


def _of(client: Client, op_id: int) -> str | None:
    from sync_tasks.models import Op

    with client._store.database.read() as session:
        return session.get_one(Op, op_id).owner
