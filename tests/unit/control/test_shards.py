"""Shards of a source cluster become nodes, and no slot is ever two nodes' at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sync_tasks.slots import ALL as EVERY
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


def test_a_server_whose_slots_have_all_gone_takes_no_shard_of_another_node(
    store: Store, task_id: int, handles: list[StreamHandle]
) -> None:
    """It becomes a replica of whoever has taken the last one, and may be its successor."""
    giver, taker = handles
    now, then = shard("b", EVERY, "a", "a2"), shard("a", EVERY, "b", "a2")
    for one in (giver, taker):
        one.lay_out([replace(now, followed=True)])
        assert (of(giver).gone, of(giver).members) == (True, ("a", "a2"))
        assert (of(taker).gone, of(taker).members) == (False, ("a", "a2", "b"))
    assert giver.reshard([now], (), 70)
    giver.holds(())
    assert taker.reshard([now], EVERY)
    for one in (giver, taker):
        one.lay_out([replace(then, followed=True)])
        assert (of(giver).gone, of(taker).gone, of(taker).address) == (True, False, "a:1")
    assert len(store.nodes(task_id)) == 2


def test_a_shard_all_of_whose_servers_were_replaced_is_the_same_node(
    store: Store, task_id: int, handles: list[StreamHandle]
) -> None:
    """While nobody looked."""
    handles[0].lay_out([replace(shard("new", A.slots), followed=True), B])
    assert (of(handles[0]).members, of(handles[0]).gone) == (("new",), False)
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
    assert giver.untaken() == taker.untaken() == ((9990, 9999),)
    assert taker.reshard(now, now[1].slots)
    assert giver.untaken() == ()
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


def test_where_slots_were_given_up_is_kept(handles: list[StreamHandle]) -> None:
    """Offsets behind another snapshot are those of another stream, perhaps."""
    giver = handles[0]
    for last, end, kept in ((9989, 500, (1, 500)), (9979, 400, (1, 500)), (9969, 600, (1, 600))):
        serves = ((0, last),)
        assert giver.reshard([shard("a", serves, "a2"), B], serves, end)
        assert of(giver).drained == kept
    giver.holds(of(giver).slots)
    giver.begin_snapshot("another", 1, 0, None, None)
    giver.begin_stream()
    assert giver.reshard([shard("a", ((0, 99),), "a2"), B], ((0, 99),), 40)
    assert of(giver).drained == (2, 40)


def test_a_job_hears_what_its_node_is_to_carry(handles: list[StreamHandle]) -> None:
    assert [handle.renew().slots for handle in handles] == ["0-9999", "10000-16383"]
    serves = ((0, 5), (9000, 9999))
    assert handles[0].reshard([shard("a", serves, "a2"), B], serves)
    assert handles[0].renew().slots == "0-5,9000-9999"


def test_none_is_closed_before_all_stand_still(handles: list[StreamHandle]) -> None:
    one, other = handles
    assert not one.stand(100)
    assert not one.stand(None), "it goes on"
    assert not other.stand(70)
    assert one.stand(110)
    assert other.stand(None), "it may not go on any more"
    assert other.stand(75)
    other.finished()
    assert one.stand(None)
    assert other.others() == [0]
    assert one.others() == []


def test_no_slot_is_closed_over_that_changed_hands_since_a_node_stood(handles: list[StreamHandle]) -> None:
    """It stood before the slot was its own, and could not ask the source since."""
    giver, taker = handles
    now = [shard("a", ((0, 9989),), "a2"), shard("b", ((9990, 16383),))]
    assert not taker.stand(50)
    assert giver.reshard(now, now[0].slots)
    assert not giver.stand(100), "the other one stood before"
    assert not taker.stand(50), "nobody carries the slot"
    giver.holds(now[0].slots)
    assert not giver.stand(100)
    assert not taker.stand(None), "its next owner has yet to look"
    assert taker.reshard(now, now[1].slots)
    assert not taker.stand(200), "the other one stood before it had the slot"
    assert giver.stand(100)
    assert taker.stand(200)


def test_a_slot_that_is_lost_to_a_closed_shard_is_not_waited_for(handles: list[StreamHandle]) -> None:
    handles[1].finished()
    for last in (9989, 9979):
        assert handles[0].reshard([shard("a", ((0, last),), "a2"), shard("b", ((last + 1, 16383),))], ((0, last),))
    assert handles[0].stand(100)
    assert handles[0].untaken() == ()


def test_slots_that_go_to_a_shard_that_is_closed_are_told(
    store: Store, task_id: int, handles: list[StreamHandle]
) -> None:
    handles[1].finished()
    now = [shard("a", ((0, 9989),), "a2"), shard("b", ((9990, 16383),))]
    assert handles[0].reshard(now, now[0].slots)
    (told,) = [event.text for event in store.events(task_id) if "loses" in event.text]
    assert "node 0 loses slots 9990-9999: the shard that has them was cut over already" in told
