"""Parts of a target that are not equally far: one streams, and another has nothing yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.lanes import Lane, tags
from sync_tasks.names import checkpoint_key
from sync_tasks.slots import ALL
from sync_tasks.spec import TaskSpec
from sync_tasks.throttle import Limits
from sync_tasks.transform.setting import TransformSpec
from tests.clusters import Cluster
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, REPLID, TASK, UID, Port, endpoint, known, until
from workers.apply import Applier
from workers.codec.resp_cy import encode
from workers.lane_script import Since
from workers.lanes import Lanes, ahead, behind
from workers.receive import Receiver
from workers.source.ask import Position, Source
from workers.source.psync import Full
from workers.spool.known import Known
from workers.spool.log import Log
from workers.target.claim import ALL_HELD, FINISHED, LOADING, STREAMING, Checkpoint

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
        spec: the task's settings.
        lanes: instead of those two.
    """

    def __init__(
        self, cluster: Cluster, source: Server, directory: Path, begun: bool, spec: TaskSpec = TASK.spec,
        lanes: tuple[Lane, ...] = (FIRST, SECOND),
    ) -> None:  # fmt: skip
        task = replace(TASK, lanes=lanes, spec=spec)
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

    def comes(self, *commands: list[bytes]) -> None:
        """By the stream; the source stands behind them."""
        for command in commands:
            self.log.append(encode(command), 1)
        for one in self.lanes._each:
            one.source.position = lambda: Position(REPLID, self.log.end or 0)  # type: ignore[method-assign]

    def stop(self) -> None:
        self.lanes.stop_event.set()
        self.log.wake()
        self.lanes.join(10)
        self.lanes.close()


def write(client: Any, lane: Lane, offset: int) -> bytes:
    """A checkpoint that an earlier owner has left."""
    name = checkpoint_key(lane.uid(UID), 0)
    fields = {"state": STREAMING, "offset": offset, "replid": REPLID, "gen": 1, "epoch": 1, "snapshots": 1}
    client.hset(name, mapping=fields)
    return name


def test_they_share_what_the_task_may_write(cluster: Cluster, source: Server, tmp_path: Path) -> None:
    lanes = Job(cluster, source, tmp_path, begun=True).lanes
    lanes.limit(Limits(500.0, 2e6))
    assert [one.pace.limits for one in lanes._each] == [Limits(250.0, 1e6)] * 2
    lanes.limit(Limits())
    assert [one.pace.limits for one in lanes._each] == [Limits()] * 2


def test_each_takes_what_is_in_scope(cluster: Cluster, source: Server, tmp_path: Path) -> None:
    spec = TaskSpec(filter=FilterSpec(block_prefixes=["out:"]))
    scopes = [one.scope for one in Job(cluster, source, tmp_path, begun=True, spec=spec).lanes._each]
    taken = [sum(scope.takes(0, key) for scope in scopes) for key in (b"in:7", b"out:7")]
    assert taken == [1, 0], "the one that has its slot, and none"


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


OLD, NEW = (TransformSpec(lua=f"function transform(db, argv) argv[2] = '{name}' return argv end") for name in "ba")


class Changing(Job):
    """Two lanes at the same place by a former script; the first one's claim waits until it is let go."""

    def __init__(self, cluster: Cluster, client: Any, source: Server, directory: Path) -> None:
        for lane in (FIRST, SECOND):
            name = write(client, lane, 70)
            fields = {"script": str(Since(OLD.digest, 10)), "seen": 70, "held": 0, "extend": 0, "fresh": ALL_HELD}
            client.hset(name, mapping=fields)
        super().__init__(cluster, source, directory, begun=True, spec=TaskSpec(extend_expiry_s=0, transform=NEW))
        self.client = client
        self.has_log(70)
        self.comes([b"SELECT", b"0"], [b"SET", b"k", b"v"])
        self.may_claim = threading.Event()
        first, self.late = self.lanes._each[0], self.lanes._each[0]._take_over

        def take_over(link: Any) -> Any:
            assert self.may_claim.wait(30)
            return self.late(link)

        first._take_over = take_over  # type: ignore[method-assign]

    def script(self, lane: Lane) -> str:
        found = self.client.hget(checkpoint_key(lane.uid(UID), 0), "script")
        return Since.parse(found.decode()).digest

    def has_claimed(self, lane: Lane) -> bool:
        return bool(self.client.hget(checkpoint_key(lane.uid(UID), 0), "epoch") != b"1")

    def stop(self) -> None:
        self.may_claim.set()
        super().stop()


