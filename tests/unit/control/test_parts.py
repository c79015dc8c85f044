"""Parts of a verification: each is one worker's at a time, and all are over with the verification."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, ControlError, Fenced, Side
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.states import OpState, TaskState
from sync_tasks.store import Store, outgoing
from sync_tasks.store.ops import MOST_ATTEMPTS, OpHandle
from sync_tasks.verification import KINDS, Verification
from tests.unit.control.conftest import Wall
from workers import task_verify
from workers.finish_steps import Later
from workers.ports import PartPort

PIECES = [{"piece": {"keys": 5, "pair": [0, 0]}, "round": 0, "says": f"part {number}"} for number in range(3)]
CUT = ConnectionLost("cut", side=Side.TARGET)


@pytest.fixture
def whole(store: Store, task_id: int) -> OpHandle:
    """A verification, cut."""
    store.transition(task_id, TaskState.SYNCHRONIZING, "test")
    return claimed(store, store.ask_verify(task_id, repair=True).id)


def claimed(store: Store, op_id: int, owner: str = "h:1:2:x") -> OpHandle:
    found = store.claim_op(op_id, owner)
    assert found is not None
    return found


def cut(store: Store, whole: OpHandle) -> list[int]:
    """Its parts, while nobody holds it."""
    whole.divide(PIECES, {**whole.op.options, "cut": "so"})
    whole.later(2)
    return [part.id for part in whole.parts()]


def test_the_handle_is_what_workers_ask_for() -> None:
    asked = {name: value for name, value in vars(PartPort).items() if inspect.isfunction(value) and name[0] != "_"}
    assert set(asked) == {"parts", "divide", "anew", "at_once"}
    for name, value in asked.items():
        mine = inspect.signature(getattr(OpHandle, name))
        assert list(mine.parameters) == list(inspect.signature(value).parameters), name


def test_a_part_is_one_workers_and_knows_what_it_is_of(store: Store, task_id: int, whole: OpHandle) -> None:
    first, second, _ = cut(store, whole)
    mine = claimed(store, first)
    assert store.claim_op(first, "h:1:3:x") is None
    assert (mine.op.options["of"], mine.op.options["repair"], mine.op.options["piece"]) == (
        whole.op.id, True, PIECES[0]["piece"],
    )  # fmt: skip
    assert mine.at_once() == 1
    other = claimed(store, second)
    assert (mine.at_once(), other.at_once()) == (2, 2), "they share what they may ask"
    assert [op.id for op in store.ops(task_id)] == [whole.op.id], "a part is no operation of anybody's"


def test_the_last_part_calls_the_verification_at_once(store: Store, whole: OpHandle, wall: Wall) -> None:
    ids = cut(store, whole)
    for number, op_id in enumerate(ids):
        assert store.claim_op(whole.op.id, "h:1:9:x") is None, f"{number} parts are over"
        part = claimed(store, op_id)
        part.keep({**part.op.options, "result": {"compared": 5}})
        part.done()
    again = claimed(store, whole.op.id)
    assert [part.options["result"] for part in again.parts()] == [{"compared": 5}] * 3


def test_a_part_that_fails_is_tried_again_and_then_calls_the_verification(
    store: Store, whole: OpHandle, wall: Wall
) -> None:
    first, *_ = cut(store, whole)
    for attempt in range(1, MOST_ATTEMPTS):
        claimed(store, first).failed(CUT)
        assert store.op(first).state is OpState.READY, attempt
        wall.now += 60
    claimed(store, first).failed(CUT)
    assert store.op(first).state is OpState.FAILED
    assert claimed(store, whole.op.id).parts()[0].error is not None


@pytest.mark.parametrize("how", ["done", "failed", "revoked", "anew"])
def test_with_the_verification_its_parts_are_over(
    store: Store, task_id: int, whole: OpHandle, wall: Wall, how: str
) -> None:
    first, *_ = cut(store, whole)
    part = claimed(store, first)
    wall.now += 5
    again = claimed(store, whole.op.id)
    if how == "done":
        again.keep({**again.op.options, "result": {"compared": 1, **dict.fromkeys(KINDS, 0), "keys": []}})
        again.done()
    elif how == "revoked":
        store.revoked("ops.run", whole.op.id)
    elif how == "anew":
        again.anew()
        again.failed(CUT)
    else:
        again.failed(ControlError("no"))
    assert whole.parts() == []
    with pytest.raises(Fenced):
        part.renew()
    with pytest.raises(Fenced):
        part.done()
    assert store.op(whole.op.id).options["cut"] is None, "whoever begins anew cuts anew"
    assert store.op(whole.op.id).state is {"done": OpState.DONE, "anew": OpState.READY}.get(how, OpState.FAILED)


def test_an_error_that_passes_leaves_what_was_found(store: Store, whole: OpHandle, wall: Wall) -> None:
    first, *_ = cut(store, whole)
    part = claimed(store, first)
    part.keep({**part.op.options, "result": {"compared": 5}})
    part.done()
    wall.now += 5
    claimed(store, whole.op.id).failed(CUT)
    assert [one.options["result"] for one in whole.parts()] == [{"compared": 5}, None, None]
    assert store.op(whole.op.id).options["cut"] == "so"


def test_errors_that_passed_do_not_add_up(store: Store, whole: OpHandle, wall: Wall) -> None:
    whole.later(0)
    for _ in range(3):
        for _ in range(MOST_ATTEMPTS - 1):
            wall.now += 600
            claimed(store, whole.op.id).failed(CUT)
        wall.now += 600
        claimed(store, whole.op.id).later(2)
    assert store.op(whole.op.id).state is OpState.READY


def test_cuttings_anew_do(store: Store, whole: OpHandle, wall: Wall) -> None:
    """Else a part that always fails would be tried for ever."""
    whole.later(0)
    for _ in range(MOST_ATTEMPTS):
        assert store.op(whole.op.id).state is OpState.READY
        wall.now += 600
        claimed(store, whole.op.id).later(2)
        wall.now += 600
        mine = claimed(store, whole.op.id)
        mine.anew()
        mine.failed(CUT)
    assert store.op(whole.op.id).state is OpState.FAILED


def test_whoever_dies_when_it_is_cut_leaves_known_of_what(
    store: Store, task_id: int, whole: OpHandle, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scope that was widened between two parts would not be noticed."""
    monkeypatch.setattr(task_verify, "opened", lambda *_: nullcontext())
    monkeypatch.setattr(task_verify, "_more", lambda *_: PIECES)
    ends: Any = Endpoint.parse("redis://h:1", Side.SOURCE), Endpoint.parse("redis://h:2", Side.TARGET)
    beat: Any = SimpleNamespace(check=lambda: None)

    def dies(_: dict[str, Any]) -> None:
        raise SystemExit

    whole.keep = dies  # type: ignore[method-assign]
    whole.state = lambda: (whole.task, [])  # type: ignore[method-assign]
    with pytest.raises((SystemExit, Later)):
        task_verify.compare(whole, beat, *ends)
    assert len(whole.parts()) == len(PIECES)
    store.release_owner("h:1")
    spec = store.task(task_id).spec
    store.modify(task_id, spec.model_copy(update={"filter": FilterSpec(allow_prefixes=["a"])}))
    wall.now += 5
    mine = claimed(store, whole.op.id)
    mine.state = lambda: (mine.task, [])  # type: ignore[method-assign]
    with pytest.raises(ConnectionLost, match="another scope"):
        task_verify.compare(mine, beat, *ends)
    assert whole.parts() == []


