"""Lanes that are made and given up while a task runs: what has begun is not begun again; who is late is shut out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.lanes import Lane, tags
from sync_tasks.names import checkpoint_key, closed_key
from sync_tasks.slots import ALL
from tests.clusters import Cluster
from workers import relaning
from workers.target.claim import ENDED, STREAMING

UID = "0123456789abcdef"
FIRST, SECOND = Lane(0, tags()[7], ALL), Lane(1, tags()[9], ((100, 200),), later=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("redis-7.0", masters=1) as made:
        yield made


@pytest.fixture
def client(cluster: Cluster) -> Any:
    found = cluster.masters[0].client()
    found.flushall()
    return found


class Port:
    """A job of node 0, whose stream has begun."""

    def __init__(self, *lanes: Lane, begun: bool = True) -> None:
        self.task = SimpleNamespace(uid=UID, lanes=lanes)
        self.settled: list[int] = []
        self._node = SimpleNamespace(number=0, begun=begun, gen=2)

    def node(self) -> Any:
        return self._node

    def settle_lanes(self, numbers: list[int]) -> None:
        self.settled += numbers


def found(port: Port, cluster: Cluster) -> None:
    relaning.found(port, Endpoint.parse(cluster.url(), Side.TARGET), 0)  # type: ignore[arg-type]


def checkpoint(client: Any, lane: Lane, **fields: object) -> bytes:
    name = checkpoint_key(lane.uid(UID), 0)
    client.hset(name, mapping={"state": STREAMING, "offset": 70, "replid": "r", "gen": 2, **fields})
    return name


def test_a_new_lane_begins_with_nothing_where_the_others_are(cluster: Cluster, client: Any) -> None:
    checkpoint(client, FIRST, offset=70)
    port = Port(FIRST, SECOND)
    found(port, cluster)
    made = client.hgetall(checkpoint_key(SECOND.uid(UID), 0))
    assert (made[b"state"], made[b"offset"], made[b"seen"], made[b"replid"]) == (b"streaming", b"70", b"70", b"r")
    assert b'"databases":{}' in made[b"extent"]
    assert client.get(closed_key(SECOND.uid(UID), 0, 2)) == b"1"
    assert port.settled == [1]


def test_what_has_begun_is_not_begun_again(cluster: Cluster, client: Any) -> None:
    """Its owner may have died, or lost a race, before it could write down that it had begun."""
    checkpoint(client, FIRST, offset=70)
    name = checkpoint(client, SECOND, offset=99, tok="of a chain that may be alive")
    before = client.hgetall(name)
    port = Port(FIRST, SECOND)
    found(port, cluster)
    assert client.hgetall(name) == before
    assert port.settled == [1]


def test_before_the_stream_has_begun_it_is_loaded_like_all_others(cluster: Cluster, client: Any) -> None:
    port = Port(FIRST, SECOND, begun=False)
    found(port, cluster)
    assert not client.keys("*:ck")


def test_a_lane_that_is_given_up_takes_nothing_more(cluster: Cluster, client: Any) -> None:
    over = replace(SECOND, slots=())
    uid = over.uid(UID)
    name = checkpoint(client, over, tok=b"keyferry:%s:0:tok:x" % uid.encode())
    client.hset(b"keyferry:%s:0:tok:x" % uid.encode(), "5", "1")
    found(Port(FIRST, over), cluster)
    assert client.hget(name, "state") == ENDED.encode()
    assert not client.exists(b"keyferry:%s:0:tok:x" % uid.encode()), "no window of its chain is executed any more"
    assert [client.get(closed_key(uid, 0, gen)) for gen in (1, 2)] == [b"1", b"1"], "nor a batch of its loaders"
    found(Port(FIRST, over), cluster)
