"""When a stream's slots are given up and taken, by what the master of its shard says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side
from sync_tasks.slots import Ranges, members, ranges
from sync_tasks.spec import TaskSpec
from workers import sharding
from workers.sharding import Slots
from workers.source.ask import Position

HERE = Endpoint(Side.SOURCE, "redis", "h", 1)


class World:
    """A master `a` beside `b`, and the database's row of the node that follows it."""

    def __init__(self) -> None:
        self.task = SimpleNamespace(spec=TaskSpec())
        self.flags, self.mark, self.written = "myself,master", "", 100
        self.replid = "a" * 40
        self.other = "master"
        self.serves: Ranges = ((0, 9999),)
        self.row: Ranges | None = self.serves
        self.asked: list[Ranges] = []
        self.ends: list[int] = []
        self.said: list[int | None] = []
        self.all_stand = False
        self.closed = False
        self.unserved: set[int] = set()
        self.left: Ranges = ()
        self.failures: list[KeyferryError] = []
        self.open = False
        self.gone = False
        self.laid_out: list[list[str]] = []  # whose master is followed

    def cluster(self) -> str:
        mine = " ".join(f"{first}-{last}" for first, last in self.serves)
        rest = " ".join(f"{a}-{b}" for a, b in ranges(set(range(16384)) - members(self.serves) - self.unserved))
        first = f"a h:1@2 {self.flags} - 0 0 1 connected {mine} {self.mark}\n"
        return f"{first}b h:3@4 {self.other} - 0 0 2 connected {rest}\n"

    def position(self) -> Position:
        return Position(self.replid, self.written)

    def close(self) -> None:
        self.closed = True

    def lay_out(self, found: Any) -> None:
        self.laid_out.append([one.node_id for one in found if one.followed])

    def reshard(self, found: Any, serves: Ranges, end: int) -> bool:
        self.asked.append(serves)
        self.ends.append(end)
        return False

    def stand(self, offset: int | None) -> bool:
        self.said.append(offset)
        return self.all_stand

    def failing(self, error: KeyferryError) -> float:
        self.failures.append(error)
        self.open = True
        return 0.0

    def healed(self, side: str) -> None:
        assert side == "source"
        self.open = False

    def untaken(self) -> Ranges:
        return self.left

    def node(self) -> Any:
        return SimpleNamespace(slot_ranges=self.row, shard=SimpleNamespace(gone=self.gone))

    def slots(self) -> Slots:
        return Slots(self, self, HERE)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


def test_a_server_that_stands_alone_is_always_steady(world: World) -> None:
    world.row = None
    slots = world.slots()
    slots.look(None)
    assert slots.steady
    assert not slots.stale
    assert world.asked == []


def test_steady_is_what_serves_as_it_carries_and_is_not_on_its_way(world: World) -> None:
    slots = world.slots()
    assert not slots.steady, "nobody has looked yet"
    slots.look(100)
    assert slots.steady
    for mark in ("[17->-b]", "[12000-<-b]"):
        world.mark = mark
        slots.look(100)
        assert not slots.steady
    world.mark, world.serves = "", ((0, 10999),)
    slots.look(100)
    assert not slots.steady
    assert world.asked[-1] == ((0, 10999),)


def test_a_slot_is_given_up_behind_all_that_came_of_it(world: World) -> None:
    slots = world.slots()
    slots.look(90)
    world.serves, world.written = ((0, 9989),), 150
    slots.look(100)
    assert world.asked[-1] == ((0, 9999),), "the target lacks what has come of them"
    world.written = 500  # of other slots
    slots.look(149)
    assert world.asked[-1] == ((0, 9999),)
    slots.look(None)
    assert world.asked[-1] == ((0, 9999),), "it does not stream"
    assert world.ends[-1] == 0
    slots.look(150)
    assert (world.asked[-1], world.ends[-1]) == (((0, 9989),), 150)
    assert not slots.steady


