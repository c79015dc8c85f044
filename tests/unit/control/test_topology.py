"""Which node serves which slots, read from what real nodes have answered to CLUSTER NODES."""

from __future__ import annotations

import pytest

from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.topology import Shard, reached, read, same

A, B, C, R = (letter * 40 for letter in "abce")
WHOLE = f"""\
{A} 10.0.0.1:6379@16379,host-a myself,master - 0 0 1 connected 0-5460 [100->-{B}] [200-<-{C}]
{B} 10.0.0.2:6379@16379 master - 0 1700000000000 2 connected 5461-10921 16383
{C} :6380@16380 master - 0 1700000000000 3 connected 10922-16382
{R} fe80::1:6379@16379 slave {B} 0 1700000000000 2 connected
{"f" * 40} 10.0.0.9:6379@16379 master - 0 0 4 connected
{"9" * 40} 10.0.0.8:6379@16379 slave,fail {A} 0 0 4 disconnected
{"8" * 40} :0@0 slave,noaddr {A} 0 0 4 disconnected
"""


def test_shards_are_masters_with_slots_and_their_replicas() -> None:
    found = read(WHOLE, ("asked", 1), Side.TARGET)
    assert found == [
        Shard(((0, 5460),), ("asked", 6379), (), A, (100, 200)),
        Shard(((5461, 10921), (16383, 16383)), ("10.0.0.2", 6379), (("fe80::1", 6379),), B),
        Shard(((10922, 16382),), ("asked", 6380), (), C),
    ]
    assert [one.serves(16383) for one in found] == [False, True, False]


def test_a_master_without_slots_is_found_by_its_name_where_that_is_asked_for() -> None:
    """It may have something to say still of those that it had, whoever serves them now."""
    found = read(WHOLE, ("asked", 1), Side.TARGET, every=True)
    assert [one.node_id for one in found] == ["f" * 40, A, B, C]
    for known in ({"f" * 40}, {"f" * 40, R}):
        mine = same(known, ((0, 99),), found)
        assert mine is not None
        assert mine.master == ("10.0.0.9", 6379)


def test_redis_3_writes_no_port_of_the_bus() -> None:
    found = read(f"{A} 127.0.0.1:7000 myself,master - 0 0 1 connected 0-16383\n", ("h", 7000), Side.SOURCE)
    assert found == [Shard(((0, 16383),), ("h", 7000), (), A)]


def test_slots_that_nobody_serves_are_an_error_that_is_tried_again() -> None:
    with pytest.raises(ConnectionLost, match=r"^slots 5461-10921,16383 of the cluster h:1 are") as caught:
        read("\n".join(line for line in WHOLE.splitlines() if not line.startswith(B)), ("h", 1), Side.TARGET)
    assert caught.value.code == "cluster-down"
    every_other = " ".join(str(slot) for slot in range(0, 16384, 2))
    with pytest.raises(ConnectionLost, match=r"^slots 1,3,5,7,9,11,13,15,17,19 and more, 8192 in all, of the cluster"):
        read(f"{A} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected {every_other}\n", ("h", 7000), Side.SOURCE)


def losing(*masters: str) -> str:
    """The cluster as a node sees it that does not hear from some masters."""
    lines = WHOLE.splitlines()
    return "\n".join(line.replace(" master ", " master,fail? ") if line.startswith(masters) else line for line in lines)


def test_a_node_that_has_lost_most_masters_does_not_say_who_serves_what() -> None:
    """It is cut off: the others may have given its place to a replica, of whose writes it does not know."""
    assert len(read(losing(B, "f" * 40), ("h", 1), Side.SOURCE)) == 3
    with pytest.raises(ConnectionLost, match=r"^h:1 has lost 2 of 3 masters of its cluster") as caught:
        read(losing(B, C), ("h", 1), Side.SOURCE)
    assert caught.value.code == "cluster-down"
    two = f"{A} h:1@2 myself,master - 0 0 1 connected 0-9999\n{B} h:3@4 master,fail? - 0 0 2 connected 10000-16383\n"
    with pytest.raises(ConnectionLost, match=r"^h:1 has lost 1 of 2"):
        read(two, ("h", 1), Side.SOURCE)


def shard(name: str, first: int, last: int, *replicas: str) -> Shard:
    return Shard(((first, last),), ("h", 1), (), name, members=frozenset((name, *replicas)))


def test_masters_are_where_clients_are_to_reach_them() -> None:
    found = read(WHOLE, ("asked", 1), Side.TARGET)
    slots = [
        [0, 5460, [b"", 6379, A.encode(), []]],
        [5461, 10921, [b"b.example", 7001, B.encode(), []], [b"r.example", 7002, R.encode(), []]],
        [10922, 16382, [b"10.0.0.3", 6380]],
    ]
    assert [one.master for one in reached(found, slots, ("asked", 1))] == [
        ("asked", 6379),
        ("b.example", 7001),
        ("asked", 6380),
    ]
    assert found[1].members == {B, R}


def test_a_shard_is_known_by_its_members_and_then_by_its_slots() -> None:
    promoted, other = shard("r", 100, 199), shard("z", 0, 99)
    assert same(("a", "r"), ((0, 99),), [other, promoted]) is promoted
    assert same(("a", "r"), ((0, 99),), [other]) is other
    assert same(("a", "r"), ((0, 99),), [shard("z", 100, 199)]) is None
    assert same(("a", "r"), ((0, 99),), [shard("r", 200, 299), shard("a", 0, 50), other]).node_id == "a"  # type: ignore[union-attr]
    assert same(("a", "r"), ((0, 99),), [other, shard("y", 100, 199, "r")]).node_id == "y"  # type: ignore[union-attr]