@pytest.fixture
def changing(cluster: Cluster, client: Any, source: Server, tmp_path: Path) -> Iterator[Changing]:
    made = Changing(cluster, client, source, tmp_path)
    yield made
    made.stop()


def test_no_lane_says_a_changed_script_before_all_have_claimed(changing: Changing) -> None:
    """What a former owner has sent to a master that stood still may be executed until its claim is."""
    changing.lanes.start()
    assert until(lambda: changing.has_claimed(SECOND))
    assert not until(lambda: changing.script(SECOND) != OLD.digest, 1)
    further = dict.fromkeys(["offset", "seen"], changing.log.end)
    changing.client.hset(checkpoint_key(FIRST.uid(UID), 0), mapping=further)
    changing.may_claim.set()
    assert until(lambda: changing.port.failures)
    assert {getattr(error, "code", None) for error in changing.port.failures} == {"transform-changed"}
    assert [changing.script(lane) for lane in (FIRST, SECOND)] == [OLD.digest] * 2


def test_lanes_that_all_claim_at_one_place_go_on_by_a_changed_script(changing: Changing) -> None:
    changing.lanes.start()
    assert until(lambda: changing.has_claimed(SECOND))
    changing.may_claim.set()
    assert until(lambda: [changing.script(lane) for lane in (FIRST, SECOND)] == [NEW.digest] * 2)
    assert until(lambda: changing.client.get("a") == b"v")
    assert changing.port.failures == []


def test_a_lane_that_goes_by_the_script_already_waits_for_no_other(changing: Changing) -> None:
    """A master that is away holds up none of the others, unless the script was changed."""
    for lane in (FIRST, SECOND):
        changing.client.hset(checkpoint_key(lane.uid(UID), 0), "script", str(Since(NEW.digest, 10)))
    changing.lanes.start()
    assert until(lambda: changing.client.get("a") == b"v" or changing.port.failures)
    assert not changing.may_claim.is_set()


def test_a_lane_that_is_closed_for_good_is_not_waited_for(changing: Changing) -> None:
    changing.client.hset(checkpoint_key(FIRST.uid(UID), 0), "state", FINISHED)
    changing.may_claim.set()
    changing.lanes.start()
    assert until(lambda: changing.script(SECOND) == NEW.digest)


@pytest.mark.parametrize("command", [b"FLUSHALL", b"FLUSHDB"])
def test_a_flush_leaves_it_known_by_which_script_a_lane_goes(
    cluster: Cluster, client: Any, source: Server, tmp_path: Path, command: bytes
) -> None:
    """And of what it is exact: the checkpoint is emptied with the rest."""
    whole = Lane(0, tags()[7], ALL)
    lua = "function transform(db, argv) if argv[2] then argv[2] = 'a' end return argv end"
    name, script = write(client, whole, 70), str(Since(TransformSpec(lua=lua).digest, 10)).encode()
    client.hset(name, mapping={"script": script, "seen": 70, "held": 0, "extend": 0, "fresh": ALL_HELD})
    spec = TaskSpec(extend_expiry_s=0, transform=TransformSpec(lua=lua))
    job = Job(cluster, source, tmp_path, begun=True, spec=spec, lanes=(whole,))
    job.has_log(70)
    job.comes([b"SELECT", b"0"], [b"SET", b"before", b"v"], [command], [b"SET", b"behind", b"w"])
    job.lanes.start()
    try:
        assert until(lambda: client.get("a") == b"w"), (job.port.failures, job.lanes.error)
        kept = client.hmget(name, "script", "extent", "adding")
        assert kept == [script, job.lanes._each[0].scope.extent.text.encode(), b""]
    finally:
        job.stop()