def test_a_slot_is_given_up_by_an_offset_of_the_stream_that_there_is(world: World) -> None:
    """Its shard's master was restarted meanwhile, and counts anew."""
    slots = world.slots()
    world.serves, world.written = ((0, 9989),), 1_000_000
    slots.look(100)
    world.replid, world.written = "b" * 40, 20
    slots.look(None)
    world.written = 50
    slots.look(20)
    assert (world.asked[-1], world.ends[-1]) == (((0, 9989),), 20)


def test_a_slot_that_went_before_a_snapshot_of_another_stream_is_given_up_behind_that(world: World) -> None:
    slots = world.slots()
    world.serves, world.written = ((0, 9989),), 150
    slots.look(100)
    world.replid, world.written = "b" * 40, 1000
    slots.look(900)  # the snapshot's; what the stream deletes comes behind it
    assert world.asked[-1] == ((0, 9999),)
    slots.look(1000)
    assert (world.asked[-1], world.ends[-1]) == (((0, 9989),), 1000)


def test_what_another_nodes_shard_serves_is_given_up_once_the_target_has_it(world: World) -> None:
    """The shard's own servers have nothing left, and the other one's master is followed."""
    slots = world.slots()
    world.gone = True
    slots.look(None)
    assert world.laid_out == [["a"]]
    assert world.asked[-1] == ((0, 9999),)
    slots.look(100)
    assert (world.asked[-1], world.ends[-1]) == ((), 100)
    assert not slots.steady
    world.row = ()
    slots = world.slots()
    slots.look(100)
    assert slots.steady, "it has nothing to carry"


def test_a_slot_that_comes_back_begins_anew(world: World) -> None:
    slots = world.slots()
    world.serves, world.written = ((0, 9989),), 150
    slots.look(100)
    world.serves = ((0, 9999),)
    slots.look(200)
    assert slots.steady
    world.serves, world.written = ((0, 9989),), 300
    slots.look(200)
    assert world.asked[-1] == ((0, 9999),)


def test_a_replica_says_nothing_of_slots(world: World) -> None:
    """Else all would be given up; the next connection is to the new master."""
    slots = world.slots()
    world.flags, world.serves = "myself,slave", ()
    slots.look(100)
    assert world.closed
    assert world.asked == []
    assert not slots.steady


def test_a_job_whose_node_has_other_slots_by_now_is_to_end(world: World) -> None:
    slots = world.slots()
    world.serves = ((0, 10999),)
    slots.look(100)
    assert not slots.stale
    world.row = world.serves
    slots.look(100)
    assert slots.stale


def test_a_job_ends_when_the_database_says_other_slots_than_it_began_with(world: World) -> None:
    """It was brought back from a backup, perhaps: nothing that the cluster says has changed."""
    slots = world.slots()
    for said in ("0-9999", None):
        slots.heard(said)
        assert not slots.stale
    slots.heard("0-9998")
    assert slots.stale


def test_whole_is_a_shard_that_serves_all_that_is_carried(world: World) -> None:
    slots = world.slots()
    assert not slots.whole, "nobody has looked yet"
    world.mark, world.serves = "[17->-b]", ((0, 10999),)
    slots.look(100)
    assert slots.whole
    assert not slots.steady
    world.serves = ((0, 9998),)
    slots.look(100)
    assert not slots.whole


def test_a_stream_stands_still_only_where_no_slot_is_on_its_way(world: World) -> None:
    slots = world.slots()
    slots.stand(None)
    assert world.said == [None], "an earlier owner may have said that it stands"
    slots.stand(None)
    assert world.said == [None]
    slots.look(100)
    world.mark = "[17->-b]"
    slots.stand(100)
    assert world.said == [None], "it was looked once more"
    world.mark = ""
    slots.look(100)
    slots.stand(100)
    slots.stand(100)
    assert world.said == [None, 100, 100]
    world.mark = "[17->-b]"
    slots.look(100)
    slots.stand(100)
    assert world.said[-1] is None
    world.mark, world.all_stand = "", True
    slots.stand(120)
    assert slots.closing
    slots.look(100)
    slots.stand(None)
    assert world.said[-1] == 120, "it does not go on any more"


