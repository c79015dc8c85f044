"""The parts of a cluster: which slots each has, and where Keyferry's own keys of it are."""

from __future__ import annotations

import json
from dataclasses import replace

from sync_tasks import lanes
from sync_tasks.names import built_key, checkpoint_key, tmp_key
from sync_tasks.slots import SLOTS, slot
from sync_tasks.topology import Shard

POINT = "a" * 40 + ":77:0"
SHARDS = [
    Shard(((0, 99), (16000, 16383)), ("h", 1), (), "a"),
    Shard(((100, 8000),), ("h", 2), (), "b"),
    Shard(((8001, 15999),), ("h", 3), (), "c"),
]


def test_every_slot_belongs_to_one_lane_and_our_own_keys_to_its_last() -> None:
    found = lanes.lanes_of(SHARDS)
    table = lanes.table(found)
    assert [table[at] for at in (0, 99, 100, 8000, 8001, 15999, 16000, 16383)] == [0, 0, 1, 1, 2, 2, 0, 0]
    assert [lane.home for lane in found] == [16383, 8000, 15999]
    for lane in found:
        assert slot(checkpoint_key(lane.uid("0123456789abcdef"), 3)) == lane.home
    assert lanes.read(json.loads(json.dumps(lanes.written(found)))) == found
    assert lanes.read(None) == ()
    closed = tuple(replace(one, closed=(lanes.Closed(0, POINT, ("a", "b"), "h:1"),)) for one in found)
    again = lanes.read(json.loads(json.dumps(lanes.written(closed))))
    assert [one.closed for one in again] == [one.closed for one in closed]
    assert again == found, "where they were closed says nothing of where slots are"


def test_there_is_a_short_tag_for_every_slot() -> None:
    assert [slot(tag.encode()) for tag in lanes.tags()] == [*range(SLOTS)]
    assert max(map(len, lanes.tags())) <= 6


def test_what_is_built_for_a_key_is_in_its_slot() -> None:
    for key in (b"plain", b"{tag}key", b"a}b", b"{}x", b"\xff{\xfe"):
        tag = lanes.tag_of(key)
        assert slot(tmp_key("uid:{3d43}", 1, 2, tag)) == slot(key)
        assert slot(built_key("uid:{3d43}", 0, 1, tag)) == slot(key)


def shard(slots: tuple[tuple[int, int], ...], name: str) -> Shard:
    return Shard(slots, (name, 1), (), name)


def test_lanes_go_with_their_own_keys() -> None:
    before = lanes.lanes_of(SHARDS)
    assert lanes.moved(before, SHARDS) == before
    after = lanes.moved(before, [shard(((0, 49), (16000, 16383)), "a"), shard(((50, 8000),), "b"), SHARDS[2]])
    assert [one.slots for one in after] == [((0, 49), (16000, 16383)), ((50, 8000),), ((8001, 15999),)]
    assert [one.tag for one in after] == [one.tag for one in before]
    assert [one.slots for one in lanes.moved(after, SHARDS)] == [one.slots for one in before]


def test_a_node_without_a_lane_gets_one_and_of_two_one_is_given_up() -> None:
    before = lanes.lanes_of(SHARDS)
    now = [shard(((0, 99), (16000, 16382)), "a"), shard(((100, 8000), (16383, 16383)), "b"), SHARDS[2]]
    after = lanes.moved(before, now)
    assert [(one.number, one.slots, one.later) for one in after] == [
        (0, (), False),
        (1, ((100, 8000), (16383, 16383)), False),
        (2, ((8001, 15999),), False),
        (3, ((0, 99), (16000, 16382)), True),
    ]
    assert after[3].home == 16382
    assert lanes.read(lanes.written(after)) == after
    back = lanes.moved(after, SHARDS)
    assert [one.number for one in back if one.slots] == [1, 2, 3], "what was given up stays so"


def test_a_lane_never_has_the_names_of_one_that_was_given_up() -> None:
    before = lanes.lanes_of(SHARDS)
    drained = lanes.moved(before, [SHARDS[0], shard(((100, 15999),), "c")])
    filled = lanes.moved(drained, SHARDS)
    names = [one.uid("0123456789abcdef") for one in filled]
    assert len(filled) > len(before)
    assert len(set(names)) == len(names)


def test_what_a_lane_has_given_up_stays_known_though_it_has_it_again() -> None:
    """A checkpoint says of which turn it is."""
    before = lanes.lanes_of(SHARDS)
    given = [shard(((0, 49), (16000, 16383)), "a"), shard(((50, 8000),), "b"), SHARDS[2]]
    first = lanes.moved(lanes.moved(before, given), SHARDS)[0]
    assert (first.slots, first.turn, first.gave) == (before[0].slots, 1, ((1, ((50, 99),)),))
    assert first.given_since(0) == ((50, 99),)
    assert first.given_since(1) == ()
    again = first.serving(((0, 89), (16000, 16383))).serving(before[0].slots)
    assert (again.turn, again.gave) == (2, ((1, ((50, 89),)), (2, ((90, 99),))))
    assert again.given_since(0) == ((50, 99),)
    assert again.given_since(1) == ((90, 99),)
    assert lanes.read(json.loads(json.dumps(lanes.written([again])))) == (again,)
    assert again.serving(before[0].slots) == again


def test_lanes_of_an_earlier_version_have_given_nothing_up() -> None:
    (one,) = lanes.written(lanes.lanes_of(SHARDS)[:1])
    del one["turn"], one["gave"]
    assert lanes.read([one]) == lanes.lanes_of(SHARDS)[:1]