def test_a_part_of_a_dead_worker_is_free_at_once(store: Store, whole: OpHandle) -> None:
    first, *_ = cut(store, whole)
    part = claimed(store, first, "h:7:8:x")
    assert store.owners("h:7", ops=True) == ["h:7:8:x"]
    assert store.owners("h:7") == [], "whoever ends need not wait for it"
    store.release_owner("h:7")
    with pytest.raises(Fenced):
        part.renew()
    assert claimed(store, first).op.epoch == 2


def test_what_is_done_is_shown(store: Store, task_id: int, whole: OpHandle) -> None:
    progress: dict[str, Any] = {"progress": ["compare", 5, 20], "keys_per_s": 1234.5, "parts": [1, 4]}
    whole.keep({**whole.op.options, **progress})
    (op,) = store.verifications(task_id)
    found = Verification.of(op)
    assert found.line() == "running, compare: 5 of 20 keys, 1 of 4 parts, 1,234 keys/s"
    assert (found.keys_per_s, found.parts_done, found.parts) == (1234.5, 1, 4)


def test_parts_go_to_load_workers(store: Store, whole: OpHandle) -> None:
    ids = cut(store, whole)
    with store.database.read() as session:
        sent = outgoing.ops(session, [whole.op.id, *ids])
    assert [(m.name, m.queue) for m in sent] == [("ops.run", "kf.ops"), *[("verify.part", "kf.load")] * 3]
    assert sent[1].says[-1] == "part 0"
