"""A task is compared by a worker while clients write: by itself, when asked, and when that worker dies."""

from __future__ import annotations

import os
import signal

from sqlalchemy import select

from sync_tasks import Client, TaskState
from sync_tasks.models import Op
from sync_tasks.states import OpKind, OpState
from tests.dataset import fill
from tests.run_up import Up
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until

STILL = 90_000  # keys that nobody writes


def test_by_itself_when_asked_and_after_a_death(service: Up, server: StartServer) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    fill(source.client(), 2000)
    for start in range(0, STILL, 1000):
        source.client().mset({f"still:{number}": number for number in range(start, start + 1000)})
    with Client(service.state) as client, Traffic(source, clients=2, rate=300):
        task = client.create(source.url(), target.url(), name="a", verify={"mode": "full"}, extend_expiry_s=60)
        client.start(task)
        until(lambda: (found := client.verification(task)) and found.state == "done", "compared by itself", timeout=90)
        found = client.verification(task)
        assert found is not None
        assert (found.by_itself, found.differences) == (True, 0), found
        assert (found.compared or 0) > STILL
        assert (found.parts or 0) >= 8, "of four databases or more, the largest of which is cut"
        assert found.parts_done == found.parts
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

        target.client().set("still:7", "other")
        target.client().set("more", 1)
        client.modify(task, verify={"limits": {"rps": 8_000}})  # some ten seconds
        until(lambda: client.get(task).state is TaskState.SYNCHRONIZING, "its new settings hold")
        client.verify(task, 0)
        killed = until(lambda: _at_work(client, task.id), "two workers in the middle of parts", timeout=60)[0]
        before = client.verification(task)
        os.kill(int((killed.owner or "").split(":")[2]), signal.SIGKILL)
        until(lambda: _part(client, killed.id).epoch > killed.epoch, "another that begins the part anew", timeout=90)
        assert 1 in {one.epoch for one in _parts(client, task.id)}, "the others are left as they are"
        going = client.verification(task)
        assert before is not None
        assert going is not None
        assert (going.state, going.parts) == ("running", before.parts), "it is not cut anew"
        client.modify(task, verify={"limits": {"rps": -1}})
        last = client.verify(task, 90)
        assert sorted((key.key, key.kind) for key in last.keys) == [("more", "extra"), ("still:7", "value")]
        assert (last.differences, last.parts_done) == (2, last.parts), last
        assert _parts(client, task.id) == [], "with the report they are over"

    with Client(service.state) as client:  # at rest: with a filter, databases that are swapped are copied anew
        target.client().delete("still:8")
        looser = {"verify": {"depth": "key"}, "conflict_mode": "ignore-and-proceed"}
        client.modify(task, filter={"block_prefixes": ["still:8"]}, **looser)  # type: ignore[arg-type]
        until(lambda: client.get(task).state is TaskState.SYNCHRONIZING, "its new settings hold")
        assert client.verify(task, 90).equal, "what is out of scope, its own, or of another value counts no more"


def _parts(client: Client, task_id: int) -> list[Op]:
    with client._store.database.read() as session:
        return list(session.scalars(select(Op).where(Op.task_id == task_id, Op.kind == OpKind.PART).order_by(Op.id)))


def _part(client: Client, op_id: int) -> Op:
    with client._store.database.read() as session:
        return session.get_one(Op, op_id)


def _at_work(client: Client, task_id: int) -> list[Op]:
    """Parts that are in the middle, if two are at once."""
    found = [part for part in _parts(client, task_id) if part.state == OpState.RUNNING and part.options["done"]]
    return found if len(found) > 1 else []
