"""Lanes that stand still while slots move, or whose scripts are ended: nothing is lost, nothing comes twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.lanes import Lane, lanes_of, moved
from sync_tasks.names import checkpoint_key
from sync_tasks.slots import ALL, Ranges, members, ranges, slot
from sync_tasks.topology import shards
from sync_tasks.views import ShardView
from tests.clusters import Cluster
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, REPLID, UID, Port, until
from tests.unit.protocol.test_adding import Changing
from workers.adding import Adding
from workers.apply import Applier
from workers.lane_port import LanePort, Together
from workers.scope import Scope
from workers.target import scripted, windows
from workers.target.claim import STREAMING, Checkpoint

KINDS = [
    "redis-7.0", "valkey-9.1", *(pytest.param(kind, marks=pytest.mark.rare) for kind in ("redis-6.2", "redis-8.2")),
    pytest.param("valkey-8.1", marks=pytest.mark.rare),
]  # fmt: skip


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[str, Cluster]]:
    made: dict[str, Cluster] = {}
    yield made
    for one in made.values():
        one.__exit__(None, None, None)


class Laned(Changing):
    """A standalone source, a cluster, and owners of one of its lanes each."""

    def __init__(self, source: Server, cluster: Cluster, directory: Path) -> None:
        self.cluster, self.place_of = cluster, Endpoint.parse(cluster.url(), Side.TARGET)
        self.there: Any = cluster.client()
        for node in cluster.masters:
            node.client().flushall()
        self.lanes = lanes_of(shards(self.place_of))
        super().__init__(source, cluster.masters[0], directory)

    def begin(self) -> None:
        for lane in self.lanes:
            point = Checkpoint(REPLID, 0, 0, 1, "", 0, STREAMING, 1, held=False, extend_ms=0)
            name = checkpoint_key(lane.uid(UID), 0)
            self.there.hset(name, items=[*point.fields(), b"windows", b"0", *self.scope(lane).fields])

    def scope(self, lane: Lane) -> Scope:
        return Scope({0: 0}, None, None, lane)

    def lane(self, number: int) -> Lane:
        return next(lane for lane in self.lanes if lane.number == number)

    def own_lane(self, number: int) -> Applier:
        lane = self.lane(number)
        self.ports.append(Port(replace(self.task, lanes=self.lanes), epoch=self.epoch + len(self.owners)))
        port: Any = LanePort(Together(self.ports[-1], 1), lane)  # type: ignore[arg-type]
        made = Applier(
            self.place_of.serving(lane.home), port, self.log, self.questions(), self.directory, self.scope(lane), 0,
            self.known,
        )  # fmt: skip
        self.owners.append(made)
        made.start()
        return made

    def offset(self, number: int) -> int:
        return int(self.there.hget(checkpoint_key(self.lane(number).uid(UID), 0), "offset"))

    def has_all(self, number: int) -> bool:
        """Whether a lane has the stream, and all slots that are its own."""
        owner = self.owners[-1]
        return self.offset(number) == self.end and owner.extending.whole and owner.progress.settled_at is not None

    def relane(self) -> None:
        """As a job does once slots have moved."""
        self.stop()
        self.lanes = moved(self.lanes, shards(self.place_of))


@pytest.fixture
def laned(
    request: pytest.FixtureRequest, clusters: dict[str, Cluster], source: Server, tmp_path: Path
) -> Iterator[Laned]:
    kind = getattr(request, "param", "redis-7.0")
    if kind not in clusters:
        clusters[kind] = Cluster(kind, masters=2)
    made = Laned(source, clusters[kind], tmp_path)
    yield made
    made.stop()


KEY = b"{counted}n"


def of(laned: Laned, key: bytes) -> int:
    """The lane that has a key."""
    return next(lane.number for lane in laned.lanes if any(a <= slot(key) <= b for a, b in lane.slots))


def test_a_lane_that_gets_back_what_it_never_gave_up_begins_it_anew(laned: Laned) -> None:
    """It stands still, and its checkpoint says that it has the slot; another one has gone further there meanwhile."""
    first = of(laned, KEY)
    second = 1 - first
    home, away = laned.cluster.masters[first], laned.cluster.masters[second]
    owner = laned.own_lane(first)
    laned.do(0, [b"SET", KEY, b"1"], [b"SET", b"{counted}gone", b"1"])
    assert until(lambda: laned.has_all(first)), owner.error
    laned.stop()
    behind = laned.offset(first)
    laned.do(0, [b"INCR", KEY], [b"APPEND", b"{counted}a", b"x"], [b"DEL", b"{counted}gone"])
    laned.cluster.move(slot(KEY), away)
    laned.relane()
    owner = laned.own_lane(second)
    laned.do(0, [b"INCR", KEY])
    assert until(lambda: laned.has_all(second)), owner.error
    assert laned.there.get(KEY) == b"3"
    laned.cluster.move(slot(KEY), home)
    laned.relane()
    assert laned.offset(first) == behind
    owner = laned.own_lane(first)
    laned.do(0, [b"INCR", KEY], [b"APPEND", b"{counted}a", b"y"])
    assert until(lambda: laned.has_all(first)), owner.error
    assert laned.there.get(KEY) == b"4"
    assert laned.there.get("{counted}a") == b"xy"
    assert not laned.there.exists("{counted}gone")
    laned.relane()
    owner = laned.own_lane(first)
    laned.do(0, [b"INCR", KEY])
    assert until(lambda: laned.has_all(first)), owner.error
    assert laned.there.get(KEY) == b"5"
    assert sum("copied beside" in event for event in laned.ports[-1].events) == 0, "once is enough"


@pytest.mark.parametrize("laned", KINDS, indirect=True)
@pytest.mark.parametrize("asked", [True, False], ids=["waits", "is too late to wait"])
def test_a_lane_that_is_behind_empties_its_own_slots_alone(
    laned: Laned, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot of another lane is at its node for a while, with keys that are newer than the FLUSHALL."""
    if not asked:
        monkeypatch.setattr(windows, "check_alone", lambda *_: None)
    second = of(laned, KEY)
    first = 1 - second
    key = next(b"k%d" % n for n in range(99) if of(laned, b"k%d" % n) == first)
    laned.do(0, [b"SET", key, b"old"])
    owner = laned.own_lane(first)
    assert until(lambda: laned.has_all(first)), owner.error
    laned.stop()
    laned.do(0, [b"FLUSHALL"], [b"SET", KEY, b"new"], [b"SET", key, b"new"])
    owner = laned.own_lane(second)
    assert until(lambda: laned.has_all(second)), owner.error
    laned.stop()
    laned.cluster.move(slot(KEY), laned.cluster.masters[first])
    owner = laned.own_lane(first)
    if asked:
        assert until(lambda: [error.code for error in laned.ports[-1].failures[-1:]] == ["slot-moving"])
        assert laned.there.get(key) == b"old"
    else:
        assert until(lambda: laned.log.anew), "a full sync in place"
    assert laned.there.get(KEY) == b"new"
    laned.cluster.move(slot(KEY), laned.cluster.masters[second])
    if asked:
        assert until(lambda: laned.has_all(first)), owner.error
        assert laned.there.get(key) == b"new"
    time.sleep(0.1)
    assert laned.there.get(KEY) == b"new"


