"""Shards of a source cluster become nodes, and no slot is ever two nodes' at once."""

from __future__ import annotations

import pytest

from sync_tasks.slots import Ranges, members
from sync_tasks.store import Store
from sync_tasks.store.stream import StreamHandle
from sync_tasks.topology import Shard
from sync_tasks.views import ShardView


def shard(name: str, slots: Ranges, *replicas: str) -> Shard:
    return Shard(slots, (name, 1), (), name, members=frozenset((name, *replicas)))


A, B = shard("a", ((0, 9999),), "a2"), shard("b", ((10000, 16383),))


@pytest.fixture
def handles(store: Store, task_id: int) -> list[StreamHandle]:
    """Of the nodes of both shards; they stream."""
    first = store.claim_node(1, "h:1:1:x")
    assert first is not None
    first.lay_out([A, B])
    second = store.claim_node(store.nodes(task_id)[1].id, "h:1:2:x")
    assert second is not None
    for number, handle in enumerate((first, second)):
        handle.begin_snapshot(f"replid{number}", 1, 0, None, None)
        handle.begin_stream()
    return [first, second]


def of(handle: StreamHandle) -> ShardView:
    found = handle.node().shard
    assert found is not None
    return found


def test_each_shard_is_a_node(store: Store, task_id: int, handles: list[StreamHandle]) -> None:
    nodes = store.nodes(task_id)
    assert [node.number for node in nodes] == [0, 1]
    assert [node.shard for node in nodes] == [
        ShardView(("a", "a2"), "a:1", A.slots, A.slots),
        ShardView(("b",), "b:1", B.slots, B.slots),
    ]
    assert all(node.wanted for node in nodes)


def test_a_replica_in_its_masters_place_is_the_same_node(
    store: Store, task_id: int, handles: list[StreamHandle]
) -> None:
    assert not handles[0].reshard([shard("a2", A.slots), B], A.slots)
    assert of(handles[0]).members == ("a2",)
    assert of(handles[0]).address == "a2:1"
    assert len(store.nodes(task_id)) == 2


def test_a_slot_is_taken_only_when_it_was_let_go(handles: list[StreamHandle]) -> None:
    giver, taker = handles
    now = [shard("a", ((0, 9989),), "a2"), shard("b", ((9990, 16383),))]
    assert not taker.reshard(now, now[1].slots), "the giver holds it"
    assert giver.reshard(now, now[0].slots)
    assert giver.renew().turn
    assert of(giver).slots == now[0].slots
    assert not taker.reshard(now, now[1].slots), "the target does not say so yet"
    giver.holds(A.slots)
    assert not taker.reshard(now, now[1].slots), "it was an owner of before who said that"
    giver.holds(now[0].slots)
    assert taker.reshard(now, now[1].slots)
    assert of(taker).slots == of(taker).holds == now[1].slots
    assert members(of(giver).holds).isdisjoint(members(of(taker).slots))


def test_nothing_changes_hands_while_a_snapshot_is_loaded(handles: list[StreamHandle]) -> None:
    now = [shard("a", ((0, 9989),), "a2"), shard("b", ((9990, 16383),))]
    handles[0].begin_snapshot("replid", 1, 0, None, None)
    assert not handles[0].reshard(now, now[0].slots)
    assert of(handles[0]).slots == A.slots


def test_a_new_shard_is_a_node_that_has_yet_to_be_given_its_slots(
    store: Store, task_id: int, handles: list[StreamHandle]
) -> None:
    now = [shard("a", ((0, 9989),), "a2"), B, shard("c", ((9990, 9999),))]
    assert handles[1].reshard(now, B.slots) is False
    new = store.nodes(task_id)[2]
    assert new.shard == ShardView(("c",), "c:1", (), ())
    assert new.wanted
    assert new.fresh
    assert store.claim_node(new.id, "h:1:3:x") is not None


def test_a_node_that_is_cut_over_holds_nothing(handles: list[StreamHandle]) -> None:
    now = [shard("a", ((0, 9989),), "a2"), shard("b", ((9990, 16383),))]
    handles[0].finished()
    assert handles[1].reshard(now, now[1].slots)