def test_an_owner_closes_nothing_before_it_has_seen_that_it_carries_what_its_shard_serves(world: World) -> None:
    """The others stood because an owner before it did; a slot may have come since."""
    slots = world.slots()
    world.all_stand, world.serves = True, ((0, 10999),)
    slots.stand(None)
    assert not slots.closing, "it has not looked"
    slots.look(100)
    slots.stand(None)
    assert not slots.closing, "it has yet to take slots"
    world.serves = ((0, 9999),)
    slots.look(100)
    slots.unsure()
    slots.stand(None)
    assert slots.closing, "what all have agreed on stands, though the source is away by now"


def test_a_stream_whose_source_cannot_be_asked_does_not_stand(world: World) -> None:
    slots = world.slots()
    slots.look(50)
    slots.stand(50)
    slots.unsure()
    slots.stand(50)
    assert world.said == [50, None]


def test_a_stream_whose_job_ends_does_not_stand(world: World) -> None:
    """Whoever goes on later, and further, is not to be closed with the others."""
    slots = world.slots()
    slots.leave()
    assert world.said == [], "it had said nothing"
    slots.look(100)
    slots.stand(100)
    slots.leave()
    assert world.said == [100, None]
    slots.stand(120)
    world.all_stand = True
    slots.stand(120)
    slots.leave()
    assert world.said == [100, None, 120, 120], "what all have agreed on stands"


def test_a_master_that_is_cut_off_from_the_others_makes_nothing_sure(world: World) -> None:
    """A replica of it may be its successor, and be written to."""
    slots = world.slots()
    slots.look(100)
    world.other = "master,fail?"
    with pytest.raises(ConnectionLost):
        slots.look(100)
    assert not slots.steady
    slots.stand(100)
    assert world.said == [None]
    world.other = "master"
    slots.look(100)
    assert slots.steady


def test_slots_that_nobody_serves_open_a_retry_window_that_names_them(world: World) -> None:
    """Their shard was taken out of the cluster, say: all streams go on, and none would ever be closed."""
    slots = world.slots()
    slots.look(100)
    world.unserved = {12000, 12001, 13000}
    for patience_s, opens in ((10.0, False), (10.0, False), (0.0, True)):
        slots._unserved._patience_s = patience_s
        slots.stand(100)
        with pytest.raises(ConnectionLost):
            slots.look(100)
        assert not slots.steady
        assert world.open is opens, "a replica may take its master's place in a moment"
    assert world.said == [None]
    (failure, *_) = world.failures
    assert "slots 12000-12001,13000 of the cluster h:1 are served by nobody" in failure.message
    assert failure.side is Side.SOURCE
    world.unserved.clear()
    slots.look(100)
    assert slots.steady
    assert not world.open


def test_slots_that_no_stream_takes_open_one_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two masters says that the other one has them, say."""
    monkeypatch.setattr(sharding, "ASK_S", 0.0)
    slots = world.slots()
    slots.look(100)
    world.left = ((12000, 12003), (13000, 13000))
    for patience_s, opens in ((30.0, False), (30.0, False), (0.0, True), (0.0, True)):
        slots._untaken._patience_s = patience_s
        slots.look(100)
        assert world.open is opens, "they may be on their way"
    assert "slots 12000-12003,13000 of the cluster are carried by no stream" in world.failures[0].message
    assert len(world.failures) == 2
    slots._untaken._patience_s = 30.0
    world.left = ((14000, 14000),)
    slots.look(100)
    assert not world.open, "those are others"
    slots._untaken._patience_s = 0.0
    slots.look(100)
    assert world.open
    world.left = ()
    slots.look(100)
    assert not world.open


def test_a_node_that_is_read_by_scan_keeps_its_slots(world: World) -> None:
    """Its keys are read of whichever master has them; nothing is handed over."""
    world.task = SimpleNamespace(spec=TaskSpec(reader="scan"))
    slots = world.slots()
    world.serves, world.mark = (), "[5->-b]"
    slots.look(100)
    assert world.asked == []
    assert slots.steady
    assert slots.whole
    slots.unsure()
    assert slots.steady
    slots.heard("0-9")
    assert slots.stale, "the database has fallen back"
