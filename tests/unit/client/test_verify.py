"""Verifications in the database, against a worker that needs no servers."""

from __future__ import annotations

import pytest

from sync_tasks import Client, ControlError, TaskState, UsageError
from sync_tasks.errors import Side, SourceError
from sync_tasks.states import OpKind
from sync_tasks.verification import KINDS, Difference, Written
from tests.unit.client.conftest import SOURCE, TARGET
from tests.unit.client.test_work import kinds, running
from tests.unit.client.worker import Worker

FOUND = {
    "compared": 10, "missing": 1, "extra": 0, "type": 0, "value": 1, "expiry": 0, "repaired": 1,
    "keys": [
        {"db": 0, "key": "a", "kind": "missing", "field": None, "repaired": True},
        {"db": 0, "key": "b", "kind": "value", "field": "byte 1", "repaired": False},
    ],
}  # fmt: skip


def test_what_comes_of_it_is_kept(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    worker.leaves = {OpKind.VERIFY}
    found = client.verify(task, 0, repair=True)
    assert (found.state, found.equal, found.compared, found.keys) == ("asked", None, None, ())
    assert client.verify(task, 0).repair, "one is under way already"
    (op,) = [op for op in client._store.ops(task.id) if op.kind is OpKind.VERIFY]
    handle = client._store.claim_op(op.id, "h:9:9:x")
    assert handle is not None
    handle.keep({**op.options, "progress": ["compare", 5, 20]})
    assert client.verification(task).line() == "running, compare: 5 of 20 keys"  # type: ignore[union-attr]
    handle.keep({**op.options, "result": FOUND})
    handle.done()
    done = client.verification(task)
    assert done is not None
    assert (done.state, done.equal, done.differences, done.repaired) == ("done", False, 2, 1)
    assert done.keys[0] == Difference(0, "a", "missing", None, True)
    assert client.events(task)[-1].kind == "different"
    assert client.events(task)[-1].text == "10 keys compared: 1 missing, 1 value; 1 repaired"
    assert client.get(task).state is TaskState.SYNCHRONIZING


def test_a_verification_is_in_nobodys_way(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    worker.leaves = {OpKind.VERIFY}
    client.verify(task, 0)
    with pytest.raises(ControlError) as caught:
        client.verify(task, 0, repair=True)
    assert caught.value.code == "busy"
    client.modify(task, extend_expiry_s=5)
    assert client.suspend(task).state is TaskState.SUSPENDED
    with pytest.raises(ControlError) as caught:
        client.verify(task, 0)
    assert caught.value.code == "transition"


def test_a_failure_that_may_heal_is_tried_again_and_another_is_told(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    worker.wrong["verify"] = SourceError("it does not speak", code="not-redis", side=Side.SOURCE)
    with pytest.raises(SourceError, match="it does not speak"):
        client.verify(task, 20)
    assert "verify-failed" in kinds(client, task)
    assert client.get(task).error is None, "the task goes on"


def test_a_setting_has_it_done_once_in_a_run(client: Client, worker: Worker) -> None:
    worker.wrong["verify"] = SourceError("no", code="not-redis", side=Side.SOURCE)  # it cannot compare
    task = client.create(SOURCE, TARGET, name="a", verify={"mode": "full"})
    client.start(task)
    other = client.start(client.create(SOURCE, TARGET, name="b"))
    client.suspend(task)
    client.start(task)
    assert [op.options["auto"] for op in client._store.ops(task.id) if op.kind is OpKind.VERIFY] == [True]
    assert client.verification(other) is None
    client.modify(other, verify={"mode": "full"})
    assert client.verification(other).by_itself  # type: ignore[union-attr]
    with pytest.raises(UsageError):
        client.create(SOURCE, TARGET, verify={"mode": "full"}, transform={"lua": "function transform(db, argv) end"})


def test_what_streams_write(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    assert client.touched(task) is None, "nobody looks"
    (node,) = client._store.nodes(task.id)
    key = {"db": 0, "key": "k", "kind": "value", "field": None, "at": "2026-01-01T00:00:00+00:00"}
    found = {"compared": 1000, **dict.fromkeys(KINDS, 0), "value": 2, "in_flux": 3, "error": None, "keys": [key]}
    worker._held[node.id].touched(found)
    said = client.touched(task)
    assert said is not None
    assert (said.compared, said.differences, said.in_flux, said.keys) == (1000, 2, 3, (Written(**key),))
    assert said.line() == "1,000 keys compared after a write: 2 value; 1 of them still differ"
    worker._held[node.id].touched({**found, "keys": [], "error": "source: it is away"})
    assert worker._held[node.id].found_before() == {**found, "keys": [], "error": "source: it is away"}
    said = client.touched(task)
    assert said is not None
    assert said.line().endswith("2 value; all equal by now (waits: source: it is away)")
    client.restart(task)
    assert client.touched(task) is None, "it begins anew"