def test_nor_while_one_of_its_own_is_on_its_way(laned: Laned) -> None:
    """Some keys of the slot are at another node, and would come back."""
    first = of(laned, KEY)
    home, away = laned.cluster.masters[first], laned.cluster.masters[1 - first]
    owner = laned.own_lane(first)
    laned.do(0, *([b"SET", b"{counted}%d" % n, b"1"] for n in range(20)))
    assert until(lambda: laned.has_all(first)), owner.error

    def empty() -> None:
        laned.do(0, [b"FLUSHALL"])
        assert until(lambda: any(error.code == "slot-moving" for error in laned.ports[-1].failures))

    laned.cluster.move(slot(KEY), away, between=empty)
    laned.cluster.move(slot(KEY), home)
    assert until(lambda: laned.has_all(first)), owner.error
    assert not list(laned.there.scan_iter("{counted}*"))


@pytest.mark.parametrize("dies", [False, True], ids=["its owner reads it", "its owner dies before it reads it"])
def test_what_a_script_that_was_ended_has_not_done_is_copied_anew(
    laned: Laned, dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SCRIPT KILL, or a right that was taken away: the rest of its transaction, the checkpoint too, is executed."""
    number = of(laned, KEY)
    owner = laned.own_lane(number)
    laned.do(0, [b"SET", KEY, b"1"])
    assert until(lambda: laned.has_all(number)), owner.error
    before = scripted.TEXT
    monkeypatch.setattr(scripted, "TEXT", b"return redis.error_reply('broken')")
    if dies:
        monkeypatch.setattr(windows.Chain, "_read", lambda _: [])
    laned.do(0, [b"INCR", KEY], [b"SET", b"{counted}other", b"1"])
    if dies:
        assert until(lambda: laned.offset(number) == laned.end)
        monkeypatch.undo()
        for one in laned.owners:
            one.stop_event.set()
        laned.relane()
        owner = laned.own_lane(number)
    else:
        assert until(lambda: "script-ended" in [error.code for error in laned.ports[-1].failures]), owner.error
        assert laned.there.get(KEY) == b"1"
        monkeypatch.setattr(scripted, "TEXT", before)
    assert until(lambda: laned.has_all(number) and laned.there.get(KEY) == b"2"), owner.error
    assert laned.there.get("{counted}other") == b"1"


def test_a_lane_is_rid_of_a_slot_that_left_its_source_node_while_it_was_being_added(
    laned: Laned, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = ranges(members(ALL) - {slot(KEY)})
    carried: list[Ranges] = [rest]
    said: list[bool] = []
    monkeypatch.setattr(Laned, "scope", lambda _, lane: Scope({0: 0}, None, carried[-1], lane))
    monkeypatch.setattr(Port, "node", lambda _: replace(NODE, shard=ShardView(("a",), "a:1", carried[-1], ALL)))
    laned.begin()
    number = of(laned, KEY)
    carried.append(ALL)
    with monkeypatch.context() as patch:
        patch.setattr(Adding, "_may_switch", lambda _: False)
        owner = laned.own_lane(number)
        laned.do(0, [b"SET", KEY, b"1"], [b"SET", b"{counted}too", b"1"], [b"SET", b"{counted}gone", b"1"])
        assert until(lambda: laned.there.exists(KEY, "{counted}too", "{counted}gone") == 3), owner.error
        laned.stop()
    laned.there.set("{counted}foreign", 1)
    monkeypatch.setattr(Port, "holds", lambda *_: said.append(bool(laned.there.exists(KEY, "{counted}too"))))
    laned.do(0, [b"DEL", KEY, b"{counted}too"], [b"DEL", b"{counted}gone"])
    carried.append(rest)
    laned.relane()
    owner = laned.own_lane(number)
    assert until(lambda: bool(said) and laned.has_all(number)), owner.error
    assert not any(said)
    assert list(laned.there.scan_iter("{counted}*")) == [b"{counted}foreign"]
