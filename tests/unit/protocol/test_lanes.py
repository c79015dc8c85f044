"""Parts of a target that are not equally far: one streams, and another has nothing yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.lanes import Lane, tags
from sync_tasks.names import checkpoint_key
from tests.clusters import Cluster
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, REPLID, TASK, UID, Port, endpoint, known
from workers.apply import Applier
from workers.lanes import Lanes, ahead, behind
from workers.receive import Receiver
from workers.source.ask import Source
from workers.source.psync import Full
from workers.spool.known import Known
from workers.spool.log import Log
from workers.target.claim import FINISHED, LOADING, STREAMING, Checkpoint

FIRST, SECOND = Lane(0, tags()[7], ((0, 8191),)), Lane(1, tags()[9000], ((8192, 16383),))
POINT = Checkpoint(REPLID, 70, 0, 1, "n", 70, STREAMING, 1, False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("redis-7.0", masters=1) as made:
        yield made


@pytest.fixture
def client(cluster: Cluster) -> Any:
    found = cluster.masters[0].client()
    found.flushall()
    return found


class Job:
    """A receiver and the appliers of two lanes, none of them started.

    Args:
        begun: the first window of all lanes was committed, as the database has it.
    """

    def __init__(self, cluster: Cluster, source: Server, directory: Path, begun: bool) -> None:
        task = replace(TASK, lanes=(FIRST, SECOND))
        self.port = Port(task, replace(NODE, gen=1, begun=begun, replid=REPLID), epoch=2)
        self.log, self.known = Log(directory / "log"), known(directory)
        target, here = Endpoint.parse(cluster.url(), Side.TARGET), endpoint(source, Side.SOURCE)

        def make(place: Endpoint, port: Any, scope: Any, asks: Source) -> Applier:
            return Applier(place, port, self.log, asks, directory, scope, 0, self.known)

        self.lanes = Lanes(self.port, target, task.lanes, make, lambda: Source(here), self.log)  # type: ignore[arg-type]
        self.receiver = Receiver(
            here, self.port, self.log, directory, Source(here), lambda: None, self.lanes.close_earlier,  # type: ignore[arg-type]
            self.lanes.checkpoint, self.lanes.border, self.lanes.reopen, self.known, self.lanes.number_snapshot,
            self.lanes.furthest,
        )  # fmt: skip

    def has_log(self, offset: int) -> None:
        """From there on; what was before is taken in."""
        self.known.begin(offset, 0)
        self.log.reset(REPLID, offset)

    def begin(self) -> int:
        """A new snapshot has come."""
        return self.receiver._new_generation(Full("b" * 40, 500), None)


def write(client: Any, lane: Lane, offset: int) -> bytes:
    """A checkpoint that an earlier owner has left."""
    name = checkpoint_key(lane.uid(UID), 0)
    fields = {"state": STREAMING, "offset": offset, "replid": REPLID, "gen": 1, "epoch": 1, "snapshots": 1}
    client.hset(name, mapping=fields)
    return name


def test_a_new_snapshot_goes_over_a_lane_that_streams_though_another_has_nothing(
    cluster: Cluster, client: Any, source: Server, tmp_path: Path
) -> None:
    """Else its windows would be executed among the loaders' batches, and each look would want one more snapshot."""
    name = write(client, FIRST, 70)
    job = Job(cluster, source, tmp_path, begun=False)
    job.has_log(70)
    gen = job.begin()
    assert client.hmget(name, "state", "gen") == [LOADING.encode(), b"%d" % gen]
    assert not client.hexists(checkpoint_key(SECOND.uid(UID), 0), "state"), "there was nothing to end"
    assert "over what is there" in job.port.events[-1]


def test_a_lane_that_has_lost_its_checkpoint_is_loaded_anew_with_the_others(
    cluster: Cluster, client: Any, source: Server, tmp_path: Path
) -> None:
    write(client, FIRST, 70)
    job = Job(cluster, source, tmp_path, begun=True)
    job.has_log(70)
    job.begin()
    states = [client.hget(checkpoint_key(lane.uid(UID), 0), "state") for lane in (FIRST, SECOND)]
    assert states == [LOADING.encode()] * 2


def test_what_was_brought_is_known_up_to_where_the_furthest_lane_is(
    cluster: Cluster, client: Any, source: Server, tmp_path: Path
) -> None:
    """The log was begun anew for the lane that is behind, and does not reach to where the other one is."""
    for lane, offset in ((FIRST, 40), (SECOND, 70)):
        write(client, lane, offset)
    job = Job(cluster, source, tmp_path, begun=True)
    job.has_log(40)
    job.known.add(1, [])
    with pytest.raises(Exception, match="not in this spool"):
        job.begin()
    assert Known(tmp_path / "known", UID, 2).whole is False


def test_the_part_that_is_behind_and_the_one_that_is_ahead() -> None:
    second, loading = replace(POINT, gen=2, offset=5), replace(POINT, state=LOADING, offset=90)
    assert behind([POINT, replace(POINT, offset=60)]) == replace(POINT, offset=60)
    assert behind([POINT, None]) is None
    assert behind([POINT, replace(POINT, state=FINISHED, offset=10)]) == POINT
    assert ahead([None, None]) is None
    assert ahead([None, POINT]) == POINT
    assert ahead([POINT, second, None]) == second
    assert ahead([POINT, loading]) == POINT
