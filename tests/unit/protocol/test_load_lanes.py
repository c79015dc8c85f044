"""A chunk that goes through a transform to a cluster: every part has all of it, once, by one script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Fenced, Retry, Side, TransformError
from sync_tasks.lanes import lanes_of
from sync_tasks.names import checkpoint_key, closed_key, marks_key
from sync_tasks.slots import members, slot
from sync_tasks.spec import TaskSpec
from sync_tasks.topology import shards
from sync_tasks.transform.setting import TransformSpec
from tests.clusters import Cluster, keys
from tests.unit.protocol.conftest import TASK
from tests.unit.protocol.test_load import WHOLE, Chunk
from workers import load_lanes

COUNTED = "function transform(db, argv) argv[2] = 'n:' .. argv[2] return {argv, {'INCR', 'total'}} end"
OTHER = "function transform(db, argv) argv[2] = 'm:' .. argv[2] return argv end"
FAILING = "function transform(db, argv) if argv[2] == 'k250' then error('not this one') end end"


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    with Cluster("redis-7.0", masters=2) as made:
        yield made


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    for node in running.masters:
        node.client().flushall()
    return running


class Part(Chunk):
    """A claimed chunk of 300 keys, for a cluster whose masters have counted the snapshot."""

    def __init__(self, directory: Path, cluster: Cluster, lua: str) -> None:
        super().__init__(directory, WHOLE, 300)
        self.target = Endpoint.parse(cluster.url(), Side.TARGET)
        lanes = lanes_of(shards(self.target))
        self.task = replace(TASK, lanes=lanes, spec=TaskSpec(transform=TransformSpec(lua=lua)))
        for lane in lanes:
            cluster.client().hset(checkpoint_key(lane.uid(TASK.uid), 0), "snapshots", 1)

    def by(self, lua: str) -> None:
        self.task = replace(self.task, spec=TaskSpec(transform=TransformSpec(lua=lua)))

    def go(self) -> None:
        load_lanes.load_lanes(self, self.target, 0, 0)


def test_each_part_has_what_is_its_own_and_nothing_twice(cluster: Cluster, tmp_path: Path) -> None:
    chunk = Part(tmp_path / "gen", cluster, COUNTED)
    chunk.go()
    chunk.go()  # the database has lost its last commits
    there = cluster.client()
    assert keys(there) == {b"n:k%03d" % i for i in range(300)} | {b"total"}
    assert there.get("total") == b"300"
    assert (chunk.ended, chunk.task.uid) == (300, TASK.uid)


def test_a_script_that_fails_has_written_nothing_of_the_chunk(cluster: Cluster, tmp_path: Path) -> None:
    chunk = Part(tmp_path / "gen", cluster, FAILING)
    with pytest.raises(TransformError, match="at SET k250: not this one"):
        chunk.go()
    assert keys(cluster.client()) == set()
    chunk.by(COUNTED)
    chunk.go()
    assert cluster.client().get("total") == b"300"


def test_what_was_begun_by_one_script_is_not_ended_by_another(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk, load = Part(tmp_path / "gen", cluster, COUNTED), load_lanes._load

    def one_alone(port: Any, *args: Any) -> None:
        load(port, *args)
        raise Fenced("it dies behind the first master")

    monkeypatch.setattr(load_lanes, "_load", one_alone)
    with pytest.raises(Fenced):
        chunk.go()
    monkeypatch.setattr(load_lanes, "_load", load)
    some = keys(cluster.client())
    assert 0 < len(some) < 300
    chunk.by(OTHER)
    with pytest.raises(ControlError) as caught:
        chunk.go()
    assert (caught.value.code, caught.value.retry) == ("transform-changed", Retry.OTHER)
    assert keys(cluster.client()) == some
    chunk.by(COUNTED)
    chunk.go()
    assert cluster.client().get("total") == b"300"


def test_a_lane_that_streams_has_it_though_its_marks_were_flushed(cluster: Cluster, tmp_path: Path) -> None:
    """The gate of its load is closed. Another lane has lost the chunk to a failover, and would never get it."""
    chunk = Part(tmp_path / "gen", cluster, COUNTED)
    chunk.go()
    there, (streams, lost) = cluster.client(), chunk.task.lanes
    for lane in (streams, lost):
        there.delete(marks_key(lane.uid(TASK.uid), 0, 1))
    there.set(closed_key(streams.uid(TASK.uid), 0, 1), 1)
    there.hset(checkpoint_key(streams.uid(TASK.uid), 0), mapping={"state": "streaming", "gen": 1, "offset": 7})
    total = there.get("total")
    for key in keys(there):
        there.delete(key)
    chunk.go()
    assert chunk.ended == 300
    assert {slot(key) in members(lost.slots) for key in keys(there)} == {True}
    assert total == b"300"


def test_a_load_that_is_closed_for_another_is_none(cluster: Cluster, tmp_path: Path) -> None:
    chunk = Part(tmp_path / "gen", cluster, COUNTED)
    first = chunk.task.lanes[0].uid(TASK.uid)
    cluster.client().set(closed_key(first, 0, 1), 1)
    cluster.client().hset(checkpoint_key(first, 0), mapping={"state": "streaming", "gen": 2, "offset": 7})
    with pytest.raises(Fenced):
        chunk.go()
